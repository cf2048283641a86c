"""Where a ceremony takes keys from: new ones that it makes, those behind a URI, and public ones that people bring."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from ferryman_build.errors import UsageError
from ferryman_release.errors import KeyProblemError
from ferryman_release.keys.ceremony import Named
from ferryman_release.keys.names import ROOT
from ferryman_release.signing.keyfile import encrypted_pem, write_key
from ferryman_release.signing.roles import require_counted
from ferryman_release.signing.schemes import Opening, key_path, open_uri
from ferryman_release.signing.secrets import Secrets

ONLINE_KEYS = "the online keys"  # one passphrase is asked for all that are made in one run


class Made(NamedTuple):
    """A private key that was just made, where it is, and its public half as :func:`read_public` reads it."""

    path: Path
    signer: CryptoSigner
    public: bytes


class Sources(NamedTuple):
    """What opens and makes keys; relative paths begin at ``root``."""

    secrets: Secrets
    root: Path

    def make(self, path: Path, role: str, what: str = ONLINE_KEYS) -> Made:
        """An Ed25519 key in an encrypted file.

        Raises:
            KeyProblemError: the file is there already, or there is no passphrase for it.
        """
        if path.exists():
            raise KeyProblemError(
                f"There is a key in {path} already, and no key is ever overwritten.",
                advice="Name another file, or move the old key away.",
            )
        key = Ed25519PrivateKey.generate()
        write_key(path, encrypted_pem(key, self.secrets.new_passphrase(role, what)))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return Made(path, CryptoSigner(key), public)

    def provide(self, uri: str, role: str) -> tuple[Key, Path | None]:
        """(public key, path if it was made now) of the key at ``uri``: a file that is not there is made.

        Raises:
            KeyProblemError: it cannot be opened, or is of a kind that clients do not count.
        """
        scheme, _, place = uri.partition(":")
        if scheme == "file" and not key_path(place, self.root).exists():
            made = self.make(key_path(place, self.root), role)
            return made.signer.public_key, made.path
        opened = open_uri(uri, Opening(role, self.secrets, self.root))
        require_counted(opened.public, role)
        return opened.public, None

    def holder(self, uri: str, known: Iterable[Key]) -> Signer:
        """What signs with an offline key, under the id that ``known`` keys have for it.

        Raises:
            KeyProblemError: it cannot be opened, or is of a kind that clients do not count.
        """
        opened = open_uri(uri, Opening(_holder_role(uri), self.secrets, self.root))
        require_counted(opened.public, ROOT)
        same = (key for key in known if key.keyval.get("public") == opened.public.keyval["public"])
        return opened.signer(next((key for key in same if isinstance(key, SSlibKey)), opened.public))


def _holder_role(uri: str) -> str:
    """`root-1` for a file of that name, so that each holder's passphrase can have its variable; else `root`."""
    stem = Path(uri.partition(":")[2]).stem
    return stem if re.fullmatch(r"root-\d+", stem) else ROOT


def read_public(path: Path, role: str) -> Named:
    """The public key in a PEM file, called like the file.

    Raises:
        KeyProblemError: it is none, or of a kind that clients do not count.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise KeyProblemError(
            f"{path} cannot be read: {error.strerror}.", advice="See where it is."
        ) from error
    if b"PRIVATE KEY" in text:
        raise KeyProblemError(
            f"{path} holds a private key, and a public one is wanted.",
            advice="Keep it where it was; its public half: openssl pkey -in KEY -pubout.",
        )
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(text))
    except ValueError as error:
        raise KeyProblemError(
            f"{path} holds no public key in PEM.", advice="`ferryman keys new FILE` makes a pair."
        ) from error
    require_counted(key, role)
    return Named(path.stem, key)


def online_uris(roles: Iterable[str], signers: Mapping[str, str], private: Path | None) -> dict[str, str]:
    """Role → URI: as the settings say, else a file in the folder ``private``.

    Raises:
        UsageError: neither says where the key of a role is.
    """
    found = {role: signers.get(role) or (f"file:{private / role}.pem" if private else "") for role in roles}
    if missing := [role for role, uri in found.items() if not uri]:
        raise UsageError(
            f"Nothing says where the keys of {', '.join(missing)} are.",
            advice="Name a folder for new ones with --private, or URIs in [tool.ferryman.release.signers].",
        )
    return found
