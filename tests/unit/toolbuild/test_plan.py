"""The plan: what is READY, what is BLOCKED, why, and what would cure it."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from rich.console import Console

from ferryman_build import plan as planning
from ferryman_build.artifacts import Kind
from ferryman_build.cmd import Completed, Runner
from ferryman_build.errors import PackageIndexError
from ferryman_build.lockfile import sealed
from ferryman_build.plan import Plan, Row, Status, make_plan, plan_json, plan_project, plan_schema
from ferryman_build.plan_facts import Block, OwnWheel, RunnerFact, RuntimeFact, Sources
from ferryman_build.plan_render import grouped_blocks, plain_lines, render_plan
from ferryman_build.project import Project
from ferryman_build.settings import Bundler, Collector, Settings, TargetSettings
from ferryman_build.targets import all_targets, parse_target
from ferryman_build.wheeltags import Lock, LockedPackage, Wheel

LINUX, WINDOWS, ARM = (parse_target(name) for name in ("linux-amd64", "windows-amd64", "linux-arm64"))


def project(**changes: Any) -> Project:
    base: dict[str, Any] = {
        "root": Path("/nowhere"), "name": "demo", "version": "1.2", "requires_python": ">=3.11",
        "dependencies": ("dep",), "entry_point": "demo:main", "executable": "demo", "settings": Settings(),
    }  # fmt: skip
    return Project(**{**base, **changes})


def package(
    name: str, *tags: str, version: str = "2.0", marker: str = "", sdist: bool = True
) -> LockedPackage:
    wheels = tuple(Wheel(filename=f"{name}-{version}-{tag}.whl", sha256="a" * 64) for tag in tags)
    return LockedPackage(
        name=name, version=version, marker=marker, wheels=wheels, sdist=sdist, sdist_sha256="5" * 64
    )


PURE = package("dep", "py3-none-any")
LINUX_ONLY = package("dep", "cp311-cp311-manylinux_2_17_x86_64")


def plan(
    *packages: LockedPackage,
    targets: tuple[Any, ...] = (LINUX,),
    kinds: tuple[Kind, ...] | None = None,
    agent: Project | None = None,
    **more: Any,
) -> Plan:
    lock = sealed("3.11", packages)
    return make_plan(
        agent or project(), targets, kinds, LINUX, lambda _python: lock,
        python_of=lambda settings: settings.python or "3.11", **more,
    )  # fmt: skip


RUNTIME = RuntimeFact(python="3.11.13", origin="a builder", fetched=True, floor={"glibc": "2.17"})
NO_RUNTIME = RuntimeFact(problem=Block("There is no runtime.", "Name one."))
NATIVE = RunnerFact(names=("native",))


def sources(
    runtime: RuntimeFact = RUNTIME, runner: RunnerFact | None = None, own: OwnWheel | None = None
) -> Sources:
    """Facts as this machine, linux-amd64, would find them."""

    def runner_of(target: Any, _settings: Settings, _kind: Kind) -> RunnerFact:
        absent = RunnerFact(untested="untested here: get one", problem=Block("No runner.", "Get one."))
        return runner or (NATIVE if target == LINUX else absent)

    def runtime_of(target: Any, *_: object) -> RuntimeFact:
        return (
            runtime if target.libc == "gnu" or runtime.problem else msgspec.structs.replace(runtime, floor={})
        )

    return Sources(runtime=runtime_of, runner=runner_of, own=own or OwnWheel())


def one(*packages: LockedPackage, target: Any = LINUX, kind: Kind = Kind.PYZ, **more: Any) -> Row:
    (row,) = plan(*packages, targets=(target,), kinds=(kind,), **more).rows
    return row


# --- the rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_pure_dependencies_go_everywhere_where_there_is_a_runtime(kind: Kind, target: Any) -> None:
    """A .pyz goes everywhere; a foreign tree is made of a runtime, and blocked where there is none, with reason and cure."""
    assert one(PURE, target=target, kind=kind, sources=sources()).status is Status.READY
    row = one(PURE, target=target, kind=kind, sources=sources(NO_RUNTIME))
    expected = Status.READY if kind is Kind.PYZ or target == LINUX else Status.BLOCKED
    assert row.status is expected
    assert (row.reason, row.cure) == (
        ("There is no runtime.", "Name one.") if expected is Status.BLOCKED else ("", "")
    )


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("linux-arm64", "on an ubuntu-24.04-arm machine"),
        ("windows-amd64", "on a windows-2025 machine"),
        ("linux-amd64-musl", "in a linux-amd64-musl container on an ubuntu-24.04 machine"),
        ("linux-s390x", "on a linux-s390x machine"),  # nobody hosts one
    ],
)
def test_an_analysis_without_a_runner_names_the_machine_that_builds_it(target: str, where: str) -> None:
    """The reason says what runs where, and why no runner does it; the cure names runner, collector, machine and command."""
    agent = project(settings=Settings(collector=Collector.PYINSTALLER))
    row = one(PURE, target=parse_target(target), kind=Kind.ARCHIVE, agent=agent, sources=sources())
    assert "PyInstaller's analysis runs where the target's Python runs" in row.reason
    assert row.reason.endswith("No runner.")
    assert row.cure.startswith("Get one. Or set collector =")
    assert f"build {where}" in row.cure
    assert "ferryman merge" in row.cure


def test_an_analysis_with_a_runner_is_ready() -> None:
    """PyInstaller for another machine, where something here runs that machine's programs."""
    agent = project(settings=Settings(collector=Collector.PYINSTALLER))
    qemu = sources(runner=RunnerFact(names=("qemu",)))
    row = one(PURE, target=ARM, kind=Kind.ARCHIVE, agent=agent, sources=qemu)
    assert (row.status, row.collector, row.runner) == (Status.READY, "pyinstaller", "qemu")
    assert row.runtime == "a builder, Python 3.11.13"
    old = sources(msgspec.structs.replace(RUNTIME, floor={"glibc": "2.36"}), RunnerFact(names=("qemu",)))
    blocked = one(PURE, target=ARM, kind=Kind.ARCHIVE, agent=agent, sources=old)
    assert "needs glibc 2.36, and linux-arm64 promises 2.17" in blocked.reason


