"""What somebody may put beside a file so that `ferryman verify` says yes, breaks down, or shows what is not so."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ferryman_build.errors import UsageError
from ferryman_build.manifest import MANIFEST, read_manifest
from ferryman_release import cli
from ferryman_release.errors import KeyProblemError, VerifyError
from ferryman_release.keys import ceremony
from ferryman_release.keys.edit import edit
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.keys.minisign import MinisignKey
from ferryman_release.provenance import envelope, open_envelope
from ferryman_release.provenance.keyless import require_provenance
from ferryman_release.provenance.slsa import statement
from ferryman_release.signing.minisign import MinisignSecret, minisign_sign
from ferryman_release.verify.beside import Signature
from ferryman_release.verify.engine import verify
from ferryman_release.verify.evidence import Evidence, Folder, Trust
from ferryman_release.verify.model import Failed, Held, Skipped, Subject, Verdict
from ferryman_release.verify.opening import opened
from ferryman_release.verify.policies import Selection, select
from ferryman_release.verify.report import harmless
from ferryman_release.verify.signed import Provenance, Tuf
from support.release_keys import NOW, make_keys, signer
from support.releasing import World, make_world

Run = Callable[..., tuple[int, str, str]]
ARTIFACT = "lantern-1.0.0-linux-amd64.tar.gz"
SHA = "ab" * 32


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"))
    made.release()
    return made


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    """A copy of the version's folder, for whoever changes it."""
    copy = tmp_path / "download"
    shutil.copytree(world.store / "artifacts" / "lantern" / "1.0.0", copy)
    return copy


@pytest.fixture
def run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        keys = ("--keys", str(world.keys.folder.path))
        code = cli.main(["verify", *map(str, words), *keys, "--plain"])
        out, err = capsys.readouterr()
        return code, out, err

    return call


# --- lists that list nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--policy", "signature"), ("--json",)])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("SHA256SUMS", ""),
        ("SHA256SUMS", f"{SHA}  x.minisig\n"),
        ("manifest.json", None),
        ("release.json", None),
    ],
)
def test_a_list_of_nothing_is_not_verified(
    folder: Path, run: Run, name: str, content: str | None, more: tuple[str, ...]
) -> None:
    """A folder with a program in it and a list of no files: nothing was verified, so that it does not end with 0."""
    document = json.loads((folder / name).read_text()) if content is None else None
    for path in folder.iterdir():
        path.unlink()
    (folder / "evil.exe").write_bytes(b"MZ")
    text = content if content is not None else json.dumps({**document, "artifacts": []})
    (folder / name).write_text(text, encoding="utf-8")

    code, _, err = run(folder, *more)
    assert code == 23
    assert "without an artifact" in err


def test_what_nothing_lists_is_named(folder: Path, run: Run) -> None:
    """A folder that holds, and a file in it that nobody has said anything of: it is named, as a remark."""
    (folder / "lantern-2.0.0.exe").write_bytes(b"MZ")
    (folder / "bad\x1b[2Jname").write_bytes(b"")

    code, out, _ = run(folder, "--policy", "signature,provenance")
    assert code == 0
    assert "not looked at, since nothing lists it: bad\\x1b[2Jname, lantern-2.0.0.exe" in out
    code, out, _ = run(folder, "--policy", "signature,provenance", "--json")
    assert json.loads(out)["unlisted"] == ["bad\x1b[2Jname", "lantern-2.0.0.exe"]


def test_a_folder_as_it_was_published_has_no_more_than_is_listed(folder: Path, run: Run) -> None:
    """The documents of a release are all known."""
    assert "not looked at" not in run(folder)[1]


def test_files_that_fit_together_may_be_anybodys(folder: Path, run: Run) -> None:
    """Whoever asks for no signature gets an answer, and is told what it is not."""
    code, out, _ = run(folder / ARTIFACT, "--policy", "checksums,sbom")
    assert code == 0
    assert "nothing that is signed was asked" in out
    assert "nothing that is signed" not in run(folder / ARTIFACT, "--policy", "checksums,signature")[1]


# --- words that demand nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "",
        " ",
        "provenance:commit=",
        "provenance:commit= ",
        "sigstore:repository=a/b:ref=",
        "provenance:clean=no",
    ],
)
def test_a_variable_that_is_not_set_demands_nothing_less(word: str) -> None:
    """`--policy provenance:commit=$COMMIT` without the variable is refused, and never asked as if any commit would do."""
    with pytest.raises(UsageError) as caught:
        select([word])
    assert caught.value.advice


