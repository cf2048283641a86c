"""CPython 3.11 built from Debian's source package in a root filesystem of bullseye: real, and with a low glibc floor.

The source is Debian's, checked by apt with the distribution's keys, without Debian's patches. Nothing is installed on this
machine: compiler and libraries are those of the root, which is thrown away. For arm64 it is a cross build, which needs a
CPython of the same version for this machine: the other one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.clean_rootfs.rootfs import SUITE, UnavailableError, host_mirrors, require_tools
from ferryman_build.runtimes.unpack import unpack
from support.runtimes.archive import files

PREFIX = "opt/python"
_HELPER = "opt/helper"  # the CPython of this machine that a cross build runs
_TOOLS = ("make", "xz-utils")
_LIBRARIES = (
    "libssl-dev",
    "zlib1g-dev",
    "libffi-dev",
    "libbz2-dev",
    "liblzma-dev",
    "libsqlite3-dev",
    "uuid-dev",
    "libexpat1-dev",
)
# The libraries that its extension modules need and a clean machine may lack lie beside libpython, as in a release that
# is made to be moved.
_SHIPPED = ("libssl.so.1.1", "libcrypto.so.1.1", "libffi.so.7", "libsqlite3.so.0", "libbz2.so.1.0", "liblzma.so.5",
            "libuuid.so.1", "libz.so.1", "libcrypt.so.1")  # fmt: skip
_BUILD = """
set -e
cd /src
tar --strip-components=1 -xf source.tar
./configure --quiet --prefix=/{prefix} --enable-shared --without-ensurepip --disable-test-modules {configure}
make -s -j{jobs}
make -s install
for name in {shipped}; do
    cp -L "$(find /usr/lib/{multiarch} /lib/{multiarch} -name "$name" | head -n 1)" "/{prefix}/lib/$name"
done
{strip} --strip-unneeded /{prefix}/lib/*.so* /{prefix}/lib/python3.11/lib-dynload/*.so
"""
_CROSS = (
    "--host=aarch64-linux-gnu --build=x86_64-linux-gnu --with-build-python=/usr/local/bin/python3.11 "
    "ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no ac_cv_buggy_getaddrinfo=no"
)
_RUN_HELPER = f"""#!/bin/sh
LD_LIBRARY_PATH=/{_HELPER}/python/lib exec /{_HELPER}/python/bin/python3.11 "$@"
"""


@dataclass(frozen=True)
class Machine:
    """A machine in Debian's words, and what a build for it needs."""

    debian: str
    multiarch: str
    compiler: tuple[str, ...]
    strip: str
    configure: str = ""


AMD64 = Machine("amd64", "x86_64-linux-gnu", ("gcc", "g++"), "strip")
ARM64 = Machine(
    "arm64", "aarch64-linux-gnu", ("gcc-aarch64-linux-gnu", "g++-aarch64-linux-gnu", "pkg-config", "gcc", "libc6-dev"),
    "aarch64-linux-gnu-strip", _CROSS,
)  # fmt: skip


def build(
    work: Path, machine: Machine, say: Callable[[str], None], helper: Path | None = None
) -> Mapping[str, Path]:
    """Archive member → file of a CPython for ``machine``, in the layout of an install_only archive.

    Args:
        work: an empty folder; the answer's files lie in it.
        machine: what it is for.
        say: gets a line before each long step.
        helper: the archive of one for this machine, where that is another one.

    Raises:
        UnavailableError: this host cannot make the root or has no source package.
    """
    require_tools()
    root = work / "root"
    say("making a bullseye root with a compiler")
    _make_root(root, machine)
    (root / "src").mkdir()
    shutil.copyfile(_source(work / "source"), root / "src/source.tar")
    if helper is not None:
        unpack(helper, root / _HELPER)
        starter = root / "usr/local/bin/python3.11"
        starter.write_text(_RUN_HELPER, encoding="utf-8")
        starter.chmod(0o755)
    say(f"building CPython for {machine.debian} in it (some minutes)")
    _build(root, machine)
    return dict(files(root / PREFIX, "python/", without=("test", "site-packages")))


def _build(root: Path, machine: Machine) -> None:
    script = _BUILD.format(
        prefix=PREFIX, configure=machine.configure, jobs=os.cpu_count() or 1, shipped=" ".join(_SHIPPED),
        multiarch=machine.multiarch, strip=machine.strip,
    )  # fmt: skip
    env = {
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root",
        "PKG_CONFIG_LIBDIR": f"/usr/lib/{machine.multiarch}/pkgconfig:/usr/share/pkgconfig",
    }  # fmt: skip
    with _proc(root):
        done = subprocess.run(
            ["chroot", root, "/bin/sh", "-c", script],
            env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise UnavailableError(
            "CPython does not build:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        )


def _make_root(root: Path, machine: Machine) -> None:
    """Of this machine, with compiler and libraries for the other where they differ."""
    suffix = "" if machine is AMD64 else f":{machine.debian}"
    packages = [*_TOOLS, *machine.compiler, *(f"{name}{suffix}" for name in _LIBRARIES)]
    mirrors = [mirror for mirror in host_mirrors() if mirror.suite == SUITE]
    lines = [f"deb {mirror.uri} bullseye {mirror.component}" for mirror in mirrors]
    done = subprocess.run(
        ["mmdebstrap", "--variant=minbase", "--mode=root", "--skip=check/qemu",
         f"--architectures={','.join(dict.fromkeys((AMD64.debian, machine.debian)))}", f"--include={','.join(packages)}",
         "bullseye", root, *lines],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise UnavailableError("mmdebstrap failed:\n" + "\n".join(done.stderr.splitlines()[-15:]))


def _source(folder: Path) -> Path:
    """The upstream archive of Debian's python3.11, through apt with lists of its own."""
    (folder / "lists/partial").mkdir(parents=True)
    mirror = next(mirror for mirror in host_mirrors() if mirror.suite == SUITE)
    listed = folder / "sources.list"
    listed.write_text(f"deb-src {mirror.uri} {mirror.suite} {mirror.component}\n", encoding="utf-8")
    options = [f"-oDir::State::Lists={folder}/lists", f"-oDir::Etc::SourceList={listed}", "-oDir::Etc::SourceParts=-",
               "-oAPT::Sandbox::User=root"]  # fmt: skip
    for words in (["update", "-q"], ["source", "-q", "--download-only", "python3.11"]):
        done = subprocess.run(
            ["apt-get", *options, *words], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UnavailableError(f"apt-get {words[0]} failed: {done.stderr.strip()[-300:]}")
    return next(folder.glob("python3.11_*.orig.tar.*"))


@contextlib.contextmanager
def _proc(root: Path) -> Iterator[None]:
    """What a build expects of /proc, for the time that it takes."""
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", root / "proc"], check=False)


@contextlib.contextmanager
def work_folder(near: Path) -> Iterator[Path]:
    """A folder on the disk that ``near`` is on; a root with a compiler has 700 MB."""
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=near, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
