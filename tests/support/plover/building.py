"""The plovers' wheels, built by the module that `ferryman build` uses, with the toolchain of the launcher's tests."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ferryman_build.collect.environment import tools_lock
from ferryman_build.interpreter import Headers, find_interpreter
from ferryman_build.targets import parse_target
from ferryman_build.wheels import build_cross_wheel
from support.launcher_targets import CACHE, tools

HERE = Path(__file__).resolve().parent
STABLE, ONE_VERSION = HERE / "stable", HERE / "oneversion"
EPOCH = 1_700_000_000
# What an import of the stable plover must show; printed without the standard library's help, which a minimal Python lacks.
PROBE = """
import plover
first = plover.Counter()
try:
    plover.digest("no bytes")
except plover.Error as error:
    said = str(error)
print([plover.digest(b"a") == 0xAF63DC4C8601EC8C, first.count(), first.count(), said, sorted(plover.facts().items())])
"""


def expected(pointer: int = 8, order: str = "little") -> str:
    """What the probe prints on a machine."""
    known = [("order", order), ("pointer", pointer), ("root", "1.414"), ("time", True)]
    return str([True, 1, 2, "bytes are wanted", known])


def pins() -> str:
    """setuptools, as Ferryman's own lock has it."""
    found = re.search(r"(?m)^setuptools==(?:.*\\\n)*.*\n", tools_lock())
    assert found is not None
    return found[0]


def build(target: str, into: Path, project: Path = STABLE, own: Path | None = None) -> Path:
    """The wheel; ``own`` are CPython's headers of the target."""
    toolchain, headers, runner = tools()
    return build_cross_wheel(
        project, parse_target(target), python=find_interpreter("", runner, CACHE / "interpreter"), headers=headers,
        toolchain=toolchain, build_requires=("setuptools>=77",), pins=pins(), epoch=EPOCH, into=into, runner=runner,
        target_headers=Headers(folder=own) if own else None,
    )  # fmt: skip


@contextmanager
def copied(project: Path, folder: Path) -> Iterator[Path]:
    """The project somewhere else, where git knows nothing of it."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield Path(shutil.copytree(project, Path(name) / "elsewhere é"))


def unpacked(wheel: Path, into: Path) -> Path:
    """As it would lie in site-packages."""
    zipfile.ZipFile(wheel).extractall(into)
    return into
