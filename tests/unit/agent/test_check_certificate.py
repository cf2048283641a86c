"""Certificates: what is read of their bytes agrees with the cryptography library, and what is said about them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from support.certificates import Authority
from watchkeeper.checks import Level, Outcome, Word, look
from watchkeeper.checks.expiry import judge_days
from watchkeeper.checks.x509 import Certificate, NotACertificateError, read_der, read_pem
from watchkeeper.config.schema.checks import CertificateCheck
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.errors import ErrorClass

KEY = ec.generate_private_key(ec.SECP256R1())
DAY = 86_400
SECOND = datetime.timedelta(seconds=1)


def made(
    name: str, issuer: str, begins: datetime.datetime, ends: datetime.datetime, dns: list[str], ips: list[str]
) -> x509.Certificate:
    alternatives = [x509.DNSName(each) for each in dns] + [
        x509.IPAddress(ipaddress.ip_address(each)) for each in ips
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(KEY, hashes.SHA256())


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
LABELS = st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), min_size=1, max_size=3).map(".".join)
TIMES = st.datetimes(datetime.datetime(1950, 1, 2), datetime.datetime(2100, 1, 1))  # noqa: DTZ001 - cryptography's own


@given(
    name=NAMES,
    issuer=NAMES,
    begins=TIMES,
    lasts=st.integers(1, 10_000),
    dns=st.lists(LABELS, max_size=3),
    ips=st.lists(st.ip_addresses().map(str), max_size=2),
)
def test_what_is_read(
    name: str, issuer: str, begins: datetime.datetime, lasts: int, dns: list[str], ips: list[str]
) -> None:
    """Dates on both sides of 2050, names of all kinds: the same as the library that made them."""
    begins = begins.replace(microsecond=0)
    made_one = made(name, issuer, begins, begins + lasts * datetime.timedelta(days=1), dns, ips)
    read = read_der(made_one.public_bytes(Encoding.DER))
    assert read.common_name == name
    assert read.begins == made_one.not_valid_before_utc.timestamp()
    assert read.ends == made_one.not_valid_after_utc.timestamp()
    assert read.names == (*dns, *ips)
    assert (read.subject == read.issuer) is (name == issuer)
    assert read_pem(b"text\n" + made_one.public_bytes(Encoding.PEM) * 2) == [read, read]


@given(st.binary(max_size=100), st.integers(0, 300), st.integers(0, 255))
def test_damaged_ones(junk: bytes, place: int, byte: int) -> None:
    """Any bytes are a certificate, or an error that says that they are none."""
    now = datetime.datetime.now(datetime.UTC)
    good = bytearray(made("a", "b", now, now + SECOND, ["c"], []).public_bytes(Encoding.DER))
    good[place % len(good)] = byte
    for content in (junk, bytes(good), bytes(good[:place])):
        with contextlib.suppress(NotACertificateError):
            assert isinstance(read_der(content), Certificate)


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----"]
)
def test_a_file_that_has_none(content: bytes) -> None:
    with pytest.raises(NotACertificateError):
        read_pem(content)


def certificate(**fields: Any) -> Certificate:
    usual: dict[str, Any] = {
        "subject": b"s",
        "issuer": b"i",
        "common_name": "web",
        "begins": 0.0,
        "ends": 0.0,
        "names": (),
    }
    return Certificate(**usual | fields)


@pytest.mark.parametrize(
    ("days", "word", "said"),
    [
        (100, Word.OK, "expires in 100 days"),
        (20, Word.WARNING, "expires in 20 days"),
        (5, Word.FAILED, "expires in 5 days"),
        (0.5, Word.FAILED, "expires in 12 hours"),
        (-3, Word.FAILED, "expired 3 days ago"),
    ],
)
def test_days_left(days: float, word: Word, said: str) -> None:
    """min_days 7, warn_days 30."""
    outcome = judge_days(certificate(ends=time.time() + days * DAY + 5), 7, 30)
    assert (outcome.word, outcome.detail) == (word, f"the certificate of web {said}")


def test_one_that_is_not_valid_yet() -> None:
    outcome = judge_days(certificate(begins=time.time() + 60, ends=time.time() + 100 * DAY), 7, 30)
    assert (outcome.word, outcome.level) == (Word.FAILED, Level.CRITICAL)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("web.example.com", True),
        ("WEB.example.com.", True),
        ("a.pages.example.com", True),
        ("a.b.pages.example.com", False),
        ("pages.example.com", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("com", False),
        ("x.com", False),
    ],
)
def test_names(name: str, good: bool) -> None:
    """RFC 6125: a star is one whole label, and not one of a top-level domain."""
    assert (
        certificate(names=("web.example.com", "*.pages.example.com", "192.0.2.1", "*.com")).good_for(name)
        is good
    )


@pytest.mark.asyncio
async def test_a_file(tmp_path: Path) -> None:
    """Its dates, its name, and that each certificate was issued by the next one."""
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    pair = authority.issue("web", ends=20 * DAY + 60, dns=("web.test",))
    chain = tmp_path / "chain.pem"

    async def outcome(*parts: Path, **fields: Any) -> Outcome:
        chain.write_bytes(b"".join(part.read_bytes() for part in parts))
        return await look(CertificateCheck(file=str(chain), timeout=60.0, **fields))

    found = await outcome(pair.cert, authority.ca)
    assert (found.word, found.detail) == (Word.WARNING, f"{chain}: the certificate of web expires in 20 days")
    assert (await outcome(pair.cert, authority.ca, warn_days=10, hostname="web.test")).word is Word.OK
    assert (await outcome(pair.cert, min_days=21)).word is Word.FAILED
    wrong = await outcome(pair.cert, hostname="other.test")
    assert (
        wrong.detail
        == f"{chain}: the certificate is not good for other.test; its names are: 127.0.0.1, localhost, web.test"
    )
    broken = await outcome(pair.cert, stranger.ca)
    assert "web was not issued by authority of stranger, which follows it" in broken.detail
    assert "there is no certificate" in (await outcome()).detail
    chain.unlink()
    missing = await look(CertificateCheck(file=str(chain), timeout=60.0))
    assert (missing.word, "No such file" in missing.detail) == (Word.FAILED, True)


@pytest.mark.asyncio
async def test_a_server(tmp_path: Path) -> None:
    """The handshake verifies; what is shown decides how long it holds: of a chain the certificate that ends first."""
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    pair = authority.issue("web", ends=20 * DAY + 60)
    both = tmp_path / "both.pem"
    both.write_bytes(pair.cert.read_bytes() + authority.ca.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both, pair.key)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]

        async def outcome(ca: Path, **fields: Any) -> Outcome:
            spec = CertificateCheck(
                address=f"127.0.0.1:{port}", tls=TlsClient(ca_file=str(ca)), timeout=60.0, **fields
            )
            return await look(spec)

        found = await outcome(authority.ca)
        assert (found.word, "web expires in 20 days" in found.detail) == (Word.WARNING, True)
        assert (await outcome(authority.ca, warn_days=10)).word is Word.OK
        assert (await outcome(authority.ca, min_days=21)).word is Word.FAILED
        # The authority's own certificate, which is part of the chain, lasts a year.
        everything = await outcome(authority.ca, min_days=0, warn_days=400, hostname="localhost")
        assert everything.word is Word.WARNING
        assert (await outcome(authority.ca, hostname="other.test")).word is Word.FAILED
        untrusted = await outcome(stranger.ca)
        assert (untrusted.word, "does not hold" in untrusted.detail) == (Word.FAILED, True)
    refused = await outcome(authority.ca)
    assert (refused.word, refused.error_class) == (Word.UNREACHABLE, ErrorClass.CHECK_FAILED)


@pytest.mark.asyncio
async def test_an_expired_server(tmp_path: Path) -> None:
    """OpenSSL's own word for it."""
    authority = Authority(tmp_path)
    pair = authority.issue("web", starts=-3600, ends=-60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        spec = CertificateCheck(address=address, tls=TlsClient(ca_file=str(authority.ca)), timeout=60.0)
        outcome = await look(spec)
    assert outcome.detail == f"{address}: its certificate does not hold: certificate has expired"
