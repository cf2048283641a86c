"""Standalone trees, made on this machine for others and really run there: under Wine, under QEMU, and here.

The interpreters are real (tests/support/runtimes), the wheels are those of the package index for the target, and nothing
of the target runs while a tree is made. The one for macOS has no interpreter: it is put together and read, not run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from ferryman_build.collect.standalone import collect
from ferryman_build.inspect.native import version_key
from ferryman_build.inspect.survey import survey_tree
from ferryman_build.runtimes.distribution import floor_problems, read_distribution
from ferryman_build.runtimes.unpack import unpack
from ferryman_build.targets import parse_target
from support.ferryman import ROOT
from support.qemu.emulation import emulated
from support.qemu.roots import ForeignRoot, Recipe
from support.runtimes import makers
from support.runtimes.trees import NAME, Made, Works
from support.wine.prefix import windows

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(1800)]

ROOTS = ROOT / ".cache" / "rootfs"
# By the glibc that they have; neither has a Python.
USERLANDS = {"2.31": Recipe("arm64", ("libc6",), "bullseye"), "2.36": Recipe("arm64", ("libc6",))}
WARM_SECONDS = 10.0  # issue 4: a warm tree for another machine, on two cores


@dataclass(frozen=True)
class Ended:
    """Exit code and output."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Case:
    """A target's tree and one file, and a way to start each: "tree" or "one"."""

    made: Made
    start: Callable[..., Ended]

    def report(self, program: str) -> dict[str, Any]:
        """What the program says of itself."""
        ended = self.start(program, "report")
        assert ended.code == 0, ended.out + ended.err
        found: dict[str, Any] = json.loads(ended.out)
        return found


# What each target's Python says, and which of the two marked dependencies belongs there.
FACTS = {
    "windows-amd64": ("3.11.9", "win32", ["colorama"]),
    "linux-arm64": ("3.11.2", "linux", ["distro"]),
    "linux-amd64": ("3.11.2", "linux", ["distro"]),
}
BOTH = pytest.mark.parametrize("program", ["tree", "one"])


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Works:
    """Where the trees are made."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the test runtimes are CPython 3.11, and this is another")
    return Works(tmp_path_factory.mktemp("standalone"))


@pytest.fixture(scope="module", params=list(FACTS))
def case(request: pytest.FixtureRequest, works: Works) -> Iterator[Case]:
    """A target's programs, where they can run."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(PLACES[request.param](works))
        except UnavailableError as reason:
            pytest.skip(f"NOT RUN: {reason}")


@contextmanager
def on_windows(works: Works) -> Iterator[Case]:
    with windows() as machine:
        made = works.tree("windows-amd64")
        folder = machine.drive / "standalone trees é"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made.root, folder / "tree")
        shutil.copyfile(works.one_file(made), folder / "one.exe")
        programs = {"tree": folder / "tree" / f"{NAME}.exe", "one": folder / "one.exe"}

        def start(program: str, *words: str, interpreter: str = "") -> Ended:
            env = {"FERRYMAN_CACHE": machine.path(folder / "cache"), "FERRYMAN_INTERPRETER": interpreter}
            ran = machine.run(programs[program], *words, env=env)
            return Ended(ran.code, ran.out.decode(), ran.err.decode())

        yield Case(made, start)
        shutil.rmtree(folder)


@contextmanager
def on_arm64(works: Works) -> Iterator[Case]:
    with emulated("arm64", ROOTS):
        made = works.tree("linux-arm64")
        needed = survey_tree(made.root, made.target).needs.floor["glibc"]
        oldest = next(glibc for glibc in USERLANDS if version_key(glibc) >= version_key(needed))
        root = ForeignRoot.unpack(USERLANDS[oldest], ROOTS, works.folder / "root")
        root.place(made.root, f"/opt/{NAME}")
        root.place(works.one_file(made), "/srv/one")
        programs = {"tree": f"/opt/{NAME}/{NAME}", "one": "/srv/one"}

        def start(program: str, *words: str) -> Ended:
            ran = root.run([programs[program], *words])
            return Ended(ran.code, ran.out, ran.err)

        yield Case(made, start)


@contextmanager
def on_amd64(works: Works) -> Iterator[Case]:
    made = works.tree("linux-amd64")
    programs = {"tree": made.executable, "one": works.one_file(made)}
    env = {"HOME": str(works.folder), "PATH": "/usr/bin:/bin", "FERRYMAN_CACHE": str(works.folder / "cache")}

    def start(program: str, *words: str) -> Ended:
        ran = subprocess.run(
            [programs[program], *words], env=env, capture_output=True, text=True, check=False
        )
        return Ended(ran.returncode, ran.stdout, ran.stderr)

    yield Case(made, start)


PLACES = {"windows-amd64": on_windows, "linux-arm64": on_arm64, "linux-amd64": on_amd64}


@BOTH
def test_program_runs_with_its_dependencies(case: Case, program: str) -> None:
    """C extensions of three wheels, OpenSSL, SQLite, ctypes, package data and metadata: all work on the target."""
    found = case.report(program)
    version, platform, _ = FACTS[case.made.target.id]

    assert (found["version"], found["platform"]) == (version, platform)
    assert found["decoded"] == 42
    assert found["yaml"] == {"a": [1, 2]}
    assert (found["sqlite"], found["ssl"], found["zlib"], found["ctypes"]) == (42, "OpenSSL", "skua", 8)
    assert found["data"] == "great skua"
    assert set(found["distributions"]) == {"aiohttp", "msgspec", "psutil", "PyYAML", "multidict", "yarl"}