def test_clean_without_a_commit(world: World, tmp_path: Path) -> None:
    """Where git said nothing, nobody knows whether the checkout was clean."""
    manifest = read_manifest(world.root / "dist-1.0.0" / MANIFEST)
    bare = msgspec.structs.replace(
        manifest, source=msgspec.structs.replace(manifest.source, commit="", dirty=False)
    )
    artifact = bare.artifacts[0]
    signed = envelope(statement(bare, artifact), [signer("provenance")])
    key = signer("provenance").public_key
    assert not open_envelope(signed, [key]).dirty
    (tmp_path / f"{artifact.path}.intoto.json").write_bytes(signed)
    given = Subject(name=artifact.path, path=tmp_path / artifact.path, size=1, sha256=artifact.sha256)
    evidence = Evidence(Folder(tmp_path), Trust(provenance=(key,)))

    assert isinstance(Provenance().verify(given, evidence, {}), Held)
    verdict = Provenance().verify(given, evidence, {"clean": "yes"})
    assert isinstance(verdict, Failed)
    assert "of no commit" in verdict.why


# --- documents that break readers -------------------------------------------------------------------------------------

DEEP = "[" * 100_000


def test_the_same_reference_twice_is_found_whatever_it_is(folder: Path, run: Run) -> None:
    """References that are lists are no reason to break down."""
    component = {"name": "a", "type": "library", "bom-ref": [1]}
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [component, component]}
    (folder / f"{ARTIFACT}.cdx.json").write_text(json.dumps(document))
    for name in ("SHA256SUMS", "SHA256SUMS.minisig", "manifest.json", "release.json"):
        (folder / name).unlink()

    code, _, err = run(folder / ARTIFACT)
    assert code == 23
    assert "two components of one reference" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (f"{ARTIFACT}.cdx.json", DEEP), (f"{ARTIFACT}.intoto.json", '{"payload":' + DEEP), ("release.json", DEEP),
        ("manifest.json", DEEP), ("manifest.json", '{"x":' + DEEP + "]" * 100_000 + "}"),
        ("release.json", '{"x":' + DEEP + "]" * 100_000 + "}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("whole", [True, False])
def test_brackets_in_brackets(folder: Path, run: Run, name: str, text: str, whole: bool) -> None:
    """A document that is nested without end is refused with a sentence, as is a folder that is listed in one."""
    for other in ("SHA256SUMS", "SHA256SUMS.minisig"):
        (folder / other).unlink()
    (folder / name).write_text(text)

    code, _, err = run(folder if whole else folder / ARTIFACT)
    assert code == 23
    assert "Traceback" not in err


@pytest.mark.parametrize("epoch", [10**18, -(10**15)])
def test_a_date_of_no_calendar(folder: Path, run: Run, epoch: int) -> None:
    """The manifest's date is a number that somebody wrote."""
    document = json.loads((folder / "manifest.json").read_text())
    document["source"]["epoch"] = epoch
    (folder / "manifest.json").write_text(json.dumps(document))

    code, _, err = run(folder / ARTIFACT)
    assert code == 23
    assert "its date is not that of manifest.json" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\rb", "..", "a/b", "x\0y", "C:x", "a\\b"])
def test_names_that_are_none(folder: Path, run: Run, name: str) -> None:
    """A list that nobody has verified names no other folder, and moves no cursor on the terminal of who reads of it."""
    for path in folder.iterdir():
        path.unlink()
    (folder / "SHA256SUMS").write_bytes(f"{SHA}  {name}\n".encode())

    code, out, err = run(folder)
    assert code == 2
    assert not {"\x1b", "\r", "\0"} & set(out + err)


def test_words_from_documents_are_shown_harmlessly(folder: Path, run: Run) -> None:
    """A hash under a name full of control characters is named in the report without them."""
    sums = (folder / "SHA256SUMS").read_text().replace(ARTIFACT, "x\x1b[1A\x1b[2Kheld")
    (folder / "SHA256SUMS").write_text(sums)
    for name in ("SHA256SUMS.minisig", "manifest.json", "release.json"):
        (folder / name).unlink()

    code, out, err = run(folder / ARTIFACT)
    assert code == 23
    assert "x\\x1b[1A\\x1b[2Kheld" in out
    assert "\x1b" not in out + err
    assert harmless("a\nb") == "a\\nb"


# --- who is trusted ---------------------------------------------------------------------------------------------------


def rotated(tmp_path: Path, *, reason: str = "") -> KeyFolder:
    """A key folder whose minisign key was replaced: lost, or revoked for a reason."""
    keys = make_keys(tmp_path / "keys")
    with edit(keys.folder, keys.settings(), NOW + timedelta(days=1)) as change:
        old = ceremony.role_ids(change, "minisign")[0]
        new = ceremony.Named("minisign-2", signer("minisign-2").public_key)
        if reason:
            ceremony.revoke(change, old, reason, new)
        else:
            ceremony.rotate(change, "minisign", new.key)
    return KeyFolder(keys.folder.path)


def old_signature(tmp_path: Path, folder: KeyFolder) -> Verdict:
    """What is said of a release that the first minisign key has signed, by who has today's folder."""
    place = tmp_path / "old"
    place.mkdir()
    sums = f"{SHA}  lantern\n".encode()
    public = MinisignKey.of(bytes.fromhex(signer("minisign").public_key.keyval["public"]))
    signature = minisign_sign(
        sums,
        MinisignSecret(public, signer("minisign")),
        trusted_comment="file:SHA256SUMS",
        untrusted_comment="x",
    )
    (place / "SHA256SUMS").write_bytes(sums)
    (place / "SHA256SUMS.minisig").write_bytes(signature)
    given = Subject(name="lantern", path=place / "lantern", size=1, sha256=SHA)
    evidence = Evidence(Folder(place), Trust(minisign=folder.minisign_keys()))
    selection = Selection(required={"signature": {}})
    return verify(given, evidence, selection, {"signature": Signature()})[0].verdict


def test_releases_from_before_a_rotation(tmp_path: Path) -> None:
    """What a lost key has signed stays good (docs/keys.md)."""
    assert isinstance(old_signature(tmp_path, rotated(tmp_path)), Held)


def test_releases_by_a_revoked_key(tmp_path: Path) -> None:
    """What a key has signed that was revoked does not count."""
    verdict = old_signature(tmp_path, rotated(tmp_path, reason="taken"))
    assert isinstance(verdict, Failed)


def test_a_folder_whose_minisign_pub_was_revoked(tmp_path: Path) -> None:
    """A revocation that was interrupted before minisign.pub was written: the old key is not taken for good."""
    folder = rotated(tmp_path, reason="taken")
    folder.store_minisign(MinisignKey.of(bytes.fromhex(signer("minisign").public_key.keyval["public"])))

    with pytest.raises(KeyProblemError, match="revoked"):
        KeyFolder(folder.path).minisign_public()
    with pytest.raises(KeyProblemError, match="revoked"):
        KeyFolder(folder.path).minisign_keys()


def test_keys_of_a_projects_folder_are_said(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who names no key is told whose keys were taken: a download may be a project's folder as well."""
    world.project()
    monkeypatch.chdir(world.root)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    assert cli.main(["verify", str(folder / ARTIFACT), "--policy", "signature", "--plain"]) == 0
    assert f"trusted: {world.keys.folder.path}" in capsys.readouterr().out


class _Channels(Tuf):
    """A policy whose channels answer what the test says."""

    def __init__(self, **answers: Verdict | str) -> None:
        self.answers = answers

    def _in_channel(self, subject: Subject, evidence: Evidence, url: str, channel: str) -> Verdict | str:
        return self.answers[channel]


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"canary": Held("1"), "stable": Failed("withdrawn")}, Failed),
        ({"stable": Failed("withdrawn"), "canary": Held("1")}, Failed),
        ({"canary": Held("1"), "stable": "no file of stable"}, Held),
        ({"canary": Skipped("unreachable"), "stable": Held("1")}, Held),
        ({"canary": "no file of canary", "stable": "no file of stable"}, Failed),
        ({"canary": Skipped("unreachable"), "stable": "no file of stable"}, Skipped),
    ],
)
def test_what_one_channel_has_withdrawn(tmp_path: Path, answers: dict[str, Any], kind: type[Any]) -> None:
    """A version that any channel among those asked has withdrawn is not good because another one still has it."""
    given = Subject(name="lantern", path=tmp_path / "lantern", size=1, sha256=SHA)
    evidence = Evidence(
        Folder(tmp_path), Trust(root=b"{}", channels=tuple(answers)), prefix=tmp_path.as_uri() + "/"
    )
    assert isinstance(_Channels(**answers).verify(given, evidence, {}), kind)


