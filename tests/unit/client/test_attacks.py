"""What a client refuses, each attack once with the package `cryptography` and once without it.

The attacker has the repository, or a place on the way to it, and the keys that the test hands out. The client has
trusted 1.0.0 before; after the attack it must still serve that, and say what happened.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import TargetFile

from support.client_worker import perform, without_cryptography
from support.tuf_simulator import Simulator
from support.web import Handler, serving

Perform = Callable[[Mapping[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def blind() -> Iterator[Perform]:
    """A client process without `cryptography`."""
    with without_cryptography() as ask:
        yield ask


@dataclass
class World:
    """A repository, a machine that has trusted 1.0.0 of it, and the client of that machine."""

    sim: Simulator
    folder: Path
    state: Path
    perform: Perform
    url: str = ""

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """What a newly started client says about the repository as it is now."""
        url = self.sim.write(self.folder / "repository")
        root = self.folder / "root.json"
        root.write_bytes(self.first_root)
        return self.perform(
            {"do": do, "url": self.url or url, "state": str(self.state), "root": str(root), **more}
        )

    @property
    def first_root(self) -> bytes:
        return self.sim.root_bytes

    def refused(self, word: str, *, version: str = "1.0.0", kind: str = "refused") -> None:
        """The client names the problem and goes on serving ``version``; whoever insists gets an error."""
        said = self.ask("refresh")
        assert (said["problem"], said["fresh"], said["version"]) == (kind, False, version)
        assert word in said["message"]
        insisted = self.ask("strict")
        assert insisted["error"] == {"refused": "MetadataError", "expired": "ExpiredError"}[kind]
        assert insisted["code"] == 25
        assert self.ask("install", into=str(self.folder / "new"))["code"] == 25
        assert not (self.folder / "new").exists()


@pytest.fixture(params=["with cryptography", "without cryptography"])
def world(request: pytest.FixtureRequest, tmp_path: Path, blind: Perform) -> World:
    sim = Simulator()
    sim.release("1.0.0")
    sim.promote("stable", "1.0.0")
    sim.promote("beta", "1.0.0")
    made = World(
        sim, tmp_path, tmp_path / "state", perform if request.param == "with cryptography" else blind
    )
    said = made.ask("refresh")
    assert (said["version"], said["fresh"], said["problem"]) == ("1.0.0", True, "")
    return made


def test_process_without_cryptography_has_none(blind: Perform, tmp_path: Path) -> None:
    """The process of these tests has `cryptography`, and the other one cannot import it."""
    command = {"do": "has-cryptography", "url": "file:///", "state": str(tmp_path)}

    assert perform(command)["cryptography"]
    assert blind(command)["cryptography"] == ""


def test_new_release_is_taken(world: World) -> None:
    """Without an attack the next release arrives: what the others refuse is the attack."""
    world.sim.release("1.1.0")
    world.sim.promote("stable", "1.1.0")

    assert world.ask("refresh")["version"] == "1.1.0"
    assert world.ask("install", into=str(world.folder / "new"))["version"] == "1.1.0"


# --- old metadata -----------------------------------------------------------------------------------------------------


def advance(world: World, version: str = "1.1.0") -> None:
    """A new release that the client has seen."""
    world.sim.release(version)
    world.sim.promote("stable", version)
    assert world.ask("refresh")["version"] == version


def test_rollback_of_everything(world: World) -> None:
    """Yesterday's repository, whole and well signed, is refused."""
    old = world.sim.save()
    advance(world)
    world.sim.restore(old)

    world.refused("version", version="1.1.0")


def test_rollback_of_the_timestamp(world: World) -> None:
    """An old timestamp is refused although everything that it points to is still there."""
    old = world.sim.objects["metadata/timestamp.json"]
    advance(world)
    world.sim.objects["metadata/timestamp.json"] = old

    world.refused("timestamp version", version="1.1.0")


def test_rollback_of_the_timestamp_after_the_cache_was_lost(world: World) -> None:
    """The trusted state remembers the versions too, so that a broken cache opens no way back."""
    old = world.sim.save()
    advance(world)
    world.sim.restore(old)
    for name in ("timestamp", "snapshot", "stable"):
        (world.state / "metadata" / f"{name}.json").write_bytes(b"{half")
    said = world.ask("refresh")

    assert (said["problem"], said["version"]) == ("refused", "1.1.0")
    assert "older than what this machine has seen" in said["message"]


def test_rollback_of_the_snapshot(world: World) -> None:
    """A newer timestamp that points to an older snapshot, as whoever has the online key can make, is refused."""
    advance(world)
    world.sim.snapshot.version -= 1
    world.sim.publish_timestamp()

    world.refused("snapshot", version="1.1.0")