def test_a_bootloader_stays_on_its_own_machine() -> None:
    """bundle = "pyinstaller" for another target names the launcher as the way out."""
    agent = project(settings=Settings(bundle=Bundler.PYINSTALLER))
    row = one(PURE, target=WINDOWS, kind=Kind.EXECUTABLE, agent=agent, sources=sources())
    assert "PyInstaller's bootloader is packed by PyInstaller on its own machine" in row.reason
    assert row.cure.startswith('Set bundle = "ferryman" in [tool.ferryman.target.windows-amd64]')


@pytest.mark.parametrize(
    ("floor", "target", "status"),
    [
        ({"glibc": "2.17"}, LINUX, Status.READY),
        ({"glibc": "2.31"}, LINUX, Status.BLOCKED),
        ({"glibc": "2.4"}, LINUX, Status.READY),  # versions, not text
        ({"glibc": "2.17"}, parse_target("linux-amd64-musl"), Status.BLOCKED),
        ({"macos": "11.0"}, parse_target("darwin-arm64"), Status.READY),
        ({"macos": "12.0"}, parse_target("darwin-arm64"), Status.BLOCKED),
        ({}, WINDOWS, Status.READY),  # never fetched: nobody knows
    ],
)
def test_a_promise_below_its_runtime_is_blocked(floor: dict[str, str], target: Any, status: Status) -> None:
    """The reason has both numbers, the cure the setting that promises less."""
    agent = project(settings=Settings(collector=Collector.STANDALONE))
    made = Sources(runtime=lambda *_: msgspec.structs.replace(RUNTIME, floor=floor), runner=lambda *_: NATIVE)
    row = one(PURE, target=target, kind=Kind.ARCHIVE, agent=agent, sources=made)
    assert row.status is status
    if status is Status.BLOCKED:
        ((system, version),) = floor.items()
        assert f"needs {system} {version}" in row.reason
        assert f'floor = "{system} {version}"' in row.cure


