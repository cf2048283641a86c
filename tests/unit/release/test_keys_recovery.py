"""The recoveries of docs/keys.md: their commands as they stand there, and a client that was installed before them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import Signer
from tuf.api.exceptions import ExpiredMetadataError, RepositoryError, UnsignedMetadataError

from ferryman_release import cli
from ferryman_release.commands import keys as command
from ferryman_release.errors import KeyProblemError
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.signing import Secrets, keyfile, role_signers
from support.release_keys import NOW, OFFLINE, TestKeys, make_keys, signer
from support.tuf_memory import Machine, Memory

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "keys.md"
PASSPHRASE = "five words by pure chance"
PYPROJECT = """\
[project]
name = "lantern"
version = "1.0.0"
[project.scripts]
lantern = "lantern:main"
"""


def recoveries() -> dict[str, list[str]]:
    """Heading → the commands below it."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("## Recoveries")[2]
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    return {
        section.split("\n")[0]: [
            line
            for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
            for line in block.splitlines()
        ]
        for section in sections
    }


@dataclass
class World:
    """A project with keys, what it has published, and a machine that was installed with root 1."""

    project: Path
    home: Path
    keys: TestKeys
    memory: Memory
    machine: Machine
    now: datetime = NOW

    @property
    def folder(self) -> KeyFolder:
        return KeyFolder(self.project / "keys")

    def follow(self, heading: str) -> None:
        """Run the commands of the page."""
        for line in recoveries()[heading]:
            words = [
                str(self.home / word[2:]) if word.startswith("~/") else word for word in shlex.split(line)
            ]
            assert words[0] == "ferryman"
            assert cli.main(words[1:]) == 0, line

    def signers(self, *, old: bool = False) -> Callable[[str], list[Signer]]:
        """As the settings say after the recovery: NAME-2.pem where the page has made one."""

        def of(role: str) -> list[Signer]:
            new = self.home / "keys" / f"{role}-2.pem"
            uri = f"file:{new if new.exists() and not old else self.home / 'keys' / f'{role}.pem'}"
            if old:
                return [signer(role)]
            settings = self.keys.settings(signers={role: uri})
            return role_signers(settings, self.folder, role, Secrets({"FERRYMAN_KEY_PASSPHRASE": PASSPHRASE}))

        return of

    def publish(self, *, old: bool = False, content: str = "good", version: int = 0) -> None:
        self.memory.publish(self.folder, self.signers(old=old), self.now, content=content, version=version)

    def sees(self) -> int | None:
        """The length of what the channel says to the machine."""
        return self.machine.content_length("stable", self.now)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    home, project = tmp_path / "home", tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(PYPROJECT)
    keys = make_keys(project / "keys", private=home / "keys")
    (home / "offline").mkdir(mode=0o700)
    for name in OFFLINE:
        (home / "keys" / f"{name}.pem").rename(home / "offline" / f"{name}.pem")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FERRYMAN_KEY_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr(keyfile, "PASSES", 1)
    monkeypatch.chdir(project)
    memory = Memory()
    found = World(project, home, keys, memory, Machine(memory, keys.folder.roots()[1], tmp_path / "cache"))
    monkeypatch.setattr(command, "now", lambda: found.now)
    found.publish()
    assert found.sees() == len("good")
    return found


def test_every_recovery_is_followed_by_a_test() -> None:
    """A section with commands that no test below names would be a promise that nobody keeps."""
    source = Path(__file__).read_text(encoding="utf-8")
    missing = [
        name for name, commands in recoveries().items() if commands and f'follow("{name}")' not in source
    ]
    assert len(recoveries()) >= 8
    assert missing == []


def test_a_lost_offline_key_is_replaced(world: World) -> None:
    """Two holders put a fourth key in the place of the first; the machine walks from root 1 to root 2."""
    world.follow("An offline key is lost")
    assert world.folder.root().signed.version == 2
    assert signer("root-1").public_key.keyid not in world.folder.root().signed.keys
    assert world.folder.targets().signed.version == 2, "its signatures by root-1 no longer count"
    world.publish(content="after")
    assert world.sees() == len("after")
    assert world.machine.refresh(world.now) == 2


