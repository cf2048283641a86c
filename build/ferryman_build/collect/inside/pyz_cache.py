"""Unpacking, mending, sealing and pruning a tree: what a start does only once in a while."""

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
import zlib

from _ferryman import places, run

_PREFIX = "site-packages/"
_KEY = re.compile(r"[0-9a-f]{32}")
_BAD = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
_SPEAK_AFTER, _GIVE_UP_AFTER, _PAUSE = 10, 60, 0.1  # seconds
_FEW = 150  # modules that one process compiles in a moment


# --- locks ------------------------------------------------------------------------------------------------------------


_ALL = 2**31 - 1  # every byte that a process may have locked


def _try_lock(handle):
    """Whether this process has the lock alone now; True as well where the file system has none."""
    try:
        if places.WINDOWS:
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, _ALL)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        return not places.WINDOWS and error.errno not in (11, 13, 35, 36)
    return True


def _still_there(handle, path):
    """Whether the locked file is the one that has the name: whoever prunes removes it."""
    try:
        return places.WINDOWS or os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(path, name, wait=True):
    """Hold the lock file ``path``; yields False when it cannot be had (without waiting).

    Raises:
        run.RefusedError: somebody has held it for a minute.
    """
    began, spoken = time.monotonic(), False
    while (handle := _lock_file(path)) is None and wait:
        waited = time.monotonic() - began
        if waited > _GIVE_UP_AFTER:
            raise run.RefusedError("another start has been unpacking there for a minute")
        if waited > _SPEAK_AFTER and not spoken:
            sys.stderr.write(f"{name}: waiting for another start that is unpacking {path[:-5]}\n")
            spoken = True
        time.sleep(_PAUSE)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def _lock_file(path):
    """The locked file, or None when another process has it, or it is no longer what has the name (pruning removes it)."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    if _try_lock(handle) and _still_there(handle, path):
        return handle
    os.close(handle)
    return None


# --- unpacking --------------------------------------------------------------------------------------------------------


def unpack(needs, archive, tree):
    """Make the tree, whole or not at all: a draft that is renamed, under the tree's lock."""
    mode = 0o755 if tree.place.shared else 0o700
    _make_folders(tree.program, mode)
    reason = places.distrust(tree.program)
    if reason:
        raise run.RefusedError(reason)
    if needs["native"] and not places.allows_executables(tree.program):
        raise run.RefusedError("it is mounted noexec")
    free = shutil.disk_usage(tree.program).free
    if free < 2 * needs["size"]:  # bytecode takes about as much as its source
        raise run.RefusedError(f"{free >> 20} MB are free and {2 * needs['size'] >> 20} MB are needed")
    with locked(tree.lock, needs["name"]):
        if os.path.isdir(tree.folder):
            return
        _remove_drafts(tree.program, tree.key)
        umask = os.umask(0o022 if tree.place.shared else 0o077)
        try:
            _unpack_draft(archive, tree, mode)
        finally:
            os.umask(umask)


def _make_folders(path, mode):
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, mode)
            os.chmod(folder, mode)  # whatever the umask