def test_rollback_of_a_channel(world: World) -> None:
    """A newer snapshot that names an older channel document is refused: the online keys cannot take a release back."""
    advance(world)
    world.sim.channels["stable"].version -= 1
    world.sim.publish_snapshot()

    world.refused("stable.json", version="1.1.0")


def test_channel_that_disappears_from_the_snapshot(world: World) -> None:
    """A snapshot without the channel is refused; it is no way to say that there is nothing."""
    gone = world.sim.channels.pop("stable")
    world.sim.publish_snapshot()
    world.sim.channels["stable"] = gone

    world.refused("stable.json")


def test_freeze(world: World) -> None:
    """A repository that is held still serves until its timestamp expires, and is refused from then on."""
    world.sim.now -= timedelta(days=8)
    world.sim.publish_timestamp()

    world.refused("timestamp metadata has expired", kind="expired")


@pytest.mark.parametrize("role", ["snapshot", "targets", "stable", "root"])
def test_expired_role(world: World, role: str) -> None:
    """Any role that has expired is as good as none."""
    world.sim.lifetimes[role] = -1
    world.sim.publish_root()
    world.sim.publish()

    world.refused(f"{role} metadata has expired", kind="expired")


def test_mix_and_match(world: World) -> None:
    """Files of two releases, each well signed, are not a repository: the snapshot says which belong together."""
    advance(world)
    other = copy.deepcopy(world.sim.channels["stable"])
    world.sim.release("1.2.0")
    world.sim.promote("stable", "1.2.0")
    world.sim.store("stable", other, world.sim.signers["stable"])
    latest = world.sim.channels["stable"].version
    world.sim.objects[f"metadata/{latest}.stable.json"] = world.sim.objects[
        f"metadata/{other.version}.stable.json"
    ]

    world.refused("stable", version="1.1.0")


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thief", ["timestamp", "snapshot", "beta"])
def test_channel_signed_by_another_role(world: World, thief: str) -> None:
    """A channel counts only what its own key has signed."""
    world.sim.release("6.6.6")
    world.sim.signers["stable"] = world.sim.signers[thief]
    world.sim.promote("stable", "6.6.6")

    world.refused("stable was signed by 0/1 keys")


def test_timestamp_signed_by_a_channel(world: World) -> None:
    """A channel's key moves no pointer."""
    world.sim.signers["timestamp"] = world.sim.signers["stable"]
    world.sim.publish_timestamp()

    world.refused("timestamp was signed by 0/1 keys")


@pytest.mark.parametrize("role", ["targets", "root"])
def test_too_few_signatures(world: World, role: str) -> None:
    """One of the offline keys alone delegates nothing and changes no root."""
    signed = getattr(world.sim, role)
    signed.version += 1
    world.sim.store(role, signed, world.sim.signers[role][:1])
    if role == "targets":
        world.sim.publish_snapshot()

    world.refused(f"{role} was signed by 1/2 keys")


def test_one_signature_twice(world: World) -> None:
    """The same key twice is one key."""
    world.sim.targets.version += 1
    world.sim.store("targets", world.sim.targets, world.sim.signers["targets"][:1])
    path = f"metadata/{world.sim.targets.version}.targets.json"
    data = json.loads(world.sim.objects[path])
    data["signatures"] *= 2
    world.sim.objects[path] = json.dumps(data).encode()
    world.sim.publish_snapshot()
    said = world.ask("strict")

    assert said["code"] == 25


def ecdsa() -> CryptoSigner:
    return CryptoSigner.generate_ecdsa()


def rsa_key() -> CryptoSigner:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))


@pytest.mark.parametrize("make", [ecdsa, rsa_key])
def test_only_ed25519_counts(world: World, make: Callable[[], CryptoSigner]) -> None:
    """A good signature by an ECDSA or RSA key of the role counts for nothing, whichever libraries a client has."""
    world.sim.signers["timestamp"] = [world.sim.add_signer("timestamp", make())]
    world.sim.publish_root()
    world.sim.publish_timestamp()

    world.refused("timestamp was signed by 0/1 keys")


def test_ecdsa_fills_no_threshold(world: World) -> None:
    """Of a threshold of two one Ed25519 and one ECDSA signature are one."""
    world.sim.signers["stable"].append(world.sim.add_signer("stable", ecdsa()))
    world.sim.targets.delegations.roles["stable"].threshold = 2
    world.sim.publish()

    world.refused("stable was signed by 1/2 keys")


