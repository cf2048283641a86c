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
    SBOM,
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


# --- what is inside ---------------------------------------------------------------------------------------------------

# The bootloader sets what the launcher's main script sets by itself.
BOOTLOADER = "import sys\nsys._MEIPASS = __file__[: -len('/_ferryman/main.pyc')]\nsys.frozen = True\n"


@pytest.mark.parametrize("bootloader", [False, True])
@pytest.mark.parametrize("option", ["--sbom", "--what-is-inside"])
def test_the_option_prints_the_sbom_and_nothing_else_runs(
    program: Program, option: str, bootloader: bool
) -> None:
    """Byte for byte, whatever is in it; neither hooks nor the program run, and the exit code is 0."""
    program.module(f"{HOOKS}/hook", "print('hook')")
    (program.root / SBOM).write_text('{\n "name": "é"\n}\n', encoding="utf-8")
    script = main_script("app:main", ("hook",), option)
    text = BOOTLOADER + bootloader_script("app:main", option) if bootloader else script

    assert program.run(text, option) == (0, ["{", ' "name": "é"', "}"])


@pytest.mark.parametrize("option", ["--sbom", ""])
@pytest.mark.parametrize("words", [("--sbom", "x"), ("x", "--sbom"), ("--sbomb",), ("--sbo",), ("",), ()])
def test_any_other_arguments_are_the_programs(program: Program, option: str, words: tuple[str, ...]) -> None:
    """The option counts only when it is alone; nothing was imported, and no name is left."""
    code, lines = program.run(main_script("app:main", (), option), *words)

    assert (code, report(lines)["argv"]) == (7, [*words])
    assert (report(lines)["imported"], report(lines)["names"]) == ([], [])


def test_an_empty_setting_leaves_the_option_to_the_program(program: Program) -> None:
    """A program may have an --sbom of its own."""
    code, lines = program.run(main_script("app:main", (), ""), "--sbom")

    assert (code, report(lines)["argv"]) == (7, ["--sbom"])


@pytest.mark.skipif(sys.platform == "win32", reason="pipes as POSIX has them")
def test_a_reader_that_has_seen_enough(program: Program) -> None:
    """`agent --sbom | head` ends as a program does that the signal of a broken pipe has ended, without a traceback."""
    program.module(MAIN.removesuffix(".pyc"), main_script("app:main", (), "--sbom"))
    (program.root / SBOM).write_bytes(b"x" * 1_000_000)
    places = f"import sys; sys.path[:0] = [{str(program.root)!r}]\n"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", places + RUN, program.root / MAIN, "--sbom"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(10) == b"x" * 10
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()

    assert (process.wait(60), said) == (141, b"")


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
