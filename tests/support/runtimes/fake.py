"""Runtimes of a few hundred bytes: the files that a reader looks at, with nothing in them that runs."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from support.elf_factory import make_library
from support.plover.files import macho, pe

AMD64, ARM64 = 62, 183
MAGIC = 3495
BOOTSTRAP = f"# as in CPython\nMAGIC_NUMBER = ({MAGIC}).to_bytes(2, 'little') + b'\\r\\n'\n".encode()
_TAG = "cpython-311-x86_64-linux-gnu"
_NEEDS = {"_ssl": ("libssl.so.3", "libc.so.6"), "_socket": ("libc.so.6",), "readline": ("libreadline.so.8",),
          "_testcapi": ("libc.so.6",), "_dbm": ("libdb-5.3.so",)}  # fmt: skip


def stdlib(prefix: str) -> dict[str, bytes]:
    """A standard library with something of each kind."""
    texts = {
        "os.py": b"", "json/__init__.py": b"", "json/decoder.py": b"", "json/tests/test_x.py": b"", "test/bad.py": b"print 1",
        "importlib/_bootstrap_external.py": BOOTSTRAP, "__pycache__/os.cpython-311.pyc": b"\0\0\0\0",
        "idlelib/run.py": b"", "tkinter/__init__.py": b"", "turtle.py": b"", "ensurepip/__init__.py": b"",
        "ensurepip/_bundled/pip.whl": b"PK", "lib2to3/Grammar.txt": b"", "config-3.11-x86_64-linux-gnu/Makefile": b"",
        "site-packages/pip/__init__.py": b"", "sitecustomize.py": b"", "email/architecture.rst": b"", "email/__init__.py": b"",
        "LICENSE.txt": b"PSF", "pydoc_data/topics.py": b"",
    }  # fmt: skip
    return {f"{prefix}/{name}": content for name, content in texts.items()}


def posix(
    *, machine: int = AMD64, version: str = "3.11.9", glibc: str = "2.17", needed: tuple[str, ...] = ("libc.so.6",),
    lib: str = "lib", headers: bool = True, prefix: str = "",
) -> dict[str, bytes]:  # fmt: skip
    """A prefix of Linux; ``lib`` is the folder of its libraries, ``needed`` what libpython needs."""
    short = ".".join(version.split(".")[:2])
    versions = ((f"GLIBC_{glibc}", 0),) if glibc else ()
    files = {
        f"{lib}/libpython{short}.so.1.0": make_library(needed=needed, versions=versions, machine=machine)
        + f"\0{version}\0".encode(),
        f"{lib}/libssl.so.3": make_library(needed=("libcrypto.so.3", "libc.so.6"), machine=machine),
        f"{lib}/libcrypto.so.3": make_library(needed=("libc.so.6",), machine=machine),
        f"{lib}/libunused.so.1": make_library(machine=machine),
        f"{lib}/libc.so.6": make_library(machine=machine),
        **stdlib(f"lib/python{short}"),
    }
    for name, needs in _NEEDS.items():
        files[f"lib/python{short}/lib-dynload/{name}.{_TAG}.so"] = make_library(needed=needs, machine=machine)
    if headers:
        files[f"include/python{short}/patchlevel.h"] = f'#define PY_VERSION      "{version}"\n'.encode()
        files[f"include/python{short}/cpython/initconfig.h"] = b""
    return {f"{prefix}{name}": content for name, content in files.items()}


def windows(*, arch: str = "amd64", version: str = "3.11.9") -> dict[str, bytes]:
    """A CPython for Windows, below python/ as in a release's archive."""
    files = {
        "python311.dll": pe(arch) + f"\0{version}\0".encode(), "python3.dll": pe(arch), "vcruntime140.dll": pe(arch),
        "DLLs/_ssl.pyd": pe(arch), "DLLs/_tkinter.pyd": pe(arch), "DLLs/libssl-3.dll": pe(arch), "DLLs/py.ico": b"",
        "tcl/tcl8.6/init.tcl": b"", **stdlib("Lib"),
    }  # fmt: skip
    return {f"python/{name}": content for name, content in files.items()}


def darwin(*, arch: str = "arm64", version: str = "3.11.9") -> dict[str, bytes]:
    """A prefix of macOS, below python/."""
    files = {
        "lib/libpython3.11.dylib": macho(arch) + f"\0{version}\0".encode(), **stdlib("lib/python3.11"),
        "lib/python3.11/lib-dynload/_ssl.cpython-311-darwin.so": macho(arch),
    }  # fmt: skip
    return {f"python/{name}": content for name, content in files.items()}


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    """The files in ``root``."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def tar(files: Mapping[str, bytes], links: Mapping[str, str] | None = None, mode: str = "w:gz") -> bytes:
    """An archive of the files and symbolic links."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4777 if name.startswith("bin/") else 0o666
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return packed.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """The files as a .zip."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()