# --- roots ------------------------------------------------------------------------------------------------------------


def test_altered_root(world: World) -> None:
    """A root with one changed letter is refused."""
    world.sim.publish_root()
    path = f"metadata/{world.sim.root.version}.root.json"
    assert b"true" in world.sim.objects[path]
    world.sim.objects[path] = world.sim.objects[path].replace(b"true", b"false")

    world.refused("root was signed by 0/2 keys")


def test_root_of_somebody_else(world: World) -> None:
    """A complete repository with keys of its own is refused at its root."""
    other = Simulator()
    other.release("6.6.6")
    other.promote("stable", "6.6.6")
    other.publish_root()
    world.sim.objects |= {
        path: data for path, data in other.objects.items() if not path.endswith("1.root.json")
    }

    world.refused("root was signed by 0/2 keys")


def test_missing_root_in_the_chain(world: World) -> None:
    """With a link of the chain missing, what newer keys have signed is refused."""
    world.sim.replace_signers("timestamp")
    world.sim.publish_root()
    world.sim.publish_root()
    world.sim.publish_timestamp()
    del world.sim.objects["metadata/2.root.json"]

    world.refused("timestamp was signed by 0/1 keys")


def test_root_that_skips_a_version(world: World) -> None:
    """A root under the number of another is refused."""
    world.sim.publish_root()
    world.sim.publish_root()
    world.sim.objects["metadata/2.root.json"] = world.sim.objects["metadata/3.root.json"]

    world.refused("root version 2")


def test_root_keys_rotate(world: World) -> None:
    """A chain of roots, each signed by the last one's keys and its own, leads to new keys; old ones lose their power."""
    old = world.sim.signers["root"][0]
    world.sim.root.revoke_key(old.public_key.keyid, "root")
    world.sim.signers["root"] = world.sim.signers["root"][1:]
    world.sim.add_signer("root")
    world.sim.publish_root()
    world.sim.release("1.1.0")
    world.sim.promote("stable", "1.1.0")
    assert world.ask("refresh")["version"] == "1.1.0"

    world.sim.root.version += 1
    world.sim.store("root", world.sim.root, [old, world.sim.signers["root"][0]])
    world.refused("root was signed by 1/2 keys", version="1.1.0")


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_fast_forward_is_recovered_from(world: World, role: str) -> None:
    """Versions that a thief has driven up are forgotten with the key that signed them: a new root begins them anew."""
    signed = getattr(world.sim, role)
    before = signed.version
    signed.version = 10_000
    world.sim.publish_snapshot()
    assert world.ask("refresh")["roles"][role] > 10_000

    signed.version = before
    for stolen in ("timestamp", "snapshot"):
        world.sim.replace_signers(stolen)
    world.sim.timestamp.version = before
    world.sim.publish_root()
    world.sim.release("1.1.0")
    world.sim.promote("stable", "1.1.0")
    said = world.ask("refresh")

    assert (said["version"], said["problem"]) == ("1.1.0", "")
    assert said["roles"][role] < 10_000


# --- channels ---------------------------------------------------------------------------------------------------------


def smuggle(world: World, into: str) -> None:
    """Offers of `stable` in the document of another channel, signed with that channel's key."""
    world.sim.release("6.6.6")
    world.sim.promote("stable", "6.6.6", publish=False)
    stolen = world.sim.channels["stable"].targets
    world.sim.channels[into].targets = {**world.sim.channels[into].targets, **stolen}
    world.sim.channels["stable"].targets = {}
    world.sim.history["stable"] = []
    world.sim.promote("stable", "1.0.0")
    world.sim.publish()


def test_channel_signs_for_another(world: World) -> None:
    """What beta's key signs under `stable/` does not exist, for clients of stable and for those of beta."""
    smuggle(world, "beta")

    assert world.ask("refresh")["version"] == "1.0.0"
    assert world.ask("refresh", channel="beta")["version"] == "1.0.0"


def test_channel_speaks_of_another(world: World) -> None:
    """The data of one channel under the name of another is refused: a promotion is signed anew."""
    data = world.sim.channels["beta"].targets["beta/channel"].to_dict()
    data["custom"]["version"] = "6.6.6"
    world.sim.channels["stable"].targets["stable/channel"] = TargetFile.from_dict(data, "stable/channel")
    world.sim.publish()

    world.refused("speaks of the channel beta")


