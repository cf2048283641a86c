"""doctor: what is missing is told from what Ferryman can do without, each with the way to get it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ferryman_build import doctor
from ferryman_build.artifacts import Kind
from ferryman_build.cmd import Runner
from ferryman_build.collect.environment import tool_version
from ferryman_build.doctor import PROGRAMS, Finding, Program, State, examine, problems
from ferryman_build.errors import ConfigError, ToolMissingError
from ferryman_build.inspect.gate_codes import NO_DECODER_CURE
from ferryman_build.interpreter import Headers, Interpreter
from ferryman_build.runners import Outlook
from ferryman_build.runners.base import Readiness
from ferryman_build.settings import Bundler, RunnerName
from ferryman_build.targets import Target, all_targets, host_target, parse_target
from support.x86_decoder import without_decoder

PYTHON = Interpreter(
    path=Path("/x/python"), version="3.11.2", tag="t", identity="i", libpython=Path("/x/libpython.so")
)


USUAL = [target for target in all_targets() if target.tier == 1]
ARM, WINDOWS = parse_target("linux-arm64"), parse_target("windows-amd64")


def row(target: str, python: str = f"3.{sys.version_info.minor}.9") -> Any:
    """A line of a list of runtimes."""
    return SimpleNamespace(target=target, python=python, short=python.rpartition(".")[0])


class Kinds:
    """A runner that runs some targets, and is ready for some of them; ``advice`` is for the others."""

    def __init__(
        self, name: RunnerName, *, runs: Sequence[Target] = (ARM,), ready: Sequence[Target] = (ARM,), found: str = "it is here",
        advice: str = "set it up",
    ) -> None:  # fmt: skip
        self.name, self._runs, self._ready, self._found, self._advice = name, runs, ready, found, advice

    def runs(self, target: Target, host: Target) -> bool:
        return target in self._runs

    def ready(self, target: Target, purpose: object, floor: object) -> Readiness:
        ready = target in self._ready
        return Readiness(
            ready=ready, found=self._found, advice="" if ready else f"{self._advice} for {target}"
        )


def project(
    *kinds: Kind, python: str = "", bundle: Bundler = Bundler.FERRYMAN, targets: tuple[str, ...] = ("host",),
    runner: RunnerName = RunnerName.AUTO,
) -> Any:  # fmt: skip
    """As much of a project as the doctor looks at."""
    settings = SimpleNamespace(
        kinds=kinds or tuple(Kind),
        python=python,
        bundle=bundle,
        targets=targets,
        runner=runner,
        floor="",
        runtimes="",
    )
    return SimpleNamespace(root=Path("/x/agent"), settings=settings, for_target=lambda _: settings)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Programs of a machine, by name; this one's Python stands for all of them."""
    programs = {program.name: sys.executable for program in PROGRAMS}
    monkeypatch.setattr(doctor.shutil, "which", programs.get)
    monkeypatch.setattr(doctor.metadata, "version", lambda name: f"1 of {name}")
    monkeypatch.setattr(doctor, "find_interpreter", lambda *_: PYTHON)
    monkeypatch.setattr(doctor, "find_headers", lambda *_: Headers(folder=Path("/x/include")))
    monkeypatch.setattr(doctor, "KINDS", {RunnerName.QEMU: Kinds(RunnerName.QEMU)})
    monkeypatch.setattr(doctor, "open_index", lambda place: [row(target.id) for target in USUAL])
    monkeypatch.setattr(doctor, "_is_here", lambda row: True)
    return programs


def examined(tmp_path: Path, *kinds: Kind) -> dict[str, Finding]:
    return {found.name: found for found in examine(project(*kinds), tmp_path / "out", Runner())}


def test_all_is_there(tmp_path: Path) -> None:
    """Every tool with the version that answers; nothing to do, nothing in the way."""
    found = examined(tmp_path)

    assert {
        "python",
        "uv",
        "iced-x86",
        "zig",
        "headers",
        "pyinstaller",
        "shiv",
        "runner",
        "runner qemu",
        "collector pyinstaller",
        "collector standalone",
        "disk space",
        *(program.name for program in PROGRAMS),
    } == found.keys()
    assert {finding.state for finding in found.values()} == {State.FOUND}
    assert not any(finding.advice for finding in found.values())
    assert found["git"].found == f"Python {sys.version.split()[0]}"
    assert found["python"].found == "3.11.2 at /x/python, /x/libpython.so"
    assert found["headers"].found == "/x/include"
    assert found["zig"].found.endswith("(pinned, fetched by hash)")
    assert found["shiv"].found.startswith(tool_version("shiv"))
    assert problems(found.values()) == ()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_missing_program(tmp_path: Path, machine: dict[str, str], program: Program) -> None:
    """Missing is only what nothing else can do; either way the advice says how to get it."""
    del machine[program.name]
    found = examined(tmp_path)

    assert found[program.name].state is (State.OPTIONAL if program.optional else State.MISSING)
    assert found[program.name].advice == program.advice != ""
    assert [finding.name for finding in problems(found.values())] == (
        [] if program.optional else [program.name]
    )


