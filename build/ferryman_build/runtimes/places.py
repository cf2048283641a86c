"""Files of a runtime that may be a whole root filesystem: its links mean places of its own, not of this machine."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

_MOST_LINKS = 40  # as Linux


def resolve_inside(root: Path, path: str) -> Path | None:
    """Where ``path`` (POSIX, relative to ``root``) really lies, as a program inside of ``root`` would see it.

    An absolute link means a place below ``root``, and `..` does not lead out of it. None when links go round in circles;
    what is answered need not exist.
    """
    waiting = list(reversed(PurePosixPath(path.lstrip("/")).parts))
    place: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            place = place[:-1]
            continue
        here = root.joinpath(*place, part)
        if not here.is_symlink():
            place.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        target = os.readlink(here)  # noqa: PTH115 - text, which may be absolute
        if target.startswith("/"):
            place = []
        waiting += reversed([one for one in target.split("/") if one not in ("", ".")])
    return root.joinpath(*place)