def test_offer_for_another_target(world: World) -> None:
    """The offer of another platform under this one's path is refused."""
    targets = world.sim.channels["stable"].targets
    data = targets["stable/windows-amd64/executable"].to_dict()
    targets["stable/linux-amd64/executable"] = TargetFile.from_dict(data, "stable/linux-amd64/executable")
    world.sim.publish()

    world.refused("windows-amd64")


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "a//b", "a\\b", "http://evil.example/x", "a/..", "C:x"]
)
def test_path_that_leaves_the_repository(world: World, path: str) -> None:
    """An offer whose path leaves its folder is refused before anything is asked for, also when it is well signed."""
    world.sim.channels["stable"].targets["stable/linux-amd64/executable"].unrecognized_fields["custom"][
        "path"
    ] = path
    world.sim.publish()

    world.refused("leaves its folder")


# --- bytes ------------------------------------------------------------------------------------------------------------

ARTIFACT = "artifacts/lantern/1.0.0/lantern-1.0.0-linux-amd64"


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (lambda data: data + b"!", "longer than"),
        (lambda data: data[:-1], "ended after"),
        (lambda data: b"!" + data[1:], "not what is signed"),
        (lambda data: data[:-1] + b"!", "not what is signed"),
        (lambda data: data[:500] + b"!" + data[501:], "not what is signed"),
        (lambda data: b"", "ended after"),
    ],
    ids=["longer", "shorter", "first byte", "last byte", "middle", "empty"],
)
def test_forged_artifact(world: World, forge: Callable[[bytes], bytes], words: str) -> None:
    """An artifact that is longer, shorter or altered anywhere does not arrive."""
    world.sim.objects[ARTIFACT] = forge(world.sim.objects[ARTIFACT])
    said = world.ask("install", into=str(world.folder / "new"))

    assert words in said["message"]
    assert said["error"] == ("UnreachableError" if words == "ended after" else "VerifyError")
    assert [path.name for path in (world.folder / "new").glob("[!.]*")] == []


def test_forged_history(world: World) -> None:
    """A history that is not the signed one leads nowhere."""
    path = next(path for path in world.sim.objects if path.startswith("channels/stable/"))
    world.sim.objects[path] = world.sim.objects[path].replace(b"1.0.0", b"1.0.1")
    said = world.ask("release", version="1.0.0")

    assert said["error"] == "VerifyError"
    assert path in said["message"]


def test_forged_release(world: World) -> None:
    """A release.json that is not the one of the history is refused, and named."""
    path = "artifacts/lantern/1.0.0/release.json"
    world.sim.objects[path] += b" "
    said = world.ask("release", version="1.0.0")

    assert said["error"] == "VerifyError"
    assert path in said["message"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b'{"signed": {}}', b"[" * 10_000])
def test_metadata_that_is_none(world: World, data: bytes) -> None:
    """Whatever bytes come in a timestamp's place, the client says so and serves what it had."""
    world.sim.objects["metadata/timestamp.json"] = data

    world.refused("")


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json"])
def test_endless_metadata(world: World, name: str) -> None:
    """Metadata that never ends is cut off at its limit."""

    def behave(request: Handler) -> bool:
        return request.path.endswith(name) and request.endless()

    with serving(world.folder / "repository") as web:
        web.behave, world.url = behave, web.url
        world.refused("longer than it may be")


def test_endless_artifact(world: World) -> None:
    """An artifact that never ends is cut off at its signed length, and what came is deleted."""
    with serving(world.folder / "repository") as web:
        web.behave = lambda request: request.path.endswith("linux-amd64") and request.endless()
        world.url = web.url
        said = world.ask("install", into=str(world.folder / "new"))

    assert (said["error"], said["code"]) == ("VerifyError", 23)
    assert not any(path.stat().st_size for path in (world.folder / "new").iterdir())


@pytest.mark.parametrize(
    "place", ["file:///etc/hostname", "ftp://example.invalid/x", "gopher://example.invalid/"]
)
def test_redirect_out_of_the_web(world: World, place: str) -> None:
    """A redirect to another kind of place is not followed; the old state is served."""

    def behave(request: Handler) -> bool:
        request.answer(302, b"", {"Location": place})
        return True

    with serving(world.folder / "repository") as web:
        web.behave, world.url = behave, web.url
        said = world.ask("refresh")

    assert (said["problem"], said["version"]) == ("unreachable", "1.0.0")
    assert f"redirects to {place}" in said["message"]


def test_redirect_in_a_circle(world: World) -> None:
    """Redirects come to an end."""
    with serving(world.folder / "repository") as web:

        def behave(request: Handler) -> bool:
            request.answer(301, b"", {"Location": request.path})
            return True

        web.behave, world.url = behave, web.url
        said = world.ask("refresh")

        assert "redirects more than 5 times" in said["message"]
        assert len(web.seen) == 6
