/* The launcher's border to Windows, one function a run: probe.exe FUNCTION ARGUMENTS. Answers are lines of text.
   Before the function, "lowered" runs it without the rights of an administrator, and "guarded" as if UAC were on, with the
   variable FERRYMAN_PLANTED in the registry of the user. */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <sddl.h>
#include <shellapi.h>
#include <stdlib.h>
#include <string.h>

#include "windows_api.h"

static struct problem problem;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    static char text[4 * PATH_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    os_write_output(text);
    os_write_output("\n");
}

static void say_whether(bool done)
{
    say("%s", done ? "yes" : "no");
    if (!done && problem.sentence[0])
        say("%d %s", problem.code, problem.sentence);
}

/* Until whoever started this closes its end. */
static void wait_for_end_of_input(void)
{
    char byte;
    DWORD got;
    while (ReadFile(GetStdHandle(STD_INPUT_HANDLE), &byte, 1, &got, NULL) && got > 0)
        continue;
}

static void places(char **words)
{
    static struct place found[PLACES];
    (void)words;
    size_t count = os_places(found);
    for (size_t i = 0; i < count; i++)
        say("%s|%s|%s|%s%s%s", found[i].source, found[i].path, found[i].reason, found[i].shared ? "shared " : "",
            found[i].readonly ? "readonly " : "", found[i].swept ? "swept " : "");
}

static void facts(char **words)
{
    static const char *const kinds[] = {"missing", "file", "folder", "link", "other"};
    struct facts found = os_facts(words[0]);
    say("%s %llu %lld", kinds[found.kind], (unsigned long long)found.size, (long long)(os_now() - found.modified));
}

static void trusted(char **words)
{
    say_whether(os_trusted(words[0], &problem));
}

/* Of an owner and an access list, in the language that Windows writes this in. */
static void danger(char **words)
{
    PSECURITY_DESCRIPTOR descriptor;
    PSID owner;
    PACL list;
    BOOL present, defaulted;
    if (!ConvertStringSecurityDescriptorToSecurityDescriptorA(words[0], SDDL_REVISION_1, &descriptor, NULL) ||
        !GetSecurityDescriptorOwner(descriptor, &owner, &defaulted) ||
        !GetSecurityDescriptorDacl(descriptor, &present, &list, &defaulted)) {
        say("cannot read it: %u", (unsigned)GetLastError());
        return;
    }
    enum role role = strcmp(words[1], "tree") == 0 ? ROLE_TREE : strcmp(words[1], "root") == 0 ? ROLE_ROOT : ROLE_ABOVE;
    const char *found = windows_danger(owner, present ? list : NULL, role);
    say("%s", found != NULL ? found : "none");
}

static void flush(char **words)
{
    say_whether(os_flush(words[0]));
}

static void remote(char **words)
{
    say_whether(os_remote(words[0]));
}

static void folders(char **words)
{
    say_whether(os_make_folders(words[0], strcmp(words[1], "shared") == 0, &problem));
}

static void folder(char **words)
{
    say_whether(os_make_folder(words[0], false, &problem));
}

static void write_file(char **words)
{
    say_whether(os_write_file(words[0], words[1], strlen(words[1]), 0644, &problem) && os_flush(words[0]));
}

static void read_file(char **words)
{
    char *text = read_text(words[0], 1 << 20, NULL);
    say("%s", text != NULL ? text : "unreadable");
}

static void rename_file(char **words)
{
    int64_t start = (int64_t)GetTickCount64();
    bool done = os_rename(words[0], words[1], &problem);
    say("%lld", (long long)GetTickCount64() - start);
    say_whether(done);
}

static void remove_file(char **words)
{
    say_whether(os_remove(words[0]));
}

static void remove_tree(char **words)
{
    say_whether(os_remove_tree(words[0]));
}

static void touch(char **words)
{
    say_whether(os_touch(words[0]));
}

static bool say_name(void *context, const char *name)
{
    (void)context;
    say("%s", name);
    return true;
}

static void list(char **words)
{
    say_whether(os_list(words[0], say_name, NULL));
}

static void answer_lock(enum lock_result result, lock_handle lock)
{
    static const char *const results[] = {"held", "busy", "gone", "failed"};
    say("%s", results[result]);
    if (result != LOCK_HELD)
        return;
    wait_for_end_of_input();
    os_unlock(lock);
}

static void lock_file(char **words)
{
    lock_handle lock;
    answer_lock(os_lock_file(words[0], strcmp(words[1], "wait") == 0, &lock, &problem), lock);
}

static void lock_tree(char **words)
{
    lock_handle lock;
    answer_lock(os_lock_tree(words[0], strcmp(words[1], "exclusive") == 0, strcmp(words[2], "wait") == 0, &lock), lock);
}

static void in_use(char **words)
{
    say_whether(os_in_use(words[0]));
}

static void loaded(char **words)
{
    void *library = os_load(words[0], words[1], &problem);
    say_whether(library != NULL);
    say_whether(library != NULL && os_symbol(library, words[2]) != NULL);
    wait_for_end_of_input();
}

static void wide(char **words)
{
    wchar_t *text = os_wide(words[0]);
    say("%s", text != NULL && wcsncmp(text, L"\\\\?\\", 4) == 0 ? "prefixed" : "plain");
    say("%d", text != NULL ? (int)wcslen(text) : -1);
}

static void self(char **words)
{
    char path[PATH_SIZE];
    struct section section;
    (void)words;
    say_whether(os_self(path, &problem));
    say("%s", path);
    say_whether(os_payload(path, &section, &problem));
    say("%s", section.data != NULL ? "payload" : "none");
}

