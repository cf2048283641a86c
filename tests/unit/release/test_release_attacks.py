"""Attacks on a repository that the real publisher has made: each is refused, and what was refused is named.

The attacker owns the store, and the keys that a test hands out. There are two victims: a machine that has been running and
has seen 1.1.0, which must go on serving that and report; and an installer that knows nothing but the first root. What an
installer cannot know is said as well: documents that were valid yesterday are valid for it until they expire.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Metadata, MetaFile, Root

from ferryman_client import Action, Client, ClientError, ExpiredError
from ferryman_release.errors import PreflightError
from ferryman_release.keys.documents import replace_keys
from ferryman_release.keys.edit import edit
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.signing.keyfile import plain_pem, write_key
from support import release_keys
from support.release_keys import private_key, signer
from support.releasing import World, make_world

DAY = 86400.0


class Published(NamedTuple):
    """A world with two releases, everything that lay in its store after the first, and another program's store."""

    world: World
    before: dict[str, bytes]
    other: dict[str, bytes]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    with pytest.MonkeyPatch.context() as patched:
        own = functools.cache(lambda name: Ed25519PrivateKey.generate())
        patched.setattr(release_keys, "private_key", own)
        other = make_world(tmp_path_factory.mktemp("other"))
        other.release("1.0.0")
    world = make_world(tmp_path_factory.mktemp("published"))
    world.release("1.0.0")
    world.release("1.0.0", channel="stable")
    before = world.objects()
    world.release("1.1.0")
    return Published(world, before, other.objects())


@pytest.fixture
def world(published: Published, tmp_path: Path) -> World:
    """A copy of the store, to be attacked."""
    shutil.copytree(published.world.store, tmp_path / "out" / "repository")
    return World(root=tmp_path, keys=published.world.keys, clock=published.world.clock)


@pytest.fixture
def machine(world: World) -> Client:
    """It has been running: it has seen 1.1.0."""
    made = world.client(state="running")
    made.strict_refresh()
    assert made.channel().version == "1.1.0"
    return made


# --- the attacker's tools --------------------------------------------------------------------------------------------------


def put(world: World, key: str, data: bytes) -> None:
    path = world.store / key
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def read(world: World, key: str) -> Metadata[Any]:
    return Metadata.from_bytes((world.store / key).read_bytes())


def signed(document: Metadata[Any], *names: str) -> bytes:
    """The document with the signatures of these keys alone."""
    document.signatures.clear()
    for name in names:
        document.sign(signer(name), append=True)
    return document.to_bytes()


def pointed(world: World, change: Callable[[dict[str, MetaFile]], None], *, snapshot: str = "snapshot",
            timestamp: str = "timestamp") -> None:  # fmt: skip
    """A new snapshot and a new timestamp, signed with keys that the attacker has."""
    new = read(world, "metadata/timestamp.json")
    number = new.signed.snapshot_meta.version
    document = read(world, f"metadata/{number}.snapshot.json")
    document.signed.version = number + 1
    change(document.signed.meta)
    content = signed(document, snapshot)
    put(world, f"metadata/{number + 1}.snapshot.json", content)
    new.signed.version += 1
    new.signed.snapshot_meta = MetaFile.from_data(number + 1, content, ["sha256"])
    put(world, "metadata/timestamp.json", signed(new, timestamp))


def channel_version(world: World) -> int:
    number = read(world, "metadata/timestamp.json").signed.snapshot_meta.version
    return int(read(world, f"metadata/{number}.snapshot.json").signed.meta["canary.json"].version)


def forged_channel(world: World, key: str) -> None:
    """A document of canary that withdraws what is offered, signed with ``key``, and named by snapshot and timestamp."""
    number = channel_version(world)
    document = read(world, f"metadata/{number}.canary.json")
    document.signed.version = number + 1
    custom = document.signed.targets["canary/channel"].unrecognized_fields["custom"]
    custom["withdrawn"] = ["1.1.0"]
    content = signed(document, key)
    put(world, f"metadata/{number + 1}.canary.json", content)
    pointed(
        world,
        lambda meta: meta.update({"canary.json": MetaFile.from_data(number + 1, content, ["sha256"])}),
    )


