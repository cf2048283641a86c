"""start.py and launch.py: what runs before every program, and what the launcher is told."""

from __future__ import annotations

import json
import py_compile
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.wrap.launch import (
    FOLDER,
    HOOKS,
    MAIN,
    Launch,
    bootloader_script,
    launch_text,
    main_script,
    search_path,
)

LAUNCH = Launch(
    name="lantern", version="2.3.0", python="3.11", library="libpython3.11.so.1.0",
    path=(".", "python3.11/lib-dynload"), optimize=1, interpreter=True,
)  # fmt: skip
TRACKER = "from multiprocessing.resource_tracker import main;main(5)"
FORKSERVER = "from multiprocessing.forkserver import main; main(3, 4, ['x'], **{'sys_path': []})"
NEWER = "import sys; from multiprocessing.forkserver import main; main(3, 4, [], sys_argv=sys.argv[1:])"
RUN = """
__file__ = sys.argv.pop(1)
before = set(sys.modules)
import marshal
with open(__file__, "rb") as file:
    exec(marshal.loads(file.read()[16:]))
"""
REPORT = """
import sys
def main():
    import __main__
    imported = sorted(set(sys.modules) - __main__.before - {"app", "marshal"})
    names = sorted(name for name in vars(__main__) if name.startswith("_ferryman"))
    import json
    print(json.dumps({"frozen": sys.frozen, "root": sys._MEIPASS, "file": hasattr(__main__, "__file__"),
                      "imported": imported, "names": names, "argv": sys.argv[1:]}))
    return 7
"""


