"""Bundlers: from a tree to one executable file. One Protocol, a dict from kind to implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from ferryman_build.cmd import Runner
from ferryman_build.collect.pyinstaller import CONTENTS, PackRequest, pack
from ferryman_build.settings import Bundler
from ferryman_build.tree import Tree, TreeFile


class BundleJob(msgspec.Struct, frozen=True, kw_only=True):
    """What every bundler gets. ``scripts`` are (name, path), hooks first, the program last; ``blobs`` is a cache."""

    tree: Tree
    scripts: tuple[tuple[str, str], ...]
    optimize: int
    libpython: str
    env: Path
    blobs: Path
    level: int
    output: Path
    work: Path


class BundlerKind(Protocol):
    """``needs_exec_tmp``: the result unpacks itself into the temporary folder and executes what it unpacked."""

    @property
    def needs_exec_tmp(self) -> bool: ...

    @property
    def runtime_needs(self) -> tuple[str, ...]: ...

    def write(self, job: BundleJob, runner: Runner) -> None:
        """Write ``job.output``."""
        ...


class PyInstallerOneFile:
    """PyInstaller's one-file mode over our tree: unpacked into the temporary folder at every start."""

    needs_exec_tmp = True
    runtime_needs = ("a temporary folder that is writable and allows executables (TMPDIR, /tmp)",)

    def write(self, job: BundleJob, runner: Runner) -> None:
        inner = f"{CONTENTS}/"
        files = tuple(
            (
                file.path.removeprefix(inner),
                file.link or str(job.tree.root / file.path),
                self._type(file),
            )
            for file in job.tree.files
            if file.path.startswith(inner)
        )
        request = PackRequest(
            kind="file", scripts=job.scripts, files=files, optimize=job.optimize, libpython=job.libpython,
            contents=CONTENTS, level=job.level, blobs=str(job.blobs), output=str(job.output),
        )  # fmt: skip
        pack(request, job.env, job.work, runner)

    @staticmethod
    def _type(file: TreeFile) -> str:
        if file.link:
            return "n"
        # The bootloader gives "b" (binary) the executable bit and unpacks "x" (data) without it.
        name = file.path.rsplit("/", 1)[-1]
        native = ".so" in name or name.endswith((".dll", ".pyd", ".dylib"))
        return "b" if native or file.mode & 0o111 else "x"


BUNDLERS: dict[Bundler, BundlerKind] = {Bundler.PYINSTALLER: PyInstallerOneFile()}
