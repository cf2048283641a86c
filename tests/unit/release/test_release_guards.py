"""A publisher of yesterday: by its clock, by its keys, by what somebody did to keys/ while it ran."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman_release import cli
from ferryman_release.commands import keys as command
from ferryman_release.errors import MetadataError, VerifyError
from ferryman_release.metadata.guards import BEHIND
from ferryman_release.operate import change
from ferryman_release.signing.keyfile import plain_pem, write_key
from support.dist_factory import make_dist
from support.release_keys import private_key
from support.releasing import Transaction, World, make_world

Run = Callable[..., tuple[int, str, str]]
Rotate = Callable[..., None]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    made.project()
    return made


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, standard output, standard error) of a command in the project's folder."""
    monkeypatch.chdir(world.root)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setattr(command, "now", world.clock)

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([*words, "--plain"])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def rotate(world: World, run: Run) -> Rotate:
    """A new key for a role, in keys/ and in the settings."""

    def call(role: str) -> None:
        path = world.keys.private / f"{role}-2.pem"
        write_key(path, plain_pem(private_key(f"{role}-2")))
        holders = [
            word
            for name in ("root-1", "root-2")
            for word in ("--key", f"file:{world.keys.private / name}.pem")
        ]
        code, _, err = run("keys", "rotate", role, "--new", f"file:{path}", *holders)
        assert code == 0, err
        world.settings["signers"] = {**world.keys.signers, role: f"file:{path}"}
        world.project()

    return call


def publish(world: World, run: Run, version: str, *words: str) -> None:
    world.project(version)
    make_dist(world.root / "dist", version, targets=world.targets)
    code, _, err = run("release", *words)
    assert code == 0, err


@pytest.mark.parametrize(
    "words", [("refresh",), ("promote", "1.0.0", "--to", "stable"), ("yank", "1.0.0", "--reason", "x"), ("release",)],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_clock_that_was_set_back_signs_nothing(world: World, run: Run, words: tuple[str, ...]) -> None:
    """The store knows when it was written to last; a timestamp that has expired before it is signed helps nobody."""
    publish(world, run, "1.0.0")
    publish(world, run, "1.1.0")
    pointer = world.store / "metadata/timestamp.json"
    later = pointer.stat().st_mtime + 86400
    os.utime(pointer, (later, later))
    if words == ("release",):
        world.project("1.2.0")
        make_dist(world.root / "dist", "1.2.0", targets=world.targets)
    before = world.objects()
    code, _, err = run(*words)

    assert code in (20, 25)
    assert "clock is 24.0 hours behind" in err
    assert "timedatectl" in err
    assert world.objects() == before


def test_a_clock_that_differs_by_minutes_is_forgiven(world: World, run: Run) -> None:
    """Two machines never agree to the second."""
    publish(world, run, "1.0.0")
    pointer = world.store / "metadata/timestamp.json"
    soon = pointer.stat().st_mtime + BEHIND - 60
    os.utime(pointer, (soon, soon))

    assert run("refresh")[0] == 0


@pytest.mark.parametrize(("role", "document"), [("canary", "2.targets.json"), ("beta", "2.targets.json"),
                                                ("timestamp", "2.root.json"), ("snapshot", "2.root.json")])  # fmt: skip
def test_a_checkout_with_older_keys_does_not_publish(
    world: World, run: Run, rotate: Rotate, role: str, document: str
) -> None:
    """A branch from before a ceremony: every machine that has seen the new documents would refuse what it signs."""
    publish(world, run, "1.0.0")
    old = world.root / "old-keys"
    shutil.copytree(world.keys.folder.path, old)
    rotate(role)
    assert run("refresh")[0] == 0
    machine = world.client()
    assert machine.refresh().problem is None
    world.settings = {"keys": str(old)}
    world.project()
    before = world.objects()

    for words in (("refresh",), ("promote", "1.0.0", "--to", "stable")):
        code, _, err = run(*words)
        assert code == 25
        assert f"{document} is published" in err or "cannot be trusted" in err
        assert "keys/" in err
    assert world.objects() == before
    assert machine.refresh().problem is None


def test_an_older_checkout_is_named_before_anything_is_sent(world: World, run: Run, rotate: Rotate) -> None:
    """A release that cannot become visible does not upload for an hour first."""
    publish(world, run, "1.0.0")
    old = world.root / "old-keys"
    shutil.copytree(world.keys.folder.path, old)
    rotate("beta")
    assert run("refresh")[0] == 0
    world.settings = {"keys": str(old)}
    world.project("1.1.0")
    make_dist(world.root / "dist", "1.1.0", targets=world.targets)
    before = world.objects()
    code, _, err = run("release")

    assert code == 20
    assert "2.targets.json is published" in err
    assert world.objects() == before


def test_keys_that_change_between_signing_and_the_flip_do_not_take_part(
    world: World, run: Run, rotate: Rotate
) -> None:
    """A `git pull` while a release runs: what becomes visible is what was walked; the next refresh takes the new keys."""
    publish(world, run, "1.0.0")
    machine = world.client()
    machine.strict_refresh()
    place = world.place()
    flip = Transaction.flip

    def later(transaction: Transaction) -> None:
        rotate("timestamp")
        flip(transaction)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Transaction, "flip", later)
        change(place, "lantern", lambda _: None)

    assert not (world.store / "metadata/2.root.json").exists()
    assert machine.refresh().problem is None
    assert world.look() == "1.0.0"
    assert run("refresh")[0] == 0
    assert (world.store / "metadata/2.root.json").exists()
    assert machine.refresh().problem is None


def test_what_running_machines_would_refuse_is_not_made_visible(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client that walks before the flip has seen what is published: a snapshot that goes back is found out."""
    from ferryman_release.metadata import repository

    publish(world, run, "1.0.0")
    publish(world, run, "1.1.0")
    pointer = (world.store / "metadata/timestamp.json").read_bytes()
    made = repository.Transaction._numbered

    def back(transaction: Transaction, role: str, first: int, make: Callable[[int], object]) -> object:
        return made(transaction, role, first, lambda version: make(1) if role == "canary" else make(version))  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(repository.Transaction, "_numbered", back)
    with pytest.raises(VerifyError, match="would be refused"):
        change(world.place(), "lantern", lambda t: t.set(t.state("canary")))
    assert (world.store / "metadata/timestamp.json").read_bytes() == pointer


def test_the_guards_say_what_to_do(world: World, run: Run) -> None:
    """Each refusal has a cure."""
    from ferryman_release.metadata.guards import check_keys

    publish(world, run, "1.0.0")
    (world.store / "metadata/2.root.json").write_bytes(b"{}")
    place = world.place()
    with pytest.raises(MetadataError, match=r"2\.root\.json is published") as caught:
        check_keys(place.store, place.keys, None)
    assert "up to date" in caught.value.advice
