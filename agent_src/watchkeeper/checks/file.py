"""The file check: a file is there and is as it should be. All of it runs in a thread: a network file system may hang."""

from __future__ import annotations

import hashlib
import os
import pathlib
import stat
import sys
import time
from collections.abc import Callable

from watchkeeper.checks import Memory, Outcome, failed, own_fault, passed
from watchkeeper.checks.amounts import about
from watchkeeper.checks.threads import THREADS, owner
from watchkeeper.config.schema.checks import FileCheck
from watchkeeper.durations import format_duration

BLOCK = 1024 * 1024


async def probe(spec: FileCheck, memory: Memory) -> Outcome:
    """Look at the file once."""
    wrong, size = await THREADS.run(owner(memory), lambda: examine(spec, memory))
    if wrong is not None:
        return failed(f"{spec.path} {wrong}")
    return passed(f"{spec.path} is not there" if size is None else f"{spec.path} is as it should be")


def examine(spec: FileCheck, memory: Memory) -> tuple[str | None, int | None]:
    """What is wrong, as a predicate, and the size."""
    try:
        found = pathlib.Path(spec.path).stat()
    except OSError as error:
        if own_fault(error):
            raise
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        if missing and not spec.exists:
            return None, None
        return ("is not there" if missing else f"cannot be looked at: {error.strerror}"), None
    if not spec.exists:
        return "is there", found.st_size
    wrong = (
        _times(spec, found)
        or _sizes(spec, found, memory)
        or _rights(spec, found)
        or _hashes(spec, found, memory)
    )
    return wrong, found.st_size


def _times(spec: FileCheck, found: os.stat_result) -> str | None:
    age = time.time() - found.st_mtime
    said = f"was modified {format_duration(max(age, 0.0))} ago"
    if spec.max_age is not None and age > spec.max_age:
        return f"{said}, and {format_duration(spec.max_age)} are allowed"
    if spec.min_age is not None and age < spec.min_age:
        return f"{said}, and it must be left alone for {format_duration(spec.min_age)}"
    return None


def _sizes(spec: FileCheck, found: os.stat_result, memory: Memory) -> str | None:
    size = found.st_size
    before, memory["size"] = memory.get("size"), size
    if spec.min_size is not None and size < spec.min_size:
        return f"has {about(size)}, and {about(spec.min_size)} are needed"
    if spec.max_size is not None and size > spec.max_size:
        return f"has {about(size)}, and {about(spec.max_size)} are allowed"
    if spec.max_growth is not None and before is not None and size - before > spec.max_growth:
        return f"has grown by {about(size - before)}, and {about(spec.max_growth)} are allowed"
    return None


def _rights(spec: FileCheck, found: os.stat_result) -> str | None:
    mode = stat.S_IMODE(found.st_mode)
    if spec.mode is not None and mode != int(spec.mode, 8):
        return f"has the mode {mode:04o} instead of {int(spec.mode, 8):04o}"
    if sys.platform == "win32":
        return "has no owner that can be compared on Windows" if spec.owner or spec.group else None
    import grp
    import pwd

    for kind, wanted, number, name in (
        ("user", spec.owner, found.st_uid, lambda number: pwd.getpwuid(number).pw_name),
        ("group", spec.group, found.st_gid, lambda number: grp.getgrgid(number).gr_name),
    ):
        if wanted is not None and wanted not in (known := _called(number, name)):
            return f"belongs to the {kind} {known[-1]} instead of {wanted}"
    return None


def _called(number: int, name: Callable[[int], str]) -> tuple[str, ...]:
    """A number and its name, where it has one."""
    try:
        return str(number), name(number)
    except KeyError:
        return (str(number),)


def _hashes(spec: FileCheck, found: os.stat_result, memory: Memory) -> str | None:
    """The content is read again only when something says that it may have changed."""
    wanted = {name: value for name in ("sha256", "md5") if (value := getattr(spec, name)) is not None}
    if not wanted:
        return None
    if not stat.S_ISREG(found.st_mode):
        return "is no regular file, and has no checksum"
    state = (found.st_mtime_ns, found.st_ino, found.st_size, found.st_ctime_ns)
    known = memory.get("hashes")
    if known is None or known[0] != state:
        try:
            known = memory["hashes"] = (state, _digests(spec.path, list(wanted)))
        except OSError as error:
            if own_fault(error):
                raise
            return f"cannot be read: {error.strerror}"
    for name, value in wanted.items():
        if known[1][name] != value.lower():
            return f"has the {name} {known[1][name]}"
    return None


def _digests(path: str, names: list[str]) -> dict[str, str]:
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    with pathlib.Path(path).open("rb") as stream:
        while block := stream.read(BLOCK):
            for each in hashes.values():
                each.update(block)
    return {name: each.hexdigest() for name, each in hashes.items()}
