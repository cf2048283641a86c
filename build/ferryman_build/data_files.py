"""Which files a `data` row means, and where in the tree each of them goes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferryman_build.settings import Data

_WILD = frozenset("*?[")


def data_files(root: Path, row: Data) -> tuple[tuple[Path, PurePosixPath], ...]:
    """Pairs of a file and its place relative to the tree's top, sorted by place.

    A file keeps its path below the part of the glob that has no wildcard: ``assets/**/*.txt`` into ``data`` puts
    assets/a/b.txt at data/a/b.txt. A match that is a folder stands for all files in it, under the folder's name.

    Raises:
        ValueError: the glob has a form that pathlib refuses.
    """
    parts = PurePosixPath(row.source).parts
    fixed = next((number for number, part in enumerate(parts) if _WILD & set(part)), len(parts))
    base = root.joinpath(*parts[: min(fixed, len(parts) - 1)])
    pattern = "/".join(parts[min(fixed, len(parts) - 1) :])
    found = {file for match in base.glob(pattern) for file in _files(match)}
    into = PurePosixPath(row.into)
    return tuple(
        sorted(((file, into / file.relative_to(base).as_posix()) for file in found), key=lambda pair: pair[1])
    )


def _files(match: Path) -> list[Path]:
    return [match] if match.is_file() else [file for file in match.rglob("*") if file.is_file()]
