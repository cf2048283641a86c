"""`ferryman plan --all --json`: for every target and kind READY, or BLOCKED with the reason and the cure; and who would try it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from e2e.matrix import machine
from e2e.matrix.agents import Machine, workshop
from ferryman_build.runners import KINDS as RUNNERS
from ferryman_build.targets import all_targets
from support.ferryman import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(600)]

KINDS = ("archive", "executable", "pyz")
TESTS, OWN = "the runtimes of the tests", "Ferryman's own list"
DEFAULT_LIST = ROOT / "build" / "ferryman_build" / "resources"
Plan = dict[str, Any]


@pytest.fixture(scope="module", params=[OWN, TESTS])
def plan(
    request: pytest.FixtureRequest, here: Machine, agent: str, tmp_path_factory: pytest.TempPathFactory
) -> Plan:
    """The whole matrix; with Ferryman's own list nothing but names of interpreters is known."""
    shop = workshop(agent, tmp_path_factory.mktemp("plan"))
    words = ["--floor", machine.FLOOR] if request.param == TESTS else ["--runtimes", str(DEFAULT_LIST)]
    done = here.run(shop, "plan", "--all", "--json", *words)
    assert done.code == 0, done.err
    found: Plan = json.loads(done.out)
    return found


def test_every_target_has_every_kind(plan: Plan) -> None:
    """Twelve targets, three kinds, each once and in the order of the matrix."""
    names = [target.id for target in all_targets()]

    assert len(names) == 12
    assert [(row["target"], row["kind"]) for row in plan["rows"]] == [
        (name, kind) for name in names for kind in KINDS
    ]


def test_what_is_blocked_has_a_reason_and_a_cure(plan: Plan) -> None:
    """Both are sentences and differ; what is READY has neither, and a name for its file."""
    for row in plan["rows"]:
        where = (row["target"], row["kind"])
        if row["status"] == "BLOCKED":
            assert row["reason"].endswith("."), where
            assert row["cure"].endswith("."), where
            assert row["reason"] != row["cure"], where
        else:
            assert row["status"] == "READY", where
            assert (row["reason"], row["cure"]) == ("", ""), where
            assert row["target"] in row["file"], where


def test_each_row_names_who_would_try_it(plan: Plan) -> None:
    """A runner, and then one that this machine has; or "untested here" with what is the matter."""
    known = {kind.value for kind in RUNNERS}
    for row in plan["rows"]:
        where = (row["target"], row["kind"])
        if row["runner"]:
            assert set(row["runner"].split(", ")) <= known, where
            assert row["untested"] == "", where
        else:
            assert row["untested"].startswith("untested here: "), where
            assert len(row["untested"]) > len("untested here: ") + 10, where


def test_nothing_of_macos_is_said_to_be_tried(plan: Plan) -> None:
    """Nor of Windows on ARM: nothing on a Linux runs their programs."""
    rows = [row for row in plan["rows"] if row["target"] in {"darwin-arm64", "darwin-amd64", "windows-arm64"}]

    assert len(rows) == 9
    assert {row["runner"] for row in rows} == {""}


@pytest.mark.parametrize("plan", [TESTS], indirect=True)
def test_what_was_set_up_is_ready_and_tried(plan: Plan, here: Machine) -> None:
    """With the runtimes of the tests, the three targets that can be run here are READY in every kind."""
    for row in plan["rows"]:
        if row["target"] not in machine.RUN_HERE:
            continue
        where, runner = (row["target"], row["kind"]), machine.RUN_HERE[row["target"]]
        assert row["status"] == "READY", where
        # A .pyz needs a Python where it is tried, which not every runner has.
        assert row["runner"] == runner or (
            row["kind"] == "pyz" and row["runner"] in {*runner.split(", "), ""}
        ), where


def test_a_missing_wheel_is_named(here: Machine, tmp_path: Path) -> None:
    """A dependency without a wheel for a target blocks that target alone, by its name and with the other targets' names."""
    shop = workshop("lantern", tmp_path)
    done = here.run(shop, "plan", "--target", "linux-s390x,linux-amd64", "--kind", "pyz", "--json")
    rows = json.loads(done.out)["rows"]
    status = {row["target"]: row["status"] for row in rows}
    blocked = next(row for row in rows if row["target"] == "linux-s390x")

    assert status == {"linux-s390x": "BLOCKED", "linux-amd64": "READY"}
    assert re.search(
        r"\S+ \S+ has no wheel for linux-s390x and CPython 3\.\d+; it has ones for linux-amd64",
        blocked["reason"],
    )
    assert re.search(r"UV_FIND_LINKS, or drop the target|constrain |build with one of them", blocked["cure"])
