"""sbom.natives: what the bytes of a file say of the libraries in it, and what they do not say."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from pathlib import Path

import pytest
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from ferryman_build.sbom.natives import file_version, libraries, own_library, read_versions, scan

OPENSSL = b"\0OpenSSL 3.0.13 30 Jan 2024\0"
ZLIB = b" deflate 1.2.13 Copyright 1995-2022 Jean-loup Gailly and Mark Adler \0 inflate 1.2.13 Copyright 1995-2022\0"
SQLITE = b"SQLite format 3\0"
CRC64 = bytes.fromhex("6f5fa703be4c2eb3")


def read(name: str, content: bytes, *taken: str) -> list[tuple[str, bool, str]]:
    """(library, whether the file is its own, version) as read."""
    return [(one.library, one.own, one.version) for one in read_versions(scan(name, content), taken)]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("libcrypto.so.3", OPENSSL, [("openssl", True, "3.0.13")]),
        ("libcrypto-3-x64.dll", OPENSSL, [("openssl", True, "3.0.13")]),
        ("libcrypto.so.1.1", b"OpenSSL 1.1.1w  11 Sep 2023\0", [("openssl", True, "1.1.1w")]),
        ("libssl.so.3", b"nothing", [("openssl", True, "")]),
        ("_rust.abi3.so", OPENSSL, [("openssl", False, "3.0.13")]),
        ("_ssl.so", b"OpenSSL 1.1.1 or newer is needed\0", []),
        ("libz.so.1", ZLIB, [("zlib", True, "1.2.13")]),
        ("libz-dd453c56.so.1.2.11", ZLIB, [("zlib", True, "1.2.13")]),
        ("bootloader", ZLIB, [("zlib", False, "1.2.13")]),
        ("python311.dll", b"\0incorrect header check\0ref\x001.3.1\0", [("zlib", False, "1.3.1")]),
        ("zlib.cpython-311.so", b"\x001.2.13\0", []),
        ("libsqlite3.so.0", SQLITE + b"\x003.40.1\0", [("sqlite", True, "3.40.1")]),
        ("sqlite3.dll", SQLITE + b"@@@3.45.1\0", [("sqlite", True, "3.45.1")]),
        ("_sqlite3.so", b"\x002.6.0\x003.11.7\0", []),
        ("liblzma.so.5", b"\x005.4.1\0", [("xz", True, "5.4.1")]),
        ("_lzma.pyd", CRC64 + b"\x005.2.5\0", [("xz", False, "5.2.5")]),
        ("_lzma.pyd", CRC64, [("xz", False, "")]),
        ("libmagic.so.1", b"\xfd7zXZ\0", []),
        ("libbz2.so.1.0", b"1.0.8, 13-Jul-2019\0", [("bzip2", True, "1.0.8")]),
        ("pyexpat.so", b"expat_2.5.0\0expat_external.h\0", [("expat", False, "2.5.0")]),
        ("_elementtree.so", b"expat_parse\0expat_capi\0", []),
        ("_decimal.so", b"libmpdec: internal error in x\x002.5.1\0", [("mpdecimal", False, "2.5.1")]),
        ("libreadline.so.8", b"\x008.2\0", [("readline", True, "8.2")]),
        ("readline.so", b"EditLine wrapper\x008.2\0", []),
        ("libtinfo.so.6", b"ncurses 6.4.20221231\0", [("ncurses", True, "6.4")]),
        ("libffi.so.8", b"LIBFFI_BASE_8.0\0", [("libffi", True, "")]),
        ("libgdbm.so.6", b"GDBM version 1.23. 04/02/2022\0", [("gdbm", True, "1.23")]),
        ("_yaml.so", b"did not find expected <stream-start>\x000.2.5\0", [("libyaml", False, "0.2.5")]),
        ("libzstd.so.1", b"\xca\xeb\x85w1.5.4\0", [("zstd", True, "")]),  # a letter before it: part of another text
        ("libzstd.so.1", b"\xca\xeb\x851.5.4\0", [("zstd", True, "1.5.4")]),
        ("plain.so", b"", []),
    ],
)  # fmt: skip
def test_what_the_bytes_say(name: str, content: bytes, found: list[tuple[str, bool, str]]) -> None:
    """A version is taken from a library's own words, or from a number that nothing else can be."""
    assert read(name, content) == found


@pytest.mark.parametrize(
    ("content", "taken", "version"),
    [
        (SQLITE + b"\x003.50.2\x003.11.13\0", ("3.11.13",), "3.50.2"),
        (SQLITE + b"\x003.50.2\x003.11.13\0", (), ""),
        (SQLITE + OPENSSL + b"\x003.50.2\x003.0.13\0", (), "3.50.2"),
        (SQLITE + b"\x003.50.2\x003.50.2\0", (), "3.50.2"),
        (SQLITE + b"\x00version/3.50.2\0", (), ""),
    ],
)
def test_a_number_is_believed_when_it_is_the_only_one_left(
    content: bytes, taken: tuple[str, ...], version: str
) -> None:
    """Not when it may be the interpreter's, or when two are left: then the version is unknown, and never guessed."""
    assert ("sqlite", False, version) in read("libpython3.11.so.1.0", content, *taken)


def test_two_versions_in_one_file_are_none() -> None:
    """A file with two OpenSSLs in it has one of an unknown version."""
    assert read("_x.so", OPENSSL + b"OpenSSL 1.1.1w  11 Sep 2023\0") == [("openssl", False, "")]


