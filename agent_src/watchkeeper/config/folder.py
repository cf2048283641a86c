"""Reading files: one, or a folder of fragments.

Rules:
    F1  Of a folder, the files count that are in it directly and end in .yaml, .yml, .toml or .json, in the order of their
        names. Hidden files do not, nor what editors and package managers leave beside a file (web.yaml~, web.yaml.bak,
        #web.yaml#, .web.yaml.swp): their names end differently or begin with a dot.
    F2  A folder is read until two looks at it in a row are equal, at most ATTEMPTS times: who reads it while somebody
        writes it must not see half of each.
    F3  Each look costs one stat per file; contents are read only when something differs.
"""

from __future__ import annotations

import os
import pathlib
import stat
import time
from collections.abc import Iterable

from watchkeeper.config.fragments import Fragment
from watchkeeper.errors import ConfigUnreadableError

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes; a larger file is a mistake in the path rather than a configuration."""
FOLDER_LIMIT = 16 * 1024 * 1024
FILE_LIMIT = 2000
ATTEMPTS = 5
SUFFIXES = (".json", ".toml", ".yaml", ".yml")
UNSETTLED_NS = 2_000_000_000

Print = tuple[int, ...]
"""When the content and when anything of the file was last changed, in nanoseconds; inode; size."""
Fingerprint = tuple[tuple[str, Print | None], ...]


def read_path(path: str) -> tuple[Fragment, ...]:
    """The file, or the fragments of the folder.

    Raises:
        ConfigUnreadableError: there is none, it may not be read, it is too large, or no suffix names a known format.
    """
    if not pathlib.Path(path).is_dir():
        return (read_file(path),)
    for _ in range(ATTEMPTS):
        before = fingerprint(path, settled=True)
        try:
            fragments = _read_folder(path)
        except ConfigUnreadableError:
            if fingerprint(path, settled=True) == before:
                raise
            continue
        if fingerprint(path, settled=True) == before:  # F2
            break
    else:
        raise ConfigUnreadableError(
            f"the folder {path} changes faster than it can be read",
            "Write a new folder beside it and rename that one into its place.",
        )
    return fragments


def _read_folder(path: str) -> tuple[Fragment, ...]:
    names = fragment_names(path)
    if not names:
        raise ConfigUnreadableError(
            f"the folder {path} holds no file that ends in {', '.join(SUFFIXES)}",
            "Put a configuration into it, or name another folder.",
        )
    if len(names) > FILE_LIMIT:
        raise ConfigUnreadableError(
            f"the folder {path} holds more than {FILE_LIMIT} files", "It is probably not a configuration."
        )
    fragments = tuple(read_file(os.path.join(path, name)) for name in names)  # noqa: PTH118 - the path as it was given
    if sum(len(fragment.content) for fragment in fragments) > FOLDER_LIMIT:
        raise ConfigUnreadableError(
            f"the files in {path} are larger than {FOLDER_LIMIT >> 20} MiB together",
            "They are probably no configuration; look at the path.",
        )
    return fragments


def fragment_names(path: str) -> list[str]:
    """The names of the files that count (F1).

    Raises:
        ConfigUnreadableError: the folder cannot be listed.
    """
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if counts(entry.name) and entry.is_file())
    except OSError as error:
        raise ConfigUnreadableError(
            f"the folder {path} cannot be listed: {error.strerror}", "Look at its mode and its owner."
        ) from None


def counts(name: str) -> bool:
    """Whether a name in a folder is a fragment's (F1)."""
    return not name.startswith((".", "#", "~")) and suffix_of(name) in SUFFIXES


def suffix_of(name: str) -> str:
    """What a name says about the format."""
    return pathlib.PurePath(name).suffix.lower()


def read_file(path: str) -> Fragment:
    """One file, read once.

    Raises:
        ConfigUnreadableError: there is none, or its suffix names no known format.
    """
    suffix = suffix_of(path)
    content = read_bytes(path)
    if suffix not in SUFFIXES:
        raise ConfigUnreadableError(
            f"{path} is neither YAML nor TOML nor JSON by its name",
            f"Give it one of the suffixes {', '.join(SUFFIXES)}.",
        )
    return Fragment(path, content, suffix)


def read_bytes(path: str) -> bytes:
    """The content, once.

    Raises:
        ConfigUnreadableError: there is none, it is no file, or it is too large.
    """
    try:
        with pathlib.Path(path).open("rb") as stream:
            content = stream.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise ConfigUnreadableError(f"there is no file {path}", "Name an existing file or folder.") from None
    except IsADirectoryError:
        raise ConfigUnreadableError(f"{path} is a directory", "Name the file inside it.") from None
    except PermissionError as error:
        raise ConfigUnreadableError(
            f"{path} may not be read by this user: {error.strerror}",
            "Change its mode or owner, or run as another user.",
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigUnreadableError(
            f"{path} cannot be read: {error}", "Look at the path and the file system."
        ) from None
    if len(content) > SIZE_LIMIT:
        raise ConfigUnreadableError(
            f"{path} is larger than {SIZE_LIMIT >> 20} MiB",
            "It is probably not a configuration; look at the path.",
        )
    return content


def fingerprint(path: str, others: Iterable[str] = (), *, settled: bool = False) -> Fingerprint | None:
    """What two looks are compared by; None: there is nothing.

    Args:
        path: a file or a folder.
        others: more files that belong to it (those that secrets are in).
        settled: leave out that a file which is still young may have changed without a trace.
    """
    own = _print(path, settled=settled)
    if own is None:
        return None
    names = _names_in(path) if _is_folder(path) else []
    inside = [os.path.join(path, name) for name in names]  # noqa: PTH118 - many, each second
    files = [*inside, *sorted(others)]
    return ((path, own), *((file, _print(file, settled=settled)) for file in files))


def _names_in(path: str) -> list[str]:
    try:
        return fragment_names(path)
    except ConfigUnreadableError:
        return []


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - one system call, no object in between


def _print(path: str, *, settled: bool) -> Print | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - one system call, no object in between
    except (OSError, ValueError):
        return None
    # Two writes within one tick of the file system's clock look alike; so young a file is looked into again.
    young = not settled and abs(time.time_ns() - found.st_mtime_ns) < UNSETTLED_NS
    inner = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return (time.time_ns() if young else found.st_mtime_ns, found.st_ctime_ns, found.st_ino, inner)
