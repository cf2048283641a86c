"""`ferryman refresh` as the daily job runs it: with the keys of snapshot and timestamp, and no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ferryman_release import cli
from ferryman_release.errors import ExpiresSoonError
from support.dist_factory import make_dist
from support.releasing import World, make_world

Run = Callable[..., tuple[int, str, str]]
ONLINE = ("snapshot", "timestamp")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    make_dist(tmp_path / "dist", targets=made.targets)
    return made


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, standard output, standard error) of a command under these settings."""
    monkeypatch.chdir(world.root)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def call(*words: str, **settings: Any) -> tuple[int, str, str]:
        world.settings = settings
        world.project()
        capsys.readouterr()
        code = cli.main([*words, "--plain"])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def few(world: World) -> dict[str, str]:
    """The signers of the daily job."""
    return {role: uri for role, uri in world.keys.signers.items() if role in ONLINE}


def timestamp(world: World) -> bytes:
    return (world.store / "metadata" / "timestamp.json").read_bytes()


def test_the_timestamp_needs_no_other_key(world: World, run: Run) -> None:
    """With the two online keys alone the timestamp becomes new, and nothing else is asked for."""
    run("release")
    before = timestamp(world)
    code, out, err = run("refresh", signers=few(world))

    assert code == 0, err
    assert timestamp(world) != before
    assert "none had to be" in out


def test_a_channel_whose_key_is_elsewhere_waits(world: World, run: Run) -> None:
    """Past its half time it is named, the timestamp is new all the same, and nothing is urgent yet."""
    run("release", expires={"channel": 40})
    before = timestamp(world)
    code, out, err = run("refresh", signers=few(world))

    assert code == 0, err
    assert timestamp(world) != before
    assert "not signed again, since their keys are not here: canary" in out


def test_a_channel_near_its_end_is_an_alarm(world: World, run: Run) -> None:
    """Within an alarm's time the exit code says so, after the timestamp was signed; with the key it is mended."""
    run("release", expires={"channel": 10})
    before = timestamp(world)
    code, _, err = run("refresh", signers=few(world))
    after = timestamp(world)
    mended, out, _ = run("refresh")

    assert code == ExpiresSoonError.exit_code
    assert "canary 1 expires in" in err
    assert after != before
    assert (mended, "channels signed again: canary" in out) == (0, True)
    assert run("refresh", signers=few(world))[0] == 0
