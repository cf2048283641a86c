"""Where a .pyz may unpack to, and whether such a folder can be trusted: the launcher's rules (docs/launcher.md).

What is left out, and why, is in docs/pyz.md: Windows' access lists, and set-user-ID, which a script cannot have.
"""

import os
import stat
import sys

WINDOWS = sys.platform == "win32"
_MACHINE_WIDE = "/Library/Caches/ferryman" if sys.platform == "darwin" else "/var/cache/ferryman"
_BELOW_HOME = "Library/Caches/ferryman" if sys.platform == "darwin" else ".cache/ferryman"
_NOEXEC = 8  # ST_NOEXEC
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "lustre", "gfs2", "ocfs2")
_MOST_LINKS = 8


class Place:
    """A folder that programs' trees may lie in.

    ``reason``: why not; ``shared``: what is put there is for everybody; ``readonly``: only root puts something there;
    ``swept``: something else deletes old files there.
    """

    def __init__(self, source, path, reason="", shared=False, readonly=False, swept=False):
        self.source, self.path, self.reason = source, path, reason
        self.shared, self.readonly, self.swept = shared, readonly, swept
        if not reason and not os.path.isabs(path):
            self.reason = f"{path} is not an absolute path" if path else "not set"


def places():
    """All of them, in the order in which they are tried."""
    named = os.environ.get("FERRYMAN_CACHE", "")
    if WINDOWS:
        return [Place("FERRYMAN_CACHE", named)] if named else _windows_places()
    root = os.geteuid() == 0
    if named:
        return [Place("FERRYMAN_CACHE", named, shared=root)]
    found = [Place("machine-wide", _MACHINE_WIDE, shared=root, readonly=not root)]
    managed = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    if managed:
        found.append(Place("CACHE_DIRECTORY", _below(managed, "ferryman")))
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if sys.platform != "darwin" and xdg.startswith("/"):
        found.append(Place("XDG_CACHE_HOME", _below(xdg, "ferryman")))
    else:
        found.append(_home_place())
    swept = [("last resort", "/var/tmp"), ("TMPDIR", os.environ.get("TMPDIR", "")), ("last resort", "/tmp")]  # noqa: S108
    own = f"ferryman-{os.geteuid()}"
    known = set()
    for source, folder in swept:
        if folder and folder.rstrip("/") not in known:
            known.add(folder.rstrip("/"))
            found.append(Place(source, _below(folder, own), swept=True))
    return found


def _below(folder, name):
    return os.path.join(folder, name) if folder else ""


def _home_place():
    home = os.environ.get("HOME", "")
    if home:
        return Place("HOME", _below(home, _BELOW_HOME))
    import pwd

    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        home = ""
    if not home.startswith("/"):
        return Place("home of the user", "", "HOME is not set, and the user database names none")
    return Place("home of the user", _below(home, _BELOW_HOME))


def _windows_places():
    found = [Place("LOCALAPPDATA", _below(os.environ.get("LOCALAPPDATA", ""), r"ferryman\cache"))]
    for name in ("TEMP", "TMP"):
        if os.environ.get(name):
            own = f"ferryman-{os.environ.get('USERNAME', 'user')}"
            return [*found, Place(name, _below(os.environ[name], own), swept=True)]
    return found


# --- trust ----------------------------------------------------------------------------------------------------------


def distrust(path, links=_MOST_LINKS):
    """'' or why somebody else could change what is at ``path``: every folder on the way, and every link, is looked at."""
    if WINDOWS:
        return ""
    at, is_open = "/", False
    names = [name for name in path.split("/") if name]
    for number in range(len(names) + 1):
        at = "/" + "/".join(names[:number])
        try:
            status = os.lstat(at)
        except OSError as error:
            return f"{at} cannot be looked at: {error.strerror}"
        reason = _component(at, status, is_open)
        if reason:
            return reason
        is_open = bool(status.st_mode & stat.S_IWOTH)
        if stat.S_ISLNK(status.st_mode):
            if not links:
                return f"{at} is a link that leads nowhere"
            target = os.path.join(os.path.dirname(at), os.readlink(at))
            return distrust(os.path.join(_plain(target), *names[number:]), links - 1)
    return ""


def _plain(path):
    """Without `.`; a `..` stays, since what it leads to depends on links."""
    return "/" + "/".join(name for name in path.split("/") if name not in ("", "."))


def _component(path, status, is_open):
    """One step of the way: of root or of us, and not to be changed by others. In a sticky folder others may add entries."""
    mine = status.st_uid in (0, os.geteuid())
    if not mine and (is_open or not _unmapped_root(status.st_uid)):
        return f"{path} belongs to another user ({status.st_uid})"
    if stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return ""
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid != 0):
        return f"other users may write to {path}"
    return ""


def _unmapped_root(user):
    """Inside a user namespace root of the host appears as a user that is not mapped; nobody inside is that user."""
    try:
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            overflow = int(file.read())
        with open("/proc/self/uid_map", "rb") as file:
            rows = [tuple(map(int, line.split())) for line in file]
    except (OSError, ValueError):
        return False
    return user == overflow and not any(first <= user < first + count for first, _, count in rows)


# --- what a file system allows -----------------------------------------------------------------------------------------


def allows_executables(folder):
    """Whether libraries can be loaded from there."""
    try:
        return WINDOWS or not os.statvfs(folder).f_flag & _NOEXEC
    except OSError:
        return True


def is_remote(folder):
    """Whether other machines may use it as well, whose locks are not seen here."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return False
    where, kind = "", ""
    for line in lines:
        words = line.split()
        point = words[4].replace("\\040", " ")
        if len(point) >= len(where) and (folder + "/").startswith(point.rstrip("/") + "/"):
            where, kind = point, words[words.index("-") + 1]
    return kind in _REMOTE or kind.startswith("fuse")
