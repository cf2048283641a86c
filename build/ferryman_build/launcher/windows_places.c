/* Which folders the cache may lie in on Windows. */
#include "windows_api.h"

#include <shlobj.h>
#include <string.h>

/* What the shell says about a well-known folder; false when it says nothing. ole32 is loaded for this question alone. */
static bool known_folder(const GUID *id, char path[PATH_SIZE])
{
    typedef HRESULT(WINAPI * folder_function)(const GUID *, DWORD, HANDLE, PWSTR *);
    typedef void(WINAPI * free_function)(void *);
    folder_function ask = (folder_function)windows_function(L"shell32.dll", "SHGetKnownFolderPath");
    free_function give_back = (free_function)windows_function(L"ole32.dll", "CoTaskMemFree");
    PWSTR wide = NULL;
    bool known = ask != NULL && ask(id, KF_FLAG_DONT_VERIFY, NULL, &wide) == S_OK && windows_plain(path, wide);
    if (wide != NULL && give_back != NULL)
        give_back(wide);
    return known;
}

/* The folder of a variable, if it is an absolute path. */
static bool variable_folder(const char *name, char path[PATH_SIZE])
{
    const char *value = os_getenv(name);
    wchar_t wide[WIDE_SIZE];
    bool absolute = value != NULL && ((value[0] == '\\' && value[1] == '\\') ||
                                      (value[0] != 0 && value[1] == ':' && (value[2] == '\\' || value[2] == '/')));
    return absolute && windows_wide(wide, value) && windows_plain(path, wide);
}

static void not_available(struct place *place, const char *reason)
{
    place->path[0] = 0;
    snprintf(place->reason, sizeof place->reason, "%s", reason);
}

/* `below` in the folder `base`, or a reason why not. */
static void set_place(struct place *place, bool known, const char *base, const char *below)
{
    if (!known)
        not_available(place, "the system names no such folder");
    else if (!path_join(place->path, base, below))
        not_available(place, "its path is too long");
}

static void override_place(struct place *place)
{
    place->source = "FERRYMAN_CACHE";
    place->shared = windows_guarded(); /* written by administrators; then the user's other programs have to read it */
    if (!variable_folder("FERRYMAN_CACHE", place->path))
        not_available(place, "it is no absolute path, such as C:\\Caches");
}

/* A variable is enough to read from there, since what lies there must belong to administrators. A process that writes
   with their rights asks the system itself: its variables can come from who started it. */
static void machine_place(struct place *place, bool writer)
{
    char base[PATH_SIZE];
    bool known = (!writer && variable_folder("ProgramData", base)) || known_folder(&FOLDERID_ProgramData, base);
    place->source = "ProgramData";
    place->shared = writer;
    place->readonly = !writer;
    set_place(place, known, base, "ferryman");
}

static void user_place(struct place *place)
{
    char base[PATH_SIZE];
    bool known = variable_folder("LOCALAPPDATA", base) || known_folder(&FOLDERID_LocalAppData, base);
    place->source = "LOCALAPPDATA";
    set_place(place, known, base, "ferryman\\cache");
}

/* Windows deletes what was not used for a while from there (Storage Sense). The folder is named after the user, in
   case several share it. */
static void temporary_place(struct place *place)
{
    wchar_t wide[WIDE_SIZE];
    char base[PATH_SIZE], name[256];
    DWORD length = GetTempPathW(WIDE_SIZE, wide);
    bool known = length > 0 && length < WIDE_SIZE && windows_plain(base, wide) && windows_user_sid()[0];
    snprintf(name, sizeof name, "ferryman-%s", windows_user_sid());
    place->source = "TEMP";
    place->swept = true;
    set_place(place, known, base, name);
}

size_t os_places(struct place places[PLACES])
{
    memset(places, 0, PLACES * sizeof *places);
    if (os_getenv("FERRYMAN_CACHE") != NULL) {
        override_place(&places[0]);
        return 1;
    }
    machine_place(&places[0], windows_elevated());
    user_place(&places[1]);
    temporary_place(&places[2]);
    return 3;
}

/* Every question above is a quick one, or has to be asked anyhow. */
void os_place_complete(struct place *place)
{
    place->pending = false;
}
