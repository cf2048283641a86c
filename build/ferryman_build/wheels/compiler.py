"""What a build backend is told about a target: variables of sysconfig, and the words behind its compiler."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ferryman_build.targets import Libc, Os, Target

_INSIDE = Path(__file__).parent / "inside"
# Of CPython's own flags, those that change what an extension computes; the rest is taste.
_COMPILE = ("-O2", "-g0", "-DNDEBUG", "-fwrapv", "-fno-ident", "-fvisibility=hidden", "-fstack-protector-strong",
            "-Wno-unused-command-line-argument")  # fmt: skip
_LINK: Mapping[Os, tuple[str, ...]] = {
    Os.LINUX: ("-s", "-Wl,--build-id=none", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"),
    Os.WINDOWS: ("-s", "-Wl,--dynamicbase", "-Wl,--high-entropy-va", "-Wl,--nxcompat"),
    # The interpreter that loads the extension has CPython's symbols. The name is the linker's for itself; nobody reads
    # it, but without it the path of the build stands there.
    Os.DARWIN: ("-s", "-Wl,-undefined,dynamic_lookup", "-Wl,-install_name,@rpath/{name}"),
}
_DLLTOOL_MACHINE = {"amd64": "i386:x86-64", "arm64": "arm64"}


class Compiler(msgspec.Struct, frozen=True, kw_only=True):
    """What inside/cc.py reads: see there.

    ``dlls`` are the libraries that Windows extensions get CPython from: with the stable ABI, and without it.
    """

    zig: tuple[str, ...]
    target: tuple[str, ...]
    compile: tuple[str, ...]
    link: tuple[str, ...]
    dlls: tuple[str, ...] = ()
    dlltool: tuple[str, ...] = ()


def compiler(target: Target, python: str, zig: Path, include: Path, work: Path) -> Compiler:
    """The compiler for ``target`` and CPython X.Y.

    CPython's headers are in ``include``; the path ``work`` may not stand in what is made.
    """
    position = () if target.os is Os.WINDOWS else ("-fPIC",)
    return Compiler(
        zig=(str(zig),), target=("-target", target.zig),
        compile=(*_COMPILE, *position, f"-ffile-prefix-map={work}=.", *_MORE.get(target.id, ()), "-I", str(include)),
        link=(*_soname(target), *_LINK[target.os], *_MORE.get(target.id, ())),
        dlls=("python3.dll", f"python{python.replace('.', '')}.dll") if target.os is Os.WINDOWS else (),
        dlltool=(str(zig), "dlltool", "-m", _DLLTOOL_MACHINE.get(target.arch, "")),
    )  # fmt: skip


# glibc before 2.32 has no printf for the other long double (resources/toolchain.toml says the same of the launcher).
_MORE: Mapping[str, tuple[str, ...]] = {"linux-ppc64le": ("-mabi=ibmlongdouble",)}


def musl_library(target: Target) -> str:
    """musl's own name for its C library: zig's stub is called libc.so, which a glibc system may have too.

    Source: musl's Makefile; musllinux (PEP 656) wheels are linked against this name.
    """
    return f"libc.musl-{_machine(target)}.so.1"


def _soname(target: Target) -> tuple[str, ...]:
    # An extension needs no name of its own; it is asked for so that the word stands in the file (elf_needed.py).
    return (f"-Wl,-soname,{musl_library(target)}",) if target.libc is Libc.MUSL else ()


def triplet(target: Target) -> str:
    """CPython's word for the platform in the name of an extension."""
    if target.os is Os.DARWIN:
        return "darwin"
    return target.zig.partition(".")[0]


def suffixes(target: Target, python: str) -> tuple[str, ...]:
    """Of extension modules, the one of this Python first, then the stable ABI's. ``python`` is X.Y."""
    short = python.replace(".", "")
    if target.os is Os.WINDOWS:
        return f".cp{short}-{target.wheel_tags[0]}.pyd", ".pyd"
    return f".cpython-{short}-{triplet(target)}.so", ".abi3.so"


def is_stable(name: str, target: Target) -> bool:
    """Whether a file of this name is loaded by later Pythons as well."""
    return name.count(".") == 1 if target.os is Os.WINDOWS else ".abi3." in name


def host_platform(target: Target) -> str:
    """What sysconfig.get_platform() says on the target."""
    if target.os is Os.WINDOWS:
        return f"win-{target.arch}"
    if target.os is Os.DARWIN:
        return target.wheel_tags[0].replace("macosx_11_0_", "macosx-11.0-")
    return f"linux-{_machine(target)}"


def _machine(target: Target) -> str:
    return target.machine[0]


def variables(target: Target, python: str, include: Path, env_python: Path) -> dict[str, object]:
    """Variables of sysconfig for a CPython X.Y of the target, as far as build backends read them."""
    suffix, _ = suffixes(target, python)
    cc, cxx = (shlex.join([str(env_python), "-I", str(_INSIDE / "cc.py"), name]) for name in ("cc", "c++"))
    return {
        "CC": cc, "CXX": cxx, "LDSHARED": f"{cc} -shared", "LDCXXSHARED": f"{cxx} -shared",
        "CFLAGS": "", "OPT": "", "PY_CFLAGS": "", "BASECFLAGS": "", "CCSHARED": "", "LDFLAGS": "", "CPPFLAGS": "",
        "AR": shlex.join([str(env_python), "-I", str(_INSIDE / "cc.py"), "ar"]), "ARFLAGS": "rcs",
        "SHLIB_SUFFIX": ".pyd" if target.os is Os.WINDOWS else ".so", "EXT_SUFFIX": suffix,
        "SOABI": suffix.strip(".").rpartition(".")[0], "MULTIARCH": triplet(target),
        "INCLUDEPY": str(include), "CONFINCLUDEPY": str(include), "Py_ENABLE_SHARED": 0, "LIBDIR": "", "LIBPL": "",
        "Py_GIL_DISABLED": 0, "Py_DEBUG": 0, "MACOSX_DEPLOYMENT_TARGET": target.floor.get("macos", ""),
    }  # fmt: skip


def host_can() -> bool:
    """Whether setuptools on this machine starts a compiler in the way of Unix, which can be another one."""
    return sys.platform != "win32"