def _unpack_draft(archive, tree, mode):
    draft = tempfile.mkdtemp(prefix=f".{tree.key}.", dir=tree.program)
    try:
        for name, bits, content in _members(archive):
            _write(os.path.join(draft, name), content, bits, mode)
        _compile(os.path.join(draft, _PREFIX), tree.site)
        whole = run.boot()
        if not whole:
            _flush_all(draft)
        _write_marker(draft, sealed=not whole)
        os.chmod(draft, mode)
        os.rename(draft, tree.folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _members(archive):
    """(path below the tree, permission bits, content) of every file that is unpacked."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if info.filename.startswith(_PREFIX) and not info.is_dir():
                    yield info.filename, info.external_attr >> 16 & 0o777, opened.read(info)
    except _BAD as error:
        raise run.DamagedError(str(error)) from error


def _write(path, content, bits, folder_mode):
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        _make_folders(folder, folder_mode)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, bits or 0o644)


def _compile(folder, shown):
    """Bytecode for every module; what does not compile (files for another Python) is left to whoever imports it."""
    sources = [
        os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(".py")
    ]
    shares = _processors() if len(sources) > _FEW else 1
    children = [_compile_apart(sources[number::shares], folder, shown) for number in range(1, shares)]
    _compile_here(sources[::shares], folder, shown)
    for child in filter(None, children):
        os.waitpid(child, 0)


def _processors():
    """How many this process may use; 1 where a process cannot be doubled without starting the program again."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _compile_apart(sources, folder, shown):
    """Compile in a child (there are no threads yet); its number, or None when there can be no child."""
    try:
        child = os.fork()
    except OSError:
        _compile_here(sources, folder, shown)
        return None
    if not child:
        try:
            _compile_here(sources, folder, shown)
        finally:
            os._exit(0)
    return child


def _compile_here(sources, folder, shown):
    import compileall
    from py_compile import PycInvalidationMode

    for source in sources:
        place = os.path.join(shown, os.path.relpath(os.path.dirname(source), folder))
        # Unchecked: the loader compares nothing at a start, and nobody but us changes a source.
        compileall.compile_file(
            source, ddir=os.path.normpath(place), force=True, quiet=2,
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )  # fmt: skip


def _bytecode_digest(folder):
    """Of what this interpreter loads instead of the sources."""
    ending = f".{sys.implementation.cache_tag}.pyc"
    sums = hashlib.sha256()
    for at, folders, names in os.walk(os.path.join(folder, _PREFIX)):
        folders.sort()
        for name in sorted(names):
            if name.endswith(ending):
                with open(os.path.join(at, name), "rb") as file:
                    content = file.read()
                sums.update(f"{name}\0{len(content)}\0".encode() + content)
    return sums.hexdigest()


def _write_marker(folder, *, sealed):
    draft = os.path.join(folder, f"{run.MARKER}.draft")
    state = "sealed" if sealed else f"boot {run.boot()}"
    with open(draft, "w", encoding="ascii") as file:
        file.write(f"{run.MARKER_HEAD}{state}\nbytecode {_bytecode_digest(folder)}\n")
        if sealed:
            file.flush()
            os.fsync(file.fileno())
    os.chmod(draft, 0o644)
    os.replace(draft, os.path.join(folder, run.MARKER))


def _flush_all(folder):
    for at, _, names in os.walk(folder):
        for name in names:
            handle = os.open(os.path.join(at, name), os.O_RDWR if places.WINDOWS else os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


# --- mending ----------------------------------------------------------------------------------------------------------


def complete(archive, tree):
    """Whether every file is there with its size, as places need where something else deletes old files."""
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted = [(info.filename, info.file_size) for info in opened.infolist()]
    except _BAD as error:
        raise run.DamagedError(str(error)) from error
    for name, size in wanted:
        path = os.path.join(tree.folder, name)
        if (
            name.startswith(_PREFIX)
            and not name.endswith("/")
            and (not os.path.isfile(path) or os.stat(path).st_size != size)
        ):
            return False
    return True


def mend(archive, tree):
    """Compare every file with the archive's and write again what is wrong; how many were.

    A tree that was right and can be written to is sealed: after this boot nobody looks again. One that cannot be written to
    is used if it is right.

    Raises:
        run.RefusedError: something is wrong, and this user may not mend it.
    """
    if not os.access(tree.folder, os.W_OK):
        wrong = next((name for name, _, content in _members(archive) if not _is(tree, name, content)), "")
        if wrong or not _bytecode_right(tree):
            raise run.RefusedError(
                f"{wrong or 'its bytecode'} is not as it should be, and this user may not mend it"
            )
        return 0
    with locked(tree.lock, os.path.basename(tree.program)):
        wrong = 0
        for name, bits, content in _members(archive):
            if not _is(tree, name, content):
                _replace(os.path.join(tree.folder, name), content, bits, tree)
                wrong += 1
        if wrong or not _bytecode_right(tree):
            _compile(tree.site, tree.site)
            wrong += 1
        if not wrong or not run.boot():
            _flush_all(tree.folder)
        _write_marker(tree.folder, sealed=not wrong or not run.boot())
    return wrong


def _is(tree, name, content):
    try:
        with open(os.path.join(tree.folder, name), "rb") as file:
            return file.read() == content
    except OSError:
        return False


def _bytecode_right(tree):
    try:
        with open(tree.marker, encoding="ascii", errors="replace") as file:
            return f"bytecode {_bytecode_digest(tree.folder)}" in file.read(4096).splitlines()
    except OSError:
        return False


def _replace(path, content, bits, tree):
    """By a rename: who runs from the tree keeps what it has opened."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    draft = f"{path}.{os.getpid()}.draft"
    _write(draft, content, bits, 0o755 if tree.place.shared else 0o700)
    os.replace(draft, path)


# --- pruning ----------------------------------------------------------------------------------------------------------


def used(folder):
    """When the tree was started last (seconds since 1970, to the day)."""
    try:
        return os.stat(os.path.join(folder, run.MARKER)).st_mtime
    except OSError:
        return 0.0


def trees(program):
    """(key, folder) of each tree of a program."""
    names = sorted(os.listdir(program)) if os.path.isdir(program) and not places.distrust(program) else []
    return [(name, os.path.join(program, name)) for name in names if _KEY.fullmatch(name)]


def prune(program, days, spare=""):
    """Remove what nobody started for ``days`` days and nobody runs, except ``spare``; the folders that are gone."""
    _remove_leftovers(program)
    limit = time.time() - days * run.DAY
    return [folder for key, folder in trees(program) if key != spare and _remove(program, key, folder, limit)]


def _remove(program, key, folder, limit):
    if used(folder) > limit:
        return False
    lock = f"{folder}.lock"
    away = os.path.join(program, f".{key}.removed")
    with locked(lock, program, wait=False) as have:
        if not have or not _move_away(folder, away, limit):
            return False
        shutil.rmtree(away, ignore_errors=True)
        if not places.WINDOWS:  # Windows removes no open file; an empty lock file hurts nobody
            os.unlink(lock)
    return True


def _move_away(folder, away, limit):
    """Only what nobody runs: whoever does holds a lock. Windows moves no folder in which a file is open, so ours goes first."""
    shutil.rmtree(away, ignore_errors=True)
    with _alone(folder) as alone:
        if not alone or used(folder) > limit:
            return False
        if not places.WINDOWS:
            os.rename(folder, away)
            return True
    with contextlib.suppress(OSError):
        os.rename(folder, away)
        return True
    return False


@contextlib.contextmanager
def _alone(folder):
    """Whether nobody else holds the tree, while inside."""
    path = os.path.join(folder, run.HELD) if places.WINDOWS else folder
    handle = os.open(path, os.O_RDWR | os.O_CREAT if places.WINDOWS else os.O_RDONLY)
    try:
        yield _try_lock(handle) and not _mapped(folder)
    finally:
        os.close(handle)


def _mapped(folder):
    """Whether a process has mapped a library of the tree: a daemon that has closed its descriptors holds no lock."""
    wanted = f"{os.path.realpath(folder)}/".encode()
    for name in os.listdir("/proc") if sys.platform == "linux" and os.path.isdir("/proc") else ():
        try:
            with open(f"/proc/{int(name)}/maps", "rb") as file:
                if wanted in file.read():
                    return True
        except (OSError, ValueError):
            continue  # ended meanwhile, another user's, or no process
    return False


def running(folder):
    """Whether somebody holds the tree."""
    with _alone(folder) as alone:
        return not alone


def _remove_drafts(program, key):
    for name in os.listdir(program):
        if name.startswith(f".{key}."):
            shutil.rmtree(os.path.join(program, name), ignore_errors=True)


def _remove_leftovers(program):
    """Drafts of starts that were killed, and locks of nothing."""
    keys = {
        name.lstrip(".")[:32]
        for name in os.listdir(program)
        if name.startswith(".") or name.endswith(".lock")
    }
    for key in filter(_KEY.fullmatch, keys):
        lock = os.path.join(program, f"{key}.lock")
        with locked(lock, program, wait=False) as have:
            if have:
                _remove_drafts(program, key)
                if not places.WINDOWS and not os.path.isdir(os.path.join(program, key)):
                    os.unlink(lock)