@pytest.mark.parametrize(
    ("bundle", "kind", "blocked"),
    [
        (Bundler.FERRYMAN, Kind.ARCHIVE, True),
        (Bundler.FERRYMAN, Kind.EXECUTABLE, True),
        (Bundler.FERRYMAN, Kind.PYZ, False),
        (Bundler.PYINSTALLER, Kind.EXECUTABLE, False),
    ],
)
def test_a_machine_without_a_compiler(bundle: Bundler, kind: Kind, blocked: bool) -> None:
    """Where no wheel of zig runs nothing is compiled, and PyInstaller's bootloader is the way out."""
    strange = msgspec.structs.replace(LINUX, id="linux-loong64", arch="loong64")
    lock = sealed("3.11", (PURE,))
    agent = project(settings=Settings(bundle=bundle))
    made = make_plan(agent, (strange,), (kind,), strange, lambda _python: lock, python_of=lambda _: "3.11")

    (row,) = made.rows
    assert (row.status is Status.BLOCKED) is blocked
    if blocked:
        assert (
            row.reason == "The launcher is compiled with zig, of which there is no wheel for linux-loong64."
        )
        assert 'bundle = "pyinstaller"' in row.cure


@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_every_target_can_compile(target: Any) -> None:
    """Built natively, no row of the matrix is blocked for want of a compiler."""
    lock = sealed("3.11", (PURE,))
    made = make_plan(
        project(), (target,), (Kind.ARCHIVE,), target, lambda _: lock, python_of=lambda _: "3.11"
    )

    assert made.rows[0].status is Status.READY


def test_a_missing_wheel_is_named_with_where_there_are_some() -> None:
    """Package, version, target, Python; then the targets that have one."""
    row = one(package("dep", "cp311-cp311-win_amd64", "cp311-cp311-macosx_11_0_arm64"), target=ARM)
    assert row.status is Status.BLOCKED
    assert row.reason == (
        "dep 2.0 has no wheel for linux-arm64 and CPython 3.11; it has ones for windows-amd64, darwin-arm64."
    )
    assert row.cure == (
        "Build the wheel of dep on an ubuntu-24.04-arm machine and name its folder in UV_FIND_LINKS, or drop the target."
    )


def test_every_missing_wheel_is_named() -> None:
    """Two missing, two sentences; the one that is there is in the row's wheels."""
    row = one(LINUX_ONLY, package("other"), package("pure", "py3-none-any"), target=WINDOWS)
    assert "dep 2.0 has no wheel" in row.reason
    assert (
        "other 2.0 has no wheel for windows-amd64 and CPython 3.11; it has none for any target." in row.reason
    )
    assert "Build the wheel of dep, other on" in row.cure
    assert [choice.name for choice in row.wheels] == ["pure"]


@pytest.mark.parametrize(
    ("other", "advice"),
    [
        ("1.9", "dep 1.9 has one: constrain dep<=1.9."),
        ("2.1", "dep 2.1 has one: constrain dep>=2.1."),
        ("2.0", "Build the wheel of dep on"),  # the same version is no other
    ],
)
def test_another_version_that_has_a_wheel_is_the_cure(other: str, advice: str) -> None:
    """What the index answered for this target alone decides."""
    row = one(LINUX_ONLY, target=WINDOWS, alternatives={"windows-amd64": {"dep": other}})
    assert advice in row.cure


