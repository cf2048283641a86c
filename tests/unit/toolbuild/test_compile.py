"""compile.py: bytecode that depends on source, shown name and level, and on nothing that happened before."""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ferryman_build.collect.pyinstaller import inside

# Names, constants and nested functions that both modules use: what marshal would write as back-references.
ONE = '''"""Doc of one."""
import os
SHARED = ("shared constant", 12345678901, 1.5)
def first(argument, *, keyword="shared constant"):
    """Doc of first."""
    assert argument, "must be"
    return [os.path.join(argument, keyword) for argument in SHARED if __debug__]
class Common:
    attribute = {"shared constant": frozenset({"a", "b", "c"})}
'''
TWO = ONE.replace("one", "two") + "def second(argument): return first(argument, keyword='other constant')\n"
Job = tuple[str, str]  # name of the source, shown name


class Compiler:
    """Runs the script as Ferryman does, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, *names: str, optimize: int = 1, sources: dict[str, str | bytes] | None = None) -> str:
        """Compile modules (a name each, with the shown name pkg/<name>.py) to <name>.pyc; what was said."""
        texts: dict[str, str | bytes] = {"one": ONE, "two": TWO, **(sources or {})}
        jobs = []
        for name in names:
            text = texts[name]
            source = self.folder / f"{name}.py"
            source.write_bytes(text.encode() if isinstance(text, str) else text)
            jobs.append([str(source), f"pkg/{name}.py", str(self.folder / "made" / f"{name}.pyc")])
        request = self.folder / "request.json"
        request.write_text(json.dumps({"optimize": optimize, "modules": jobs}))
        done = subprocess.run(
            [sys.executable, "-X", "utf8", inside("compile.py")], capture_output=True, text=True, check=False,
            env={**os.environ, "FERRYMAN_REQUEST": str(request), "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        self.code = done.returncode
        return done.stdout + done.stderr

    def made(self, name: str) -> bytes:
        return (self.folder / "made" / f"{name}.pyc").read_bytes()


@pytest.mark.parametrize("optimize", [0, 1, 2])
def test_bytes_depend_on_nothing_else(tmp_path: Path, optimize: int) -> None:
    """Alone, after another module, before it, in another folder: the same bytes."""
    made = []
    for number, names in enumerate([("one",), ("two", "one"), ("one", "two")]):
        compiler = Compiler(tmp_path / str(number) / ("longer" * number or "x"))
        assert compiler.run(*names, optimize=optimize) == ""
        assert compiler.code == 0
        made.append(compiler.made("one"))

    assert made[0] == made[1] == made[2]


def test_levels_differ(tmp_path: Path) -> None:
    """Level 0 keeps all, 1 drops asserts, 2 docstrings as well."""
    codes = []
    for level in (0, 1, 2):
        compiler = Compiler(tmp_path / str(level))
        compiler.run("one", optimize=level)
        codes.append(compiler.made("one"))

    assert [b"must be" in code for code in codes] == [True, False, False]
    assert [b"Doc of first." in code for code in codes] == [True, True, False]


def every_code(code: types.CodeType) -> list[types.CodeType]:
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return [code, *(found for each in inner for found in every_code(each))]


def test_header_and_names(tmp_path: Path) -> None:
    """Unchecked hash (PEP 552): no time, no look for the source; every code object has the shown name."""
    compiler = Compiler(tmp_path)
    compiler.run("two")
    made = compiler.made("two")

    assert made[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(made[4:8], "little") == 0b01
    assert made[8:16] == importlib.util.source_hash(TWO.encode())
    codes = every_code(marshal.loads(made[16:]))
    assert len(codes) >= 4
    assert {code.co_filename for code in codes} == {"pkg/two.py"}
    assert str(tmp_path).encode() not in made


def test_result_is_imported(tmp_path: Path) -> None:
    """The interpreter takes the file as a module without its source, and readable by all."""
    compiler = Compiler(tmp_path)
    before = os.umask(0o077)
    try:
        compiler.run("one")
    finally:
        os.umask(before)
    done = subprocess.run(
        [sys.executable, "-c", "import one; print(one.first.__code__.co_filename, one.SHARED[1])"],
        cwd=tmp_path / "made", capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == "pkg/one.py 12345678901\n"
    assert (tmp_path / "made" / "one.pyc").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["one.pyc"]


@pytest.mark.parametrize(
    "text", ["print 'two'\n", "def (\n", b"x = '\xe9'\n", "x = 1\0\n", "# -*- coding: no-such -*-\n"]
)
def test_not_python_does_not_fail_the_others(tmp_path: Path, text: str | bytes) -> None:
    """Files for another Python, or no Python at all, are named and left out; the others are there."""
    compiler = Compiler(tmp_path)
    said = compiler.run("one", "bad", "two", sources={"bad": text})

    assert compiler.code == 0
    assert said.startswith(f"cannot compile {tmp_path / 'bad.py'}: ")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["one.pyc", "two.pyc"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="compiles in its own process")
def test_other_failures_are_said(tmp_path: Path) -> None:
    """A source that is gone fails the step, and the log says what happened."""
    compiler = Compiler(tmp_path)
    compiler.run("one")
    request = json.loads((tmp_path / "request.json").read_text())
    (tmp_path / "one.py").unlink()
    (tmp_path / "request.json").write_text(json.dumps(request))
    done = subprocess.run(
        [sys.executable, inside("compile.py")], capture_output=True, text=True, check=False,
        env={**os.environ, "FERRYMAN_REQUEST": str(tmp_path / "request.json")},
    )  # fmt: skip

    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr
    assert "one.py" in done.stderr


def test_latin_1(tmp_path: Path) -> None:
    """A source says its encoding itself."""
    compiler = Compiler(tmp_path)

    assert compiler.run("l", sources={"l": b"# coding: latin-1\nX = '\xe9'\n"}) == ""
    assert "é" in marshal.loads(compiler.made("l")[16:]).co_consts
