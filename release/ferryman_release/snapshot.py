"""`--snapshot`: a release that goes nowhere. A folder in out/ is the store, and keys made for it are believed by nobody else.

    out/snapshot/repository/   what would be published, readable by a client
    out/snapshot/keys/         its root and its keys, without a passphrase

Everything else is as in a real release: the same steps, the same documents, the same client that walks them.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from ferryman_build.errors import FerrymanError
from ferryman_build.project import Project
from ferryman_build.settings import ReleaseSettings
from ferryman_release.keys.documents import new_root, new_targets
from ferryman_release.keys.folder import KeyFolder, KeysFile, KnownKey
from ferryman_release.keys.minisign import MinisignKey
from ferryman_release.keys.names import BESIDE, OFFLINE, ONLINE
from ferryman_release.place import Now, Place, open_place, utc_now
from ferryman_release.signing.keyfile import plain_pem, write_key
from ferryman_release.signing.secrets import Secrets

_HOLDERS = ("root-1", "root-2", "root-3")
_DAYS = 60  # beyond the first alarm


def snapshot_place(project: Project, out: Path, *, now: Now = utc_now) -> Place:
    """The place in ``out``; keys are made at the first time, and again when they are too old or of other channels."""
    folder = out / "snapshot"
    settings = _settings(project.settings.release, folder)
    keys = KeyFolder(folder / "keys")
    if not _usable(keys, folder / "private", settings, now):
        shutil.rmtree(folder / "keys", ignore_errors=True)
        shutil.rmtree(folder / "private", ignore_errors=True)
        shutil.rmtree(folder / "repository", ignore_errors=True)  # signed by keys that are gone
        _make(keys, folder / "private", settings, now)
    return open_place(project, settings, environ={}, secrets=Secrets({}), keys=keys.path, now=now)


def _settings(settings: ReleaseSettings, folder: Path) -> ReleaseSettings:
    roles = (*ONLINE, *BESIDE, *settings.channels)
    return msgspec.structs.replace(
        settings, url=(folder / "repository").as_uri(), public_url="", endpoint="", github="",
        signers={role: f"file:{folder / 'private' / role}.pem" for role in roles},
    )  # fmt: skip


def _usable(keys: KeyFolder, private: Path, settings: ReleaseSettings, now: Now) -> bool:
    """Whether all of it is there, young enough, and for these channels; a run that was ended has left a part."""
    try:
        fresh = keys.root().signed.expires - now() > timedelta(days=1)
        keys.minisign_public()
        held = all((private / f"{role}.pem").is_file() for role in (*ONLINE, *BESIDE, *settings.channels))
        return fresh and held and bool(keys.provenance_keys()) and keys.channels() == settings.channels
    except FerrymanError:
        return False


def _make(keys: KeyFolder, private: Path, settings: ReleaseSettings, now: Now) -> None:
    names = (*_HOLDERS, *ONLINE, *BESIDE, *settings.channels)
    made = {name: Ed25519PrivateKey.generate() for name in names}
    for name, key in made.items():
        write_key(private / f"{name}.pem", plain_pem(key))
    signers = {name: CryptoSigner(key) for name, key in made.items()}
    public = {name: signer.public_key for name, signer in signers.items()}
    expires = now().replace(microsecond=0) + timedelta(days=_DAYS)
    holders = [public[name] for name in _HOLDERS]
    root = new_root(holders, public, expires=expires)
    targets = new_targets({name: public[name] for name in settings.channels}, expires=expires)
    keys.metadata.mkdir(parents=True)
    for role, signed in (("root", root), ("targets", targets)):
        (keys.metadata / f"1.{role}.json").write_bytes(
            _signed(signed, [signers[name] for name in _HOLDERS[:2]])
        )
    keys.store_minisign(MinisignKey.of(bytes.fromhex(public["minisign"].keyval["public"])))
    keys.store_known(KeysFile(keys=tuple(_known(name, key, now) for name, key in public.items())))


def _signed(signed: Root | Targets, signers: list[CryptoSigner]) -> bytes:
    document: Metadata[Any] = Metadata(signed)
    for signer in signers:
        document.sign(signer, append=True)
    return document.to_bytes()


def _known(name: str, key: SSlibKey, now: Now) -> KnownKey:
    return KnownKey(
        id=key.keyid, name=name, roles=OFFLINE if name in _HOLDERS else (name,), keytype=key.keytype,
        scheme=key.scheme, public=key.keyval["public"], added=now().date().isoformat(),
    )  # fmt: skip
