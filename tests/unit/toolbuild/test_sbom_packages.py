"""sbom.packages: which package of a distribution a file came with, from dpkg's own files; made up here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from ferryman_build.sbom.packages import Package, owning_packages

STATUS = """Package: libssl3
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: openssl
Version: 3.0.17-1~deb12u2
Description: Secure Sockets Layer toolkit
 Version: this is a line of a text

Package: zlib1g
Architecture: amd64
Source: zlib (1:1.2.13.dfsg-1)
Version: 1:1.2.13.dfsg-1+b1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root filesystem with two packages; /lib is a link, as since Debian 12."""
    base = tmp_path / "root"
    info = base / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (base / "var/lib/dpkg/status").write_text(STATUS, encoding="utf-8")
    (base / "etc").mkdir()
    (base / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n', encoding="utf-8")
    folder = base / "usr/lib/x"
    folder.mkdir(parents=True)
    (base / "lib").symlink_to("usr/lib")
    (folder / "libssl.so.3").write_bytes(b"ssl")
    (folder / "libz.so.1.2.13").write_bytes(b"zlib")
    (folder / "libz.so.1").symlink_to("libz.so.1.2.13")
    sums = {name: hashlib.md5(name.encode(), usedforsecurity=False).hexdigest() for name in ("ssl", "zlib")}
    (info / "libssl3:amd64.md5sums").write_text(f"{sums['ssl']}  usr/lib/x/libssl.so.3\n", encoding="utf-8")
    (info / "zlib1g.md5sums").write_text(f"{sums['zlib']}  lib/x/libz.so.1.2.13\n", encoding="utf-8")
    (info / "gone.md5sums").write_text(f"{sums['zlib']}  usr/lib/x/libgone.so\n", encoding="utf-8")
    return base


SSL = Package(
    name="libssl3", version="3.0.17-1~deb12u2", architecture="amd64", source="openssl", source_version="3.0.17-1~deb12u2",
    distro="debian-12",
)  # fmt: skip


@pytest.mark.parametrize("place", ["usr/lib/x/libssl.so.3", "lib/x/libssl.so.3"])
def test_owner(root: Path, place: str) -> None:
    """By either name of its folder; with the source package, and its version without the distribution's part."""
    file = root / place

    assert owning_packages([file]) == {file: SSL}
    assert SSL.upstream == "3.0.17"


def test_link_and_epoch(root: Path) -> None:
    """The file that a link means is the package's; a source may have another version than what was built from it."""
    file = root / "lib/x/libz.so.1"
    package = owning_packages([file])[file]

    assert (package.name, package.source, package.source_version) == ("zlib1g", "zlib", "1:1.2.13.dfsg-1")
    assert package.upstream == "1.2.13"


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("1.3.3+ds-1", "1.3.3"), ("5.3.28+dfsg2-1", "5.3.28"), ("1.2.13.dfsg", "1.2.13"), ("2:1.0~repack.1-2", "1.0"),
        ("4.4.33-2", "4.4.33"), ("12.2.0-14+deb12u1", "12.2.0"), ("1.0.dsp-1", "1.0.dsp"), ("6.4+20221231-1", "6.4+20221231"),
    ],
)  # fmt: skip
def test_upstream(version: str, upstream: str) -> None:
    """Neither epoch, revision nor the mark of repacked sources is part of the software's version."""
    assert msgspec.structs.replace(SSL, source_version=version).upstream == upstream


def test_replaced_file(root: Path) -> None:
    """A library with another content than the package's is nobody's, whatever its name."""
    file = root / "usr/lib/x/libssl.so.3"
    file.write_bytes(b"built by hand")

    assert owning_packages([file]) == {}


def test_others(root: Path, tmp_path: Path) -> None:
    """Files that are not there, that no package lists, of a package without a version, or of no such system."""
    for name in ("usr/lib/x/none.so", "usr/lib/x/own.so", "usr/lib/x/libgone.so"):
        file = root / name
        if "none" not in name:
            file.write_bytes(b"zlib")
        assert owning_packages([file]) == {}
    outside = tmp_path / "elsewhere.so"
    outside.write_bytes(b"ssl")
    assert owning_packages([outside]) == {}


@pytest.mark.parametrize(
    ("text", "distro"), [("ID=ubuntu\nVERSION_ID=22.04\n", "ubuntu-22.04"), ("ID='debian'\n", "debian"), (None, "debian")]
)  # fmt: skip
def test_distro(root: Path, text: str | None, distro: str) -> None:
    """From os-release; a system that does not say its release has a name alone."""
    place = root / "etc/os-release"
    place.unlink()
    if text is not None:
        place.write_text(text, encoding="utf-8")
    file = root / "usr/lib/x/libssl.so.3"

    assert owning_packages([file])[file].distro == distro
