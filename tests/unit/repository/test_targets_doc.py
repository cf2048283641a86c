"""docs/targets.md has every target once, and claims no more than a Linux machine for amd64 can show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ferryman_build.cli import make_parser
from ferryman_build.runners import KINDS
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Target, all_targets, parse_target, parse_targets

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
COLUMNS = ["target", "built how", "run where", "gate", "state"]
SEEN = ["target", "kind", "collector", "tried by", "checks passed", "needs, measured"]
RUN, CHECKED, BLOCKED = (
    "**supported: built and run**",
    "**built and format-checked, never run**",
    "**blocked: ",
)
SHOWN_ON = parse_target("linux-amd64")


def table(columns: list[str]) -> list[dict[str, str]]:
    """The rows of the page's table with these columns."""
    begin = f"| {' | '.join(columns)} |"
    lines = next(part for part in PAGE.split("\n\n") if part.startswith(begin)).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return [dict(zip(columns, row, strict=True)) for row in rows]


ROWS = {row["target"]: row for row in table(COLUMNS)}


def runners(target: Target) -> set[RunnerName]:
    """What can run programs of ``target`` on the machine that the page is about, set up or not."""
    return {kind.name for kind in KINDS.values() if kind.runs(target, SHOWN_ON)}


def named(cell: str) -> set[str]:
    """The runners that a cell of "run where" names."""
    return {name.value for name in RunnerName if re.search(rf"\b{name.value}\b", cell)}


def test_every_target_is_there_once() -> None:
    """No row of targets.toml is missing, none is there twice, and none is made up."""
    assert sorted(row["target"] for row in table(COLUMNS)) == sorted(target.id for target in all_targets())


@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_state_is_one_of_three(target: Target) -> None:
    """Run, or built and never run, or blocked; the last with a reason and, behind it, a cure."""
    state = ROWS[target.id]["state"]

    assert sum(state.startswith(begin) for begin in (RUN, CHECKED, BLOCKED)) == 1
    if state.startswith(BLOCKED):
        reason, cure = state.removeprefix(BLOCKED).split("**")
        assert len(reason) > 10
        assert "`" in cure or "the same" in cure


@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_nothing_is_called_run_that_cannot_run_here(target: Target) -> None:
    """Who is called run names runners, and only such as run that target on this machine; all others name none."""
    row = ROWS[target.id]
    if row["state"].startswith(RUN):
        assert named(row["run where"])
        assert named(row["run where"]) <= runners(target)
    else:
        assert row["run where"] == ""


@pytest.mark.parametrize("name", ["darwin-arm64", "darwin-amd64", "windows-arm64"])
def test_what_nothing_here_can_run_is_never_called_run(name: str) -> None:
    """macOS, and Windows on ARM: no runner of a Linux machine runs them, whatever the page would like to say."""
    assert runners(parse_target(name)) == set()
    assert not ROWS[name]["state"].startswith(RUN)


@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_what_was_built_passed_the_gate_and_the_blocked_did_not_see_it(target: Target) -> None:
    """The gate's column is filled exactly where there was something to judge, with the promise in the target's words."""
    row = ROWS[target.id]
    if row["state"].startswith(BLOCKED):
        assert row["gate"] == ""
    else:
        assert row["gate"].lower().startswith(f"passed for {next(iter(target.floor))}")


def test_what_manifests_said_agrees_with_the_states() -> None:
    """Who was tried, with a number of checks, is exactly who is called run; the runners are such as can run it."""
    tried = set()
    for row in table(SEEN):
        targets = [parse_target(name) for name in row["target"].split(", ")]
        if row["tried by"] == "nothing":
            assert row["checks passed"] == "untested"
            continue
        assert int(row["checks passed"]) > 0
        assert all(set(row["tried by"].split(", ")) <= runners(target) for target in targets)
        tried |= {target.id for target in targets}

    assert tried == {name for name, row in ROWS.items() if row["state"].startswith(RUN)}


def test_commands_are_commands() -> None:
    """Every `ferryman` line of the page is understood by its command line, and names targets that exist."""
    lines = [line.strip() for line in PAGE.splitlines() if line.startswith("    ferryman ")]

    assert len(lines) >= 6
    for line in lines:
        args = make_parser().parse_args(shlex.split(line)[1:])
        if getattr(args, "target", None):
            assert parse_targets(args.target)
