"""The plover's wheel for every target, built here, read by others' tools, and run where a machine can be had or imitated.

macOS is built and read, and nothing here runs it. musl is run by nobody's Python: Debian has none that is linked with it.
"""

from __future__ import annotations

import atexit
import functools
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pefile
import pytest
from elftools.elf.elffile import ELFFile

from e2e.clean_rootfs.rootfs import UnavailableError
from ferryman_build.inspect.formats import read_native
from ferryman_build.inspect.native import Native
from ferryman_build.targets import Os, all_targets, parse_target
from support.ferryman import ROOT
from support.plover.building import ONE_VERSION, PROBE, build, expected, unpacked
from support.qemu.emulation import emulated
from support.qemu.roots import ForeignRoot, Recipe
from support.wine.cpython import cpython
from support.wine.prefix import windows

CACHE = ROOT / ".cache" / "rootfs"
TARGETS = [target.id for target in all_targets()]
GLIBC = {"libc.so.6"}
NEEDED = {
    "linux-arm64": {*GLIBC, "ld-linux-aarch64.so.1"},
    "linux-riscv64": {*GLIBC, "ld-linux-riscv64-lp64d.so.1"},
    "linux-amd64-musl": {"libc.musl-x86_64.so.1"},
    "linux-arm64-musl": {"libc.musl-aarch64.so.1"},
}

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(1800)]


