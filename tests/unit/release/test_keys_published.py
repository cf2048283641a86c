"""Keys change under a repository that is published: the commands of both, and the client that every agent has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman_release import cli
from ferryman_release.commands import keys as command
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.signing import minisign_verify
from ferryman_release.signing.keyfile import plain_pem, write_key
from ferryman_release.site.pointer import split_pointer
from support.dist_factory import make_dist
from support.release_keys import private_key
from support.releasing import World, make_world

Run = Callable[..., tuple[int, str, str]]


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


def publish(world: World, run: Run, version: str, *words: str) -> None:
    world.project(version)
    make_dist(world.root / "dist", version, targets=world.targets)
    code, _, err = run("release", *words)
    assert code == 0, err


def successor(world: World, run: Run, action: str, role: str, *words: str) -> None:
    """Give ``role`` the key NAME-2, sign it with two offline keys, and let the settings say so."""
    path = world.keys.private / f"{role}-2.pem"
    write_key(path, plain_pem(private_key(f"{role}-2")))
    holders = [
        word for name in ("root-1", "root-3") for word in ("--key", f"file:{world.keys.private / name}.pem")
    ]
    code, _, err = run("keys", action, role, "--new", f"file:{path}", *words, *holders)
    assert code == 0, err
    world.settings["signers"] = {**world.settings.get("signers", world.keys.signers), role: f"file:{path}"}
    world.project()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "canary"])
def test_a_rotated_key_needs_one_refresh(world: World, run: Run, role: str) -> None:
    """What the old key signed is read, signed again by the new one, and a machine with root 1 sees the same version."""
    publish(world, run, "1.0.0")
    machine = world.client()
    machine.strict_refresh()
    successor(world, run, "rotate", role)
    code, _, err = run("refresh")
    assert code == 0, err
    assert world.look() == "1.0.0"
    machine.strict_refresh()
    assert machine.channel().version == "1.0.0"


def test_a_rotation_needs_no_refresh_before_a_release(world: World, run: Run) -> None:
    """The next release or promotion of any channel takes the others along."""
    publish(world, run, "1.0.0")
    publish(world, run, "1.0.0", "--to", "beta")
    successor(world, run, "rotate", "canary")
    publish(world, run, "1.1.0", "--to", "beta")
    assert (world.look(), world.look("beta")) == ("1.0.0", "1.1.0")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "canary"])
def test_what_a_revoked_key_signed_is_looked_at_first(world: World, run: Run, role: str) -> None:
    """No command builds on it by itself; a person looks and says so, and from then on nothing is special."""
    publish(world, run, "1.0.0")
    before = world.objects()
    successor(world, run, "revoke", role, "--reason", "in a log")
    for words in (
        ["refresh"],
        ["releases"],
        ["promote", "1.0.0", "--to", "beta"],
        ["yank", "1.0.0", "--reason", "x"],
    ):
        code, _, err = run(*words)
        assert code == 25
        assert f"The metadata of {role} in the store was signed by a key that was revoked" in err
        assert "--believe-revoked" in err
    assert world.objects() == before
    assert "1.0.0" in run("releases", "--believe-revoked")[1]
    code, _, err = run("refresh", "--believe-revoked")
    assert code == 0, err
    assert run("releases")[0] == run("refresh")[0] == 0
    assert world.look() == "1.0.0"


def test_a_new_minisign_key_signs_what_installers_read(world: World, run: Run) -> None:
    """One refresh after the rotation: pointer and installer have the new key, and none of the old one."""
    publish(world, run, "1.0.0")
    old = world.keys.folder.minisign_public()
    before = world.objects()
    assert run("refresh")[0] == 0
    assert world.objects()["channels/canary.signed"] == before["channels/canary.signed"]
    successor(world, run, "rotate", "minisign")
    code, _, err = run("refresh")
    assert code == 0, err
    new = KeyFolder(world.keys.folder.path).minisign_public()
    signature, payload = split_pointer(world.objects()["channels/canary.signed"])
    assert minisign_verify(payload, signature, new)
    for name in ("install.sh", "index.html"):
        assert old.line in before[name].decode()
        assert new.line in world.objects()[name].decode()
        assert old.line not in world.objects()[name].decode()


def test_a_new_channel_is_published_to(world: World, run: Run) -> None:
    """From the settings to a machine that follows it."""
    publish(world, run, "1.0.0")
    nightly = world.keys.private / "nightly.pem"
    write_key(nightly, plain_pem(private_key("nightly")))
    world.settings["signers"] = {**world.keys.signers, "nightly": f"file:{nightly}"}
    world.settings["channels"] = [*world.keys.channels, "nightly"]
    world.project()
    holders = [
        word for name in ("root-1", "root-2") for word in ("--key", f"file:{world.keys.private / name}.pem")
    ]
    code, out, err = run("keys", "channels", *holders)
    assert code == 0, err
    assert "added: nightly" in out
    code, _, err = run("promote", "1.0.0", "--to", "nightly")
    assert code == 0, err
    assert world.look("nightly") == "1.0.0"


def test_a_channel_that_goes_is_no_longer_vouched_for(world: World, run: Run) -> None:
    """Machines that follow it stop with what they have; the others go on, also those that have seen it."""
    publish(world, run, "1.0.0")
    publish(world, run, "1.0.0", "--to", "beta")
    machines = {channel: world.client(channel, state=channel) for channel in ("canary", "beta")}
    for machine in machines.values():
        machine.strict_refresh()
    world.settings["channels"] = ["canary", "stable"]
    world.project()
    holders = [
        word for name in ("root-1", "root-2") for word in ("--key", f"file:{world.keys.private / name}.pem")
    ]
    assert run("keys", "channels", *holders)[0] == 0
    code, _, err = run("refresh")
    assert code == 0, err
    assert (world.look(), world.look("beta")) == ("1.0.0", "")
    for channel, kind in (("canary", None), ("beta", "unknown")):
        status = machines[channel].refresh()
        assert status.version == "1.0.0"
        assert (status.problem.kind if status.problem else None) == kind
    publish(world, run, "1.1.0")
    assert machines["canary"].refresh().version == "1.1.0"
