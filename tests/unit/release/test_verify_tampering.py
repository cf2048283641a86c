"""Whatever is changed in a version's folder, and wherever, is refused; and the message names the object."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.artifacts import Kind
from ferryman_build.manifest import MANIFEST, SUMS
from ferryman_release.errors import VerifyError
from ferryman_release.model import RELEASE, Release, to_json
from ferryman_release.provenance import envelope, statement
from ferryman_release.verify.engine import verify_all
from ferryman_release.verify.evidence import Trust
from ferryman_release.verify.model import Failed, Held, Result
from ferryman_release.verify.opening import opened
from ferryman_release.verify.policies import select
from support.release_factory import ReleaseFolder, make_release_folder, minisign_key, sign_sums
from support.release_keys import signer

TRUST = Trust(minisign=(minisign_key(),), provenance=(signer("provenance").public_key,))
ONE, OTHER = "lantern-1.0.0-linux-amd64.tar.gz", "lantern-1.0.0-linux-amd64"
MINISIG = f"{SUMS}.minisig"
OBJECTS = (ONE, SUMS, MINISIG, f"{ONE}.intoto.json", f"{ONE}.cdx.json", MANIFEST, RELEASE)


@pytest.fixture
def folder(tmp_path: Path) -> ReleaseFolder:
    return make_release_folder(tmp_path / "repository")


def asked(path: Path, *words: str, trust: Trust = TRUST) -> tuple[Result, ...]:
    with opened(str(path), trust, None) as found:
        return verify_all(found, select(words))


def failed(results: tuple[Result, ...]) -> dict[str, str]:
    """Policy → why, of those that failed."""
    return {one.policy: one.verdict.why for one in results if isinstance(one.verdict, Failed)}


def wrongs(path: Path) -> list[str]:
    """Everything that is said against a file or a folder; a list of artifacts that cannot be read ends it at once."""
    try:
        return list(failed(asked(path)).values())
    except VerifyError as error:
        return [str(error)]


def refused(path: Path, named: str) -> None:
    """What is verified with everything beside it fails, and some message names the object."""
    found = wrongs(path)
    assert found, f"nothing noticed that {named} was changed"
    assert any(named in why for why in found), found


def test_what_was_not_changed_holds(folder: ReleaseFolder) -> None:
    """The beginning of every test here: the folder as it was published is verified, by five policies."""
    results = asked(folder.path)

    assert failed(results) == {}
    held = {one.policy for one in results if isinstance(one.verdict, Held)}
    assert held == {"checksums", "signature", "release", "sbom", "provenance"}
    assert {one.subject for one in results} == set(folder.names)


Change = Callable[[bytes], bytes]


def unsigned(whole: bytes) -> set[int]:
    """Places that nobody vouches for: minisign's untrusted comment, and the media types that browsers are told."""
    free = re.finditer(rb'"media-type": "([^"]*)"|untrusted comment: ([^\n]*)', whole)
    spans = (match.span(1 if match[1] is not None else 2) for match in free)
    return {place for start, end in spans for place in range(start, end)}


def flipped(place: float) -> Change:
    """One bit of the byte at this part of the file, or of the next one that somebody vouches for."""

    def change(data: bytes) -> bytes:
        skipped = unsigned(data)
        at = min(int(len(data) * place), len(data) - 1)
        at = next(at for at in range(at, len(data)) if at not in skipped)
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return change


REGIONS: dict[str, Change] = {
    "first byte": flipped(0),
    "a third": flipped(1 / 3),
    "middle": flipped(0.5),
    "two thirds": flipped(2 / 3),
    "last byte": flipped(1),
    "appended": lambda data: data + b"x",
    "a line appended": lambda data: data + b"\n",
    "cut by one": lambda data: data[:-1],
    "cut in half": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
}


@pytest.mark.parametrize(("name", "region"), list(itertools.product(OBJECTS, REGIONS)))
def test_any_region_of_any_object(folder: ReleaseFolder, name: str, region: str) -> None:
    """One object, one change: the artifact beside it is not verified; what release.json says of others, the folder is not."""
    path = folder.path / name
    path.write_bytes(REGIONS[region](path.read_bytes()))

    if (name, region) == (MINISIG, "first byte"):
        assert failed(
            asked(folder.path / ONE)
        )  # a comment that nobody has signed; its form is still looked at
    else:
        refused(folder.path / ONE, name)


