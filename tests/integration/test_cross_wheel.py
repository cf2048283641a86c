"""Real wheels for this machine and for macOS, from one project; tests/e2e/wheels has the other targets, and runs them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ferryman_build.errors import BuildStepError
from ferryman_build.inspect.macho import read_macho
from ferryman_build.targets import host_target
from ferryman_build.wheels import refuse_other_sources
from support.plover.building import ONE_VERSION, PROBE, STABLE, build, copied, expected, unpacked

pytestmark = [pytest.mark.integration, pytest.mark.network, pytest.mark.timeout(1800)]
LINUX = pytest.mark.skipif(
    sys.platform != "linux" or host_target().id != "linux-amd64", reason="the wheel is for linux-amd64"
)


@LINUX
def test_wheel_for_this_machine_is_imported(tmp_path: Path) -> None:
    """It has its manylinux name, and does what its C says."""
    made = build("linux-amd64", tmp_path / "into")

    site = unpacked(made, tmp_path / "site")
    ran = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{PROBE}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.name == "plover-1.2.0-cp311-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
    assert (ran.stdout.strip(), ran.stderr) == (expected(), "")


def test_wheel_for_macos(tmp_path: Path) -> None:
    """Its name and the file in it say macOS 11 on arm64, it needs the system alone, and nothing else is in the wheel."""
    made = build("darwin-arm64", tmp_path / "into")

    archive = zipfile.ZipFile(made)
    native = read_macho("_core.abi3.so", io.BytesIO(archive.read("plover/_core.abi3.so")))
    assert made.name == "plover-1.2.0-cp311-abi3-macosx_11_0_arm64.whl"
    assert native.architectures == ("arm64",)
    assert native.floor["macos"].version == "11.0"
    assert native.needed == ("/usr/lib/libSystem.B.dylib",)
    assert [name for name in archive.namelist() if "dist-info" not in name] == [
        "plover/__init__.py",
        "plover/_core.abi3.so",
        "plover/songs.txt",
    ]


@pytest.mark.parametrize("target", ["linux-amd64", "darwin-arm64"])
def test_bytes_are_the_same_everywhere(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder of the project, another place of the build, umask, time zone and hash seed: the same wheel."""
    one = build(target, tmp_path / "one")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("TZ", "Pacific/Chatham")
    before = os.umask(0o077)
    try:
        with copied(STABLE, tmp_path) as elsewhere:
            other = build(target, tmp_path / "a longer name, and deeper", elsewhere)
    finally:
        os.umask(before)

    data = b"".join(zipfile.ZipFile(one).read(name) for name in zipfile.ZipFile(one).namelist())
    assert one.read_bytes() == other.read_bytes()
    assert str(tmp_path).encode() not in data
    assert str(STABLE).encode() not in data
    assert b".cross-" not in data


@LINUX
def test_wheels_of_two_targets_have_the_same_sources(tmp_path: Path) -> None:
    """A wheel that was built for one target vouches for the one of another: the default of `wheels = "folder"`."""
    app = unpacked(build("linux-amd64", tmp_path / "one"), tmp_path / "app")
    other = build("darwin-arm64", tmp_path / "other")

    refuse_other_sources(other, app)
    (app / "plover" / "songs.txt").write_text("another song")
    with pytest.raises(BuildStepError, match=r"plover/songs\.txt: differs"):
        refuse_other_sources(other, app)


def test_one_version_needs_the_targets_headers(tmp_path: Path) -> None:
    """Without the stable ABI the structures of the target's CPython are compiled in, and they are not guessed."""
    with pytest.raises(BuildStepError, match="CPython's headers for darwin-arm64 are not here"):
        build("darwin-arm64", tmp_path / "into", ONE_VERSION)

    assert list((tmp_path / "into").iterdir()) == []


def changed(folder: Path, old: bytes, new: bytes) -> None:
    core = folder / "native" / "core.c"
    core.write_bytes(core.read_bytes().replace(old, new))


def test_compiler_is_heard(tmp_path: Path) -> None:
    """What it says is in the message, and nothing is left behind."""
    with copied(STABLE, tmp_path) as elsewhere:
        changed(elsewhere, b"<time.h>", b"<no_such_header.h>")
        with pytest.raises(BuildStepError, match="failed with exit code") as failed:
            build("linux-amd64", tmp_path / "into", elsewhere)

    assert any("no_such_header.h" in line for line in failed.value.details)
    assert list((tmp_path / "into").iterdir()) == []


def test_forgotten_source_is_named(tmp_path: Path) -> None:
    """A function that no file of the extension has would be missed at the first import."""
    with copied(STABLE, tmp_path) as elsewhere:
        setup = elsewhere / "setup.py"
        setup.write_text(setup.read_text().replace(', "native/digest.c"', ""))
        with pytest.raises(BuildStepError, match="uses plover_digest, which neither its own sources"):
            build("linux-amd64", tmp_path / "into", elsewhere)


def test_change_of_sources_is_a_change_of_bytes(tmp_path: Path) -> None:
    """So that equal bytes say something."""
    one = build("linux-amd64", tmp_path / "one")
    with copied(STABLE, tmp_path) as elsewhere:
        changed(elsewhere, b"++((Counter", b"--((Counter")
        other = build("linux-amd64", tmp_path / "other", elsewhere)

    assert one.name == other.name
    assert one.read_bytes() != other.read_bytes()