static void machine(char **words)
{
    char boot[80];
    uint64_t first = 0, second = 0;
    os_boot_id(boot);
    say("%s", boot);
    say_whether(os_random(&first, sizeof first) && os_random(&second, sizeof second) && first != second);
    say("%llu", (unsigned long long)os_free_space(words[0]));
    say("%lld", (long long)os_now());
    say("%s", os_remote(words[0]) ? "remote" : "local");
}

/* What a new folder or file is protected with, in the language that Windows writes this in. */
static void protection(char **words)
{
    static const char *const names[] = {[FOR_ALL] = "all", [FOR_USER] = "user", [FOR_USER_FILE] = "file"};
    for (int audience = FOR_ALL; audience <= FOR_USER_FILE; audience++) {
        char *text = NULL;
        SECURITY_ATTRIBUTES *made = windows_security(audience);
        if (strcmp(words[0], names[audience]) == 0 && made != NULL &&
            ConvertSecurityDescriptorToStringSecurityDescriptorA(
                made->lpSecurityDescriptor, SDDL_REVISION_1, OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION, &text,
                NULL))
            say("%s", text);
    }
    say("%s", windows_user_sid());
}

static void variable(char **words)
{
    const char *value = os_getenv(words[0]);
    say("%s", value != NULL ? value : "NULL");
}

/* Somebody types Ctrl-C between the first two lines. */
static void guard(char **words)
{
    (void)words;
    os_guard_begin();
    say("guarded");
    for (int i = 0; i < 1000 && !os_stop_requested(); i++)
        Sleep(10);
    say_whether(os_stop_requested());
    os_guard_end();
    say("survived");
}

static const struct {
    const char *name;
    void (*run)(char **words);
    int words;
} FUNCTIONS[] = {
    {"places", places, 0},     {"facts", facts, 1},         {"trusted", trusted, 1},     {"folders", folders, 2},
    {"folder", folder, 1},     {"write", write_file, 2},    {"read", read_file, 1},      {"rename", rename_file, 2},
    {"remove", remove_file, 1}, {"remove_tree", remove_tree, 1}, {"touch", touch, 1},    {"list", list, 1},
    {"lock_file", lock_file, 2}, {"lock_tree", lock_tree, 3}, {"in_use", in_use, 1},     {"load", loaded, 3},
    {"wide", wide, 1},         {"self", self, 0},           {"machine", machine, 1},     {"getenv", variable, 1},
    {"guard", guard, 0},       {"protection", protection, 1}, {"danger", danger, 2},     {"flush", flush, 1},
    {"remote", remote, 1},
};

/* The rest of the command line once more, with Administrators as a group that only forbids. */
static int run_lowered(wchar_t *command)
{
    HANDLE token, lowered;
    STARTUPINFOW start = {.cb = sizeof start, .dwFlags = STARTF_USESTDHANDLES};
    PROCESS_INFORMATION process;
    SID_IDENTIFIER_AUTHORITY authority = SECURITY_NT_AUTHORITY;
    SID_AND_ATTRIBUTES disabled = {0};
    DWORD code = 99;
    AllocateAndInitializeSid(&authority, 2, SECURITY_BUILTIN_DOMAIN_RID, DOMAIN_ALIAS_RID_ADMINS, 0, 0, 0, 0, 0, 0,
                             &disabled.Sid);
    start.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    start.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    start.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_ALL_ACCESS, &token) ||
        !CreateRestrictedToken(token, 0, 1, &disabled, 0, NULL, 0, NULL, &lowered) ||
        !CreateProcessAsUserW(lowered, NULL, command, NULL, NULL, TRUE, 0, NULL, NULL, &start, &process)) {
        say("cannot lower: %u", (unsigned)GetLastError());
        return 99;
    }
    WaitForSingleObject(process.hProcess, INFINITE);
    GetExitCodeProcess(process.hProcess, &code);
    return (int)code;
}

/* For this process alone: its roots of the registry are folders of our own while the launcher looks there. */
static void raise_guard(void)
{
    static const wchar_t scratch[] = L"Software\\Ferryman test";
    HKEY key;
    DWORD on = 1;
    RegCreateKeyExW(HKEY_CURRENT_USER, scratch, 0, NULL, 0, KEY_ALL_ACCESS, NULL, &key, NULL);
    RegSetKeyValueW(key, L"SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Policies\\System", L"EnableLUA", REG_DWORD, &on,
                    sizeof on);
    RegSetKeyValueW(key, L"Environment", L"FERRYMAN_PLANTED", REG_SZ, L"1", 4);
    RegOverridePredefKey(HKEY_LOCAL_MACHINE, key);
    windows_guarded();
    RegOverridePredefKey(HKEY_LOCAL_MACHINE, NULL);
    RegOverridePredefKey(HKEY_CURRENT_USER, key);
}

int main(void)
{
    int argc;
    wchar_t **given = CommandLineToArgvW(GetCommandLineW(), &argc);
    static char storage[8][PATH_SIZE];
    char *words[8] = {0};
    for (int i = 1; i < argc && i <= 8; i++) {
        WideCharToMultiByte(CP_UTF8, 0, given[i], -1, storage[i - 1], PATH_SIZE, NULL, NULL);
        words[i - 1] = storage[i - 1];
    }
    if (argc > 2 && strcmp(words[0], "lowered") == 0)
        return run_lowered(wcsstr(GetCommandLineW(), L"lowered ") + 8);
    if (argc > 2 && strcmp(words[0], "guarded") == 0) {
        raise_guard();
        memmove(words, words + 1, sizeof words - sizeof *words);
        argc--;
    }
    for (size_t i = 0; argc > 1 && i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++)
        if (strcmp(words[0], FUNCTIONS[i].name) == 0 && argc - 2 == FUNCTIONS[i].words) {
            FUNCTIONS[i].run(words + 1);
            return 0;
        }
    say("unknown function, or another number of words");
    return 2;
}
