"""Mach-O signed here: the launcher for macOS with its payload, ad hoc and by a certificate of a test's own authority."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from asn1crypto import cms
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from ferryman_build.errors import ToolMissingError
from ferryman_build.inspect.native import Trait
from ferryman_release.errors import SigningError, VerifyError
from ferryman_release.signing import Secrets
from ferryman_release.signing.macho import NO_TIME, Developer, sign_file, verify_file
from support.authenticode_ca import Authorities, make_authorities
from support.launcher_targets import make, read_commands, read_signature

pytestmark = [pytest.mark.integration, pytest.mark.network, pytest.mark.timeout(1800)]
IDENTIFIER = "org.example.lantern"
INSTALLED = importlib.util.find_spec("apple_platform") is not None


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A launcher for Apple's processors with a payload, as the build links it."""
    path = tmp_path / "lantern"
    shutil.copy(make("darwin-arm64").full, path)
    path.chmod(0o755)
    return path


@pytest.fixture
def authorities(tmp_path: Path) -> Authorities:
    """With a PKCS#12 file in the older form that the tool reads."""
    if not INSTALLED:
        pytest.skip("apple-platform-py is not installed")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = make_authorities(tmp_path / "authorities")
    subprocess.run(
        ["openssl", "pkcs12", "-export", "-legacy", "-in", made.leaf, "-inkey", made.leaf_key, "-certfile", made.roots,
         "-out", made.bundle, "-passout", "stdin"],
        input=made.passphrase, text=True, check=True, capture_output=True,
    )  # fmt: skip
    return made


def developer(authorities: Authorities, **changes: str) -> Developer:
    return Developer(pkcs12=authorities.bundle, **{"timestamp": NO_TIME, **changes})


def secrets(authorities: Authorities) -> Secrets:
    return Secrets({"FERRYMAN_KEY_PASSPHRASE_MACHO": authorities.passphrase})


def blobs(data: bytes) -> dict[int, bytes]:
    """Slot → blob of the signature (xnu's cs_blobs.h)."""
    signature = read_commands(data).signature
    assert signature is not None
    at = signature[0]
    count = struct.unpack_from(">I", data, at + 8)[0]
    index = [struct.unpack_from(">II", data, at + 12 + 8 * number) for number in range(count)]
    return {
        slot: data[at + begin : at + begin + struct.unpack_from(">I", data, at + begin + 4)[0]]
        for slot, begin in index
    }


def test_the_launcher_has_an_ad_hoc_signature_by_itself(program: Path) -> None:
    """Nobody needs the tool for a program that starts."""
    verify_file(program, Trait.AD_HOC)
    with pytest.raises(VerifyError, match="is not signed"):
        verify_file(program, Trait.SIGNED)


@pytest.mark.skipif(INSTALLED, reason="apple-platform-py is installed")
def test_without_the_tool_it_is_named(program: Path) -> None:
    """The wheel to install, and what to read before."""
    with pytest.raises(ToolMissingError) as missing:
        sign_file(program, program, IDENTIFIER, None, Secrets({}))
    assert "apple-platform-py" in missing.value.advice


def test_an_ad_hoc_signature_has_the_identifier(program: Path, authorities: Authorities) -> None:
    """It covers every page, those of the payload too."""
    sign_file(program, program, IDENTIFIER, None, Secrets({}))
    data = program.read_bytes()
    assert read_signature(data, read_commands(data).signature[0]).wrong == ()  # type: ignore[index]
    assert IDENTIFIER.encode() in blobs(data)[0]
    assert program.stat().st_mode & 0o777 == 0o755


def test_a_certificate_signs_the_program(program: Path, authorities: Authorities, tmp_path: Path) -> None:
    """The leaf's key has signed attributes with the digest of the code directory; one changed byte breaks the program."""
    signed = tmp_path / "signed"
    before = program.read_bytes()
    sign_file(program, signed, IDENTIFIER, developer(authorities), secrets(authorities))
    assert program.read_bytes() == before
    parts = blobs(signed.read_bytes())
    (info,) = cms.ContentInfo.load(parts[0x10000][8:])["content"]["signer_infos"]
    said = {one["type"].native: one["values"].native for one in info["signed_attrs"]}
    assert said["message_digest"] == [hashlib.sha256(parts[0]).digest()]
    leaf = load_pem_x509_certificate(authorities.leaf.read_bytes())
    # Attributes are signed as a SET (RFC 5652, 5.4). OpenSSL sorts the values inside of them first, and fails.
    covered = b"\x31" + info["signed_attrs"].dump()[1:]
    leaf.public_key().verify(info["signature"].native, covered, PKCS1v15(), SHA256())  # type: ignore[call-arg,union-attr]
    data = bytearray(signed.read_bytes())
    data[data.index(b"FERRYMAN" + bytes(range(16))) + 100] ^= 1
    signed.write_bytes(data)
    with pytest.raises(VerifyError):
        verify_file(signed, Trait.SIGNED)


def test_a_dead_authority_or_a_wrong_passphrase_signs_nothing(
    program: Path, authorities: Authorities
) -> None:
    """The program is as it was, nothing lies beside it, and no message has the passphrase."""
    before = sorted((path.name, path.read_bytes()) for path in program.parent.iterdir() if path.is_file())
    wrong = Secrets({"FERRYMAN_KEY_PASSPHRASE": "not the one of the file"})
    dead = developer(authorities, timestamp="http://127.0.0.1:9/")
    for who, opened in ((dead, secrets(authorities)), (developer(authorities), wrong)):
        with pytest.raises(SigningError) as refused:
            sign_file(program, program, IDENTIFIER, who, opened)
        assert "passphrase" not in str(refused.value)
        assert "not the one" not in str(refused.value) + authorities.passphrase
    assert (
        sorted((path.name, path.read_bytes()) for path in program.parent.iterdir() if path.is_file())
        == before
    )
    assert list(program.parent.glob(".macho-*")) == []
