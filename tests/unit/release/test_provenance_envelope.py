"""The signed envelope: what opens, and that nothing else does."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.dsse import Envelope as Oracle
from securesystemslib.signer import CryptoSigner, SSlibKey

from ferryman_build.artifacts import Manifest
from ferryman_release.errors import VerifyError
from ferryman_release.provenance import envelope, open_envelope, statement
from ferryman_release.provenance.dsse import LONGEST, pae
from support.dist_factory import COMMIT, make_dist
from support.release_keys import signer

OURS, OTHER = signer("provenance"), signer("somebody else")
NAME = "lantern.intoto.json"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_dist(tmp_path / "dist")


@pytest.fixture
def payload(manifest: Manifest) -> bytes:
    return statement(manifest, manifest.artifacts[0])


def changed(data: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(data), **fields}).encode()


def refused(data: bytes, *, keys: Any = (OURS.public_key,), threshold: int = 1) -> VerifyError:
    with pytest.raises(VerifyError) as caught:
        open_envelope(data, keys, threshold, name=NAME)
    assert str(caught.value).startswith(NAME)
    assert caught.value.advice
    return caught.value


def test_what_was_signed_is_read(manifest: Manifest, payload: bytes) -> None:
    """An envelope opens with its key, and says what the statement says."""
    found = open_envelope(envelope(payload, [OURS]), [OURS.public_key])

    assert found.commit == COMMIT
    assert found.parameters["target"] == manifest.artifacts[0].target
    assert list(found.digests(manifest.artifacts[0].path)) == [manifest.artifacts[0].sha256]
    assert list(found.digests("another")) == []
    assert found.dirty is False


def test_another_implementation_reads_it(payload: bytes) -> None:
    """securesystemslib's DSSE verifies ours, and ours what that one has signed."""
    theirs = Oracle.from_dict(json.loads(envelope(payload, [OURS])))
    theirs.verify([OURS.public_key], 1)
    assert theirs.payload == payload
    assert theirs.pae() == pae(payload, theirs.payload_type)

    made = Oracle(payload, "application/vnd.in-toto+json", {})
    made.sign(OURS)
    assert open_envelope(json.dumps(made.to_dict()).encode(), [OURS.public_key]).commit == COMMIT


def test_the_same_bytes_each_time(payload: bytes) -> None:
    """Ed25519 is deterministic, and so is the file."""
    assert envelope(payload, [OURS]) == envelope(payload, [signer("provenance")])


def test_a_key_of_a_token_may_sign(payload: bytes) -> None:
    """ECDSA, as KMS and tokens have it: who verifies provenance has `cryptography`."""
    token = CryptoSigner(ec.generate_private_key(ec.SECP256R1()))

    assert open_envelope(envelope(payload, [token]), [token.public_key]).commit == COMMIT


def test_another_key(payload: bytes) -> None:
    """A right signature by a key that is not the project's counts for nothing, whatever id it claims."""
    assert "not signed by the project's key" in str(refused(envelope(payload, [OTHER])))

    forged = json.loads(envelope(payload, [OTHER]))
    forged["signatures"][0]["keyid"] = OURS.public_key.keyid
    refused(json.dumps(forged).encode())


def test_no_keys_and_no_signatures(payload: bytes) -> None:
    """Without a key, or without a signature, nothing is ever valid."""
    refused(envelope(payload, [OURS]), keys=())
    refused(envelope(payload, []))
    refused(envelope(payload, []), threshold=0)


def test_a_key_counts_once(payload: bytes) -> None:
    """Two of two means two keys: not one key twice, nor one key under two ids."""
    again = SSlibKey("another-id", "ed25519", "ed25519", dict(OURS.public_key.keyval))
    twice = json.loads(envelope(payload, [OURS]))
    twice["signatures"] *= 2

    refused(json.dumps(twice).encode(), keys=[OURS.public_key, again], threshold=2)
    assert open_envelope(envelope(payload, [OURS, OTHER]), [OURS.public_key, OTHER.public_key], 2)


