"""A key folder as a finished ceremony leaves it, in milliseconds: keys from fixed seeds, no passphrase, no scrypt.

The private keys are real Ed25519 keys that everybody can compute: for tests alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata

from ferryman_build.settings import ReleaseSettings
from ferryman_release.keys.documents import new_root, new_targets
from ferryman_release.keys.folder import KeyFolder, KeysFile, KnownKey
from ferryman_release.signing import MinisignKey, Secrets
from ferryman_release.signing.keyfile import plain_pem, write_key

CHANNELS = ("canary", "beta", "stable")
OFFLINE = ("root-1", "root-2", "root-3")
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
Clock = Callable[[], datetime]


def private_key(name: str) -> Ed25519PrivateKey:
    """The same key for the same name, always."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"ferryman test key {name}".encode()).digest())


def signer(name: str) -> CryptoSigner:
    return CryptoSigner(private_key(name))


@dataclass(frozen=True)
class TestKeys:
    """``private`` holds a file NAME.pem for each key; ``signers`` maps online roles to `file:` URIs of them."""

    __test__ = False

    folder: KeyFolder
    private: Path
    channels: tuple[str, ...]
    signers: Mapping[str, str]
    secrets: Secrets = field(default_factory=lambda: Secrets({}))

    def settings(self, **changes: Any) -> ReleaseSettings:
        """`[tool.ferryman.release]` with these keys."""
        given = {"keys": str(self.folder.path), "signers": dict(self.signers), "channels": self.channels}
        return ReleaseSettings(**{**given, **changes})

    def environ(self) -> dict[str, str]:
        """The online keys as variables: TEST_KEY_<ROLE>, for `env:` URIs."""
        return {_variable(role): plain_pem(private_key(role)).decode() for role in self.signers}

    def env_signers(self) -> dict[str, str]:
        """The same roles as ``signers``, as `env:` URIs."""
        return {role: f"env:{_variable(role)}" for role in self.signers}

    def offline(self) -> list[CryptoSigner]:
        """What signs root and targets; two of the three are enough."""
        return [signer(name) for name in OFFLINE]


def _variable(role: str) -> str:
    return f"TEST_KEY_{role.upper().replace('-', '_')}"


def signed(document: Any, signers: Sequence[Signer]) -> bytes:
    """The bytes of a document that all of ``signers`` have signed."""
    metadata = Metadata(document)
    for one in signers:
        metadata.sign(one, append=True)
    return metadata.to_bytes()


def make_keys(
    folder: Path,
    *,
    channels: Sequence[str] = CHANNELS,
    clock: Clock = lambda: NOW,
    days: int = 365,
    private: Path | None = None,
) -> TestKeys:
    """Fill ``folder`` (keys/) and ``private`` (by default `private` beside it); root and targets hold for ``days``."""
    online = ("snapshot", "timestamp", *channels, "minisign", "provenance")
    place = private or folder.parent / "private"
    for name in (*OFFLINE, *online):
        write_key(place / f"{name}.pem", plain_pem(private_key(name)))
    public = {name: signer(name).public_key for name in (*OFFLINE, *online)}
    expires = clock().replace(microsecond=0) + timedelta(days=days)
    holders = [signer(name) for name in OFFLINE[:2]]
    root = new_root([public[name] for name in OFFLINE], public, expires=expires)
    targets = new_targets({name: public[name] for name in channels}, expires=expires)
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "1.root.json").write_bytes(signed(root, holders))
    (folder / "metadata" / "1.targets.json").write_bytes(signed(targets, holders))
    keys = KeyFolder(folder)
    keys.store_minisign(MinisignKey.of(bytes.fromhex(public["minisign"].keyval["public"])))
    keys.store_known(KeysFile(keys=tuple(_known(name, key, clock()) for name, key in public.items())))
    uris = {name: f"file:{place / name}.pem" for name in online}
    return TestKeys(folder=keys, private=place, channels=tuple(channels), signers=uris)


def _known(name: str, key: Any, now: datetime) -> KnownKey:
    roles = ("root", "targets") if name in OFFLINE else (name,)
    return KnownKey(
        id=key.keyid, name=name, roles=roles, keytype=key.keytype, scheme=key.scheme,
        public=key.keyval["public"], added=now.date().isoformat(),
    )  # fmt: skip
