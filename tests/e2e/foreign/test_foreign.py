"""A whole agent through PyInstaller in Wine and in QEMU: analysed by the target's Python, put together here, and run.

`nox -s e2e -- foreign`. Wine has to be installed, and root or user namespaces with binfmt_misc are needed for QEMU; what
is missing skips with the advice that a person would get. The first time takes minutes: a userland is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from e2e.foreign.journey import HOME, Journey, journey, processes_below, with_floor
from ferryman_build.collect.analysis import Analysis, EntryKind, Origin
from ferryman_build.errors import BuildStepError, ToolMissingError
from ferryman_build.inspect.elf import read_elf
from ferryman_build.inspect.pe import read_pe
from ferryman_build.runners.base import Purpose, RunnerKind
from ferryman_build.runners.rootfs import Qemu
from ferryman_build.runners.wine import WineRunner
from support.wine.cpython import cpython

WIN, ARM = "windows-amd64", "linux-arm64"
# Of the oldest Debian with a Python that PyInstaller runs on: what that Python needs is what its programs need.
END = {WIN: "\r\n", ARM: "\n"}
FLOORS = {WIN: {"windows": "10"}, ARM: {"glibc": "2.36"}}


class Made:
    """A journey that has arrived."""

    def __init__(self, way: Journey, analysis: Analysis, program: Path) -> None:
        self.way, self.analysis, self.program = way, analysis, program


def kind_of(target: str) -> RunnerKind:
    """The runner, set up; skips where this machine cannot."""
    try:
        kind: RunnerKind = WineRunner(cpython()) if target == WIN else Qemu()
    except UnavailableError as error:
        pytest.skip(str(error))
    return kind


@pytest.fixture(scope="session", params=[WIN, ARM])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The agent for one target, made once."""
    target = str(request.param)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FERRYMAN_HOME", str(HOME))
        # A blank and letters beyond ASCII, as in people's folders.
        way = journey(
            kind_of(target),
            with_floor(target, FLOORS[target]),
            tmp_path_factory.mktemp("ways") / "mes agents é 灯",
        )
        try:
            if not way.kind.ready(way.target, Purpose.BUILD, way.target.floor).ready:
                way.kind.setup(way.target, way.runner, print)
            with way.open(Purpose.BUILD) as place:
                way.environment(place)
                analysis = way.analyse(place)
        except ToolMissingError as error:
            pytest.skip(f"{error} {error.advice}")
        assert way.python is not None
        include = way.python.path.parent / "include"
        if target == ARM:
            include = HOME / "runners/qemu"
            include = next(include.glob(f"*-build-*/root/usr/include/python{way.python.short}"))
        arrived = Made(way, analysis, way.assemble(analysis, include))
        print(f"{target}: {way.seconds}")  # shown by -rP
        yield arrived


def test_the_analysis_is_of_the_target(made: Made) -> None:
    """Every native file is one of the target's, and dependencies are those whose markers hold there."""
    native = [entry for entry in made.analysis.entries if entry.kind is EntryKind.NATIVE]
    reader, machine = (read_pe, "amd64") if made.way.target.id == WIN else (read_elf, "arm64")
    machines: set[str] = set()
    for entry in native:
        with made.way.origins.source(entry).open("rb") as file:
            machines |= set(reader(entry.dest, file).architectures)
    found = {entry.dest.split("/")[0] for entry in made.analysis.entries}

    assert machines == {machine}
    assert ("colorama" in found or "colorama-0.4.6.dist-info" in found) is (made.way.target.id == WIN)
    assert {"msgspec", "yaml", "lantern", "lamps"} <= found


def test_nothing_of_this_machine_is_in_it(made: Made) -> None:
    """The interpreter and its libraries come from the place: the userland, or the Python for Windows."""
    assert made.way.python is not None
    root = str(HOME / "runners") if made.way.target.id == ARM else str(made.way.python.path.parent)
    hosts = [
        entry.path
        for entry in made.analysis.entries
        if entry.origin is Origin.HOST and entry.kind is not EntryKind.LINK
    ]

    assert len(hosts) > 100
    assert [path for path in hosts if not path.startswith(root)] == []


def test_the_program_runs_where_it_was_never_built(made: Made) -> None:
    """In a fresh prefix and in a userland without any Python: plugins, data, metadata and native modules are there."""
    way = made.way
    if not way.kind.ready(way.target, Purpose.TRY, way.target.floor).ready:
        way.kind.setup(way.target, way.runner, print)
    with way.open(Purpose.TRY) as place:
        assert way.run(place, made.program, "--version") == (0, f"2.3.0{END[way.target.id]}")
        code, said = way.run(place, made.program, "check")

    assert code == 0
    assert {"wick", "oil"} == set(json.loads(said)["checks"])


def test_an_analysis_that_hangs_is_ended_with_its_group_and_named(made: Made) -> None:
    """The message says where and after how long; no process of it stays."""
    with made.way.open(Purpose.BUILD) as place, pytest.raises(BuildStepError) as caught:
        made.way.analyse(place, seconds=3)

    assert f"analyse ({place.label}) did not finish within 3 s" in str(caught.value)
    assert processes_below(made.way.folder) == []


def test_an_analysis_that_fails_says_where(made: Made) -> None:
    """A main script that is no Python: PyInstaller's own words are in the details."""
    with made.way.open(Purpose.BUILD) as place, pytest.raises(BuildStepError) as caught:
        made.way.analyse(place, script="def broken(:\n")

    assert f"analyse ({place.label}) failed" in str(caught.value)
    assert any("SyntaxError" in line for line in caught.value.details)
    assert caught.value.log is not None
