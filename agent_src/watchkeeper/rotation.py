"""Files that make room: FILE becomes FILE.1, FILE.1 becomes FILE.2 and so on."""

from __future__ import annotations

import contextlib
import pathlib


def shift(path: pathlib.Path, keep: int) -> None:
    """Give each its next number; the one with the number `keep` is replaced. Without any to keep the file itself goes.

    Behind a number that nobody has, nothing has to make room. The file must not be open: Windows renames none that is.

    Raises:
        OSError: one of them cannot be renamed; those with higher numbers have been.
    """
    free = 1
    while free < keep and _numbered(path, free).exists():
        free += 1
    for number in range(min(free, keep), 0, -1):
        with contextlib.suppress(FileNotFoundError):
            _numbered(path, number - 1).replace(_numbered(path, number))
    if not keep:
        path.unlink(missing_ok=True)


def _numbered(path: pathlib.Path, number: int) -> pathlib.Path:
    return path.with_name(f"{path.name}.{number}") if number else path
