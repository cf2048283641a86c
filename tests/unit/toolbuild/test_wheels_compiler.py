"""compiler, headers, inside/cc.py: what setuptools is told about a target, and what zig gets to hear of it."""

from __future__ import annotations

import json
import runpy
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.interpreter import Headers
from ferryman_build.targets import Os, all_targets, parse_target
from ferryman_build.wheels import compiler
from ferryman_build.wheels.headers import lay_headers

CC = Path(compiler.__file__).parent / "inside" / "cc.py"
INSIDE: dict[str, Any] = runpy.run_path(str(CC))


# --- sysconfig --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "platform", "one", "stable"),
    [
        ("linux-amd64", "linux-x86_64", ".cpython-311-x86_64-linux-gnu.so", ".abi3.so"),
        ("linux-arm64", "linux-aarch64", ".cpython-311-aarch64-linux-gnu.so", ".abi3.so"),
        ("linux-amd64-musl", "linux-x86_64", ".cpython-311-x86_64-linux-musl.so", ".abi3.so"),
        ("linux-arm64-musl", "linux-aarch64", ".cpython-311-aarch64-linux-musl.so", ".abi3.so"),
        ("windows-amd64", "win-amd64", ".cp311-win_amd64.pyd", ".pyd"),
        ("windows-arm64", "win-arm64", ".cp311-win_arm64.pyd", ".pyd"),
        ("darwin-arm64", "macosx-11.0-arm64", ".cpython-311-darwin.so", ".abi3.so"),
        ("darwin-amd64", "macosx-11.0-x86_64", ".cpython-311-darwin.so", ".abi3.so"),
        ("linux-armv7", "linux-armv7l", ".cpython-311-arm-linux-gnueabihf.so", ".abi3.so"),
        ("linux-riscv64", "linux-riscv64", ".cpython-311-riscv64-linux-gnu.so", ".abi3.so"),
        ("linux-s390x", "linux-s390x", ".cpython-311-s390x-linux-gnu.so", ".abi3.so"),
        ("linux-ppc64le", "linux-ppc64le", ".cpython-311-powerpc64le-linux-gnu.so", ".abi3.so"),
    ],
)
def test_names_of_a_target(target: str, platform: str, one: str, stable: str) -> None:
    """The names are those that CPython itself uses on the target."""
    row = parse_target(target)

    assert compiler.host_platform(row) == platform
    assert compiler.suffixes(row, "3.11") == (one, stable)
    assert compiler.is_stable(f"_core{stable}", row)
    assert not compiler.is_stable(f"_core{one}", row)


def test_names_cover_the_matrix() -> None:
    """Every row has names: a new one needs no code here."""
    for row in all_targets():
        assert all(compiler.suffixes(row, "3.13"))
        assert compiler.host_platform(row).partition("-")[0] in ("linux", "win", "macosx")


def test_variables_keep_nothing_of_this_machine(tmp_path: Path) -> None:
    """No flag, folder or library of the Python that runs the backend is left."""
    told = compiler.variables(
        parse_target("windows-arm64"), "3.11", tmp_path / "inc", tmp_path / "a b" / "python"
    )

    assert {told[name] for name in ("CFLAGS", "LDFLAGS", "OPT", "CCSHARED", "LIBDIR", "LIBPL")} == {""}
    assert told["Py_ENABLE_SHARED"] == 0
    assert told["INCLUDEPY"] == told["CONFINCLUDEPY"] == str(tmp_path / "inc")
    assert str(told["CC"]) == f"'{tmp_path}/a b/python' -I {CC} cc"
    assert str(told["LDCXXSHARED"]).endswith("cc.py c++ -shared")
    assert told["SOABI"] == "cp311-win_arm64"


@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_flags_of_a_target(target: Any, tmp_path: Path) -> None:
    """The floor is in the target's word, no path of the build goes into a file, and code is position independent."""
    told = compiler.compiler(target, "3.12", tmp_path / "zig", tmp_path / "inc", tmp_path)

    assert told.target == ("-target", target.zig)
    assert f"-ffile-prefix-map={tmp_path}=." in told.compile
    assert "-fvisibility=hidden" in told.compile
    assert ("-fPIC" in told.compile) is (target.os is not Os.WINDOWS)
    assert told.dlls == (("python3.dll", "python312.dll") if target.os is Os.WINDOWS else ())
    assert "-s" in told.link