@pytest.mark.parametrize("answers", [{}, {"windows-amd64": {}}])
def test_without_an_answer_the_general_cure_is_given(answers: Any) -> None:
    """Nobody was asked, or there is none."""
    assert "drop the target" in one(LINUX_ONLY, target=WINDOWS, alternatives=answers).cure


@pytest.mark.parametrize(
    ("requires", "named"), [(">=3.11", "CPython 3.12, 3.13"), (">=3.11,<3.13", "CPython 3.12:")]
)
def test_another_python_that_has_a_wheel_is_the_cure(requires: str, named: str) -> None:
    """Only Pythons that the project allows are offered."""
    newer = package("dep", "cp312-cp312-win_arm64", "cp313-cp313-win_arm64")
    row = one(newer, target=parse_target("windows-arm64"), agent=project(requires_python=requires))
    assert f"dep 2.0 has one for {named}" in row.cure


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("sdist", [True, False])
def test_nothing_is_built_from_source(kind: Kind, sdist: bool) -> None:
    """A source distribution is no wheel, whatever is made of it: the build installs wheels alone."""
    row = one(package("dep", "cp311-cp311-win_amd64", sdist=sdist), kind=kind)
    assert row.status is Status.BLOCKED
    assert row.wheels == ()


def test_a_wheel_whose_hash_is_not_locked_blocks_with_its_own_cure() -> None:
    """This is about trust and not about a missing wheel."""
    foreign = Wheel(filename="dep-2.0-py3-none-any.whl", sha256="b" * 64, pinned=False)
    row = one(msgspec.structs.replace(PURE, wheels=(foreign,)))
    assert "does not have a hash of the project's lock file" in row.reason
    assert "ferryman lock" in row.cure


def test_the_standalone_collector_serves_the_own_machine_too() -> None:
    """Asked for by name, a runtime is the tree of every target; the row says which, and what it needs."""
    agent = project(settings=Settings(collector=Collector.STANDALONE))
    (row,) = plan(PURE, kinds=(Kind.ARCHIVE,), agent=agent, sources=sources()).rows
    assert (row.status, row.collector) == (Status.READY, "standalone")
    assert (row.runtime, row.runtime_floor) == ("a builder, Python 3.11.13", "glibc 2.17")


def test_a_python_that_the_project_refuses_blocks_without_a_lock() -> None:
    """The index is not asked about a Python that is not allowed."""

    def never(_python: str) -> Lock:
        raise AssertionError("asked")

    rows = make_plan(
        project(requires_python=">=3.12"), [LINUX], None, LINUX, never, python_of=lambda _settings: "3.11"
    ).rows
    assert {row.status for row in rows} == {Status.BLOCKED}
    assert all("Python 3.11 does not satisfy" in row.reason for row in rows)