@functools.cache
def made(target: str) -> Path:
    """A target's wheel, once per session."""
    folder = Path(tempfile.mkdtemp(prefix=f"plover-{target}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build(target, folder)


def extension(target: str) -> tuple[bytes, Native]:
    """The one native file of a wheel."""
    archive = zipfile.ZipFile(made(target))
    name = "plover/_core.pyd" if parse_target(target).os is Os.WINDOWS else "plover/_core.abi3.so"
    data = archive.read(name)
    native = read_native(name, io.BytesIO(data))
    assert native is not None
    return data, native


# --- read -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_stable_abi(target: str) -> None:
    """abi3audit, which knows every symbol of the stable ABI, finds no other in ELF, PE or Mach-O."""
    pytest.importorskip("abi3audit", reason="NOT AUDITED: abi3audit is missing")
    done = subprocess.run(
        [sys.executable, "-m", "abi3audit", "--strict", "--assume-minimum-abi3", "3.11", str(made(target))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("target", [target for target in TARGETS if target.startswith("linux")])
def test_linux_file(target: str) -> None:
    """It needs its C library under its real name, offers one symbol, and has no folder of this machine in it."""
    data, native = extension(target)

    symbols = ELFFile(io.BytesIO(data)).get_section_by_name(".dynsym").iter_symbols()
    offered = [symbol.name for symbol in symbols if symbol["st_shndx"] != "SHN_UNDEF" and symbol.name]
    assert set(native.needed) == NEEDED.get(target, GLIBC)
    assert (native.search, native.provides) == ((), "")
    assert offered == ["PyInit__core"]


@pytest.mark.parametrize("target", ["windows-amd64", "windows-arm64"])
def test_windows_file(target: str) -> None:
    """CPython comes from python3.dll alone, which every version of it has; one symbol is offered."""
    data, native = extension(target)

    image = pefile.PE(data=data)
    theirs = {
        entry.dll.decode(): {symbol.name.decode() for symbol in entry.imports}
        for entry in image.DIRECTORY_ENTRY_IMPORT
    }
    rest = {name for name in native.needed if not name.startswith("api-ms-win-crt-")}
    assert rest == {"python3.dll", "KERNEL32.dll"}
    assert {"PyModuleDef_Init", "PyExc_ValueError", "PyType_FromModuleAndSpec"} <= theirs["python3.dll"]
    assert [symbol.name for symbol in image.DIRECTORY_ENTRY_EXPORT.symbols] == [b"PyInit__core"]


@pytest.mark.parametrize("target", ["darwin-arm64", "darwin-amd64"])
def test_macos_file(target: str) -> None:
    """Needs macOS 11 and its system library; on arm64, where nothing runs without, the linker has signed it."""
    data, native = extension(target)

    code_signature = (0x1D).to_bytes(4, "little") + (16).to_bytes(
        4, "little"
    )  # LC_CODE_SIGNATURE and its size
    assert native.floor["macos"].version == "11.0"
    assert native.needed == ("/usr/lib/libSystem.B.dylib",)
    assert (code_signature in data[:4096]) is (target == "darwin-arm64")


@pytest.mark.parametrize("target", TARGETS)
def test_bytes_are_the_same_elsewhere(target: str, tmp_path: Path) -> None:
    """Built a second time in another folder, and no path of either is in it."""
    data, _ = extension(target)

    assert build(target, tmp_path / "another folder").read_bytes() == made(target).read_bytes()
    assert str(ROOT).encode() not in data
    assert b".cross-" not in data


# --- run --------------------------------------------------------------------------------------------------------------

# target → Go's word for the machine, a root with a Python in it, and what its C knows
MACHINES = {
    "linux-arm64": ("arm64", Recipe("arm64", ("python3.11-minimal",)), "python3.11", (8, "little")),
    "linux-armv7": ("armv7", Recipe("armhf", ("python3.11-minimal",)), "python3.11", (4, "little")),
    "linux-ppc64le": ("ppc64le", Recipe("ppc64el", ("python3.11-minimal",)), "python3.11", (8, "little")),
    "linux-s390x": ("s390x", Recipe("s390x", ("python3.11-minimal",)), "python3.11", (8, "big")),
    "linux-riscv64": (
        "riscv64",
        Recipe("riscv64", ("python3.13-minimal",), "trixie"),
        "python3.13",
        (8, "little"),
    ),
}


@pytest.mark.parametrize("target", MACHINES)
def test_run_by_debians_python(target: str, tmp_path: Path) -> None:
    """Imported on the machine itself, under QEMU: sizes of 32 bits and the other order of bytes among them."""
    arch, recipe, python, (pointer, order) = MACHINES[target]
    with ExitStack() as stack:
        try:
            stack.enter_context(emulated(arch, CACHE))
            root = ForeignRoot.unpack(recipe, CACHE, tmp_path / "root")
        except UnavailableError as reason:
            pytest.skip(str(reason))
        root.place(unpacked(made(target), tmp_path / "site"), "/srv/site")
        ended = root.run(
            [f"/usr/bin/{python}", "-c", f"import sys; sys.path.insert(0, '/srv/site')\n{PROBE}"]
        )

    assert (ended.code, ended.out.strip()) == (0, expected(pointer, order)), ended.err


def under_wine(site: Path, script: str) -> tuple[int, str]:
    """What CPython 3.11 for Windows prints, with ``site`` on its path."""
    try:
        python = cpython()
        with windows() as machine:
            place = Path(tempfile.mkdtemp(dir=machine.drive))
            try:
                shutil.copytree(site, place / "site")
                path = machine.path(place / "site")
                ran = machine.run(
                    python / "python.exe", "-I", "-c", f"import sys; sys.path.insert(0, {path!r})\n{script}"
                )
            finally:
                shutil.rmtree(place, ignore_errors=True)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    return ran.code, (ran.out.decode() or ran.said).strip()


def test_run_by_python_for_windows(tmp_path: Path) -> None:
    """The wheel that no Windows had a part in is imported by CPython's own python.exe."""
    code, said = under_wine(unpacked(made("windows-amd64"), tmp_path / "site"), PROBE)

    assert (code, said) == (0, expected())


def test_one_version_with_headers_of_the_target(tmp_path: Path) -> None:
    """With the headers of a Windows CPython an extension without the stable ABI is built for that version, and runs."""
    try:
        headers = cpython() / "include"
    except UnavailableError as reason:
        pytest.skip(str(reason))
    wheel = build("windows-amd64", tmp_path / "into", ONE_VERSION, headers)

    site = unpacked(wheel, tmp_path / "site")
    code, said = under_wine(site, "import plover_oneversion\nprint(plover_oneversion.last([1, 2, 'three']))")

    assert wheel.name == "plover_oneversion-1.0-cp311-cp311-win_amd64.whl"
    assert (site / "plover_oneversion.cp311-win_amd64.pyd").is_file()
    assert (code, said) == (0, "three")
