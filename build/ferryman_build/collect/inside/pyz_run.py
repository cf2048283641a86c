"""Find the tree of this .pyz in the cache, or have it unpacked, and run the program in it.

What every start needs is here; unpacking, mending and pruning are in cache.py, which few starts import.
Rules of the cache: those at the head of the launcher's cache.c, as far as docs/pyz.md says.
"""

import os
import sys
import time

from _ferryman import places

EXIT_USAGE, EXIT_DAMAGED, EXIT_NO_PLACE = 64, 65, 73
MARKER = ".ferryman"
MARKER_HEAD = "ferryman 1\n"
HELD = ".held"  # on Windows the file whose byte with the number of the process is locked while that runs
DAY = 24 * 3600
BELIEVED, EARLIER, NONE = "believed", "earlier", "none"
_CURE = "Set FERRYMAN_CACHE to a folder that this user may write to and that is not mounted noexec."
_TRIES, _PAUSE = 100, 0.02

# Locks of trees that are in use; they are held until the process ends.
_held = []


class RefusedError(Exception):
    """This place does not work; the message says why."""


class DamagedError(Exception):
    """The archive is not what was built."""


class Tree:
    """Where this program's tree is or will be in ``place``.

    The folder's name ends in .pyz, so that the launcher's trees of the same program are another family.
    """

    def __init__(self, needs, place):
        self.place = place
        self.key = needs["content"][:32]
        self.program = os.path.join(place.path, needs["name"] + ".pyz")
        self.folder = os.path.join(self.program, self.key)
        self.site = os.path.join(self.folder, "site-packages")
        self.lock = self.folder + ".lock"
        self.marker = os.path.join(self.folder, MARKER)


def main(needs):
    """Everything; ends the process."""
    archive = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        if needs["sbom"] and sys.argv[1:] == [needs["sbom"]]:
            from _ferryman import command

            sys.exit(command.sbom(archive))
        if sys.argv[1:2] == ["--ferryman-cache"]:
            from _ferryman import command

            sys.exit(command.answer(needs, archive, sys.argv[2:]))
        tree = find(needs, archive)
    except DamagedError as error:
        leave(needs, EXIT_DAMAGED, f"{archive} is damaged: {error}", "Copy or download it again.")
    except RefusedError as error:
        leave(needs, EXIT_NO_PLACE, str(error), _CURE)
    except OSError as error:
        leave(needs, EXIT_NO_PLACE, f"{error.filename or 'its cache'}: {error.strerror}", _CURE)
    prune(needs, tree)
    start(needs, tree.site)


def leave(needs, code, sentence, cure):
    """Say what is wrong and what to do; end the process."""
    sys.stderr.write(f"{needs['name']}: {sentence}\n  {cure}\n")
    sys.exit(code)


# --- finding ------------------------------------------------------------------------------------------------------------


def find(needs, archive):
    """The tree, whole and held.

    Raises:
        RefusedError: no place works; the message has each with its reason.
        DamagedError: the archive cannot be unpacked.
    """
    reasons = []
    for place in places.places():
        try:
            if place.reason:
                raise RefusedError(place.reason)
            tree = Tree(needs, place)
            use(needs, archive, tree)
            return tree
        except RefusedError as error:
            release()
            reasons.append(f"\n  {place.path or '-'} ({place.source}): {error}")
        except OSError as error:
            reasons.append(
                f"\n  {place.path} ({place.source}): {error.filename or place.path}: {error.strerror}"
            )
    raise RefusedError(f"there is no place to unpack it to:{''.join(reasons)}")


def use(needs, archive, tree):
    """Hold the tree, unpacked or mended if need be; RefusedError or OSError where this place does not work."""
    if not hold(tree):
        if tree.place.readonly:
            raise RefusedError("no tree is there, and only root may put one there")
        _cache().unpack(needs, archive, tree)
        if not hold(tree):
            raise RefusedError(f"{tree.folder} keeps changing")
    if needs["native"] and not places.allows_executables(tree.folder):
        raise RefusedError("it is mounted noexec")
    if marker(tree) != BELIEVED or (tree.place.swept and not _cache().complete(archive, tree)):
        _cache().mend(archive, tree)
    touch(tree)


