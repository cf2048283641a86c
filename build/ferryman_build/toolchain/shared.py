"""The toolchain, once for all checkouts of a user: zig is 400 MB, and what it compiles of its own takes minutes.

    <home>/toolchain/<digest of what is in it>/     zig and the decoder's sources, whole or not there
    <home>/zig/                                     what zig has compiled: C start files and libraries of each target

zig takes what it has compiled only for a zig at the same path, so the place depends on nothing but the content.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import msgspec

from ferryman_build.cache import digest
from ferryman_build.cmd import Runner
from ferryman_build.homes import home
from ferryman_build.interpreter import Interpreter
from ferryman_build.toolchain.fetch import open_toolchain, prepare, zig_lock
from ferryman_build.toolchain.recipe import read_recipe
from ferryman_build.toolchain.zig import Toolchain

_DRAFT = ".draft-"


def shared_toolchain(interpreter: Interpreter, runner: Runner) -> Toolchain:
    """The toolchain; fetched when it is not there. ``interpreter`` makes the folder that zig's wheel is unpacked into.

    Raises:
        ResolutionError, PackageIndexError: see :func:`ferryman_build.toolchain.fetch.prepare`.
    """
    place = home() / "toolchain" / toolchain_key()[:32]
    if not place.is_dir():
        _make(place, interpreter, runner)
    return open_toolchain(place, home() / "zig")


def toolchain_key() -> str:
    """What the toolchain's content depends on."""
    return digest({"zig": zig_lock(), "zstd": msgspec.to_builtins(read_recipe().zstd)})


def _make(place: Path, interpreter: Interpreter, runner: Runner) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{_DRAFT}{os.getpid()}-", dir=place.parent))
    draft.chmod(0o755)
    try:
        prepare(draft, interpreter, runner)
        with contextlib.suppress(OSError):  # another build was quicker, and has the same
            draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
