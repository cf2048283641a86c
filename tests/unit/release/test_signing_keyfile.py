"""Key files: locked with scrypt, for their owner alone, never overwritten."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ferryman_release.errors import KeyProblemError
from ferryman_release.signing import Secrets
from ferryman_release.signing.keyfile import encrypted_pem, load_key, plain_pem, read_key, write_key
from support.release_keys import private_key

PASSPHRASE = "fünf Wörter und 灯"


def test_a_locked_key_opens_with_its_passphrase() -> None:
    """What is written is what was given, as cryptography itself reads it."""
    key = private_key("root-1")
    pem = encrypted_pem(key, PASSPHRASE)
    opened = load_pem_private_key(pem, PASSPHRASE.encode())
    assert isinstance(opened, Ed25519PrivateKey)
    assert opened.private_bytes_raw() == key.private_bytes_raw()
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")


def test_a_locked_key_names_scrypt_and_shows_nothing() -> None:
    """The envelope says scrypt and AES-256, two of the same key share no block, and the key is not in it."""
    key = private_key("root-1")
    first, second = encrypted_pem(key, PASSPHRASE), encrypted_pem(key, PASSPHRASE)
    assert first.split(b"\n")[2:4] != second.split(b"\n")[2:4]
    der = base64.b64decode(b"".join(first.split(b"\n")[1:-2]))
    assert bytes.fromhex("2b06010401da47040b") in der
    assert bytes.fromhex("60864801650304012a") in der
    assert key.private_bytes_raw() not in der


def test_a_wrong_passphrase_is_said() -> None:
    """It is one sentence without the passphrase, and it does not carry the library's traceback."""
    pem = encrypted_pem(private_key("root-1"), PASSPHRASE)
    with pytest.raises(KeyProblemError, match="is wrong, or the file is damaged") as refused:
        load_key(pem, "root-1", "root-1.pem", Secrets({"FERRYMAN_KEY_PASSPHRASE": "not that one"}))
    assert "not that one" not in f"{refused.value} {refused.value.advice} {refused.value.details}"
    assert refused.value.__suppress_context__


def test_a_key_without_a_passphrase_asks_for_none() -> None:
    """A key in a store of secrets needs nobody."""
    assert load_key(plain_pem(private_key("stable")), "stable", "x", Secrets({})) is not None


@pytest.mark.parametrize(
    "pem", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_said(pem: bytes) -> None:
    """A file of something else names what makes a key."""
    with pytest.raises(KeyProblemError, match="is no private key") as refused:
        load_key(pem, "stable", "x.pem", Secrets({}))
    assert "ferryman keys init" in refused.value.advice


def test_a_key_file_is_for_its_owner(tmp_path: Path) -> None:
    """It has mode 600 from the beginning, its folder 700; one that is there is never overwritten."""
    path = tmp_path / "private" / "root-1.pem"
    write_key(path, b"first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(KeyProblemError, match="no key is ever overwritten"):
        write_key(path, b"second")
    assert path.read_bytes() == b"first"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The key may be somebody else's already: chmod is said, and that a new one is needed if others were there."""
    path = tmp_path / "stable.pem"
    write_key(path, plain_pem(private_key("stable")))
    path.chmod(mode)
    with pytest.raises(KeyProblemError, match=f"mode {mode:o}") as refused:
        read_key(path, "stable", Secrets({}))
    assert "chmod 600" in refused.value.advice


def test_a_missing_key_file_is_said(tmp_path: Path) -> None:
    """The failure has the path, and where to say another."""
    with pytest.raises(KeyProblemError, match="is not there") as refused:
        read_key(tmp_path / "none.pem", "stable", Secrets({}))
    assert "[tool.ferryman.release.signers]" in refused.value.advice


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    """The system's own word is in the sentence."""
    with pytest.raises(KeyProblemError, match="cannot be read"):
        read_key(tmp_path, "stable", Secrets({}))
