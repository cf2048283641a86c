"""pyinstaller: what is left out and why, which hooks run when, and the answer of an analysis as entries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.cmd import Completed, Runner
from ferryman_build.collect import pyinstaller
from ferryman_build.collect.analysis import Analysis, Entry, EntryKind, Origin, Origins
from ferryman_build.collect.environment import env_python
from ferryman_build.collect.pyinstaller import (
    PackRequest,
    compile_modules,
    entry_script,
    exclusions,
    inside,
    library_name,
    pack,
)
from ferryman_build.errors import BuildStepError
from ferryman_build.interpreter import Interpreter
from ferryman_build.targets import parse_target

ROWS = tomllib.loads(resources.files("ferryman_build").joinpath("resources/exclusions.toml").read_text())
RULES = tomllib.loads(resources.files("ferryman_build").joinpath("resources/runtime_hooks.toml").read_text())


# --- exclusions -------------------------------------------------------------------------------------------------------


def test_every_exclusion_has_a_reason() -> None:
    """Each row says in words why a program does without."""
    excluded = exclusions((), ())

    assert excluded.keys() == ROWS.keys()
    assert all(len(why.split()) >= 2 for why in excluded.values())


def test_who_uses_an_excluded_module_is_a_row_itself() -> None:
    """`used-by` names rows; any other name would spare the module for ever."""
    for name, row in ROWS.items():
        if isinstance(row, dict):
            assert set(row["used-by"]) <= ROWS.keys() - {name}


@pytest.mark.parametrize(
    ("imported", "keep", "spared"),
    [
        ((), (), set()),
        (("json", "os.path"), ("yaml",), set()),
        (("readline",), (), {"readline"}),
        ((), ("readline",), {"readline"}),
        (("tkinter",), (), {"tkinter", "_tkinter"}),
        (("tkinter.ttk",), (), {"tkinter", "_tkinter"}),
        (("turtle",), (), {"turtle", "tkinter", "_tkinter"}),
        (("venv",), (), {"venv", "ensurepip"}),
        (("xmlrpc",), (), set()),
        (("xmlrpc.client",), (), set()),
        (("xmlrpc", "xmlrpc.server"), (), {"xmlrpc.server", "pydoc", "pydoc_data", "_pyrepl"}),
        (("tkinterx", "testing", "thisand"), (), set()),
        (("test.support",), ("this",), {"test", "this"}),
    ],
)
def test_spared(imported: tuple[str, ...], keep: tuple[str, ...], spared: set[str]) -> None:
    """What the project imports or keeps is collected, with whatever of the list that needs."""
    assert ROWS.keys() - exclusions(imported, keep).keys() == spared


# --- scripts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry_point", "call"),
    [("app:main", "main()"), ("app:Cli.run", "Cli.run()"), ("pkg.deep:main", "main()")],
)
def test_entry_script(tmp_path: Path, entry_point: str, call: str) -> None:
    """The function is called as a console script calls it, and its answer is the exit code."""
    text = "def main():\n    return 7\nclass Cli:\n    run = staticmethod(main)\n"
    (tmp_path / "pkg").mkdir()
    for name in ("app.py", "pkg/deep.py", "pkg/__init__.py"):
        (tmp_path / name).write_text(text)
    script = tmp_path / "program.py"
    script.write_text(entry_script(entry_point))

    assert call in script.read_text()
    assert subprocess.run([sys.executable, script], check=False).returncode == 7


@pytest.mark.parametrize("name", ["boot.py", "start.py", "compile.py", "pack.py", "analyse.spec"])
def test_inside(name: str) -> None:
    """The scripts that run in the environment are files of the package, and parse."""
    compile(inside(name).read_bytes(), name, "exec")


# --- objdump's stand-in -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt" or shutil.which("od") is None, reason="a shell script with od")
@pytest.mark.parametrize(
    ("content", "yes"),
    [
        (b"\x7fELF\x02\x01\x01", True),
        (b"\x7fELF", True),
        (b"\x7fELG", False),
        (b"#!/bin/sh\n", False),
        (b"ELF\x7f", False),
        (b"177ELF", False),
        (b"\x7f EL", False),
        (b"", False),
        (b"MZ\0\0", False),
    ],
)
def test_stand_in_for_objdump(tmp_path: Path, content: bytes, yes: bool) -> None:
    """It says yes to ELF files alone, whatever their name."""
    pyinstaller._tool_path(tmp_path)
    path = tmp_path / "a file with spaces"
    path.write_bytes(content)

    done = subprocess.run([tmp_path / "bin" / "objdump", "-a", path], capture_output=True, check=False)

    assert (done.returncode == 0, done.stdout, done.stderr) == (yes, b"", b"")


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_stand_in_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine's own objdump is found first; the folder may be there from an earlier try."""
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("PATH", str(own))
    path = pyinstaller._tool_path(tmp_path)

    assert pyinstaller._tool_path(tmp_path) == path == f"{own}{os.pathsep}{tmp_path / 'bin'}"
    assert shutil.which("objdump", path=path) == str(tmp_path / "bin" / "objdump")
    (own / "objdump").write_text("#!/bin/sh\n")
    (own / "objdump").chmod(0o755)
    assert shutil.which("objdump", path=path) == str(own / "objdump")