@pytest.mark.parametrize(
    ("own", "target", "expected", "wheel"),
    [
        (OwnWheel(), "windows-amd64", Status.READY, ""),
        (OwnWheel(native=True), "windows-amd64", Status.READY, "built here with zig for x86_64-windows-gnu"),
        (OwnWheel(native=True, crossable=False), "linux-amd64", Status.READY, "built here"),
        (OwnWheel(native=True, crossable=False, obstacle="It is Rust."), "windows-amd64", Status.BLOCKED, ""),
        (
            OwnWheel(native=True, crossable=False, prebuilt=("demo-1.2-cp311-abi3-win_amd64.whl",)),
            "windows-amd64", Status.READY, "demo-1.2-cp311-abi3-win_amd64.whl",
        ),
        (
            OwnWheel(native=True, crossable=False, prebuilt=("demo-1.2-cp311-abi3-win_arm64.whl",)),
            "windows-amd64", Status.BLOCKED, "",
        ),
        (
            OwnWheel(native=True, prebuilt=("demo-1.2-cp311-cp311-win_amd64.whl", "demo-1.2-cp310-abi3-win_amd64.whl")),
            "windows-amd64", Status.READY, "demo-1.2-cp311-cp311-win_amd64.whl",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [Kind.PYZ, Kind.ARCHIVE])
def test_the_projects_own_wheel_must_fit_too(
    own: OwnWheel, target: str, expected: Status, wheel: str, kind: Kind
) -> None:
    """Pure, prebuilt, or built by zig; else blocked, with cibuildwheel, another machine and less as the ways out."""
    row = one(PURE, target=parse_target(target), kind=kind, sources=sources(own=own))
    assert row.status is expected
    if expected is Status.READY:
        assert row.own_wheel == wheel
    else:
        assert row.reason.startswith("The project's own wheel holds machine code")
        assert own.obstacle in row.reason
        assert "cibuildwheel" in row.cure
        assert "drop the target" in row.cure


def test_what_a_target_says_for_itself_holds_for_it_alone() -> None:
    """Kinds, Python and collector come from the target's own table; aliases name it as well."""
    override = TargetSettings(kinds=(Kind.PYZ,), python="3.12")
    agent = project(settings=Settings(target={"windows/amd64": override}))
    rows = plan(PURE, targets=(LINUX, WINDOWS), agent=agent).rows
    assert [(row.target, row.kind, row.python) for row in rows] == [
        ("linux-amd64", Kind.ARCHIVE, "3.11"),
        ("linux-amd64", Kind.EXECUTABLE, "3.11"),
        ("linux-amd64", Kind.PYZ, "3.11"),
        ("windows-amd64", Kind.PYZ, "3.12"),
    ]


def test_a_dependency_of_one_system_counts_there_alone() -> None:
    """Its wheel is chosen for Windows and not missed on Linux."""
    windows_only = package("winthing", "cp311-cp311-win_amd64", marker="sys_platform == 'win32'")
    linux, windows = plan(PURE, windows_only, targets=(LINUX, WINDOWS), kinds=(Kind.PYZ,)).rows
    assert [choice.wheel for choice in linux.wheels] == ["dep-2.0-py3-none-any.whl"]
    assert [choice.name for choice in windows.wheels] == ["dep", "winthing"]
    assert windows.status is Status.READY


# --- what a row says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "kind", "file", "collector", "bundler"),
    [
        ("linux-amd64", Kind.ARCHIVE, "demo-1.2-linux-amd64.tar.gz", "pyinstaller", "ferryman"),
        ("windows-amd64", Kind.ARCHIVE, "demo-1.2-windows-amd64.zip", "standalone", "ferryman"),
        ("windows-amd64", Kind.EXECUTABLE, "demo-1.2-windows-amd64.exe", "standalone", "ferryman"),
        ("darwin-arm64", Kind.PYZ, "demo-1.2-darwin-arm64.pyz", "pip", "shiv"),
    ],
)
def test_a_row_says_who_makes_which_file(
    target: str, kind: Kind, file: str, collector: str, bundler: str
) -> None:
    """The names that dist/ and the manifest will have."""
    row = one(PURE, target=parse_target(target), kind=kind)
    assert (row.file, row.collector, row.bundler) == (file, collector, bundler)


def test_a_row_says_who_tests_it() -> None:
    """Native on the host; elsewhere it is said to be untested, why, and what would change that."""
    here, there = plan(PURE, targets=(LINUX, ARM), kinds=(Kind.PYZ,), sources=sources()).rows
    assert (here.runner, here.untested, here.floor) == ("native", "", LINUX.floor_text)
    assert (there.runner, there.untested) == ("", "untested here: get one")
    both = sources(runner=RunnerFact(names=("native", "rootfs")))
    assert one(PURE, sources=both).runner == "native, rootfs"


def test_a_version_that_only_the_wheel_knows_has_a_place_holder() -> None:
    """`dynamic = ["version"]`."""
    assert one(PURE, agent=project(version=None)).file == "demo-<version>-linux-amd64.pyz"


def test_the_same_input_gives_the_same_plan() -> None:
    """The plan is pure: byte for byte."""
    assert plan_json(plan(PURE, LINUX_ONLY, targets=all_targets())) == plan_json(
        plan(PURE, LINUX_ONLY, targets=all_targets())
    )


# --- for programs -----------------------------------------------------------------------------------------------------


def test_the_json_keeps_its_schema_and_comes_back_whole() -> None:
    """The schema is a valid 2020-12 one, accepts the plan and refuses another status."""
    schema = plan_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    made = plan(PURE, LINUX_ONLY, targets=all_targets())
    document = json.loads(plan_json(made))
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(document)
    assert msgspec.json.decode(plan_json(made), type=Plan) == made
    document["rows"][0]["status"] = "PERHAPS"
    assert not validator.is_valid(document)


def test_the_matrix_of_ci_has_what_a_hosted_machine_builds() -> None:
    """A job per target that somebody hosts; with a runtime, trees for all of them, tried in an old userland."""
    matrix = {entry.target: entry for entry in plan(PURE, targets=all_targets(), sources=sources()).ci}
    every = (Kind.ARCHIVE, Kind.EXECUTABLE, Kind.PYZ)
    assert set(matrix) == {target.id for target in all_targets() if target.runner}
    assert {entry.kinds for entry in matrix.values()} == {every}
    assert {entry.collector for entry in matrix.values()} == {"standalone"}
    arm = matrix["windows-arm64"]
    assert (arm.runner, arm.smoke, arm.image) == ("windows-11-arm", "native", "")
    assert (matrix["linux-amd64-musl"].smoke, matrix["linux-amd64-musl"].image) == (
        "container",
        "python:3.11-alpine3.20",
    )
    assert matrix["linux-arm64"].image == "python:3.11-slim-bullseye"


def test_the_matrix_of_ci_without_runtimes() -> None:
    """PyInstaller where the machine is the target; no musl tree on a glibc machine."""
    matrix = {
        entry.target: entry for entry in plan(PURE, targets=all_targets(), sources=sources(NO_RUNTIME)).ci
    }
    assert matrix["linux-amd64"].kinds == (Kind.ARCHIVE, Kind.EXECUTABLE, Kind.PYZ)
    assert matrix["linux-amd64"].collector == "pyinstaller"
    assert matrix["linux-amd64-musl"].kinds == (Kind.PYZ,)


def test_the_matrix_of_ci_leaves_out_what_is_blocked_everywhere() -> None:
    """What lacks a wheel is not sent to a machine that cannot make it either."""
    (entry,) = plan(LINUX_ONLY, targets=(WINDOWS, LINUX), sources=sources()).ci
    assert entry.target == "linux-amd64"


# --- for people -------------------------------------------------------------------------------------------------------


def rendered(made: Plan, *, terminal: bool) -> str:
    stream = io.StringIO()
    render_plan(
        made,
        Console(
            file=stream,
            force_terminal=terminal,
            width=130 if terminal else 40,
            color_system="standard",
            _environ={},
        ),
    )
    return stream.getvalue()


def test_the_plain_plan_is_one_line_a_row_and_never_wrapped() -> None:
    """No escape sequence, no cut name, whatever the width."""
    made = plan(PURE, targets=all_targets())
    text = rendered(made, terminal=False)
    assert "\x1b" not in text
    assert text.splitlines() == plain_lines(made)
    for row in made.rows:
        (line,) = [
            line
            for line in text.splitlines()
            if line.startswith(f"{row.target} ") and row.file in line.split()
        ]
        assert row.status in line.split()


def test_on_a_terminal_ready_is_green_and_blocked_is_red() -> None:
    """Both words are still there for those who see no colours."""
    text = rendered(plan(PURE, targets=(LINUX, ARM)), terminal=True)
    assert "\x1b[32mREADY" in text
    assert "\x1b[31mBLOCKED" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_reasons_cures_and_a_count_stand_below_the_table(terminal: bool) -> None:
    """Each reason once for all rows that share it."""
    made = plan(PURE, targets=(LINUX, ARM))
    text = rendered(made, terminal=terminal)
    assert text.count("Nobody has looked for a runtime") == 1
    assert "linux-arm64 (archive, executable)" in text
    assert "Name one with `runtime`" in text
    assert "4 READY, 2 BLOCKED of 6 artifacts for 2 targets." in text
    assert len(grouped_blocks(made)) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_a_line_per_target_has_what_its_artifacts_share(terminal: bool) -> None:
    """Runtime with what it needs, or that nobody knows; the project's own wheel; who tries it, or what would."""
    made = plan(PURE, targets=(LINUX, ARM), sources=sources(own=OwnWheel(native=True)))
    fresh = msgspec.structs.replace(RUNTIME, fetched=False, floor={})
    text = rendered(made, terminal=terminal)
    assert "own wheel built here with zig for x86_64-linux-gnu.2.17; tried by native" in " ".join(
        text.split()
    )
    assert (
        "runtime a builder, Python 3.11.13 (needs glibc 2.17); own wheel built here with zig for aarch64-linux-gnu.2.17; "
        "untested here: get one"
    ) in " ".join(text.split())
    assert "not fetched yet, so its needs are not known" in " ".join(
        rendered(plan(PURE, targets=(ARM,), sources=sources(fresh)), terminal=terminal).split()
    )


# --- the shell --------------------------------------------------------------------------------------------------------

PYLOCK = """
[[packages]]
name = "dep"
version = "2.0"
wheels = [{ url = "https://x.example/dep-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", hashes = { sha256 = "%s" } }]
""" % ("a" * 64)


class FakeUv(Runner):
    """Answers the universal question with PYLOCK and each single one with ``alone``; remembers the platforms asked."""

    def __init__(self, alone: str = "dep==1.5\n", output: str = "") -> None:
        super().__init__()
        self.alone, self.output = alone, output
        self.platforms: list[str] = []
        self.universal = 0
        self.ended = False
        self._guard = threading.Lock()

    def run(self, args, *, cwd=None, **rest):  # type: ignore[no-untyped-def]
        words = [str(word) for word in args]
        out = cwd / words[words.index("--output-file") + 1]
        if "--universal" in words:
            self.universal += 1
            out.write_text(PYLOCK, encoding="utf-8")
            return Completed(0, "", None)
        with self._guard:
            self.platforms.append(words[words.index("--python-platform") + 1])
        out.write_text(self.alone, encoding="utf-8")
        return Completed(1 if self.output else 0, self.output, None)

    def end_all(self) -> int:
        self.ended = True
        return super().end_all()


def ask(uv: FakeUv, cache: Path, **more: Any) -> Plan:
    agent = more.pop("agent", project(settings=Settings(python="3.11")))
    return plan_project(agent, all_targets(), (Kind.PYZ,), LINUX, runner=uv, cache=cache, **more)


def test_only_targets_that_miss_a_wheel_are_asked_about_once(tmp_path: Path) -> None:
    """One universal question, one for each blocked target that uv knows; the second plan asks nothing."""
    uv = FakeUv()
    made = ask(uv, tmp_path)
    expected = sorted(
        target.uv_platform for target in all_targets() if target.uv_platform and target != LINUX
    )
    assert uv.universal == 1
    assert sorted(uv.platforms) == expected
    windows = next(row for row in made.rows if row.target == "windows-amd64")
    assert windows.cure == "dep 1.5 has one: constrain dep<=1.5."
    assert ask(uv, tmp_path) == made
    assert (uv.universal, len(uv.platforms)) == (1, len(expected))


@pytest.mark.parametrize("kind", Kind)
def test_nothing_is_asked_for_a_python_that_is_not_allowed(tmp_path: Path, kind: Kind) -> None:
    """There is no lock for it, and no other version would help."""
    uv = FakeUv()
    agent = project(settings=Settings(python="3.11"), requires_python=">=3.12")
    plan_project(agent, all_targets(), (kind,), LINUX, runner=uv, cache=tmp_path)
    assert uv.platforms == []


def test_everything_that_is_in_the_way_is_said_at_once() -> None:
    """A runtime and a wheel that are both missing: both sentences, both cures."""
    agent = project(settings=Settings(collector=Collector.STANDALONE))
    row = one(LINUX_ONLY, target=WINDOWS, kind=Kind.ARCHIVE, agent=agent, sources=sources(NO_RUNTIME))
    assert row.reason.startswith("There is no runtime. dep 2.0 has no wheel for windows-amd64")
    assert row.cure.startswith("Name one. ")
    assert "UV_FIND_LINKS" in row.cure


@pytest.mark.parametrize(
    ("collector", "bundle", "way"),
    [
        (Collector.AUTO, Bundler.FERRYMAN, "standalone"),
        (Collector.AUTO, Bundler.PYINSTALLER, "pyinstaller"),
        (Collector.PYINSTALLER, Bundler.FERRYMAN, "pyinstaller"),
    ],
)
def test_a_python_of_this_machine_that_is_too_new_for_the_promise(
    collector: Collector, bundle: Bundler, way: str
) -> None:
    """`auto` takes a runtime; asked for PyInstaller, the plan says what the gate would, before anything is built."""
    known = msgspec.structs.replace(sources(), here=lambda *_: {"glibc": "2.36"})
    agent = project(settings=Settings(collector=collector, bundle=bundle))
    row = one(PURE, kind=Kind.ARCHIVE, agent=agent, sources=known)
    assert row.collector == way
    if way == "pyinstaller":
        assert row.reason == "This machine's Python needs glibc 2.36, and linux-amd64 promises 2.17."
        assert 'collector = "standalone"' in row.cure
    else:
        assert row.status is Status.READY


def test_progress_counts_up_to_its_total(tmp_path: Path) -> None:
    """Done grows by one from 1 to the last total; labels say what was asked."""
    seen: list[tuple[int, int, str]] = []
    ask(FakeUv(), tmp_path, progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1] == len(all_targets())
    assert any("windows-arm64" in label for _, _, label in seen)


def test_an_index_that_falls_silent_later_costs_only_the_better_cure(tmp_path: Path) -> None:
    """The lock is known, so the plan stands; and the missing answer is not taken for a no next time."""
    silent = FakeUv(output="error: Request failed after 3 retries in 6.3s")
    row = next(row for row in ask(silent, tmp_path).rows if row.target == "windows-amd64")
    assert "drop the target" in row.cure
    row = next(row for row in ask(FakeUv(), tmp_path).rows if row.target == "windows-amd64")
    assert "dep 1.5 has one" in row.cure


def test_a_known_lock_is_not_asked_for_again(tmp_path: Path) -> None:
    """A build has resolved already when it plans."""
    uv = FakeUv()
    ask(uv, tmp_path, lock=sealed("3.11", (PURE,)))
    assert (uv.universal, uv.platforms) == (0, [])


def test_a_silent_index_stops_a_plan_that_has_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to plan with."""

    def silent(*_args: Any, **_options: Any) -> Lock:
        raise PackageIndexError("silent")

    monkeypatch.setattr(planning, "resolve", silent)
    with pytest.raises(PackageIndexError):
        ask(FakeUv(), tmp_path)


def test_an_interruption_ends_the_children(tmp_path: Path) -> None:
    """Ctrl-C arrives in the thread that waits; the questions under way are ended and the exception goes on."""
    uv = FakeUv()

    def interrupt(_done: int, _total: int, label: str) -> None:
        if "other versions" in label:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(uv, tmp_path, progress=interrupt)
    assert uv.ended
