/* Owners and access lists: who this process is, whom new folders are for, and whether others can change a path. */
#include "windows_api.h"

#include <aclapi.h>
#include <sddl.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

/* ---- who this process is --------------------------------------------------------------------------------- */

/* The user's SID, asked for once and kept. */
static PSID user_sid(void)
{
    static PSID known;
    HANDLE token;
    DWORD size = 0;
    if (known != NULL || !OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
        return known;
    GetTokenInformation(token, TokenUser, NULL, 0, &size);
    TOKEN_USER *user = malloc(size);
    if (user != NULL && GetTokenInformation(token, TokenUser, user, size, &size))
        known = user->User.Sid;
    CloseHandle(token);
    return known;
}

const char *windows_user_sid(void)
{
    static char text[192];
    LPSTR given;
    if (text[0] == 0 && user_sid() != NULL && ConvertSidToStringSidA(user_sid(), &given)) {
        snprintf(text, sizeof text, "%s", given);
        LocalFree(given);
    }
    return text;
}

bool windows_elevated(void)
{
    static PSID administrators;
    BOOL enabled = FALSE;
    if (administrators == NULL && !ConvertStringSidToSidA("S-1-5-32-544", &administrators))
        return false;
    return CheckTokenMembership(NULL, administrators, &enabled) && enabled;
}

/* UAC starts what a member of Administrators starts without these rights, and asks before it gives them to a program.
   Where it is on, the user's other programs can write to the user's folders and registry, and must not get these rights
   by what they write there. Where it is off, all of them have these rights anyhow. That a token is no half of a pair
   says nothing: those of services, tasks and remote shells are whole. */
bool windows_guarded(void)
{
    static int known = -1;
    DWORD on = 1, size = sizeof on;
    if (known < 0) {
        RegGetValueW(HKEY_LOCAL_MACHINE, L"SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Policies\\System",
                     L"EnableLUA", RRF_RT_REG_DWORD, NULL, &on, &size);
        known = on != 0 && windows_elevated();
    }
    return known;
}

static bool in_registry(const wchar_t *key, const wchar_t *name)
{
    return RegGetValueW(HKEY_CURRENT_USER, key, name, RRF_RT_ANY | RRF_NOEXPAND, NULL, NULL, NULL) == ERROR_SUCCESS;
}

/* Administrators set variables for one start in a shell that has their rights, and the machine's are theirs as well. But
   Windows gives an elevated program also those from the user's registry, where any program of the user can write. */
bool windows_withheld(const wchar_t *name)
{
    wchar_t session_key[64];
    DWORD session = 0;
    if (wcsncmp(name, L"FERRYMAN_", 9) != 0 || !windows_guarded())
        return false;
    ProcessIdToSessionId(GetCurrentProcessId(), &session);
    swprintf(session_key, sizeof session_key / sizeof *session_key, L"Volatile Environment\\%u", (unsigned)session);
    return in_registry(L"Environment", name) || in_registry(L"Volatile Environment", name) ||
           in_registry(session_key, name);
}

/* Whether a SID is one of these, written as text. */
static bool is_one_of(PSID sid, const char *const *texts)
{
    for (; *texts != NULL; texts++) {
        PSID other;
        if (!ConvertStringSidToSidA(*texts, &other))
            continue;
        bool same = EqualSid(sid, other);
        LocalFree(other);
        if (same)
            return true;
    }
    return false;
}

static bool is_user(PSID sid)
{
    return user_sid() != NULL && EqualSid(sid, user_sid());
}

/* Nobody gets another's rights by starting a program on Windows, as with set-uid: to raise one's own, UAC asks. What is
   believed then is decided for each folder and variable (windows_guarded); a program beside its tree may be anywhere. */
bool os_raised(void)
{
    return false;
}

/* ---- whom something new is for ----------------------------------------------------------------------------- */

/* "D:P": what the folder above grants to others does not come down. A user's things are also for LocalSystem and the
   administrators, who have every right anyway: backups, virus scanners and uninstallers run as them. */
static PSECURITY_DESCRIPTOR make_descriptor(enum audience audience)
{
    static const char *const forms[] = {
        [FOR_ALL] = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)",
        [FOR_USER] = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;%s)",
        [FOR_USER_FILE] = "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;%s)",
    };
    char text[512];
    PSECURITY_DESCRIPTOR descriptor = NULL;
    snprintf(text, sizeof text, forms[audience], windows_guarded() ? "BA" : windows_user_sid());
    if (!ConvertStringSecurityDescriptorToSecurityDescriptorA(text, SDDL_REVISION_1, &descriptor, NULL))
        return NULL;
    return descriptor;
}

SECURITY_ATTRIBUTES *windows_security(enum audience audience)
{
    static SECURITY_ATTRIBUTES made[FOR_USER_FILE + 1];
    SECURITY_ATTRIBUTES *attributes = &made[audience];
    if (attributes->lpSecurityDescriptor == NULL) {
        attributes->nLength = sizeof *attributes;
        attributes->lpSecurityDescriptor = make_descriptor(audience);
    }
    return attributes->lpSecurityDescriptor != NULL ? attributes : NULL;
}

/* ---- whether others can change a path ---------------------------------------------------------------------- */