def test_any_byte_of_the_payload(payload: bytes) -> None:
    """The signature covers all of it: a change in each part of the statement is refused."""
    made = json.loads(envelope(payload, [OURS]))
    for place in range(0, len(payload), 37):
        broken = bytearray(payload)
        broken[place] ^= 1
        refused(changed(json.dumps(made).encode(), payload=base64.b64encode(bytes(broken)).decode()))


def test_any_byte_of_the_file(payload: bytes) -> None:
    """Each byte of the file that is not a blank means something: changed, it opens no more.

    The id of the key is the exception: in this format it is a hint that nothing is decided by.
    """
    made = envelope(payload, [OURS])
    start = made.index(OURS.public_key.keyid.encode())
    hint = range(start, start + len(OURS.public_key.keyid))
    opened = []
    for place in [*range(0, len(made), 41), *range(len(made) - 120, len(made))]:
        if made[place : place + 1].isspace() or place in hint:
            continue
        broken = made[:place] + bytes([made[place] ^ 1]) + made[place + 1 :]
        try:
            open_envelope(broken, [OURS.public_key], name=NAME)
        except VerifyError:
            continue
        opened.append(place)

    assert opened == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"payloadType": "application/json"}, "no statement of in-toto"),
        ({"payloadType": ""}, "no statement of in-toto"),
        ({"payload": "***"}, "not base64"),
        ({"payload": 1}, "no signed envelope"),
        ({"signatures": "none"}, "no signed envelope"),
        ({"signatures": [{"keyid": "x", "sig": "***"}]}, "not base64"),
        ({"signatures": [{"keyid": "x", "sig": "AAAA", "cert": "x"}]}, "unknown field"),
        ({"signatures": [{"keyid": "x", "sig": "AAAA"}] * 17}, "too many"),
        ({"extra": 1}, "unknown field"),
    ],
)
def test_another_form(payload: bytes, fields: dict[str, Any], why: str) -> None:
    """Wrong types, wrong texts and fields that nobody knows."""
    assert why in str(refused(changed(envelope(payload, [OURS]), **fields)))


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b"\xff", b"{" * 100_000, b" " * (LONGEST + 1)], ids=range(7)
)
def test_no_envelope_at_all(data: bytes) -> None:
    """Rubbish of any size is refused with a sentence."""
    refused(data)


def test_base64_has_one_form(payload: bytes) -> None:
    """Bits behind the last byte are looked at too: the file has one form, and so one hash."""
    text = json.loads(envelope(b"x" * 40, [OURS]))["payload"]
    loose = text[:-3] + chr(ord(text[-3]) + 1) + text[-2:]
    assert base64.b64decode(loose) == base64.b64decode(text)

    assert "bits that belong to nothing" in str(refused(changed(envelope(payload, [OURS]), payload=loose)))


def statements(payload: bytes) -> list[tuple[str, bytes]]:
    whole = json.loads(payload)
    predicate = whole["predicate"]
    return [
        ("no JSON", b"{"),
        ("an old statement", json.dumps({**whole, "_type": "https://in-toto.io/Statement/v0.1"}).encode()),
        ("another predicate", json.dumps({**whole, "predicateType": "https://example.org/x"}).encode()),
        ("no subject", json.dumps({**whole, "subject": []}).encode()),
        ("an unknown field", json.dumps({**whole, "more": 1}).encode()),
        ("an unknown field below", json.dumps({**whole, "predicate": {**predicate, "more": 1}}).encode()),
        ("no builder", json.dumps({**whole, "predicate": {**predicate, "runDetails": {}}}).encode()),
        ("no text", b"\xff\xfe"),
    ]


def test_signed_and_still_no_statement_of_ours(payload: bytes) -> None:
    """What the right key has signed is refused when it is not what a policy can be held against."""
    for _, wrong in statements(payload):
        refused(envelope(wrong, [OURS]))
