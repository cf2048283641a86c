"""CPython 3.11 built from Debian's source package in a root filesystem of bullseye: real, and with a low glibc floor.

The source is Debian's, checked by apt with the distribution's keys, without Debian's patches. Nothing is installed on this
machine: compiler and libraries are those of the root, which is thrown away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from e2e.clean_rootfs.rootfs import SUITE, UnavailableError, host_mirrors, require_tools
from support.runtimes.archive import files

PREFIX = "opt/python"
_PACKAGES = (
    "gcc", "g++", "make", "xz-utils", "libssl-dev", "zlib1g-dev", "libffi-dev", "libbz2-dev", "liblzma-dev",
    "libsqlite3-dev", "uuid-dev", "libexpat1-dev", "python3-minimal",
)  # fmt: skip
# The libraries that its extension modules need and a clean machine may lack lie beside libpython, as in a release that
# is made to be moved.
_SHIPPED = ("libssl.so.1.1", "libcrypto.so.1.1", "libffi.so.7", "libsqlite3.so.0", "libbz2.so.1.0", "liblzma.so.5",
            "libuuid.so.1", "libz.so.1")  # fmt: skip
_BUILD = f"""
set -e
cd /src
tar --strip-components=1 -xf source.tar
./configure --quiet --prefix=/{PREFIX} --enable-shared --without-ensurepip --disable-test-modules
make -s -j{{jobs}}
make -s install
for name in {" ".join(_SHIPPED)}; do
    cp -L "$(find /usr/lib /lib -name "$name" | head -n 1)" "/{PREFIX}/lib/$name"
done
strip --strip-unneeded /{PREFIX}/lib/*.so* /{PREFIX}/lib/python3.11/lib-dynload/*.so
"""


def build(work: Path, say: object = print) -> Mapping[str, Path]:
    """Archive member → file of a CPython for linux-amd64, in the layout of an install_only archive.

    Args:
        work: an empty folder; the answer's files lie in it.
        say: gets a line before each long step.

    Raises:
        UnavailableError: this host cannot make the root or has no source package.
    """
    require_tools()
    root = work / "root"
    assert callable(say)
    say("making a bullseye root with a compiler")
    _make_root(root)
    source = _source(work / "source")
    (root / "src").mkdir()
    shutil.copyfile(source, root / "src/source.tar")
    say("building CPython in it (some minutes)")
    with _proc(root):
        done = subprocess.run(
            ["chroot", root, "/bin/sh", "-c", _BUILD.format(jobs=os.cpu_count() or 1)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise UnavailableError(
            "CPython does not build:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        )
    return dict(files(root / PREFIX, "python/", without=("test", "site-packages")))


def _make_root(root: Path) -> None:
    mirrors = [mirror for mirror in host_mirrors() if mirror.suite == SUITE]
    lines = [f"deb {mirror.uri} bullseye {mirror.component}" for mirror in mirrors]
    done = subprocess.run(
        ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(_PACKAGES)}", "bullseye", root, *lines],
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
    """What a build expects of /proc and /dev, for the time that it takes."""
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
