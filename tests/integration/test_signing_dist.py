"""`ferryman codesign`: a dist/ folder whose programs for Windows are signed, with an authority for the time on loopback."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from ferryman_build.artifacts import Kind
from ferryman_build.manifest import MANIFEST, SUMS, read_manifest
from ferryman_release import cli
from support.authenticode_ca import Authorities, make_authorities
from support.dist_factory import file_name, make_dist
from support.time_authority import time_authority

pytestmark = pytest.mark.integration

PROGRAM = file_name("lantern", "1.0.0", "windows-amd64", Kind.EXECUTABLE)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    for name in ("osslsigncode", "openssl"):
        if shutil.which(name) is None:
            pytest.skip(f"not installed: {name}")
    made = make_authorities(tmp_path_factory.mktemp("authorities"))
    both = made.roots.read_bytes() + made.time_roots.read_bytes()
    made.roots.write_bytes(both)  # one file of roots, as a system has
    return made


@pytest.fixture
def dist(tmp_path: Path, authorities: Authorities, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Artifacts for three targets; the program for Windows is a real one."""
    make_dist(tmp_path / "dist", contents={PROGRAM: (files("setuptools") / "cli-64.exe").read_bytes()})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FERRYMAN_KEY_PASSPHRASE_AUTHENTICODE", authorities.passphrase)
    return tmp_path / "dist"


def content(dist: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dist.iterdir()}


def test_programs_for_windows_are_signed_and_listed(
    dist: Path, authorities: Authorities, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signed with a stamp of the authority, manifest and checksums follow, the rest is as it was; again: nothing."""
    before = content(dist)
    words = [
        "codesign",
        "--windows",
        str(authorities.bundle),
        "--ca",
        str(authorities.roots),
        "--description",
        "Lantern",
    ]
    with time_authority(authorities, tmp_path / "desk") as (url, answered):
        assert cli.main([*words, "--timestamp", url]) == 0
        assert len(answered) == 1
        first = content(dist)
        assert capsys.readouterr().out == f"signed {PROGRAM}\n"
        assert cli.main([*words, "--timestamp", url, "--verbose"]) == 0
        assert len(answered) == 1
    shown = capsys.readouterr()
    assert shown.out == "everything is signed already\n"
    assert content(dist) == first
    assert {name for name in first if first[name] != before.get(name)} == {PROGRAM, MANIFEST, SUMS}
    (listed,) = [one for one in read_manifest(dist / MANIFEST).artifacts if one.path == PROGRAM]
    assert (listed.size, listed.sha256) == (len(first[PROGRAM]), hashlib.sha256(first[PROGRAM]).hexdigest())
    subprocess.run(["sha256sum", "-c", SUMS], cwd=dist, check=True, capture_output=True)
    said = subprocess.run(
        ["osslsigncode", "verify", "-in", dist / PROGRAM, "-CAfile", authorities.roots, "-TSA-CAfile", authorities.roots],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "Timestamp Server Signature verification: ok" in said
    logs = "".join(path.read_text() for path in (tmp_path / "out" / "logs").iterdir())
    assert authorities.passphrase not in logs + shown.err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ([], 2, "No certificate was named"),
        (["--windows", "P12"], 2, "who vouches for the time"),
        (["--windows", "P12", "--timestamp", "http://127.0.0.1:9/"], 29, "failed with exit code"),
        (["--windows", "none.p12", "--timestamp", "http://127.0.0.1:9/"], 24, "is not there"),
        (["--macos", "P12"], 2, "what macOS is to call"),
        (
            ["--windows", "P12", "--timestamp", "http://127.0.0.1:9/", "--dist", "nowhere"],
            20,
            "There is no manifest.json",
        ),
    ],
)
def test_nothing_is_signed_by_halves(
    dist: Path,
    authorities: Authorities,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    text: str,
) -> None:
    """Each mistake is a sentence with a cure; dist/ is as it was, also after an authority that does not answer."""
    before = content(dist)
    given = [str(authorities.bundle) if word == "P12" else word for word in words]
    assert cli.main(["codesign", *given]) == code
    shown = capsys.readouterr().err
    assert text in shown
    assert "what to do: " in shown
    assert content(dist) == before


def test_what_was_not_built_here_is_not_signed(
    dist: Path, authorities: Authorities, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that is not the one of the manifest gets no signature."""
    (dist / PROGRAM).write_bytes(b"MZ something else")
    words = ["--windows", str(authorities.bundle), "--timestamp", "http://127.0.0.1:9/"]
    assert cli.main(["codesign", *words]) == 20
    assert PROGRAM in capsys.readouterr().err