/* LocalSystem, Administrators, TrustedInstaller: they can change the whole machine. */
static const char *const MACHINE[] = {
    "S-1-5-18", "S-1-5-32-544", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464", NULL};

/* CREATOR OWNER and OWNER RIGHTS: whoever owns it, who is looked at. */
static const char *const OWNERS[] = {"S-1-3-0", "S-1-3-4", NULL};

static bool is_trusted(PSID sid)
{
    return is_one_of(sid, MACHINE) || (is_user(sid) && !windows_guarded());
}

/* Rights to put another folder in this one's place, and those to add something to it. The latter harm nobody above a
   tree: everybody may make folders on C:\ and in ProgramData, and what is there gets looked at by itself. */
enum {
    REPLACE_RIGHTS = DELETE | WRITE_DAC | WRITE_OWNER | FILE_DELETE_CHILD | GENERIC_ALL,
    WRITE_RIGHTS = REPLACE_RIGHTS | FILE_WRITE_DATA | FILE_APPEND_DATA | GENERIC_WRITE,
};

/* Who is let in by an entry; NULL: nobody, because it forbids, or is only for what is made below. Entries of all kinds
   that a file can have begin alike. */
static PSID let_in(const ACCESS_ALLOWED_ACE *entry)
{
    bool allows = entry->Header.AceType == ACCESS_ALLOWED_ACE_TYPE ||
                  entry->Header.AceType == ACCESS_ALLOWED_CALLBACK_ACE_TYPE;
    return allows && !(entry->Header.AceFlags & INHERIT_ONLY_ACE) ? (PSID)(uintptr_t)&entry->SidStart : NULL;
}

/* Whether the access list gives one of `rights` to somebody else. No list at all gives all of them to everybody. */
static bool is_open(PACL list, ACCESS_MASK rights)
{
    if (list == NULL)
        return true;
    for (WORD i = 0; i < list->AceCount; i++) {
        ACCESS_ALLOWED_ACE *entry;
        PSID sid = GetAce(list, i, (void **)&entry) ? let_in(entry) : NULL;
        if (sid != NULL && (entry->Mask & rights) && !is_trusted(sid) && !is_one_of(sid, OWNERS))
            return true;
    }
    return false;
}

const char *windows_danger(PSID owner, PACL list, enum role role)
{
    static const ACCESS_MASK rights[] = {
        [ROLE_ROOT] = REPLACE_RIGHTS & ~DELETE, [ROLE_ABOVE] = REPLACE_RIGHTS, [ROLE_TREE] = WRITE_RIGHTS};
    bool guarded = windows_guarded();
    if (!is_trusted(owner))
        return guarded ? "belongs to a user, and this program has the rights of an administrator"
                       : "belongs to another user";
    if (is_open(list, rights[role]))
        return guarded ? "can be changed by others than administrators" : "can be changed by others";
    return NULL;
}

/* What is wrong with one folder of a path. */
static bool check_folder(const char *path, HANDLE folder, enum role role, struct problem *problem)
{
    static const char cure[] = "Name a folder of your own with FERRYMAN_CACHE.";
    PSECURITY_DESCRIPTOR descriptor;
    PSID owner;
    PACL list;
    DWORD error = GetSecurityInfo(folder, SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                                  &owner, NULL, &list, NULL, &descriptor);
    if (error != 0)
        return windows_failed(problem, EXIT_NO_PLACE, "read the owner of", path, error);
    const char *danger = windows_danger(owner, list, role);
    LocalFree(descriptor);
    return danger == NULL || problem_set(problem, EXIT_NO_PLACE, cure, "%s %s", path, danger);
}

/* Whether a folder is a tree, and not one in which trees lie. */
static bool is_tree(const char *folder)
{
    char contents[PATH_SIZE];
    return path_join(contents, folder, "_internal") && os_facts(contents).kind != KIND_MISSING;
}

/* The folder itself, all above it, and whether one of them is a link. */
static bool check_components(const char *path, bool *linked, struct problem *problem)
{
    char part[PATH_SIZE];
    snprintf(part, sizeof part, "%s", path);
    for (enum role role = is_tree(path) ? ROLE_TREE : ROLE_ABOVE;; role = ROLE_ABOVE) {
        wchar_t wide[WIDE_SIZE];
        HANDLE folder = INVALID_HANDLE_VALUE;
        if (windows_wide(wide, part))
            folder = windows_open_facts(wide, READ_CONTROL);
        if (folder == INVALID_HANDLE_VALUE)
            return windows_failed(problem, EXIT_NO_PLACE, "look at", part, GetLastError());
        *linked = *linked || windows_is_link(folder);
        char *slash = strrchr(part, '\\');
        bool root = slash != NULL && slash[1] == 0;
        bool trusted = check_folder(part, folder, root ? ROLE_ROOT : role, problem);
        CloseHandle(folder);
        if (!trusted || slash == NULL || root)
            return trusted;
        slash[slash[-1] == ':' ? 1 : 0] = 0; /* C:\ is the last one; a server's name is not looked at */
        if (slash == part + 1 || (part[0] == '\\' && strchr(part + 2, '\\') == NULL))
            return true;
    }
}

/* Where a path with links in it ends. */
static bool follow(char target[PATH_SIZE], const char *path)
{
    wchar_t wide[WIDE_SIZE], final[WIDE_SIZE];
    if (!windows_wide(wide, path))
        return false;
    HANDLE folder = CreateFileW(wide, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                                FILE_FLAG_BACKUP_SEMANTICS, NULL);
    if (folder == INVALID_HANDLE_VALUE)
        return false;
    DWORD length = GetFinalPathNameByHandleW(folder, final, WIDE_SIZE, FILE_NAME_NORMALIZED | VOLUME_NAME_DOS);
    CloseHandle(folder);
    return length > 0 && length < WIDE_SIZE && windows_plain(target, final);
}

/* A link is as good as the folder that it lies in and its own owner; where it leads must be as good. */
bool os_trusted(const char *path, struct problem *problem)
{
    char target[PATH_SIZE];
    bool linked = false;
    if (!check_components(path, &linked, problem))
        return false;
    if (!linked)
        return true;
    if (!follow(target, path))
        return windows_failed(problem, EXIT_NO_PLACE, "follow", path, GetLastError());
    return check_components(target, &linked, problem);
}
