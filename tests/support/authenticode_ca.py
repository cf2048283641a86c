"""An authority for code, one for time, and what they sign with: made for a test, trusted by nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)


class Issued(NamedTuple):
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate


def issue(
    name: str, by: Issued | None = None, usage: x509.ObjectIdentifier | None = None, days: int = 3650
) -> Issued:
    """A certificate for ``name``: an authority of its own without ``by``, else a leaf for ``usage``."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(BEGIN + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
    return Issued(key, builder.sign(by.key if by else key, SHA256()))


class Authorities(NamedTuple):
    """Files: roots to trust, leaves that sign code and time, and a PKCS#12 file under ``passphrase``."""

    roots: Path
    leaf: Path
    leaf_key: Path
    bundle: Path
    time_roots: Path
    time_leaf: Path
    time_key: Path
    passphrase: str


def make_authorities(folder: Path) -> Authorities:
    folder.mkdir(parents=True, exist_ok=True)
    passphrase = "words that no process list has"
    code_root, time_root = issue("Test code root"), issue("Test time root")
    leaf = issue("Lantern makers", code_root, ExtendedKeyUsageOID.CODE_SIGNING)
    clock = issue("Test time stamps", time_root, ExtendedKeyUsageOID.TIME_STAMPING)
    bundle = pkcs12.serialize_key_and_certificates(
        b"lantern",
        leaf.key,
        leaf.certificate,
        [code_root.certificate],
        BestAvailableEncryption(passphrase.encode()),
    )
    files = {
        "roots.pem": _pem(code_root), "leaf.pem": _pem(leaf), "leaf.key": _key(leaf), "bundle.p12": bundle,
        "time_roots.pem": _pem(time_root), "time.pem": _pem(clock), "time.key": _key(clock),
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return Authorities(*(folder / name for name in files), passphrase)


def _pem(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.PEM)


def _key(issued: Issued) -> bytes:
    return issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