def test_ppc64le_has_the_long_double_of_its_floor(tmp_path: Path) -> None:
    """glibc 2.19 has no printf for the other one."""
    told = compiler.compiler(parse_target("linux-ppc64le"), "3.11", tmp_path, tmp_path, tmp_path)

    assert "-mabi=ibmlongdouble" in told.compile
    assert "-mabi=ibmlongdouble" in told.link


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Headers:
    folder = tmp_path / "usr" / "include" / "python3.11"
    for name in ("Python.h", "cpython/object.h", "internal/pycore.h", "pyconfig.h", "pyconfig-64.h"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return Headers(folder=folder)


@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_our_config_replaces_the_hosts(target: Any, host: Headers, tmp_path: Path) -> None:
    """Without headers of the target, CPython's own are joined with a pyconfig.h that asks the compiler for sizes."""
    laid = lay_headers(host, None, target, tmp_path / "laid")

    names = sorted(path.relative_to(laid).as_posix() for path in laid.rglob("*") if path.is_file())
    text = (laid / "pyconfig.h").read_text()
    assert names == ["Python.h", "cpython/object.h", "pyconfig.h"]
    assert "__SIZEOF_LONG__" in text
    assert ("#define MS_WINDOWS" in text) is (target.os is Os.WINDOWS)


def test_headers_of_the_target_are_taken_whole(host: Headers, tmp_path: Path) -> None:
    """The headers that a runtime of the target brings are right for everything."""
    own = tmp_path / "runtime"
    own.mkdir()
    (own / "pyconfig.h").write_text("theirs")

    laid = lay_headers(host, Headers(folder=own), parse_target("windows-amd64"), tmp_path / "laid")

    assert (laid / "pyconfig.h").read_text() == "theirs"


def test_config_of_debian_is_followed(host: Headers, tmp_path: Path) -> None:
    """Debian's pyconfig.h only names the real one, among headers that zig does not look at."""
    (host.folder / "pyconfig.h").write_text("# include <x86_64-linux-gnu/python3.11/pyconfig.h>\n")
    real = host.folder.parent / "x86_64-linux-gnu" / "python3.11" / "pyconfig.h"
    real.parent.mkdir(parents=True)
    real.write_text("the real one")

    laid = lay_headers(host, host, parse_target("linux-amd64"), tmp_path / "laid")

    assert (laid / "pyconfig.h").read_text() == "the real one"


# --- inside/cc.py -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["-I/usr/include/x", "-I/usr/local/include", "-Inative", "-I/project/include"], ["-Inative", "-I/project/include"]),
        (["-L/usr/lib", "-Lhere", "-Wl,-rpath,/opt/lib", "-Wl,-rpath=/opt", "-lm"], ["-Lhere", "-lm"]),
        (["-march=native", "-mtune=native", "-march=x86-64-v2", "-specs=/usr/lib/x", "-flto=auto"], ["-march=x86-64-v2"]),
        (["-arch", "x86_64", "-isysroot", "/sdk", "-c", "x.c"], ["-c", "x.c"]),
        (["-c", "a b.c", "-o", "a b.o", "-DX=\"y z\""], ["-c", "a b.c", "-o", "a b.o", "-DX=\"y z\""]),
    ],
)  # fmt: skip
def test_flags_of_this_machine_are_left_out(given: list[str], kept: list[str]) -> None:
    """What a project or its tools ask for, less what is about the machine that builds."""
    assert INSIDE["wanted"](given) == kept


def test_headers_of_another_python_are_left_out(tmp_path: Path) -> None:
    """The environment's own include folder may have Python.h as well, with a pyconfig.h of this machine."""
    (tmp_path / "Python.h").touch()

    assert INSIDE["wanted"]([f"-I{tmp_path}", f"-I{tmp_path / 'more'}"]) == [f"-I{tmp_path / 'more'}"]