def new_root(world: World, *names: str) -> None:
    """Root 2, in which the attacker's key may sign everything that online keys sign."""
    document = read(world, "metadata/1.root.json")
    root: Root = document.signed
    root.version = 2
    for role in ("snapshot", "timestamp"):
        root.add_key(signer("attacker").public_key, role)
    put(world, "metadata/2.root.json", signed(document, *names))


# --- the attacks ---------------------------------------------------------------------------------------------------------


def old_timestamp(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Rollback: yesterday's pointer."""
    put(world, "metadata/timestamp.json", past["metadata/timestamp.json"])


def old_store(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Rollback of everything: the store as it was yesterday."""
    shutil.rmtree(world.store)
    for key, data in past.items():
        (world.store / key).parent.mkdir(parents=True, exist_ok=True)
        put(world, key, data)


def old_snapshot_in_place(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """An old snapshot under the name of the new one; the attacker has no key."""
    numbers = [read(world, "metadata/timestamp.json"), Metadata.from_bytes(past["metadata/timestamp.json"])]
    new, old = (one.signed.snapshot_meta.version for one in numbers)
    put(world, f"metadata/{new}.snapshot.json", past[f"metadata/{old}.snapshot.json"])


def old_snapshot_by_the_timestamp_key(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """The key of the timestamp leaked: a new pointer to an old snapshot."""
    new = read(world, "metadata/timestamp.json")
    new.signed.version += 1
    new.signed.snapshot_meta = Metadata.from_bytes(past["metadata/timestamp.json"]).signed.snapshot_meta
    put(world, "metadata/timestamp.json", signed(new, "timestamp"))


def old_channel_in_place(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Mix and match: today's snapshot, and the channel as it was."""
    number = channel_version(world)
    put(world, f"metadata/{number}.canary.json", past[f"metadata/{number - 1}.canary.json"])


def old_channel_by_the_online_keys(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Mix and match with both online keys: a new snapshot that names the channel as it was."""
    number = channel_version(world) - 1
    old = MetaFile.from_data(number, past[f"metadata/{number}.canary.json"], ["sha256"])
    pointed(world, lambda meta: meta.update({"canary.json": old}))


def without_the_channel(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """A snapshot that says nothing of the channel."""
    pointed(world, lambda meta: meta.pop("canary.json"))  # type: ignore[arg-type,return-value]


def channel_by_another_channel(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Wrong role: the key of stable, and both online keys."""
    forged_channel(world, "stable")


def channel_by_the_snapshot_key(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Wrong role: online keys sign no channel."""
    forged_channel(world, "snapshot")


def channel_of_another_channel(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """The document of stable, well signed by stable, in the place of canary's."""
    meta = read(
        world, f"metadata/{read(world, 'metadata/timestamp.json').signed.snapshot_meta.version}.snapshot.json"
    )
    stable = meta.signed.meta["stable.json"].version
    content = (world.store / f"metadata/{stable}.stable.json").read_bytes()
    number = channel_version(world) + 1
    document = Metadata.from_bytes(content)
    document.signed.version = number
    content = signed(document, "stable")
    put(world, f"metadata/{number}.canary.json", content)
    pointed(
        world, lambda found: found.update({"canary.json": MetaFile.from_data(number, content, ["sha256"])})
    )


def timestamp_by_the_snapshot_key(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Wrong role: the key of the snapshot signs a pointer."""
    pointed(world, lambda meta: None, timestamp="snapshot")


def snapshot_by_the_timestamp_key(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Wrong role: the key of the timestamp signs a snapshot."""
    pointed(world, lambda meta: None, snapshot="timestamp")


def root_with_one_signature(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Threshold: one holder of three signs a root that trusts the attacker."""
    new_root(world, "root-1")


def root_with_one_signature_and_the_attackers(
    world: World, past: dict[str, bytes], other: dict[str, bytes]
) -> None:
    """Threshold: a second signature by a key that no root knows."""
    new_root(world, "root-1", "attacker")


def targets_with_one_signature(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Threshold: one holder delegates canary to the attacker; the online keys name it."""
    document = read(world, "metadata/1.targets.json")
    document.signed.version = 2
    document.signed.add_key(signer("attacker").public_key, "canary")
    content = signed(document, "root-1")
    put(world, "metadata/2.targets.json", content)
    pointed(world, lambda meta: meta.update({"targets.json": MetaFile.from_data(2, content, ["sha256"])}))


def targets_of_another_program(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Another program's targets, well signed by its own holders; the online keys name them."""
    content = other["metadata/1.targets.json"]
    put(world, "metadata/1.targets.json", content)
    pointed(world, lambda meta: meta.update({"targets.json": MetaFile.from_data(1, content, ["sha256"])}))


def store_of_another_program(world: World, past: dict[str, bytes], other: dict[str, bytes]) -> None:
    """A whole other repository at the address."""
    old_store(world, other, other)


Attack = Callable[[World, dict[str, bytes], dict[str, bytes]], None]
# What the sentence names; and what an installer sees that cannot know better, "" when it refuses as well.
ATTACKS: dict[Attack, tuple[str, str]] = {
    old_timestamp: ("timestamp", "1.0.0"),
    old_store: ("timestamp", "1.0.0"),
    old_snapshot_in_place: ("snapshot", ""),
    old_snapshot_by_the_timestamp_key: ("snapshot", "1.0.0"),
    old_channel_in_place: ("canary", ""),
    old_channel_by_the_online_keys: ("canary", "1.0.0"),
    without_the_channel: ("canary", ""),
    channel_by_another_channel: ("canary", ""),
    channel_by_the_snapshot_key: ("canary", ""),
    channel_of_another_channel: ("canary", ""),
    timestamp_by_the_snapshot_key: ("timestamp", ""),
    snapshot_by_the_timestamp_key: ("snapshot", ""),
    root_with_one_signature: ("2.root.json", ""),
    root_with_one_signature_and_the_attackers: ("2.root.json", ""),
    targets_with_one_signature: ("targets", ""),
    targets_of_another_program: ("targets", ""),
    store_of_another_program: ("timestamp", ""),
}


# A machine that has seen 1.1.0 does not ask again for what these have replaced: it is those that come to it anew who refuse.
IN_PLACE = (old_snapshot_in_place, old_channel_in_place)
# A newer pointer that the true key has signed is counted, whoever held the key: the true store has to come after it.
LEAKED = tuple(attack for attack in ATTACKS if attack not in (
    *IN_PLACE, old_timestamp, old_store, old_snapshot_by_the_timestamp_key, store_of_another_program, timestamp_by_the_snapshot_key,
    root_with_one_signature, root_with_one_signature_and_the_attackers,
))  # fmt: skip
NAMES = {"ids": lambda attack: attack.__name__}


@pytest.mark.parametrize("attack", [one for one in ATTACKS if one not in IN_PLACE], **NAMES)
def test_a_running_machine_keeps_what_it_has(
    world: World, machine: Client, published: Published, attack: Attack
) -> None:
    """It refuses, names what, serves 1.1.0 and does nothing about what is installed; so does its next process."""
    attack(world, published.before, published.other)
    for client in (machine, world.client(state="running")):
        status = client.refresh()
        assert status.problem is not None
        assert (status.problem.kind, status.version, status.fresh) == ("refused", "1.1.0", False)
        assert ATTACKS[attack][0] in status.problem.message
        assert status.problem.advice
        assert client.choose("executable", installed="1.1.0").action is Action.STAY


@pytest.mark.parametrize("attack", IN_PLACE, **NAMES)
def test_a_machine_that_was_away_refuses_what_was_replaced(
    world: World, published: Published, attack: Attack
) -> None:
    """It has seen 1.0.0 alone, and goes on serving that."""
    new = world.objects()
    old_store(world, published.before, published.other)
    machine = world.client(state="away")
    machine.strict_refresh()
    old_store(world, new, published.other)
    attack(world, published.before, published.other)
    status = machine.refresh()

    assert status.problem is not None
    assert (status.problem.kind, status.version) == ("refused", "1.0.0")
    assert ATTACKS[attack][0] in status.problem.message


@pytest.mark.parametrize("attack", [one for one in ATTACKS if one not in LEAKED], **NAMES)
def test_a_machine_recovers_when_the_store_is_mended(
    world: World, machine: Client, published: Published, attack: Attack
) -> None:
    """Nothing of the attack has settled in its state: the next refresh of the true store holds."""
    attack(world, published.before, published.other)
    machine.refresh()
    mend(world, published)

    assert machine.refresh().problem is None
    assert machine.channel().version == "1.1.0"


@pytest.mark.parametrize("attack", LEAKED, **NAMES)
def test_a_machine_recovers_from_leaked_online_keys(
    world: World, machine: Client, published: Published, attack: Attack
) -> None:
    """The true store is older than the forged pointer, and refused; new keys for both online roles end that."""
    attack(world, published.before, published.other)
    machine.refresh()
    mend(world, published)
    status = machine.refresh()
    assert status.version == "1.1.0"
    assert status.problem is not None

    rotate_online_keys(world)
    world.change(lambda _: None)
    status = machine.refresh()
    assert (status.problem, status.version) == (None, "1.1.0")
    assert status.roles["root"] == 2
    world.release("1.2.0")
    assert machine.refresh().version == "1.2.0"


def rotate_online_keys(world: World) -> None:
    """A ceremony, in a copy of the key folder that is this world's own."""
    shutil.copytree(world.keys.folder.path, world.root / "keys")
    folder = KeyFolder(world.root / "keys")
    signers = dict(world.keys.signers)
    with edit(folder, world.keys.settings(), world.clock(), [signer("root-1"), signer("root-2")]) as change:
        for role in ("snapshot", "timestamp"):
            write_key(world.root / f"{role}-2.pem", plain_pem(private_key(f"{role}-2")))
            signers[role] = f"file:{world.root / role}-2.pem"
            replace_keys(change.root, role, [signer(f"{role}-2").public_key])
    world.keys = dataclasses.replace(world.keys, folder=KeyFolder(folder.path), signers=signers)


def mend(world: World, published: Published) -> None:
    """The store as it was before the attack."""
    shutil.rmtree(world.store)
    shutil.copytree(published.world.store, world.store)


@pytest.mark.parametrize("attack", ATTACKS, **NAMES)
def test_an_installer(world: World, published: Published, attack: Attack) -> None:
    """It refuses what no key of the role has signed; of what was valid yesterday it gets all, and no mixture."""
    attack(world, published.before, published.other)
    word, seen = ATTACKS[attack]
    if seen:
        assert world.look() == seen
        return
    with pytest.raises(ClientError) as caught:
        world.client(state="fresh").strict_refresh()
    assert word in str(caught.value)
    assert caught.value.advice


@pytest.mark.parametrize("days", [7.1, 400.0])
def test_a_freeze_ends_with_the_timestamp(world: World, machine: Client, days: float) -> None:
    """Whoever keeps a machine from news is found out after seven days: nothing is installed, nothing that runs is touched."""
    later = world.clock().timestamp() + days * DAY
    with pytest.raises(ExpiredError, match="timestamp") as caught:
        world.client(state="fresh", clock=lambda: later).strict_refresh()
    assert caught.value.advice

    running = world.client(state="running", clock=lambda: later)
    status = running.refresh()
    assert status.problem is not None
    assert (status.problem.kind, status.version, status.expired) == ("expired", "1.1.0", True)
    assert "timestamp" in status.problem.message
    assert running.choose("executable", installed="1.0.0").action is Action.STAY
    with pytest.raises(ExpiredError):
        running.choose("executable")


def test_a_day_before_that_it_holds(world: World, machine: Client) -> None:
    """So that the test above is about the timestamp's end and about nothing else."""
    later = world.clock().timestamp() + 6.9 * DAY
    assert world.client(state="fresh", clock=lambda: later).strict_refresh().problem is None


def test_the_tools_forge_what_the_right_keys_may_sign(world: World, machine: Client) -> None:
    """The same documents with the keys of their roles are taken: it is the keys that the attacks above fail by."""
    forged_channel(world, "canary")
    assert machine.refresh().problem is None
    assert machine.channel().withdrawn == ("1.1.0",)

    new_root(world, "root-1", "root-3")
    pointed(world, lambda meta: None, snapshot="attacker", timestamp="attacker")
    assert machine.refresh().problem is None


def test_the_publisher_builds_on_nothing_of_this(world: World, published: Published) -> None:
    """What clients refuse is refused by the next release as well, before a byte of it is sent."""
    for attack in (channel_by_another_channel, timestamp_by_the_snapshot_key, store_of_another_program):
        mend(world, published)
        attack(world, published.before, published.other)
        before = world.objects()
        with pytest.raises(PreflightError) as caught:
            world.release("1.2.0")
        assert "cannot be trusted" in "\n".join(caught.value.details)
        assert world.objects() == before
