"""minisign's form: the same bytes every time, read by another implementation, and refused after any change."""

from __future__ import annotations

import base64

import minisign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman_release.errors import KeyProblemError, VerifyError
from ferryman_release.signing import MinisignKey, MinisignSecret, minisign_sign, minisign_verify
from support.release_keys import signer

DATA = b"2c26b46b  lantern-1.0.0-linux-amd64\n"
COMMENT = "timestamp:1790000000\tfile:SHA256SUMS\tname:lantern\tversion:1.0.0"


def secret(name: str = "minisign") -> MinisignSecret:
    one = signer(name)
    return MinisignSecret(MinisignKey.of(bytes.fromhex(one.public_key.keyval["public"])), one)


def signature(data: bytes = DATA, comment: str = COMMENT) -> bytes:
    return minisign_sign(data, secret(), trusted_comment=comment, untrusted_comment="verify it")


def test_the_same_bytes_are_signed_the_same() -> None:
    """Whoever makes a release again gets the same signature file."""
    assert signature() == signature()


def test_what_was_signed_verifies_and_gives_its_comment() -> None:
    """The trusted comment comes back as it was signed."""
    assert minisign_verify(DATA, signature(), secret().key) == COMMENT


def test_another_implementation_verifies_ours() -> None:
    """py-minisign reads our key and our signature, and refuses both changes."""
    public = minisign.PublicKey.from_bytes(secret().key.text().encode())
    public.verify(DATA, minisign.Signature.from_bytes(signature()))
    with pytest.raises(minisign.VerifyError):
        public.verify(DATA + b" ", minisign.Signature.from_bytes(signature()))


def test_we_verify_another_implementation() -> None:
    """A prehashed signature of py-minisign holds here, with its own random key id."""
    pair = minisign.KeyPair.generate()
    made = bytes(pair.secret_key.sign(DATA, trusted_comment=COMMENT))
    assert minisign_verify(DATA, made, MinisignKey.parse(bytes(pair.public_key).decode())) == COMMENT


def test_a_key_survives_being_written() -> None:
    """minisign.pub, or its second line alone, is the same key; the id is that of the key."""
    key = secret().key
    assert MinisignKey.parse(key.text()) == MinisignKey.parse(key.line) == key
    assert key.line.startswith("RW")
    assert len(key.line) == 56
    assert key.name in key.text()


@pytest.mark.parametrize(
    "text", ["", "nonsense", "SW" * 28, secret().key.line[:-4], secret().key.line + "\n" + secret().key.line]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    """Nothing but the one line is taken for a key."""
    with pytest.raises(KeyProblemError, match="no public key of minisign") as refused:
        MinisignKey.parse(text)
    assert "RW" in refused.value.advice


@given(st.data())
def test_every_changed_byte_is_noticed(data: st.DataObject) -> None:
    """A change anywhere but in the untrusted comment breaks the signature."""
    made = bytearray(signature())
    start = made.index(b"\n") + 1
    place = data.draw(st.integers(start, len(made) - 2))
    made[place] ^= 1 << data.draw(st.integers(0, 6))
    with pytest.raises(VerifyError):
        minisign_verify(DATA, bytes(made), secret().key)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_signature_are_refused(noise: bytes) -> None:
    """Noise raises the error of a broken signature, and no other."""
    with pytest.raises(VerifyError, match="no signature of minisign"):
        minisign_verify(DATA, noise, secret().key)


def test_other_data_is_refused() -> None:
    """A signature is about its file alone."""
    with pytest.raises(VerifyError, match="does not hold") as refused:
        minisign_verify(DATA + b"\n", signature(), secret().key)
    assert refused.value.exit_code == 23
    assert refused.value.advice


def test_another_key_is_named() -> None:
    """Which key has signed is said, so that a rotation is not taken for an attack."""
    other = secret("stable").key
    with pytest.raises(VerifyError, match=secret().key.name) as refused:
        minisign_verify(DATA, signature(), other)
    assert other.name in str(refused.value)


def test_the_id_of_another_key_does_not_help() -> None:
    """A forger who writes our id over a signature of another key is refused."""
    lines = minisign_sign(DATA, secret("stable"), trusted_comment="", untrusted_comment="").split(b"\n")
    forged = bytearray(base64.b64decode(lines[1]))
    forged[2:10] = secret().key.key_id
    lines[1] = base64.b64encode(bytes(forged))
    with pytest.raises(VerifyError, match="does not hold"):
        minisign_verify(DATA, b"\n".join(lines), secret().key)


def test_the_old_form_is_refused() -> None:
    """A signature that was not prehashed is another form, which nothing here makes."""
    old = signature().split(b"\n")
    old[1] = base64.b64encode(b"Ed" + base64.b64decode(old[1])[2:])
    with pytest.raises(VerifyError, match="prehashed"):
        minisign_verify(DATA, b"\n".join(old), secret().key)


@pytest.mark.parametrize("comment", ["two\nlines", "a\rreturn", "nul\0"])
def test_a_comment_is_one_line(comment: str) -> None:
    """What would forge a further line of the file is not signed."""
    with pytest.raises(ValueError, match="one line"):
        signature(comment=comment)
    with pytest.raises(ValueError, match="one line"):
        minisign_sign(DATA, secret(), trusted_comment="", untrusted_comment=comment)


def test_the_name_of_a_key_is_that_which_minisign_prints() -> None:
    """A hexadecimal number, least byte first; minisign writes no zeros in front of it."""
    assert MinisignKey(bytes.fromhex("09ee20620d071a05"), bytes(32)).name == "51A070D6220EE09"
    assert MinisignKey(bytes(7) + b"\xab", bytes(32)).name == "AB00000000000000"
