"""One statement of the platform is about many artifacts; each finds it by the bytes that it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferryman_release.errors import GithubError
from ferryman_release.github.bundles import find_bundle, subjects
from support.attestations import sha256, write

RECORDED = Path(__file__).resolve().parents[2] / "support" / "sigstore"


def test_one_bundle_for_many(tmp_path: Path) -> None:
    """Each artifact of a build finds the one bundle of the workflow; one that it is not about finds none."""
    bundle = write(tmp_path / "attestations" / "attestation.json", b"one", b"two")

    assert [find_bundle(tmp_path, name, sha256(name.encode())) for name in ("one", "two", "three")] == [
        bundle,
        bundle,
        None,
    ]


def test_the_artifacts_own_comes_first(tmp_path: Path) -> None:
    """A bundle under the artifact's name is taken before the common one."""
    write(tmp_path / "attestations" / "attestation.json", b"one")
    own = write(tmp_path / "one.sigstore.json", b"one")

    assert find_bundle(tmp_path, "one", sha256(b"one")) == own


def test_nothing_there(tmp_path: Path) -> None:
    """Outside of a workflow there are none, which is no failure."""
    assert find_bundle(tmp_path, "one", sha256(b"one")) is None


def test_a_bundle_of_other_bytes(tmp_path: Path) -> None:
    """A bundle under an artifact's name that is about something else is refused, not published."""
    write(tmp_path / "one.sigstore.json", b"an older build")
    with pytest.raises(GithubError, match="is not about one as it is now"):
        find_bundle(tmp_path, "one", sha256(b"one"))


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("attest-build-provenance", "07e4b8c0e3580b3e4a1eb62c70f1ffb86004d3d94f50767cb404fa7a639b4d05"),
        ("rfc8785-0.1.2", "c4e92e9ecc828bef2aa7dba1de8ac983511f7532a0df11c770d39099a25cf201"),
    ],
)
def test_real_bundles(name: str, digest: str) -> None:
    """What the platform's action wrote, and what signs a single file, are both read."""
    assert subjects(RECORDED / f"{name}.sigstore.json") == {digest}


@pytest.mark.parametrize("text", ["", "{}", '{"mediaType": "x"}', "[]", '{"mediaType": "x", "dsseEnvelope": {"payload": "%%"}}',
                                  '{"mediaType": "x", "dsseEnvelope": {"payload": "e30="}}'])  # fmt: skip
def test_files_that_are_no_bundles(tmp_path: Path, text: str) -> None:
    """A sentence that names the file."""
    path = tmp_path / "attestation.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GithubError, match=r"attestation\.json is no Sigstore bundle"):
        subjects(path)