def test_a_machine_that_has_no_decoder(tmp_path: Path) -> None:
    """It is in nobody's way who builds for other processors; who builds for amd64 reads what helps."""
    with without_decoder():
        found = examined(tmp_path)["iced-x86"]

    assert (found.state, found.found, found.advice) == (State.OPTIONAL, "not found", NO_DECODER_CURE)


def test_something_is_indispensable() -> None:
    """The table tells the two apart: PyInstaller does not start without ldd, and has a stand-in for objdump."""
    assert {program.name: program.optional for program in PROGRAMS}.items() >= {
        ("ldd", False),
        ("objdump", True),
    }


def test_only_what_the_kinds_need(tmp_path: Path, machine: dict[str, str]) -> None:
    """A project that ships only a .pyz needs no tool of PyInstaller's analysis."""
    del machine["ldd"]
    found = examined(tmp_path, Kind.PYZ)

    assert "ldd" not in found
    assert "git" in found
    assert problems(found.values()) == ()


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (project(Kind.EXECUTABLE), True),
        (project(Kind.ARCHIVE, Kind.PYZ), True),
        (project(Kind.PYZ), False),
        (project(bundle=Bundler.PYINSTALLER), False),
    ],
)
def test_the_compiler_is_needed_for_the_launcher_alone(tmp_path: Path, asked: Any, wanted: bool) -> None:
    """A .pyz needs none, and neither does PyInstaller's bootloader."""
    names = {finding.name for finding in examine(asked, tmp_path / "out", Runner())}

    assert (names >= {"zig", "headers"}, bool(names & {"zig", "headers"})) == (wanted, wanted)


def test_missing_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the way of a build, and the cure is passed on."""

    def refuse(*_: object) -> Headers:
        raise ToolMissingError("No headers.", advice="Install python3-dev.")

    monkeypatch.setattr(doctor, "find_headers", refuse)
    (problem,) = problems(examined(tmp_path).values())

    assert (problem.name, problem.found, problem.advice) == ("headers", "No headers.", "Install python3-dev.")


def test_missing_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with the interpreter is a finding, not the end of the report."""

    def refuse(*_: object) -> Interpreter:
        raise ToolMissingError("There is no interpreter at /x.", advice="Correct `python`.")

    monkeypatch.setattr(doctor, "find_interpreter", refuse)
    found = examined(tmp_path)

    assert (found["python"].state, found["python"].found) == (State.MISSING, "There is no interpreter at /x.")
    assert [finding.advice for finding in problems(found.values())] == ["Correct `python`."] * 2


def test_an_untested_target_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is untested is built all the same; the reason and the command that would change it are told."""
    told = Outlook(untested="qemu: no userland is set up", advice="ferryman runners setup qemu")
    monkeypatch.setattr(doctor, "readiness", lambda *_: told)
    found = examined(tmp_path)["runner"]

    assert (found.state, found.found) == (State.OPTIONAL, "untested here: qemu: no userland is set up")
    assert (found.needed_for, found.advice) == (
        f"trying artifacts of {host_target()}", "ferryman runners setup qemu",
    )  # fmt: skip


def test_a_runner_that_cannot_run_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What configuration asks for and no machine can do is in the way of a build."""

    def refuse(*_: object) -> Outlook:
        raise ConfigError("wine does not run it.", advice="Set runner to native.")

    monkeypatch.setattr(doctor, "readiness", refuse)
    (problem,) = problems(examined(tmp_path).values())

    assert (problem.name, problem.found, problem.advice) == (
        "runner", "wine does not run it.", "Set runner to native.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "state", "found", "advice"),
    [
        (Kinds(RunnerName.QEMU), State.FOUND, "it is here", ""),
        (
            Kinds(RunnerName.QEMU, ready=(), found="no QEMU"),
            State.OPTIONAL,
            "no QEMU",
            "set it up for linux-arm64. Debian's packages: mmdebstrap, qemu-user-static, binfmt-support.",
        ),
        (
            Kinds(RunnerName.QEMU, runs=(ARM, WINDOWS), found="it is here", advice="pull"),
            State.OPTIONAL,
            "ready for linux-arm64 alone; else: it is here",
            "pull for windows-amd64.",
        ),
        (
            Kinds(RunnerName.ROOTFS, runs=()),
            State.OPTIONAL,
            f"runs nothing on a machine that is {host_target()}",
            "",
        ),
    ],
    ids=["ready", "missing", "in part", "not for this machine"],
)
def test_every_runner_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kinds, state: State, found: str, advice: str
) -> None:
    """Also one that no target of this project asks for: the command that gets it, and the packages behind it."""
    monkeypatch.setattr(doctor, "KINDS", {kind.name: kind})
    told = examined(tmp_path)[f"runner {kind.name}"]

    assert (told.state, told.found, told.advice) == (state, found, advice)


