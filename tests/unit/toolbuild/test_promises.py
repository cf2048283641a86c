"""promises: the floor that holds for a target: its row's, the project's, or this machine's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ferryman_build import promises
from ferryman_build.project import Project
from ferryman_build.settings import Settings, TargetSettings
from ferryman_build.targets import Target, host_target, parse_target

LINUX, ARM, WINDOWS, MAC = map(parse_target, ("linux-amd64", "linux-arm64", "windows-amd64", "darwin-arm64"))


def project(**settings: Any) -> Project:
    """An agent with these settings."""
    return Project(root=Path("/nowhere"), name="demo", version="1", requires_python=">=3.11", dependencies=(),
                   entry_point="demo:main", executable="demo", settings=Settings(**settings))  # fmt: skip


@pytest.mark.parametrize(
    ("floor", "target", "promise", "cpu"),
    [
        ("", LINUX, {"glibc": "2.17"}, "x86-64-v1"),
        ("glibc 2.31", LINUX, {"glibc": "2.31"}, "x86-64-v1"),
        ("glibc 2.31, cpu x86-64-v2", LINUX, {"glibc": "2.31"}, "x86-64-v2"),
        ("glibc 2.31, cpu x86-64-v2", ARM, {"glibc": "2.31"}, ARM.cpu),  # a processor that it cannot be
        ("glibc 2.31", WINDOWS, {"windows": "10"}, WINDOWS.cpu),  # said for all, meant for those that have it
        ("glibc 2.31, macos 12.0", MAC, {"macos": "12.0"}, MAC.cpu),
    ],
)
def test_what_is_said_for_all_holds_for_those_that_can_have_it(
    floor: str, target: Target, promise: dict[str, str], cpu: str
) -> None:
    """`floor` of the project, part by part."""
    found = promises.promised(project(floor=floor), target)
    assert (dict(found.floor), found.cpu, found.id) == (promise, cpu, target.id)


def test_a_target_s_own_word_goes_before_the_project_s() -> None:
    """`[tool.ferryman.target.X] floor`."""
    agent = project(floor="glibc 2.31", target={"linux-arm64": TargetSettings(floor="glibc 2.36")})
    assert promises.promised(agent, ARM).floor["glibc"] == "2.36"
    assert promises.promised(agent, LINUX).floor["glibc"] == "2.31"


def test_the_host_promises_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for as `host`, a target is for machines like this one; asked for by its name it is for everyone's."""
    monkeypatch.setattr(promises, "own_floor", lambda _: {"glibc": "2.39"})
    host = host_target()
    (asked,) = promises.promised_targets(project(targets=("host",)))
    (named,) = promises.promised_targets(project(targets=(host.id,)))
    assert (asked.id, asked.floor["glibc"]) == (host.id, "2.39")
    assert named.floor == host.floor
    (said,) = promises.promised_targets(project(targets=("host",), floor="glibc 2.28"))
    assert said.floor["glibc"] == "2.28"
    assert promises.with_own_promise((asked, WINDOWS)) == asked
    assert promises.with_own_promise((WINDOWS,)) == host


def test_each_target_once_in_the_order_of_asking() -> None:
    """`all` after nothing else; a target that is named twice keeps its first promise."""
    assert [target.id for target in promises.promised_targets(project(targets=("windows-amd64", "linux-arm64")))] == [
        "windows-amd64", "linux-arm64",
    ]  # fmt: skip
    found = promises.promised_targets(project(targets=("all",)))
    assert len(found) == len({target.id for target in found}) > 8
