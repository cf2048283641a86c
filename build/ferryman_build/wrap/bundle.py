"""Bundlers: from a tree to one executable file. One Protocol, a dict from the setting to its implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from ferryman_build.cache import Blobs
from ferryman_build.cmd import Runner
from ferryman_build.collect.pyinstaller import CONTENTS, PackRequest, pack
from ferryman_build.settings import Bundler
from ferryman_build.targets import Target
from ferryman_build.toolchain import Toolchain, link_launcher
from ferryman_build.tree import Tree, TreeFile
from ferryman_build.wrap.payload import PayloadFile, PayloadInfo, write_payload


class BundlerKind(Protocol):
    """What is known of the one file before there is one; an instance has what it is made from.

    ``needs_exec_tmp``: the result unpacks itself into the temporary folder and executes what it unpacked.
    ``keeps_cache``: it unpacks itself once, into a cache that later starts use.
    """

    needs_exec_tmp: ClassVar[bool]
    keeps_cache: ClassVar[bool]
    runtime_needs: ClassVar[tuple[str, ...]]

    def write(self, output: Path, runner: Runner) -> None:
        """Write ``output``."""
        ...


@dataclass(frozen=True, kw_only=True)
class PyInstallerOneFile:
    """PyInstaller's one-file mode over our tree: unpacked into the temporary folder at every start.

    ``scripts`` are (name, path), hooks first, the program last; ``blobs`` is a cache.
    """

    needs_exec_tmp: ClassVar[bool] = True
    keeps_cache: ClassVar[bool] = False
    runtime_needs: ClassVar[tuple[str, ...]] = (
        "a temporary folder that is writable and allows executables (TMPDIR, /tmp)",
    )

    tree: Tree
    scripts: tuple[tuple[str, str], ...]
    optimize: int
    libpython: str
    env: Path
    blobs: Path
    level: int
    work: Path

    def write(self, output: Path, runner: Runner) -> None:
        """Write ``output``."""
        files = tuple(
            (
                file.path.removeprefix(f"{CONTENTS}/"),
                file.link or str(self.tree.root / file.path),
                self._type(file),
            )
            for file in _contents(self.tree)
        )
        request = PackRequest(
            kind="file", scripts=self.scripts, files=files, optimize=self.optimize, libpython=self.libpython,
            contents=CONTENTS, level=self.level, blobs=str(self.blobs), output=str(output),
        )  # fmt: skip
        pack(request, self.env, self.work, runner)

    @staticmethod
    def _type(file: TreeFile) -> str:
        if file.link:
            return "n"
        # The bootloader gives "b" (binary) the executable bit and unpacks "x" (data) without it.
        name = file.path.rsplit("/", 1)[-1]
        native = ".so" in name or name.endswith((".dll", ".pyd", ".dylib"))
        return "b" if native or file.mode & 0o111 else "x"


def _contents(tree: Tree) -> tuple[TreeFile, ...]:
    """The files of a tree but what starts it."""
    return tuple(file for file in tree.files if file.path.startswith(f"{CONTENTS}/"))


@dataclass(frozen=True, kw_only=True)
class FerrymanOneFile:
    """The launcher with the tree as its payload: unpacked once into a cache, and started from there.

    ``groups`` has, by the path below the contents, what a file is packed together with; ``blobs`` keeps what is packed.
    """

    needs_exec_tmp: ClassVar[bool] = False
    keeps_cache: ClassVar[bool] = True
    runtime_needs: ClassVar[tuple[str, ...]] = (
        "a folder for its cache that is writable and allows executables (docs/launcher.md)",
    )

    tree: Tree
    groups: Mapping[str, str]
    info: PayloadInfo
    level: int
    target: Target
    toolchain: Toolchain
    objects: tuple[Path, ...]
    blobs: Blobs
    work: Path

    def write(self, output: Path, runner: Runner) -> None:
        """Write ``output``."""
        payload = self.work / "payload"
        write_payload(map(self._file, _contents(self.tree)), self.info, payload, self.blobs, level=self.level)
        link_launcher(
            self.toolchain, self.target, objects=self.objects, output=output, runner=runner, payload=payload
        )
        payload.unlink()

    def _file(self, file: TreeFile) -> PayloadFile:
        return PayloadFile(
            path=file.path, mode=file.mode, source=None if file.link else self.tree.root / file.path, link=file.link,
            group=self.groups[file.path.removeprefix(f"{CONTENTS}/")],
        )  # fmt: skip


BUNDLERS: dict[Bundler, type[BundlerKind]] = {
    Bundler.FERRYMAN: FerrymanOneFile,
    Bundler.PYINSTALLER: PyInstallerOneFile,
}