# --- a workflow signs many things -------------------------------------------------------------------------------------


def said(
    predicate: str = "https://slsa.dev/provenance/v1", name: str = "lantern", sha256: str = SHA
) -> bytes:
    subject = {"name": name, "digest": {"sha256": sha256}}
    return json.dumps(
        {"_type": "x", "subject": [subject], "predicateType": predicate, "predicate": {}}
    ).encode()


def test_a_statement_about_this_file() -> None:
    """Its hash, its name, and where it comes from."""
    require_provenance(said(), name="b", sha256=SHA, artifact="lantern")
    require_provenance(said(), name="b", sha256=SHA)


@pytest.mark.parametrize(
    "data",
    [
        said("https://in-toto.io/attestation/test-result/v0.1"), said("https://cyclonedx.org/bom"), said(sha256="cd" * 32),
        said(name="lantern-1.0.0"), b"[]", b'{"subject":[{"digest":[]}],"predicateType":""}', b"\xff", base64.b64encode(said()),
    ],
)  # fmt: skip
def test_other_statements_of_the_same_workflow(data: bytes) -> None:
    """A test report about the file is no provenance of it, and an old file under a new name is not the new one."""
    with pytest.raises(VerifyError, match=r"^b "):
        require_provenance(data, name="b", sha256=SHA, artifact="lantern")


# --- a folder is opened once ------------------------------------------------------------------------------------------


def test_a_link_that_leads_nowhere_is_missing(folder: Path) -> None:
    """A listed file that is a broken link, a folder or a pipe is not there."""
    (folder / ARTIFACT).unlink()
    (folder / ARTIFACT).mkdir()
    with opened(str(folder), Trust(), None) as found:
        assert ARTIFACT in found.missing
