"""DSSE: a payload, its type, and signatures over both.

Source of the format: secure-systems-lab/dsse, protocol.md and envelope.md. What is signed is the pre-authentication
encoding, `DSSEv1 <length> <type> <length> <payload>`. A key id is only a hint there: what counts is a key that verifies,
and a key counts once, whatever names it has.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence

import msgspec
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature, Signer

from ferryman_release.errors import VerifyError
from ferryman_release.provenance.model import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Statement

LONGEST = 4_000_000
"""Bytes of an envelope; ours have a few kB."""

_MOST_SIGNATURES = 16
_ADVICE = (
    "Take it again from where the release was published; if that does not help, do not use the artifact."
)


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


def pae(payload: bytes, payload_type: str) -> bytes:
    """What is signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(statement: bytes, signers: Iterable[Signer], *, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """The signed file: JSON, one signature for each of ``signers``.

    Raises:
        KeyProblemError: a signer cannot sign.
    """
    signed = [signer.sign(pae(statement, payload_type)) for signer in signers]
    made = _Envelope(
        payload=base64.b64encode(statement).decode(),
        payload_type=payload_type,
        signatures=tuple(
            _Signature(one.keyid, base64.b64encode(bytes.fromhex(one.signature)).decode()) for one in signed
        ),
    )
    return msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"


def open_envelope(
    data: bytes, keys: Sequence[Key], threshold: int = 1, *, name: str = "The provenance"
) -> Statement:
    """The statement in ``data``, signed by at least ``threshold`` of ``keys``.

    Args:
        name: what messages call it: the file's.

    Raises:
        VerifyError: it is no envelope, of another type, signed by others, or no statement that is known here.
    """

    def refuse(why: str) -> VerifyError:
        return VerifyError(f"{name} {why}.", advice=_ADVICE)

    found, payload = _parts(data, refuse)
    if found.payload_type != PAYLOAD_TYPE:
        raise refuse(f"holds {found.payload_type!r} and no statement of in-toto")
    counted = _accepted(found, pae(payload, found.payload_type), keys, refuse)
    if counted < max(threshold, 1):
        known = ", ".join(key.keyid[:12] for key in keys) or "none is known here"
        raise VerifyError(
            f"{name} is not signed by the project's key"
            + (f": {counted} of {threshold} signatures hold." if threshold > 1 else "."),
            advice=_ADVICE,
            details=[f"keys that count: {known}"],
        )
    return _statement(payload, refuse)


Refuse = Callable[[str], VerifyError]


def _parts(data: bytes, refuse: Refuse) -> tuple[_Envelope, bytes]:
    if len(data) > LONGEST:
        raise refuse(f"has {len(data)} bytes, which are too many")
    try:
        found = msgspec.json.decode(data, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refuse(f"is no signed envelope: {error}") from error
    if len(found.signatures) > _MOST_SIGNATURES:
        raise refuse(f"has {len(found.signatures)} signatures, which are too many")
    return found, _decoded(found.payload, refuse)


def _decoded(text: str, refuse: Refuse) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise refuse("is no signed envelope: it has something that is not base64") from error
    if base64.b64encode(data).decode() != text:  # unused bits: two texts for the same bytes
        raise refuse("is no signed envelope: its base64 has bits that belong to nothing")
    return data


def _accepted(found: _Envelope, signed: bytes, keys: Sequence[Key], refuse: Refuse) -> int:
    """How many different keys verify; all signatures are decoded, so that a broken one is never passed over."""
    signatures = [Signature(one.keyid, _decoded(one.sig, refuse).hex()) for one in found.signatures]
    return len({
        str(key.keyval) for key in keys if any(_holds(key, signature, signed) for signature in signatures)
    })  # fmt: skip


def _holds(key: Key, signature: Signature, signed: bytes) -> bool:
    try:
        key.verify_signature(signature, signed)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True


def _statement(payload: bytes, refuse: Refuse) -> Statement:
    try:
        found = msgspec.json.decode(payload, type=Statement)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refuse(f"holds a statement that this Ferryman does not know: {error}") from error
    if (found.type, found.predicate_type) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise refuse(f"holds a {found.predicate_type!r} and no provenance of SLSA v1")
    if not found.subject:
        raise refuse("is about nothing: it has no subject")
    return found
