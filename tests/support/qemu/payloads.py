"""The payload of the trial tree, by the packer that builds use."""

from __future__ import annotations

from pathlib import Path

from ferryman_build.cache import Blobs
from ferryman_build.collect.analysis import EntryKind, Origin
from ferryman_build.wrap.payload import PayloadFile, PayloadInfo, write_payload
from ferryman_build.wrap.payload_order import group_of

CONTENTS = "_internal"


def pack_tree(tree: Path, info: PayloadInfo, own: str, output: Path, cache: Path) -> Path:
    """Pack ``tree`` into ``output``; ``own`` is the program's module, everything else belongs to the interpreter."""
    paths = [path for path in tree.rglob("*") if path.is_file()]
    files = [_file(path.relative_to(tree).as_posix(), path, own) for path in paths]
    write_payload(files, info, output, Blobs(cache / "blobs"))
    return output


def _file(path: str, source: Path, own: str) -> PayloadFile:
    dest = path.removeprefix(f"{CONTENTS}/")
    kind = EntryKind.NATIVE if ".so" in source.name else EntryKind.MODULE
    mode = 0o755 if source.stat().st_mode & 0o111 else 0o644
    return PayloadFile(path, mode, source, "", group_of(dest, kind, Origin.HOST, {own}))
