"""A .pyz of a few modules, finished by product code from an archive such as shiv writes; no build tool takes part."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ferryman_build.targets import host_target
from ferryman_build.wrap.pyz_archive import finish
from ferryman_build.wrap.pyz_needs import PyzProgram, needs_of

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
EPOCH = 1_700_000_000
PROGRAM = PyzProgram(
    name="lamp", version="1.0", python=HERE, target=host_target(), entry="lamp:main", days=30, interpreter=True,
    free_threaded=False,
)  # fmt: skip


def gathered(path: Path, files: Mapping[str, str | bytes], *, mode: int = 0o644) -> Path:
    """What shiv leaves: packages, its own bootstrap, its environment."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(f"site-packages/{name}")
            info.external_attr = (0o100000 | mode) << 16
            archive.writestr(info, content)
        archive.writestr("_bootstrap/__init__.py", "def bootstrap(): ...")
        archive.writestr("environment.json", '{"shiv_version": "1"}')
        archive.writestr("__main__.py", "import _bootstrap")
    return path


def write(path: Path, files: Mapping[str, str | bytes], **changes: object) -> Path:
    """``path``: a .pyz of ``files``; ``changes`` are fields of its needs, whatever was measured."""
    source = gathered(path.with_name(f"{path.name}.shiv"), files)
    needs = msgspec.structs.replace(needs_of(source, PROGRAM), **changes)  # type: ignore[arg-type]
    finish(source, needs, HERE, EPOCH, path)
    source.unlink()
    return path