def test_where_pyinstaller_can_analyse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, and in runners that have a Python; where there is none, the ways to get one."""
    host = host_target()
    assert examined(tmp_path)["collector pyinstaller"].found == f"{host} here, linux-arm64 through qemu"
    kinds = [Kinds(name, runs=(target,), ready=(), advice=f"get {name}")
             for name, target in ((RunnerName.QEMU, ARM), (RunnerName.WINE, WINDOWS))]  # fmt: skip
    monkeypatch.setattr(doctor, "KINDS", {kind.name: kind for kind in kinds})
    told = examined(tmp_path)["collector pyinstaller"]

    assert told.found == f"{host} here"
    assert told.advice == "For another machine, one of: get qemu for linux-arm64. get wine for windows-amd64."


def test_runtimes_of_standalone_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which are here, how to fetch the others before a build does, and that some have none; of the project's Python alone."""
    mine = f"3.{sys.version_info.minor}"
    monkeypatch.setattr(
        doctor,
        "open_index",
        lambda place: [row("linux-arm64"), row("windows-amd64"), row("darwin-arm64", "3.9.1")],
    )
    monkeypatch.setattr(doctor, "_is_here", lambda row: row.target == "linux-arm64")
    told = examined(tmp_path)["collector standalone"]

    assert (told.state, told.found) == (State.FOUND, f"CPython {mine} here for linux-arm64")
    assert "`ferryman runtimes verify --target windows-amd64`" in told.advice
    assert "None is listed for linux-amd64, " in told.advice
    assert "darwin-arm64" in told.advice


def test_a_list_of_runtimes_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding among others, and no end of the report."""

    def refuse(place: str) -> list[Any]:
        raise ConfigError("There is no list.", advice="Correct `runtimes`.")

    monkeypatch.setattr(doctor, "open_index", refuse)
    told = examined(tmp_path)["collector standalone"]

    assert (told.state, told.found, told.advice) == (
        State.OPTIONAL,
        "There is no list.",
        "Correct `runtimes`.",
    )


def test_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room is a problem with a cure."""
    monkeypatch.setattr(doctor, "space_problem", lambda folder: "it is full")
    (problem,) = problems(examined(tmp_path).values())

    assert (problem.name, problem.found) == ("disk space", "it is full")
    assert "--out" in problem.advice


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("echo 'tool 1.2'; echo more", "tool 1.2"),
        ("echo 'tool 1.3' >&2", "tool 1.3"),
        ("exit 3", None),
        ("printf 'tool \\377\\n'", "tool \ufffd"),
    ],
)
def test_version(tmp_path: Path, machine: dict[str, str], script: str, wanted: str | None) -> None:
    """The first line, from either stream; a tool that says nothing is named by its path."""
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    machine["git"] = str(program)

    assert examined(tmp_path)["git"].found == (wanted or str(program))


def test_program_that_cannot_be_started(tmp_path: Path, machine: dict[str, str]) -> None:
    """A program of another machine is there, and says nothing of its version."""
    machine["git"] = str(tmp_path)

    assert examined(tmp_path)["git"].found == str(tmp_path)


def test_a_checkout_that_git_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build goes on without a commit, so nothing is missing, and the way to have one is said."""
    monkeypatch.setattr(doctor, "git_refusal", lambda root: f"git does not read {root}")
    found = examined(tmp_path)["checkout"]

    assert (found.state, found.found) == (State.OPTIONAL, "git does not read /x/agent")
    assert "safe.directory /x/agent" in found.advice


def test_a_build_refuses_all_missing_programs_at_once(machine: dict[str, str]) -> None:
    """Only those that nothing can stand in for, each with its cure."""
    doctor.refuse_missing_programs(project())
    machine.clear()
    with pytest.raises(ToolMissingError) as caught:
        doctor.refuse_missing_programs(project())

    needed = [program for program in PROGRAMS if not program.optional]
    assert needed
    assert all(f"{program.name}: {program.advice}" in caught.value.advice for program in needed)
    doctor.refuse_missing_programs(project(Kind.PYZ))