@pytest.mark.parametrize("prefix", [b"", b"MZ" + bytes(400)])
def test_version_resource(prefix: bytes) -> None:
    """A Windows library's own version, as its resource has it; only where the row says that this is the library's."""
    fixed = struct.pack("<IIII", 0xFEEF04BD, 0x00010000, 14 << 16 | 38, 33126 << 16 | 1)
    content = prefix + fixed + bytes(36)

    assert file_version(content) == ("14.38.33126.1",)
    assert read("vcruntime140.dll", content) == [("microsoft-vc-runtime", True, "14.38.33126.1")]
    assert read("libffi-8.dll", content) == [("libffi", True, "")]


@pytest.mark.parametrize(
    "content", [b"", b"\xbd\x04\xef\xfe", struct.pack("<IIII", 0xFEEF04BD, 0x10000, 0, 0)]
)
def test_no_version_resource(content: bytes) -> None:
    """None, one that is cut off, and one of zeros say nothing."""
    assert file_version(content) == ()


@pytest.mark.parametrize(
    ("version", "licence"), [("3.0.13", "Apache-2.0"), ("1.1.1w", "OpenSSL"), ("", "")]
)  # fmt: skip
def test_a_licence_may_depend_on_the_version(version: str, licence: str) -> None:
    """OpenSSL has another one since 3.0; of an unknown version it is unknown."""
    assert libraries()["openssl"].licence_of(version) == licence


def test_rows() -> None:
    """Each row can be recognised, its patterns compile with one group, and its licence is an expression or words."""
    for name, row in libraries().items():
        assert row.files or row.find or row.version, name
        assert all(glob == glob.lower() for glob in row.files), name
        assert re.compile(row.version).groups == (1 if row.version else 0), name
        assert re.compile(row.plain).groups == 0, name
        assert re.fullmatch(r"|[a-z0-9_-]+:[a-z0-9_.-]+", row.cpe), name
        for licence in (row.licence, *row.earlier.values()):
            if " licence" not in licence and licence != "public domain":
                assert canonicalize_license_expression(licence) == licence, name


def test_words_are_no_expression() -> None:
    """What the test above lets pass is nothing that SPDX knows under that name."""
    with pytest.raises(InvalidLicenseExpression):
        canonicalize_license_expression("public domain")


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("libzmq.so.5", ""), ("libsslx.so", ""), ("libzstd.so.1", "zstd"), ("LIBCRYPTO-3.DLL", "openssl"), ("libcrypt.so.1", "libxcrypt"),
        ("libstdc++.so.6", "gcc-runtime"), ("libnsl.so.1", ""), ("VCRUNTIME140_1.dll", "microsoft-vc-runtime"), ("libpython3.11.so.1.0", ""),
        ("libz.1.dylib", "zlib"), ("libdb-5.3.so", "berkeley-db"), ("libquadmath.so.0", "libquadmath"),
        ("libwinpthread-1.dll", "winpthreads"), ("libgcc_s_seh-1.dll", "gcc-runtime"),
    ],
)  # fmt: skip
def test_own_files(name: str, library: str) -> None:
    """By name, whatever the case; a name that only begins alike is another library."""
    assert own_library(name) == library


@pytest.mark.parametrize(
    ("library", "version", "licence"),
    [
        ("libquadmath", "12.2.0", "LGPL-2.1-or-later"), ("winpthreads", "", "MIT AND BSD-3-Clause"),
        ("gcc-runtime", "12.2.0", "GPL-3.0-or-later WITH GCC-exception-3.1"), ("berkeley-db", "5.3.28", "Sleepycat"),
        ("berkeley-db", "6.2.32", "AGPL-3.0-only"), ("berkeley-db", "", ""), ("openssl", "1.1.1w", "OpenSSL"),
    ],
)  # fmt: skip
def test_licences_that_differ_in_one_family(library: str, version: str, licence: str) -> None:
    """What GCC and MinGW ship beside each other, and what changed its licence: each has its own."""
    assert libraries()[library].licence_of(version) == licence


@pytest.mark.skipif(sys.platform != "linux", reason="how a process tells what it has loaded")
def test_the_libraries_of_this_process() -> None:
    """Read from the files that this very process has mapped: what ssl, zlib, sqlite3 and pyexpat say of themselves."""
    pyexpat = pytest.importorskip("pyexpat")
    sqlite3, ssl = pytest.importorskip("sqlite3"), pytest.importorskip("ssl")
    said = {
        "openssl": ssl.OPENSSL_VERSION.split()[1], "zlib": zlib.ZLIB_RUNTIME_VERSION, "sqlite": sqlite3.sqlite_version,
        "expat": pyexpat.EXPAT_VERSION.removeprefix("expat_"),
    }  # fmt: skip
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    wanted = ("libcrypto", "_ssl", "libz.", "zlib", "sqlite", "expat", "libpython", "python3")
    mapped = {line.split(None, 5)[5] for line in lines if line.count("/") and len(line.split(None, 5)) == 6}
    files = [Path(path) for path in sorted(mapped) if any(word in path.rpartition("/")[2] for word in wanted)]
    taken = ".".join(map(str, sys.version_info[:3]))
    found: dict[str, set[str]] = {}
    for file in files:
        if file.is_file():
            for library, _, version in read(file.name, file.read_bytes(), taken):
                found.setdefault(library, set()).update({version} - {""})

    assert {name: version for name, version in said.items() if version not in found.get(name, set())} == {}
