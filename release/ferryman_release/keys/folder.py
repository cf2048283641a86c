"""The folder of public keys that a project commits: what is trusted, and nothing secret.

    keys/metadata/N.root.json      who may sign for what; each version signed by the one before and by itself
    keys/metadata/N.targets.json   the channels and their keys
    keys/draft/...                 versions that have not yet enough signatures (ferryman_release.keys.ceremony)
    keys/minisign.pub              for people, and for installers that know no TUF
    keys/keys.json                 when each key came and went, and why

Release commands take root and targets from here and never from the store: who has the store has no say in who is trusted.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from securesystemslib.signer import Key, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Role, Root, Targets
from tuf.api.serialization import DeserializationError

from ferryman_build.artifacts import Struct
from ferryman_release.errors import KeyProblemError, MetadataError
from ferryman_release.keys.minisign import MinisignKey
from ferryman_release.keys.names import MINISIGN, PROVENANCE, ROOT, TARGETS

S = TypeVar("S", Root, Targets)
KEYS, MINISIGN_PUB = "keys.json", "minisign.pub"
_FILE = re.compile(r"([1-9]\d*)\.(root|targets)\.json")
_RESTORE = "Restore the folder from version control; `ferryman keys status` says when it is whole."


class KnownKey(Struct, frozen=True, kw_only=True):
    """One key that has ever been used; dates are days (ISO 8601).

    ``name`` is for people. ``public`` is hexadecimal for Ed25519, PEM for others. A key that is ``retired`` signs nothing
    new; one that is ``revoked`` counts for nothing, and ``reason`` says why.
    """

    id: str
    name: str
    roles: tuple[str, ...]
    keytype: str
    scheme: str
    public: str
    added: str
    retired: str = ""
    revoked: str = ""
    reason: str = ""

    def key(self) -> SSlibKey:
        """The same as securesystemslib has it."""
        return SSlibKey(self.id, self.keytype, self.scheme, {"public": self.public})


class KeysFile(Struct, frozen=True, kw_only=True):
    """keys.json."""

    format: int = 1
    keys: tuple[KnownKey, ...] = ()


class KeyFolder:
    """A key folder that exists. What has been read is kept: make another object after a change.

    Args:
        path: usually `keys` beside pyproject.toml.
        believe_revoked: read what revoked keys have signed; a person has looked at it.
    """

    def __init__(self, path: Path, *, believe_revoked: bool = False) -> None:
        self.path = path
        self.believe_revoked = believe_revoked

    @property
    def metadata(self) -> Path:
        """The folder of signed documents."""
        return self.path / "metadata"

    @property
    def drafts(self) -> Path:
        """The folder of documents that want signatures."""
        return self.path / "draft"

    def exists(self) -> bool:
        """Whether a ceremony has ended here."""
        return bool(self.versions(ROOT))

    def versions(self, role: str, *, draft: bool = False) -> dict[int, Path]:
        """The files of `root` or `targets` by version, oldest first: the valid ones, or the drafts."""
        folder = self.drafts if draft else self.metadata
        names = sorted(folder.iterdir()) if folder.is_dir() else []
        matches = ((path, _FILE.fullmatch(path.name)) for path in names)
        return dict(sorted((int(match[1]), path) for path, match in matches if match and match[2] == role))

    def roots(self) -> dict[int, bytes]:
        """Every root by its version, oldest first, as it was signed.

        Raises:
            KeyProblemError: there is none.
            MetadataError: a version between two others is missing.
        """
        found = {number: path.read_bytes() for number, path in self.versions(ROOT).items()}
        if not found:
            raise KeyProblemError(
                f"There are no keys in {self.path}.",
                advice="Make them with `ferryman keys init`, or commit the folder that has them.",
            )
        if missing := sorted(set(range(min(found), max(found))) - set(found)):
            raise MetadataError(f"{missing[0]}.root.json is missing in {self.metadata}.", advice=_RESTORE)
        return found

    def root(self) -> Metadata[Root]:
        """The latest root, each step of the chain to it verified; whether it has expired is not asked here.

        Raises:
            KeyProblemError: there is none.
            MetadataError: a root is broken, or is not signed as the one before it demands.
        """
        return self._root

    @cached_property
    def _root(self) -> Metadata[Root]:
        trusted: Metadata[Root] | None = None
        for number, data in self.roots().items():
            name = f"{number}.root.json"
            new: Metadata[Root] = parse(data, Root, name)
            verify(trusted or new, ROOT, new, name)
            verify(new, ROOT, new, name)
            if new.signed.version != number:
                raise MetadataError(f"{name} says that it is version {new.signed.version}.", advice=_RESTORE)
            trusted = new
        assert trusted is not None
        return trusted

    def targets(self) -> Metadata[Targets]:
        """The latest targets, verified by the latest root.

        Raises:
            KeyProblemError: there are none.
            MetadataError: they are broken, or not signed as the root demands.
        """
        return self._targets

    @cached_property
    def _targets(self) -> Metadata[Targets]:
        version, data = self.targets_bytes()
        name = f"{version}.targets.json"
        new: Metadata[Targets] = parse(data, Targets, name)
        verify(self.root(), TARGETS, new, name)
        if new.signed.version != version:
            raise MetadataError(f"{name} says that it is version {new.signed.version}.", advice=_RESTORE)
        return new

    def targets_bytes(self) -> tuple[int, bytes]:
        """(version, bytes) of the latest targets.

        Raises:
            KeyProblemError: there are none.
        """
        found = self.versions(TARGETS)
        if not found:
            raise KeyProblemError(
                f"There is no targets.json in {self.metadata}.",
                advice="Finish the ceremony: `ferryman keys status` says who has still to sign.",
            )
        version = max(found)
        return version, found[version].read_bytes()

    def all_roots(self, *, revoked: bool | None = None) -> list[Root]:
        """What every root says, newest first: to read what was signed before a rotation.

        Keys that were revoked count for nothing in any of them, unless ``revoked`` (by default :attr:`believe_revoked`).
        """
        self.root()
        found = [parse(data, Root, f"{number}.root.json").signed for number, data in self.roots().items()]
        return [self._without_revoked(root, root.roles, revoked) for root in reversed(found)]

    def all_targets(self, *, revoked: bool | None = None) -> list[Targets]:
        """The same of every targets document that some root's keys have signed."""
        self.targets()
        roots = self.all_roots(revoked=revoked)
        found = [parse(path.read_bytes(), Targets, path.name) for path in self.versions(TARGETS).values()]
        believed = [one.signed for one in reversed(found) if any(_verifies(root, one) for root in roots)]
        return [
            self._without_revoked(one, (one.delegations and one.delegations.roles) or {}, revoked)
            for one in believed
        ]

    def channels(self) -> tuple[str, ...]:
        """The channels that have keys, in the order of the delegations."""
        delegations = self.targets().signed.delegations
        return tuple((delegations and delegations.roles) or ())

    def minisign_public(self) -> MinisignKey:
        """The key of minisign.pub.

        Raises:
            KeyProblemError: it is not there, no such key, or one that was revoked.
        """
        key = self._minisign_file()
        for one in self.known().keys:
            if one.revoked and one.public == key.public.hex():
                raise KeyProblemError(
                    f"minisign.pub in {self.path} is a key that was revoked on {one.revoked}: {one.reason}.",
                    advice="Finish what was begun with `ferryman keys sign`, or restore the folder from version control.",
                )
        return key

    def minisign_keys(self) -> tuple[MinisignKey, ...]:
        """The key of minisign.pub, and every earlier one that nobody has revoked: for releases old and new.

        Raises:
            KeyProblemError: as :meth:`minisign_public`.
        """
        earlier = (
            MinisignKey.of(bytes.fromhex(one.public))
            for one in self.known().keys
            if MINISIGN in one.roles and not one.revoked and one.keytype == "ed25519"
        )
        return tuple(dict.fromkeys((self.minisign_public(), *earlier)))

    def _minisign_file(self) -> MinisignKey:
        try:
            return MinisignKey.parse((self.path / MINISIGN_PUB).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise KeyProblemError(
                f"There is no minisign.pub in {self.path}.",
                advice="Restore it from version control, or make a key with `ferryman keys rotate minisign`.",
            ) from error

    def keys(self, role: str) -> tuple[Key, ...]:
        """The keys that sign for ``role``: one of the metadata, a channel, `minisign` or `provenance`.

        Raises:
            KeyProblemError: there is no such role here.
        """
        if role == MINISIGN:
            return (ed25519(self.minisign_public().public),)
        if role == PROVENANCE:
            return tuple(
                one.key() for one in self.known().keys if one.roles == (PROVENANCE,) and not one.retired
            )
        if role in self.root().signed.roles:
            return _keys_of(self.root().signed, role)
        if role in self.channels():
            return _keys_of(self.targets().signed, role)
        raise KeyProblemError(
            f"{role} is no role of the key folder.",
            advice="If it is a new channel: add it to the settings and run `ferryman keys channels`.",
        )

    def provenance_keys(self) -> tuple[Key, ...]:
        """Every key that provenance was ever signed with and that nobody has revoked: for releases old and new."""
        return tuple(one.key() for one in self.known().keys if PROVENANCE in one.roles and not one.revoked)

    def _without_revoked(self, signed: S, roles: Mapping[str, Role], believe: bool | None) -> S:
        """``signed``, whose ``roles`` lose the keys that were revoked."""
        believed = self.believe_revoked if believe is None else believe
        gone = set() if believed else {one.id for one in self.known().keys if one.revoked}
        for role in roles.values():
            role.keyids = [keyid for keyid in role.keyids if keyid not in gone]
        return signed

    def known(self) -> KeysFile:
        """keys.json; an empty one when it is not there.

        Raises:
            MetadataError: it is broken.
        """
        path = self.path / KEYS
        try:
            return msgspec.json.decode(path.read_bytes(), type=KeysFile)
        except FileNotFoundError:
            return KeysFile()
        except msgspec.DecodeError as error:
            raise MetadataError(f"{path} is broken: {error}.", advice=_RESTORE) from error

    def store_known(self, known: KeysFile) -> None:
        """Write keys.json."""
        write(self.path / KEYS, msgspec.json.format(msgspec.json.encode(known), indent=2) + b"\n")

    def store_minisign(self, key: MinisignKey) -> None:
        """Write minisign.pub."""
        write(self.path / MINISIGN_PUB, key.text().encode())


# --- documents ----------------------------------------------------------------------------------------------------------


def ed25519(public: bytes) -> SSlibKey:
    """An Ed25519 key of 32 bytes as metadata has it, with the id that follows from it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public))


def parse(data: bytes, kind: type[Any], name: str) -> Metadata[Any]:
    """A document of type ``kind``.

    Raises:
        MetadataError: it is broken, or another kind of document.
    """
    try:
        found: Metadata[Any] = Metadata.from_bytes(data)
    except DeserializationError as error:
        raise MetadataError(
            f"{name} is no TUF metadata: {error.__cause__ or error}.", advice=_RESTORE
        ) from error
    if not isinstance(found.signed, kind):
        raise MetadataError(f"{name} holds {found.signed.type} and not {kind.type}.", advice=_RESTORE)
    return found


def verify(trusted: Metadata[Any], role: str, new: Metadata[Any], name: str) -> None:
    """``new`` is signed as ``trusted`` demands of ``role``.

    Raises:
        MetadataError: by too few, or by others.
    """
    try:
        trusted.signed.verify_delegate(role, new.signed_bytes, new.signatures)
    except (RepositoryError, ValueError) as error:
        raise MetadataError(f"{name} is not signed as it must be: {error}.", advice=_RESTORE) from error


def _verifies(root: Root, targets: Metadata[Targets]) -> bool:
    try:
        root.verify_delegate(TARGETS, targets.signed_bytes, targets.signatures)
    except (RepositoryError, ValueError):
        return False
    return True


def _keys_of(signed: Root | Targets, role: str) -> tuple[Key, ...]:
    return tuple(signed.get_key(keyid) for keyid in signed.get_delegated_role(role).keyids)


def write(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of ``path``: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if os.name != "nt":
                os.fchmod(file.fileno(), 0o644)
        os.replace(name, path)  # noqa: PTH105 - both are names in one folder
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