def coff(*symbols: tuple[str, int, int]) -> bytes:
    """An object file that is a symbol table: (name, section, storage class); the first has an auxiliary record."""
    strings = bytearray(4)
    table = b""
    for number, (name, section, storage) in enumerate(symbols):
        raw = name.encode().ljust(8, b"\0")
        if len(name) > 8:
            raw = struct.pack("<II", 0, len(strings))
            strings += name.encode() + b"\0"
        table += struct.pack("<8sIhHBB", raw, 0, section, 0, storage, number == 0) + (
            bytes(18) if number == 0 else b""
        )
    strings[:4] = struct.pack("<I", len(strings))
    return struct.pack("<HHIIIHH", 0x8664, 0, 0, 20, len(table) // 18, 0, 0) + table + bytes(strings)


def test_open_names_of_an_object() -> None:
    """Names of CPython that are not defined in it: those asked for by address need no jump."""
    data = coff(
        (".text", 1, 3), ("__imp_PyErr_SetString", 0, 2), ("PyLong_FromLong", 0, 2), ("__imp_PyLong_FromLong", 0, 2),
        ("__imp__Py_NoneStruct", 0, 2), ("PyInit__core", 1, 2), ("printf", 0, 2), ("__imp_Sleep", 0, 2),
        ("PyHid", 0, 3), ("pyramid", 0, 2),
    )  # fmt: skip

    assert INSIDE["open_names"](data) == {
        "PyErr_SetString": False, "PyLong_FromLong": True, "_Py_NoneStruct": False,
    }  # fmt: skip


ZIG = """
import json, sys
from pathlib import Path
words = sys.argv[1:]
if words[0] == "dlltool":
    Path(words[words.index("-l") + 1]).write_text("a library")
    with open({log!r}, "a") as log:
        log.write(json.dumps(Path(words[words.index("-d") + 1]).read_text().split("\\n")) + "\\n")
    sys.exit(0)
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
if "-o" in words and "fail" not in words:
    made = Path(words[words.index("-o") + 1])
    made.write_text("made")
    made.with_suffix(".lib").write_text("what a linker leaves")
sys.exit(3 if "fail" in words else 0)
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """cc.py with a zig that writes down what it is asked for."""
    log = tmp_path / "log"
    (tmp_path / "zig.py").write_text(ZIG.format(log=str(log)))
    zig = (sys.executable, str(tmp_path / "zig.py"))
    request = {"zig": zig, "target": ["-target", "T"], "compile": ["-O2"], "link": ["-s", "-name,{name}"], "dlls": [],
               "dlltool": [*zig, "dlltool"]}  # fmt: skip

    def run(*words: str, **changed: Any) -> tuple[int, list[list[str]]]:
        (tmp_path / "cc.json").write_text(json.dumps(request | changed))
        log.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-I", str(CC), *words], cwd=tmp_path, check=False,
            env={"FERRYMAN_CC": str(tmp_path / "cc.json"), "PATH": "/usr/bin"},
        )  # fmt: skip
        return done.returncode, [json.loads(line) for line in log.read_text().splitlines()]

    return run


def test_compilation_gets_the_targets_flags(call: Any) -> None:
    """Our flags come last, so that they count."""
    code, asked = call("cc", "-O3", "-c", "x.c", "-o", "x.o")

    assert (code, asked) == (0, [["cc", "-target", "T", "-O3", "-c", "x.c", "-o", "x.o", "-O2"]])


def test_archiver_is_left_alone(call: Any) -> None:
    """zig's ar knows every format."""
    assert call("ar", "rcs", "x.a", "x.o") == (0, [["ar", "rcs", "x.a", "x.o"]])


def test_link_leaves_one_file(call: Any, tmp_path: Path) -> None:
    """Import libraries and other by-products stay in a folder that is removed; the name is there for the flags."""
    (tmp_path / "made").mkdir()

    code, asked = call("c++", "-shared", "x.o", "-o", "made/_core.abi3.so")

    (words,) = asked
    assert code == 0
    assert words[:5] == ["c++", "-target", "T", "-shared", "x.o"]
    assert words[-2:] == ["-s", "-name,_core.abi3.so"]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["_core.abi3.so"]
    assert (tmp_path / "made" / "_core.abi3.so").stat().st_mode & 0o777 == 0o755


def test_failure_is_handed_on(call: Any, tmp_path: Path) -> None:
    """setuptools sees the compiler's exit code, and no file."""
    code, _ = call("cc", "-shared", "fail", "-o", "x.so")

    assert code == 3
    assert not (tmp_path / "x.so").exists()


@pytest.mark.parametrize(
    ("output", "dll"), [("_core.pyd", "python3.dll"), ("_core.cp311-win_amd64.pyd", "python311.dll")]
)
def test_import_library_for_windows(output: str, dll: str, call: Any, tmp_path: Path) -> None:
    """Made of what the objects leave open, from the DLL that goes with the stable ABI or the one of this version."""
    (tmp_path / "x.o").write_bytes(coff((".text", 1, 3), ("__imp_PyLong_Type", 0, 2), ("Py_IsTrue", 0, 2)))

    code, (definition, words) = call(
        "cc", "-shared", "x.o", "-o", output, dlls=["python3.dll", "python311.dll"]
    )

    assert code == 0
    assert definition == [f"LIBRARY {dll}", "EXPORTS", "PyLong_Type DATA", "Py_IsTrue", ""]
    assert Path(words[-3]).name == "libpython.a"
