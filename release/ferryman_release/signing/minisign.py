"""Minisign's signatures in its prehashed form, for people and installers: made here, read by every minisign since 0.8.

    untrusted comment: <anybody's>
    base64("ED" ‖ key id ‖ Ed25519 over BLAKE2b-512(file))
    trusted comment: <signed>
    base64(Ed25519 over signature ‖ trusted comment)

Ed25519 is deterministic: who signs the same bytes again gets the same signature.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from securesystemslib.signer import Signer

from ferryman_release.errors import VerifyError
from ferryman_release.keys.minisign import MinisignKey, decode_line

_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "
_PREHASHED = b"ED"
_ID, _SIGNATURE = 8, 64
_ADVICE = "Take the file again from the place where it was published; if that does not help, do not use it."


class MinisignSecret(NamedTuple):
    """What signs for ``key``: any signer whose signatures are Ed25519's 64 bytes."""

    key: MinisignKey
    signer: Signer


class _Parsed(NamedTuple):
    key_id: bytes
    signature: bytes
    trusted_comment: str
    whole: bytes


def minisign_sign(
    data: bytes, secret: MinisignSecret, *, trusted_comment: str, untrusted_comment: str
) -> bytes:
    """The signature file for ``data``.

    Raises:
        ValueError: a comment is no single line (a defect of the caller).
    """
    if any(not comment.isprintable() for comment in (trusted_comment.replace("\t", ""), untrusted_comment)):
        raise ValueError("a comment is one line")
    signature = _sign(secret.signer, hashlib.blake2b(data).digest())
    whole = _sign(secret.signer, signature + trusted_comment.encode())
    lines = (
        f"{_UNTRUSTED}{untrusted_comment}",
        base64.b64encode(_PREHASHED + secret.key.key_id + signature).decode(),
        f"{_TRUSTED}{trusted_comment}",
        base64.b64encode(whole).decode(),
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _sign(signer: Signer, payload: bytes) -> bytes:
    return bytes.fromhex(signer.sign(payload).signature)


def minisign_verify(data: bytes, signature: bytes, key: MinisignKey) -> str:
    """The trusted comment of a ``signature`` file that holds for ``data``.

    Raises:
        VerifyError: it is broken, of another key, of other data, or its trusted comment was changed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    found = _parse(signature)
    if found.key_id != key.key_id:
        other = MinisignKey(found.key_id, b"").name
        raise VerifyError(
            f"The signature was made with the key {other}, and not with {key.name}.",
            advice="See that the public key is the one of keys/minisign.pub; after a rotation take the new one.",
        )
    public = Ed25519PublicKey.from_public_bytes(key.public)
    covered = found.trusted_comment.encode()
    try:
        public.verify(found.signature, hashlib.blake2b(data).digest())
        public.verify(found.whole, found.signature + covered)
    except InvalidSignature as error:
        raise VerifyError(
            "The signature does not hold: the file or the comment was changed.", advice=_ADVICE
        ) from error
    return found.trusted_comment


def signature_key(signature: bytes) -> bytes:
    """The id of the key that a signature says it is by; nothing of it is verified. b"" when it is no signature."""
    lines = signature.decode(errors="replace").split("\n")
    return decode_line(lines[1])[2:10] if len(lines) > 1 else b""


def _parse(signature: bytes) -> _Parsed:
    broken = VerifyError("This is no signature of minisign in its prehashed form.", advice=_ADVICE)
    try:
        lines = signature.decode().split("\n")
    except UnicodeDecodeError as error:
        raise broken from error
    if len(lines) < 4 or any(lines[4:]) or not lines[0].startswith(_UNTRUSTED):
        raise broken
    first, whole = decode_line(lines[1]), decode_line(lines[3])
    if len(first) != 2 + _ID + _SIGNATURE or len(whole) != _SIGNATURE or not first.startswith(_PREHASHED):
        raise broken
    if not lines[2].startswith(_TRUSTED):
        raise broken
    return _Parsed(first[2:10], first[10:], lines[2].removeprefix(_TRUSTED), whole)