# --- the answer -------------------------------------------------------------------------------------------------------


@pytest.fixture
def origins(tmp_path: Path) -> Origins:
    """Where things lie; the environment is below the work folder, as a nested root."""
    return Origins(
        app=tmp_path / "app", env=tmp_path / "work" / "env", work=tmp_path / "work", project=tmp_path / "p"
    )


def digested(
    origins: Origins, *, modules: Sequence[Any] = (), files: Sequence[Any] = (), scripts: Sequence[Any] = ()
) -> Analysis:
    answer = pyinstaller._Answer(
        list(modules), list(files), [*scripts, ("program", "/p.py", "PYSOURCE")], ["m"], {"t": "1"}
    )
    return pyinstaller._digest_answer(answer, origins)


@pytest.mark.parametrize(
    ("name", "source", "wanted"),
    [
        (
            "pkg",
            "{app}/pkg/__init__.py",
            Entry("pkg/__init__.pyc", EntryKind.MODULE, Origin.APP, "pkg/__init__.py"),
        ),
        ("pkg.mod", "{app}/pkg/mod.py", Entry("pkg/mod.pyc", EntryKind.MODULE, Origin.APP, "pkg/mod.py")),
        (
            "a.b",
            "{env}/a/b/__init__.py",
            Entry("a/b/__init__.pyc", EntryKind.MODULE, Origin.ENV, "a/b/__init__.py"),
        ),
        ("made", "{work}/made.py", Entry("made.pyc", EntryKind.MODULE, Origin.WORK, "made.py")),
        ("json", "/usr/lib/json.py", Entry("json.pyc", EntryKind.MODULE, Origin.HOST, "/usr/lib/json.py")),
        ("namespace", None, None),
        ("namespace", "-", None),
    ],
)
def test_modules(origins: Origins, name: str, source: str | None, wanted: Entry | None) -> None:
    """A module's place follows from its name, a package is its __init__, a namespace package has no file."""
    place = source and source.format(app=origins.app, env=origins.env, work=origins.work)

    assert digested(origins, modules=[(name, place, "PYMODULE")]).entries == ((wanted,) if wanted else ())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("BINARY", EntryKind.NATIVE),
        ("EXTENSION", EntryKind.NATIVE),
        ("DATA", EntryKind.DATA),
        ("ZIPFILE", EntryKind.DATA),
    ],
)
def test_files(origins: Origins, code: str, kind: EntryKind) -> None:
    """Libraries are told from data by PyInstaller's own code."""
    found = digested(origins, files=[("x/lib.so", f"{origins.env}/x/lib.so", code)])

    assert found.entries == (Entry("x/lib.so", kind, Origin.ENV, "x/lib.so"),)


def test_links_and_repetition(origins: Origins) -> None:
    """A link keeps its target as it is; entries are sorted, and one place has one entry."""
    found = digested(
        origins,
        files=[
            ("z.so", "z.so.1", "SYMLINK"),
            ("a.txt", "/one/a.txt", "DATA"),
            ("a.txt", "/two/a.txt", "DATA"),
        ],
    )

    assert found.entries == (
        Entry("a.txt", EntryKind.DATA, Origin.HOST, "/two/a.txt"),
        Entry("z.so", EntryKind.LINK, Origin.HOST, "z.so.1"),
    )
    assert (found.missing, found.tools) == (("m",), {"t": "1"})


