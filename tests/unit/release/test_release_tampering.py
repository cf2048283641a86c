"""Whoever changes one object of the store is found out: by a client, by an installer's pointer, or by `ferryman verify`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman_client import ClientError
from ferryman_release import cli
from ferryman_release.errors import VerifyError
from ferryman_release.signing.minisign import minisign_verify
from ferryman_release.site import parse_pointer
from support.releasing import World, make_world

REGIONS: dict[str, Callable[[bytes], bytes]] = {
    "first byte": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "a byte in the middle": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "last byte": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "one byte more": lambda data: data + b"\0",
    "cut in half": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "gone": lambda _: b"",
}  # fmt: skip
# What a client comes to on its way from the root to an artifact and to the files of a version.
CLIENT = r"metadata/(timestamp|\d+\.(targets|snapshot|canary))\.json|channels/.*\.json|.*/release\.json|.*/lantern-[^/]*(exe|zip|gz|amd64)"
KINDS = {
    "timestamp": r"metadata/timestamp\.json",
    "snapshot": r"metadata/2\.snapshot\.json",
    "targets": r"metadata/1\.targets\.json",
    "channel": r"metadata/2\.canary\.json",
    "history": r"channels/canary/.*\.json",
    "release.json": r"artifacts/lantern/1\.1\.0/release\.json",
    "executable": r"artifacts/lantern/1\.1\.0/lantern-1\.1\.0-linux-amd64",
    "archive": r"artifacts/lantern/1\.1\.0/lantern-1\.1\.0-windows-amd64\.zip",
}
BESIDE = {
    "sums": r"artifacts/lantern/1\.1\.0/SHA256SUMS",
    "signature": r"artifacts/lantern/1\.1\.0/SHA256SUMS\.minisig",
    "provenance": r"artifacts/lantern/1\.1\.0/lantern-1\.1\.0-linux-amd64\.intoto\.json",
    "manifest": r"artifacts/lantern/1\.1\.0/manifest\.json",
}


DEMANDED = {"sums": "signature", "signature": "signature", "provenance": "provenance",
            "release.json": "release"}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("published"))
    for version in ("1.0.0", "1.1.0"):
        world.release(version)
    return world


@pytest.fixture
def world(published: World, tmp_path: Path) -> World:
    """A copy of the published store, to be tampered with."""
    shutil.copytree(published.store, tmp_path / "out" / "repository")
    return World(root=tmp_path, keys=published.keys, clock=published.clock)


def tamper(world: World, pattern: str, region: str) -> Path:
    found = [key for key in world.objects() if re.fullmatch(pattern, key)]
    current = max(found, key=lambda key: (world.store / key).stat().st_mtime_ns)
    path = world.store / current
    path.chmod(0o644)
    if region == "gone":
        path.unlink()
    else:
        path.write_bytes(REGIONS[region](path.read_bytes()))
    return path


def install(world: World) -> None:
    """All that a new machine does."""
    client = world.client()
    client.strict_refresh()
    world.taken(client, world.root / "machine")


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_refuses(world: World, kind: str, region: str) -> None:
    """Each object on its way, each region of it; the sentence names the object or its role."""
    path = tamper(world, KINDS[kind], region)

    with pytest.raises(ClientError) as caught:
        install(world)
    text = f"{caught.value} {caught.value.advice}".lower()
    role = path.name.removesuffix(".json").split(".")[-1]
    assert any(word.lower() in text for word in (path.name, role, f"{role} metadata")), text


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("kind", [*BESIDE, "executable", "archive", "release.json"])
def test_verify_refuses(
    world: World, kind: str, region: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies beside the artifacts is covered by one signature: `ferryman verify` of the version's folder fails."""
    world.project("1.1.0")
    monkeypatch.chdir(world.root)
    if (kind, region) == ("manifest", "gone"):
        pytest.skip(
            "nothing of the version's folder depends on dist's manifest: release.json has what it said"
        )
    path = tamper(world, {**KINDS, **BESIDE}[kind], region)
    words = ["verify", str(path.parent), "--offline", "--plain"]
    if region == "gone" and kind in DEMANDED:  # what is not there cannot contradict: it has to be asked for
        words += ["--policy", DEMANDED[kind]]
    assert cli.main(words) == 23
    capsys.readouterr()


def test_verify_holds_when_nothing_was_changed(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command on the same folder before anybody touched it."""
    world.project("1.1.0")
    monkeypatch.chdir(world.root)
    code = cli.main(["verify", str(world.store / "artifacts/lantern/1.1.0"), "--offline", "--plain"])

    assert code == 0, capsys.readouterr().err
    assert world.look() == "1.1.0"


@pytest.mark.parametrize("region", [region for region in REGIONS if region != "gone"])
def test_the_pointer_of_installers_is_refused(world: World, region: str) -> None:
    """Its signature is over all of it."""
    path = tamper(world, r"channels/canary\.signed", region)
    key = world.keys.folder.minisign_public()

    if region == "first byte":  # of the untrusted comment, which nobody believes
        assert minisign_holds(path, key) is False or path.read_bytes()[:1] != b"u"
        return
    assert minisign_holds(path, key) is False


def minisign_holds(path: Path, key: object) -> bool:
    from ferryman_release.errors import MetadataError

    try:
        signed = parse_pointer(path.read_bytes())
        minisign_verify(signed.payload, signed.signature, key)  # type: ignore[arg-type]
    except (VerifyError, MetadataError):
        return False
    return True


@pytest.mark.parametrize(("one", "other"), [
    (r"artifacts/lantern/1\.1\.0/lantern-1\.1\.0-linux-amd64", r"artifacts/lantern/1\.0\.0/lantern-1\.0\.0-linux-amd64"),
    (r"metadata/2\.canary\.json", r"metadata/1\.canary\.json"),
    (r"metadata/2\.snapshot\.json", r"metadata/1\.snapshot\.json"),
    (r"artifacts/lantern/1\.1\.0/release\.json", r"artifacts/lantern/1\.0\.0/release\.json"),
])  # fmt: skip
def test_an_older_object_in_the_place_of_a_newer_one_is_refused(world: World, one: str, other: str) -> None:
    """Both were signed once: what was signed for another place or another time is not believed here."""
    new = next(key for key in world.objects() if re.fullmatch(one, key))
    old = next(key for key in world.objects() if re.fullmatch(other, key))
    (world.store / new).chmod(0o644)
    (world.store / new).write_bytes((world.store / old).read_bytes())

    with pytest.raises(ClientError):
        install(world)
