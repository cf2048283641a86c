"""Where private keys can be: one function for each scheme of URI.

    file:PATH          PKCS#8 in PEM, under a passphrase; relative to the project, `~` is the home
    env:NAME           the same text in an environment variable, or its base64
    awskms:KEY         AWS KMS: a key id, an alias or an ARN
    pkcs11:LABEL/ID    a token; PYKCS11LIB names its library

A scheme answers with the public key that the place has and with what signs there; whether that key may sign is decided
in :mod:`ferryman_release.signing.roles`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from ferryman_release.errors import KeyProblemError
from ferryman_release.signing.keyfile import load_key, read_key
from ferryman_release.signing.secrets import Secrets


class Opening(NamedTuple):
    """Who wants a key: its ``role``, what unlocks it, and the folder that relative paths begin at."""

    role: str
    secrets: Secrets
    root: Path = Path()


class Opened(NamedTuple):
    """A key that was found. ``signer`` makes what signs in the name of a public key: one that metadata knows."""

    public: SSlibKey
    signer: Callable[[SSlibKey], Signer]


class Scheme(Protocol):
    """Open what stands behind the colon.

    Raises:
        KeyProblemError: it is not there, locked, or no key.
    """

    def __call__(self, place: str, opening: Opening) -> Opened: ...


def key_path(place: str, root: Path) -> Path:
    """The file that `file:PLACE` names."""
    return root / Path(place).expanduser()


def _file(place: str, opening: Opening) -> Opened:
    private = read_key(key_path(place, opening.root), opening.role, opening.secrets)
    return _opened(private, place)


def _environment(place: str, opening: Opening) -> Opened:
    text = opening.secrets.environ.get(place, "")
    if not text:
        raise KeyProblemError(
            f"The key of {opening.role} is to be in the variable {place}, which is not set.",
            advice="Set it to the text of the key file, or to its base64.",
        )
    return _opened(load_key(_pem_of(text), opening.role, f"env:{place}", opening.secrets), place)


def _pem_of(text: str) -> bytes:
    """The PEM in a variable; CI systems that keep no line ends get it in base64."""
    if "-----BEGIN" in text:
        return text.encode()
    try:
        return base64.b64decode(text, validate=False)
    except binascii.Error:
        return b""


def _opened(private: object, place: str) -> Opened:
    try:
        public = SSlibKey.from_crypto(private.public_key())  # type: ignore[attr-defined]
    except ValueError as error:
        raise KeyProblemError(
            f"The key in {place} is of a kind that nothing here signs with.",
            advice="Use an Ed25519 key: openssl genpkey -algorithm ed25519.",
        ) from error
    return Opened(public, lambda key: CryptoSigner(private, key))  # type: ignore[arg-type]


def _kms(place: str, opening: Opening) -> Opened:
    from ferryman_release.signing.kms import open_kms

    return open_kms(place, opening)


def _pkcs11(place: str, opening: Opening) -> Opened:
    from ferryman_release.signing.pkcs11 import open_token

    return open_token(place, opening)


SCHEMES: dict[str, Scheme] = {"file": _file, "env": _environment, "awskms": _kms, "pkcs11": _pkcs11}


def open_uri(uri: str, opening: Opening) -> Opened:
    """The key that ``uri`` names.

    Raises:
        KeyProblemError: the scheme is unknown, or what the scheme raises.
    """
    scheme, colon, place = uri.partition(":")
    if not (colon and place and scheme in SCHEMES):
        # The text itself is not shown: somebody may have written a key in the place of its URI.
        raise KeyProblemError(
            f"The place of the key of {opening.role} is no URI that is known here.",
            advice=f"It begins with one of {', '.join(f'{name}:' for name in SCHEMES)} (docs/keys.md).",
        )
    return SCHEMES[scheme](place, opening)