WIN32API = (
    "import sys, pywintypes, win32api; print(win32api.GetCurrentProcessId() > 0, hasattr(sys, 'frozen'))"
)


@BOTH
def test_pywin32_is_found_as_its_pth_file_says(case: Case, program: str) -> None:
    """In a program, and in its interpreter; the licences that have to come along are there."""
    if case.made.target.os != "windows":
        assert case.report(program)["windows"] is None
        return
    own, close, place = case.report(program)["windows"]
    assert (own, close) == (True, 16)
    assert case.report(program)["prefix"] in place
    ended = case.start(program, "-c", WIN32API, interpreter="1")
    assert (ended.code, ended.out.split()[0]) == (0, "True"), ended.err


def test_licences_come_along(case: Case) -> None:
    """The interpreter's, and that of every dependency that ships one."""
    assert "PYTHON SOFTWARE FOUNDATION" in (case.made.contents / "LICENSE-Python.txt").read_text("utf-8")
    for name in ("aiohttp", "msgspec", "psutil"):
        assert [*case.made.contents.glob(f"{name}-*.dist-info/**/LICENSE*")], name


def test_markers_are_the_targets(case: Case) -> None:
    """A dependency for Windows alone arrives on Windows and nowhere else; one for Linux the other way around."""
    assert case.report("tree")["optional"] == FACTS[case.made.target.id][2]


def test_everything_comes_from_the_tree(case: Case) -> None:
    """sys.path and the program's own modules lie in the tree."""
    found = case.report("tree")

    assert all(found["prefix"] in path for path in (*found["path"], found["own"]))
    assert "_internal" in found["prefix"]


@BOTH
def test_a_server_and_its_client(case: Case, program: str) -> None:
    """aiohttp answers aiohttp through the target's event loop."""
    ended = case.start(program, "serve")
    assert (ended.code, json.loads(ended.out)) == (0, {"path": "/gull"}), ended.err


def test_exit_code_passes_through(case: Case) -> None:
    """3 is 3."""
    assert case.start("tree", "nothing").code == 3


def test_warm_tree_is_quick_and_the_same(case: Case, works: Works) -> None:
    """A second time every file is the same, and it takes a fraction of what is allowed."""
    first = {
        path.relative_to(case.made.root): path.read_bytes()
        for path in case.made.root.rglob("*")
        if path.is_file()
    }
    again = Works(works.folder / f"again-{case.made.target}", works.cache)
    again.folder.mkdir()
    made = again.tree(case.made.target.id)

    assert {
        path.relative_to(made.root): path.read_bytes() for path in made.root.rglob("*") if path.is_file()
    } == first
    assert made.seconds < WARM_SECONDS
    sys.stderr.write(f"\n{made.target}: {made.seconds:.2f} s for {len(made.analysis.entries)} files\n")
    shutil.rmtree(again.folder)


def test_measured_floor_is_the_trees(case: Case) -> None:
    """What was read of the runtime alone is not above what the finished tree needs, and not below its own share."""
    needs = survey_tree(case.made.root, case.made.target).needs
    for system, reason in case.made.distribution.floor.items():
        own = tuple(map(int, reason.version.split(".")))
        assert own <= tuple(map(int, needs.floor[system].split(".")))


def test_promise_below_the_runtime_is_told(case: Case) -> None:
    """The targets' own promise is glibc 2.17, and these test runtimes need more."""
    problems = floor_problems(case.made.distribution, case.made.target)
    assert len(problems) == (1 if case.made.target.os == "linux" else 0)


def test_macos_tree_is_put_together_and_read(works: Works) -> None:
    """darwin-arm64, as far as it goes here: every file is of the right machine, and of the minimum that is promised.

    Nothing of it was run, and its libpython is no interpreter.
    """
    try:
        made = works.tree("darwin-arm64")
    except UnavailableError as reason:
        pytest.skip(f"NOT MADE: {reason}")
    survey = survey_tree(made.root, made.target)
    names = {native.name for native in survey.natives}

    assert {NAME, "_internal/libpython3.11.dylib"} <= names
    assert any(name.startswith("_internal/msgspec/") for name in names)
    assert all("arm64" in native.architectures for native in survey.natives)
    assert not (made.contents / "colorama").exists()
    assert not (made.contents / "distro").exists()


def test_root_filesystem_is_a_runtime(works: Works) -> None:
    """Debian's own CPython for arm64, in a folder that is a root: all of it is found, and the C library stays out."""
    work = works.folder / "debian"
    try:
        makers.debian_arm64(makers.Job(work, works.folder / "debian.tar.zst", print))
    except UnavailableError as reason:
        pytest.skip(f"NOT READ: {reason}")
    target = parse_target("linux-arm64")
    distribution = read_distribution(
        unpack(works.folder / "debian.tar.zst", works.folder / "unpacked"), target, "3.11"
    )
    request = msgspec.structs.replace(works.request(target), distribution=distribution)
    names = {entry.dest for entry in collect(request).entries}

    assert distribution.library == "usr/lib/aarch64-linux-gnu/libpython3.11.so.1.0"
    assert {"libssl.so.3", "libsqlite3.so.0", "libffi.so.8"} <= names
    assert not {"libc.so.6", "ld-linux-aarch64.so.1"} & names
    assert floor_problems(distribution, target)


def test_work_folder_has_no_drafts(works: Works) -> None:
    """What the runtimes were unpacked through is gone."""
    assert [path for path in Path(works.cache).rglob(".draft*") if path.is_dir()] == []