def test_origins(origins: Origins) -> None:
    """Classifying and finding again are inverse, and the deepest root wins."""
    for path in (origins.app / "a/b", origins.env / "lib/x.py", origins.work / "y", Path("/usr/lib/z.so")):
        origin, rest = origins.classify(str(path))
        assert origins.source(Entry("d", EntryKind.DATA, origin, rest)) == path
    assert origins.classify(str(origins.env / "x")) == (Origin.ENV, "x")
    assert origins.classify(f"{origins.app}lication/x")[0] is Origin.HOST


def test_hooks(origins: Origins) -> None:
    """Dropped or run, by the table; one that nobody has heard of is run. The last script is the program and no hook."""
    names = ["pyi_rth_another", *RULES["drop"], *RULES["run"], "pyi_rth_third_party"]
    found = digested(origins, scripts=[(name, f"{origins.env}/{name}.py", "PYSOURCE") for name in names])

    assert [hook.dest for hook in found.hooks] == ["pyi_rth_another", *RULES["run"], "pyi_rth_third_party"]
    assert found.hooks[-1] == Entry(
        "pyi_rth_third_party", EntryKind.MODULE, Origin.ENV, "pyi_rth_third_party.py"
    )


def test_hook_rules() -> None:
    """Every rule has its reason, and no hook has two rules."""
    assert RULES.keys() == {"drop", "run"}
    assert not RULES["drop"].keys() & RULES["run"].keys()
    assert all(len(why) > 20 for rules in RULES.values() for why in rules.values())


# --- the other scripts ------------------------------------------------------------------------------------------------


class Recorder(Runner):
    """Keeps the request of the script that would have run."""

    def run(self, args: Sequence[str | Path], *, env: Any = None, name: str = "", **_: Any) -> Completed:
        self.words = [str(word) for word in args]
        self.name = name
        self.request = json.loads(Path(env["FERRYMAN_REQUEST"]).read_text())
        return Completed(0, "", None)


def test_compile_request(tmp_path: Path) -> None:
    """Paths go into the request as text; it is gone afterwards."""
    runner = Recorder()
    compile_modules(
        [(tmp_path / "a.py", "pkg/a.py", tmp_path / "a.pyc")], 2, tmp_path / "env", tmp_path, runner
    )

    assert runner.request == {
        "optimize": 2,
        "modules": [[str(tmp_path / "a.py"), "pkg/a.py", str(tmp_path / "a.pyc")]],
    }
    assert runner.words[0] == str(env_python(tmp_path / "env"))
    assert runner.words[-1] == str(inside("compile.py"))
    assert list(tmp_path.iterdir()) == []


def test_pack_request(tmp_path: Path) -> None:
    """The request is passed on whole and is gone afterwards."""
    runner = Recorder()
    asked = PackRequest(
        kind="file", scripts=(("boot", "/b"),), files=(("d", "/s", "x"),), optimize=1, libpython="l", contents="c",
        level=6, blobs="/blobs", output="/o",
    )  # fmt: skip
    pack(asked, tmp_path / "env", tmp_path, runner)

    assert (runner.name, runner.words[-1]) == ("pack-file", str(inside("pack.py")))
    assert runner.request["files"] == [["d", "/s", "x"]]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "library", "wanted"),
    [
        ("linux-amd64", Path("/usr/lib/libpython3.11.so.1.0"), "libpython3.11.so.1.0"),
        ("windows-amd64", None, "python311.dll"),
        ("linux-amd64", None, None),
    ],
)
def test_library_name(target: str, library: Path | None, wanted: str | None) -> None:
    """What the bootloader loads is the interpreter's library; without one there is nothing to load."""
    python = Interpreter(path=Path("/p"), version="3.11.2", tag="t", identity="i", libpython=library)
    if wanted is None:
        with pytest.raises(BuildStepError, match="no shared library"):
            library_name(python, parse_target(target))
    else:
        assert library_name(python, parse_target(target)) == wanted