def _cache():
    from _ferryman import cache

    return cache


def hold(tree):
    """Whether the tree is there, nobody else can change it, and it is locked against pruning while this process lives."""
    for _ in range(_TRIES):
        if not os.path.isdir(tree.folder):
            return False
        reason = places.distrust(tree.folder)
        if reason:
            raise RefusedError(reason)
        lock = _lock_shared(tree)
        if lock is not None:
            _held.append(lock)
            return True
        time.sleep(_PAUSE)
    return True  # somebody holds it for ever; that must not hinder a start


def _lock_shared(tree):
    """The lock, or None when somebody is removing the tree."""
    path = os.path.join(tree.folder, HELD) if places.WINDOWS else tree.folder
    try:
        lock = os.open(
            path, os.O_RDWR | os.O_CREAT if places.WINDOWS else os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
    except FileNotFoundError:
        return None
    try:
        _share(lock)
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return lock
    except (FileNotFoundError, BlockingIOError, PermissionError):
        pass
    except OSError:
        return lock  # a file system without locks; nobody prunes there either
    os.close(lock)
    return None


def _share(lock):
    """A lock that any number of processes can have. The C library of Windows knows only exclusive ones: each has its byte."""
    if places.WINDOWS:
        import msvcrt

        os.lseek(lock, os.getpid(), os.SEEK_SET)
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


def release():
    """Let go of trees that are not run after all."""
    while _held:
        os.close(_held.pop())


def boot():
    """The identity of this machine's boot, or '' where that is not cheap to know: there trees are flushed at once."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def marker(tree):
    """What the marker says of the tree: whole in this boot or for good, whole in an earlier boot, nothing."""
    try:
        with open(tree.marker, encoding="ascii", errors="replace") as file:
            text = file.read(4096)
    except OSError:
        return NONE
    if text.startswith(f"{MARKER_HEAD}sealed\n"):
        return BELIEVED
    if not text.startswith(f"{MARKER_HEAD}boot "):
        return NONE
    now = boot()
    return BELIEVED if now and text.startswith(f"{MARKER_HEAD}boot {now}\n") else EARLIER


def touch(tree):
    """Remember that it was started today."""
    try:
        if abs(time.time() - os.stat(tree.marker).st_mtime) > DAY:
            os.utime(tree.marker)
    except OSError:
        pass  # a tree that only root may write to


def prune(needs, tree):
    """Once a day, in the place that this start uses; what fails there is nobody's trouble now."""
    stamp = os.path.join(tree.program, ".pruned")
    try:
        if not needs["days"] or tree.place.readonly or _today(stamp) or places.is_remote(tree.program):
            return
        with open(stamp, "a", encoding="ascii"):
            os.utime(stamp)
        _cache().prune(tree.program, needs["days"], tree.key)
    except OSError:
        pass


def _today(path):
    try:
        return abs(time.time() - os.stat(path).st_mtime) < DAY
    except OSError:
        return False


# --- running ------------------------------------------------------------------------------------------------------------


def start(needs, site):
    """Run the program as shiv does: its packages before those of the machine, its entry point, its exit code."""
    extend_path(site)
    if needs["interpreter"] and os.environ.get("FERRYMAN_INTERPRETER") == "1":
        from _ferryman import command

        sys.exit(command.interpreter(sys.argv[1:]))
    sys.exit(entry(needs["entry"])())


def extend_path(folder):
    """``folder`` on sys.path, .pth files obeyed, before the first site-packages of the machine."""
    import site

    length = len(sys.path)
    names = (os.path.basename(path) for path in sys.path)
    place = next((n for n, name in enumerate(names) if name in ("site-packages", "dist-packages")), length)
    site.addsitedir(folder)
    sys.path[:] = [*sys.path[:place], *sys.path[length:], *sys.path[place:length]]


def entry(name):
    """The callable that ``module:attribute`` names."""
    import importlib

    module, _, attribute = name.partition(":")
    found = importlib.import_module(module)
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part)
    return found
