"""Contexts for clients, and what tells that the files they are made of have changed."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from support.certificates import Authority
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.trust import client_context, files, stamp


def test_client_context(tmp_path: Path) -> None:
    """It asks for a valid certificate with the right name unless it is told not to."""
    authority = Authority(tmp_path)
    pair = authority.issue("client")
    trusting = client_context(
        TlsClient(ca_file=str(authority.ca), cert_file=str(pair.cert), key_file=str(pair.key))
    )
    assert trusting.verify_mode is ssl.CERT_REQUIRED
    assert trusting.check_hostname
    assert [each["issuer"] for each in trusting.get_ca_certs()] == [
        each["subject"] for each in trusting.get_ca_certs()
    ]
    careless = client_context(TlsClient(verify=False))
    assert careless.verify_mode is ssl.CERT_NONE
    assert not careless.check_hostname


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """A file that is not there, one that is none, a key that is another one's, and one that nobody can open."""
    authority = Authority(tmp_path)
    pair, other = authority.issue("client"), authority.issue("other")
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    (tmp_path / "text").write_text("no certificate")
    for settings, said in (
        (TlsClient(ca_file=str(tmp_path / "none")), "No such file"),
        (TlsClient(ca_file=str(tmp_path / "text")), "certificate"),
        (TlsClient(cert_file=str(pair.cert), key_file=str(other.key)), "mismatch"),
        (TlsClient(cert_file=str(pair.cert), key_file=str(locked)), "nobody to ask"),
    ):
        with pytest.raises(OSError, match=said):
            client_context(settings)


def test_stamp(tmp_path: Path) -> None:
    """It changes with what a file holds, when another file takes its place, when it goes; not by looking."""
    file = tmp_path / "ca.pem"
    settings = TlsClient(ca_file=str(file))
    assert files(settings) == (str(file),)
    seen = [stamp(files(settings))]
    file.write_text("one")
    seen.append(stamp(files(settings)))
    assert stamp(files(settings)) == seen[-1]
    file.write_text("other")
    seen.append(stamp(files(settings)))
    old = file.stat()
    (tmp_path / "new").write_text("third")
    os.utime(tmp_path / "new", ns=(old.st_atime_ns, old.st_mtime_ns))
    (tmp_path / "new").replace(file)
    seen.append(stamp(files(settings)))
    file.unlink()
    assert stamp(files(settings)) == seen[0] == ((0, 0, 0),)
    assert len(set(seen)) == len(seen)