def test_a_leaked_offline_key_signs_nothing_more(world: World) -> None:
    """It is revoked with its reason, and cannot come back."""
    world.follow("An offline key has leaked")
    (gone,) = [one for one in world.folder.known().keys if one.revoked]
    assert (gone.name, gone.reason) == ("root-1", "laptop stolen")
    world.publish(content="after")
    assert world.sees() == len("after")
    path = world.home / "offline" / "root-1.pem"
    assert cli.main(["keys", "rotate", "root", "--new", f"file:{path}"]) == KeyProblemError.exit_code


def test_a_lost_timestamp_key_is_replaced(world: World) -> None:
    """The machine takes the new key's timestamp; the old key's is refused from then on."""
    world.follow("The timestamp key is lost")
    world.publish(content="after")
    assert world.sees() == len("after")
    world.memory.timestamp(lambda role: [signer(role)], world.now, version=99)
    with pytest.raises(UnsignedMetadataError):
        world.sees()


def test_a_taken_publisher_loses_everything(world: World) -> None:
    """Even after the thief has driven all versions up: machines that saw it come back, and believe it no more."""
    world.publish(old=True, content="evil words", version=9000)
    assert world.sees() == len("evil words")
    world.follow("The machine that publishes was taken")
    assert {one.name for one in world.folder.known().keys if one.revoked} == {
        "timestamp", "snapshot", "stable", "minisign", "provenance",
    }  # fmt: skip
    assert world.folder.root().signed.version == 2, "two revocations are one root"
    world.publish(content="good again", version=9001)
    assert world.sees() == len("good again")
    world.publish(old=True, content="evil words", version=9002)
    with pytest.raises(RepositoryError):
        world.sees()


def test_versions_that_a_thief_drove_up_are_forgotten(world: World) -> None:
    """New keys for snapshot and timestamp let both begin again at low numbers."""
    world.memory.timestamp(lambda role: [signer(role)], world.now, version=500_000)
    assert world.sees() == len("good")
    world.follow("The machine that publishes was taken")
    world.publish(content="after", version=2)
    assert world.sees() == len("after")


def test_a_leaked_channel_key_is_replaced(world: World) -> None:
    """What the old key signs for its channel is refused, the other channels never noticed."""
    world.follow("A channel's key has leaked")
    assert (world.folder.root().signed.version, world.folder.targets().signed.version) == (1, 2)
    world.publish(content="after")
    assert world.sees() == len("after")
    assert world.machine.content_length("beta", world.now) == len("after")
    mixed = world.signers()
    world.memory.publish(
        world.folder,
        lambda role: [signer("stable")] if role == "stable" else mixed(role),
        world.now,
        content="evil",
    )
    with pytest.raises(UnsignedMetadataError):
        world.sees()


def test_expired_roots_are_renewed(world: World) -> None:
    """A machine that slept refuses what has expired, and follows as soon as the holders have signed."""
    world.now = NOW + timedelta(days=800)
    world.publish(content="after")
    with pytest.raises(ExpiredMetadataError):
        world.sees()
    assert cli.main(["keys", "status"]) == 25
    world.follow("Root or targets have expired")
    assert cli.main(["keys", "status"]) == 0
    world.publish(content="after all")
    assert world.sees() == len("after all")


def test_a_lost_minisign_key_needs_no_ceremony(world: World) -> None:
    """minisign.pub is another at once, root and targets are as they were."""
    before = world.folder.minisign_public()
    world.follow("The minisign key is lost")
    assert world.folder.minisign_public() != before
    assert (world.folder.root().signed.version, world.folder.targets().signed.version) == (1, 1)
    assert not world.folder.drafts.exists()


def test_a_draft_changes_nothing_for_anybody(world: World) -> None:
    """Until the last signature the folder publishes as before, with the old keys."""
    lines = recoveries()["The timestamp key is lost"]
    for line in lines[:-1]:
        assert cli.main(shlex.split(line)[1:]) == 0
    assert world.folder.root().signed.version == 1
    world.publish(old=True, content="meanwhile")
    assert world.sees() == len("meanwhile")


def test_recoveries_can_follow_each_other(world: World) -> None:
    """A machine that missed three roots walks them all."""
    world.follow("The timestamp key is lost")
    world.follow("A channel's key has leaked")
    world.follow("An offline key is lost")
    world.now = NOW + timedelta(days=30)
    world.publish(content="after")
    assert world.sees() == len("after")
    assert world.machine.refresh(world.now) == 3
