"""doctor: what is missing is told from what Ferryman can do without, each with the way to get it."""

from __future__ import annotations

import sys
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
from ferryman_build.interpreter import Headers, Interpreter
from ferryman_build.runners import Outlook
from ferryman_build.settings import Bundler, RunnerName
from ferryman_build.targets import host_target

PYTHON = Interpreter(
    path=Path("/x/python"), version="3.11.2", tag="t", identity="i", libpython=Path("/x/libpython.so")
)


def project(
    *kinds: Kind, python: str = "", bundle: Bundler = Bundler.FERRYMAN, targets: tuple[str, ...] = ("host",),
    runner: RunnerName = RunnerName.AUTO,
) -> Any:  # fmt: skip
    """As much of a project as the doctor looks at."""
    settings = SimpleNamespace(
        kinds=kinds or tuple(Kind), python=python, bundle=bundle, targets=targets, runner=runner, floor=""
    )
    return SimpleNamespace(root=Path("/x/agent"), settings=settings, for_target=lambda _: settings)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Programs of a machine, by name; this one's Python stands for all of them."""
    programs = {program.name: sys.executable for program in PROGRAMS}
    monkeypatch.setattr(doctor.shutil, "which", programs.get)
    monkeypatch.setattr(doctor, "find_interpreter", lambda *_: PYTHON)
    monkeypatch.setattr(doctor, "find_headers", lambda *_: Headers(folder=Path("/x/include")))
    return programs


def examined(tmp_path: Path, *kinds: Kind) -> dict[str, Finding]:
    return {found.name: found for found in examine(project(*kinds), tmp_path / "out", Runner())}


def test_all_is_there(tmp_path: Path) -> None:
    """Every tool with the version that answers; nothing to do, nothing in the way."""
    found = examined(tmp_path)

    assert {
        "python",
        "uv",
        "zig",
        "headers",
        "pyinstaller",
        "shiv",
        "runner",
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