@pytest.mark.parametrize("name", OBJECTS)
def test_each_byte_of_each_object(folder: ReleaseFolder, name: str) -> None:
    """Not only the regions: bytes all over every object, changed alone, is noticed when the folder is verified."""
    path = folder.path / name
    whole = path.read_bytes()
    skipped = unsigned(whole)
    unnoticed = []
    for place in range(0, len(whole), max(13, len(whole) // 97)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if place not in skipped and not wrongs(folder.path):
            unnoticed.append((place, whole[max(0, place - 20) : place + 20]))

    assert unnoticed == []


@pytest.mark.parametrize("suffix", ["", ".intoto.json", ".cdx.json"])
def test_swapped_between_two_artifacts(folder: ReleaseFolder, suffix: str) -> None:
    """Everything is genuine, and two files have changed places."""
    one, other = folder.path / f"{ONE}{suffix}", folder.path / f"{OTHER}{suffix}"
    first, second = one.read_bytes(), other.read_bytes()
    if first == second:  # archive and executable of one target have the same contents inside
        other = folder.path / f"lantern-1.0.0-linux-arm64{suffix}"
        second = other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)

    refused(folder.path / ONE, f"{ONE}{suffix}")


@pytest.mark.parametrize("suffix", [".intoto.json", ".cdx.json"])
def test_swapped_without_sums(folder: ReleaseFolder, suffix: str) -> None:
    """The documents bind themselves to their artifact: also where no checksums would tell."""
    other = f"lantern-1.0.0-linux-arm64.tar.gz{suffix}"
    shutil.copy(folder.path / other, folder.path / f"{ONE}{suffix}")
    for name in (SUMS, MINISIG, RELEASE):
        (folder.path / name).unlink()

    refused(folder.path / ONE, f"{ONE}{suffix}")


@pytest.mark.parametrize("name", [SUMS, MINISIG, MANIFEST, RELEASE])
def test_swapped_between_two_versions(folder: ReleaseFolder, tmp_path: Path, name: str) -> None:
    """A genuine object of another version, under the same name."""
    newer = make_release_folder(tmp_path / "repository", "1.1.0")
    shutil.copy(newer.path / name, folder.path / name)

    refused(folder.path / ONE, name)


@pytest.mark.parametrize("suffix", ["", ".intoto.json", ".cdx.json"])
def test_an_artifact_of_another_version_under_this_name(
    folder: ReleaseFolder, tmp_path: Path, suffix: str
) -> None:
    """An older artifact, with everything genuine, served as if it were this one."""
    older = make_release_folder(tmp_path / "repository", "0.9.0")
    shutil.copy(older.path / f"lantern-0.9.0-linux-amd64.tar.gz{suffix}", folder.path / f"{ONE}{suffix}")

    refused(folder.path / ONE, f"{ONE}{suffix}")


def test_a_whole_older_version_in_this_place(folder: ReleaseFolder, tmp_path: Path) -> None:
    """All files of 0.9.0, genuine to the last byte, below .../1.0.0/: the signed comment says what they are."""
    older = make_release_folder(tmp_path / "repository", "0.9.0")
    shutil.rmtree(folder.path)
    shutil.copytree(older.path, folder.path)

    wrong = failed(asked(folder.path))

    assert "0.9.0" in wrong["signature"]
    assert MINISIG in wrong["signature"]
    assert RELEASE in wrong["release"]
    assert "0.9.0" in wrong["provenance"]


def test_another_program_in_this_place(folder: ReleaseFolder, tmp_path: Path) -> None:
    """The same key signs several programs: one is not taken for another."""
    other = make_release_folder(tmp_path / "repository", name="beacon")
    shutil.rmtree(folder.path)
    shutil.copytree(other.path, folder.path)

    assert "beacon" in failed(asked(folder.path))["signature"]


@pytest.mark.parametrize(("role", "policy"), [("minisign", "signature"), ("provenance", "provenance")])
def test_a_right_signature_by_a_wrong_key(tmp_path: Path, role: str, policy: str) -> None:
    """Everything fits together, and was signed by somebody else."""
    forged = make_release_folder(tmp_path / "repository", **{role: "somebody else"})  # type: ignore[arg-type]

    assert set(failed(asked(forged.path / ONE))) == {policy}


def test_a_forger_who_signs_everything_anew(tmp_path: Path) -> None:
    """Both signatures by the forger's keys: nothing that is trusted is left."""
    forged = make_release_folder(tmp_path / "r", minisign="somebody else", provenance="somebody else")

    assert set(failed(asked(forged.path / ONE))) == {"signature", "provenance"}


def test_a_key_id_that_lies(folder: ReleaseFolder) -> None:
    """A signature by another key that claims the id of the trusted one."""
    sign_sums(folder.path, "lantern", "1.0.0", "somebody else")
    path = folder.path / MINISIG
    lines = path.read_text().splitlines()
    signature = base64.b64decode(lines[1])
    lines[1] = base64.b64encode(signature[:2] + minisign_key().key_id + signature[10:]).decode()
    path.write_text("".join(f"{line}\n" for line in lines))

    assert MINISIG in failed(asked(folder.path / ONE))["signature"]


def with_envelope(folder: ReleaseFolder, data: bytes) -> dict[str, str]:
    """What fails with another provenance, when its hash is in sums that are signed."""
    (folder.path / f"{ONE}.intoto.json").write_bytes(data)
    sign_sums(folder.path, "lantern", "1.0.0")
    return failed(asked(folder.path / ONE))


def test_another_payload_type(folder: ReleaseFolder) -> None:
    """The right key signed this text as something else: it is no statement."""
    payload = statement(folder.manifest, folder.manifest.artifacts[0])
    signed = envelope(payload, [signer("provenance")], payload_type="text/plain")

    assert f"{ONE}.intoto.json" in with_envelope(folder, signed)["provenance"]


@pytest.mark.parametrize("where", ["envelope", "signature", "statement", "predicate"])
def test_fields_that_nobody_knows(folder: ReleaseFolder, where: str) -> None:
    """A document with more in it than its format has is none of ours, signed or not."""
    artifact = next(one for one in folder.manifest.artifacts if one.path == ONE)
    said: dict[str, Any] = json.loads(statement(folder.manifest, artifact))
    if where == "statement":
        said["more"] = 1
    if where == "predicate":
        said["predicate"]["more"] = 1
    made: dict[str, Any] = json.loads(envelope(json.dumps(said).encode(), [signer("provenance")]))
    if where == "envelope":
        made["more"] = 1
    if where == "signature":
        made["signatures"][0]["more"] = 1

    assert f"{ONE}.intoto.json" in with_envelope(folder, json.dumps(made).encode())["provenance"]


def changed_release(folder: ReleaseFolder, change: Callable[[dict[str, Any]], None]) -> dict[str, str]:
    document: dict[str, Any] = json.loads((folder.path / RELEASE).read_bytes())
    change(document)
    (folder.path / RELEASE).write_bytes(json.dumps(document, indent=2).encode() + b"\n")
    return failed(asked(folder.path))


RELEASE_CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a newer version": lambda it: it["project"].update(version="9.0.0"),
    "another program": lambda it: it["project"].update(name="beacon"),
    "another commit": lambda it: it["source"].update(commit="0" * 40),
    "another date": lambda it: it.update(released="2020-01-01T00:00:00Z"),
    "a file less": lambda it: it["assets"].pop(),
    "a file more": lambda it: it["assets"].append({**it["assets"][0], "path": "more"}),
    "another hash": lambda it: it["assets"][0].update(sha256="0" * 64),
    "another size": lambda it: it["assets"][3].update(size=1),
    "another kind": lambda it: it["assets"][0].update(kind="signature"),
    "another subject": lambda it: it["assets"][-1].update(about="another"),
    "another floor": lambda it: it["artifacts"][0].update(promise={}),
    "another list": lambda it: it["artifacts"].pop(),
    "an unknown field": lambda it: it.update(more=1),
    "another schema": lambda it: it.update({"schema-version": 2}),
}