class Program:
    """A tree of three files: the main script, one module, and the hooks of a test."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a b é" / "_internal"
        self.module("app", REPORT)
        for name in ("resource_tracker", "forkserver", "spawn"):
            # In the place of the standard library's: what they are told is all that matters here.
            self.module(f"fake/multiprocessing/{name}", "import sys\ndef main(*words, **more):\n"
                        f"    print('{name}', words, sorted(more), sys.argv)\n"
                        f"def freeze_support():\n    print('{name}', sys.argv); sys.exit()\n")  # fmt: skip
        self.module("fake/multiprocessing/__init__", "")

    def module(self, name: str, text: str) -> None:
        source = self.root / f"{name}.py"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text, encoding="utf-8")
        py_compile.compile(str(source), cfile=f"{source}c", doraise=True)
        if not name.startswith("fake"):
            source.unlink()

    def run(self, text: str, *arguments: str) -> tuple[int, list[str]]:
        """Run this main script as an interpreter does that has imported nothing; exit code and lines."""
        self.module(MAIN.removesuffix(".pyc"), text)
        places = f"import sys; sys.path[:0] = [{str(self.root)!r}, {str(self.root / 'fake')!r}]\n"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", places + RUN, self.root / MAIN, *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout.splitlines()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


# --- the main script --------------------------------------------------------------------------------------------------


def report(lines: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def test_a_start_is_light(program: Program) -> None:
    """The program is frozen and knows its tree; nothing was imported for it, and neither a name nor __file__ is left."""
    code, lines = program.run(main_script("app:main", ()), "run", "--config", "é")

    assert (code, report(lines)) == (
        7,
        {
            "frozen": True,
            "root": str(program.root),
            "file": False,
            "imported": [],
            "names": [],
            "argv": ["run", "--config", "é"],
        },
    )


def test_hooks_run_in_order_with_a_namespace_of_their_own(program: Program) -> None:
    """Each is a main script with its __file__; its functions find its names, and the program does not."""
    text = "import sys\nseen = {number}\ndef say():\n    print(__name__, __file__, seen, sys.frozen)\nsay()\n"
    for number, name in enumerate(("first", "second")):
        program.module(f"{HOOKS}/{name}", text.format(number=number))
    code, lines = program.run(main_script("app:main", ("second", "first")))

    at = program.root / HOOKS
    assert lines[:-1] == [f"__main__ {at}/second.pyc 1 True", f"__main__ {at}/first.pyc 0 True"]
    assert (code, report(lines)["names"], report(lines)["imported"]) == (7, [], [])


def test_a_hook_that_fails_stops_the_program(program: Program) -> None:
    """As under PyInstaller: whoever wrote it wanted something done."""
    program.module(f"{HOOKS}/bad", "raise SystemExit('no data')")
    with pytest.raises(AssertionError, match="no data"):
        program.run(main_script("app:main", ("bad",)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-c", TRACKER), "resource_tracker (5,) [] ['-c']"),
        (("-I", "-B", "-OO", "-X", "dev", "-Werror", "-c", TRACKER), "resource_tracker (5,) [] ['-c']"),
        (("-c", FORKSERVER), "forkserver (3, 4, ['x']) ['sys_path'] ['-c']"),
        (("-X", "utf8", "-c", NEWER, "a", "-c"), "forkserver (3, 4, []) ['sys_argv'] ['-c', 'a', '-c']"),
        (("--multiprocessing-fork", "tracker_fd=5", "pipe_handle=7"),
         "spawn ['{0}', '--multiprocessing-fork', 'tracker_fd=5', 'pipe_handle=7']"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bootloader", [False, True])
def test_helpers_of_multiprocessing(
    program: Program, arguments: tuple[str, ...], said: str, bootloader: bool
) -> None:
    """The command lines with which it starts sys.executable do what they do in an interpreter.

    Hooks run where code of the program will run.
    """
    program.module(f"{HOOKS}/hook", "print('hook')")
    text = bootloader_script("app:main") if bootloader else main_script("app:main", ("hook",))
    code, lines = program.run(text, *arguments)

    hooked = not bootloader and TRACKER not in arguments
    assert (code, lines) == (0, [*(["hook"] * hooked), said.format("-c")])


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-c",),
        ("-c", "print(1)"),
        ("-X",),
        ("--multiprocessing",),
        ("run", "--multiprocessing-fork"),
        ("run", "-c", TRACKER),
        (TRACKER,),
        ("-c", "import sys; print(1)", TRACKER),
        ("-c", "from multiprocessing.spawn import main"),
    ],
)
def test_other_command_lines_are_the_programs_own(program: Program, arguments: tuple[str, ...]) -> None:
    """A program may have options of these names."""
    code, lines = program.run(main_script("app:main", ()), *arguments)

    assert (code, report(lines)["argv"]) == (7, [*arguments])


# --- launch -----------------------------------------------------------------------------------------------------------


def test_launch_text() -> None:
    """Keys in the documented order, one entry of sys.path a line."""
    assert launch_text(LAUNCH) == (
        "format 1\nname lantern\nversion 2.3.0\npython 3.11\nlibrary libpython3.11.so.1.0\npath .\n"
        f"path python3.11/lib-dynload\nmain {FOLDER}/main.pyc\noptimize 1\ninterpreter 1\n"
    )


@pytest.mark.parametrize(
    ("dests", "python", "wanted"),
    [
        (("abc.pyc", "json/__init__.pyc"), "3.11", (".",)),
        (("python3.11/lib-dynload/_a.so", "python3.11/lib-dynload/_b.so"), "3.11", (".", "python3.11/lib-dynload")),
        (("python3.12/lib-dynload/_a.so",), "3.11", (".",)),
        (("old-1.0-py3.11.egg/old/__init__.pyc", "not.egg"), "3.11", (".", "old-1.0-py3.11.egg")),
    ],
)  # fmt: skip
def test_search_path(dests: tuple[str, ...], python: str, wanted: tuple[str, ...]) -> None:
    """The tree's top, and what PyInstaller puts elsewhere, under the name of this interpreter's version."""
    assert search_path(dests, python) == wanted


@pytest.mark.parametrize("version", ["1\n2", "", "1\r2", "1\u20282"])
def test_what_is_not_one_line(version: str) -> None:
    """A value that would make another line, or none, is a mistake of the caller."""
    with pytest.raises(ValueError, match="version is not one line"):
        launch_text(
            Launch(**{**{f: getattr(LAUNCH, f) for f in LAUNCH.__struct_fields__}, "version": version})
        )