@pytest.mark.parametrize("change", RELEASE_CHANGES)
def test_what_release_json_says(folder: ReleaseFolder, change: str) -> None:
    """Each fact of release.json is held against the signed sums and the manifest that they list."""
    wrong = changed_release(folder, RELEASE_CHANGES[change])

    assert set(wrong) == {"release"}
    assert RELEASE in wrong["release"]


def test_a_release_json_that_leaves_the_sums_alone(folder: ReleaseFolder) -> None:
    """The folder's own release.json, in its own bytes, is what the policy accepts."""
    assert to_json(folder.release) == (folder.path / RELEASE).read_bytes()
    assert isinstance(folder.release, Release)


def test_a_file_that_the_manifest_lists_is_missing(folder: ReleaseFolder) -> None:
    """A folder is verified whole: what it lists has to be there."""
    (folder.path / ONE).unlink()

    wrong = asked(folder.path)

    assert "is listed and not there" in failed(wrong)["file"]
    assert ONE in failed(wrong)["file"]


def test_a_document_that_nobody_listed(folder: ReleaseFolder) -> None:
    """An SBOM put beside a release that has none."""
    bare = make_release_folder(folder.prefix, "2.0.0", sboms=False, kinds=(Kind.ARCHIVE,))
    name = "lantern-2.0.0-linux-amd64.tar.gz"
    text = (folder.path / f"{ONE}.cdx.json").read_text().replace("1.0.0", "2.0.0")
    (bare.path / f"{name}.cdx.json").write_text(text)

    wrong = failed(asked(bare.path / name))

    assert f"{name}.cdx.json is not listed" in wrong["checksums"]
    assert f"{name}.cdx.json is not listed" in wrong["sbom"]


def test_a_renamed_file_is_recognised(folder: ReleaseFolder) -> None:
    """Its hash tells which one it is; that is said, and it is still refused: a name is a promise."""
    (folder.path / ONE).rename(folder.path / "lantern")

    assert f"it is {ONE}" in failed(asked(folder.path / "lantern"))["checksums"]
