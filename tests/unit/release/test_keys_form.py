"""A draft that somebody else has committed: what a holder is told is all that it may change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, TargetFile

from ferryman_release import cli
from ferryman_release.commands import keys as command
from ferryman_release.errors import KeyProblemError, MetadataError
from ferryman_release.keys import ceremony
from ferryman_release.keys.edit import edit, sign
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.keys.minisign import MinisignKey
from support.release_keys import NOW, TestKeys, make_keys, private_key, signer

Edit = Callable[[Any], None]


@pytest.fixture
def keys(tmp_path: Path) -> TestKeys:
    return make_keys(
        tmp_path / "project" / "keys", channels=("canary", "stable"), private=tmp_path / "private"
    )


def draft(keys: TestKeys, role: str, change: Edit) -> None:
    """A next version of ``role`` that was made by hand."""
    folder = keys.folder
    found: Metadata[Any] = Metadata.from_file(str(folder.metadata / f"1.{role}.json"))
    found.signed.version = 2
    found.signatures.clear()
    change(found.signed)
    folder.drafts.mkdir(exist_ok=True)
    found.to_file(str(folder.drafts / f"2.{role}.json"))


def everything(keys: TestKeys) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in keys.folder.path.rglob("*") if path.is_file()}


def own_target(targets: Any) -> None:
    targets.targets["stable/linux-amd64/executable"] = TargetFile.from_data("x", b"evil")


def wider_paths(targets: Any) -> None:
    targets.delegations.roles["canary"].paths = ["canary/*", "stable/*/*"]


def not_terminating(targets: Any) -> None:
    targets.delegations.roles["stable"].terminating = False


def two_for_a_channel(targets: Any) -> None:
    targets.add_key(signer("another").public_key, "stable")


def offline_for_a_channel(targets: Any) -> None:
    targets.revoke_key(signer("stable").public_key.keyid, "stable")
    targets.add_key(signer("root-1").public_key, "stable")


def no_delegations(targets: Any) -> None:
    targets.delegations = None


def unknown_field(signed: Any) -> None:
    signed.unrecognized_fields["x-note"] = "what nobody is told"


def far_version(signed: Any) -> None:
    signed.version = 7


def inconsistent(root: Any) -> None:
    root.consistent_snapshot = False


def two_names_for_one_key(root: Any) -> None:
    key = signer("ann").public_key
    root.add_key(key, "root")
    root.add_key(key, "targets")
    other = SSlibKey("f" * 64, key.keytype, key.scheme, dict(key.keyval))
    root.add_key(other, "root")
    root.add_key(other, "targets")


def root_alone(root: Any) -> None:
    root.add_key(signer("ann").public_key, "root")


def nobody_for_timestamp(root: Any) -> None:
    root.revoke_key(signer("timestamp").public_key.keyid, "timestamp")


def offline_for_timestamp(root: Any) -> None:
    nobody_for_timestamp(root)
    root.add_key(signer("root-1").public_key, "timestamp")


def too_high(root: Any) -> None:
    root.roles["root"].threshold = root.roles["targets"].threshold = 4


def spare_key(root: Any) -> None:
    root.keys[signer("ann").public_key.keyid] = signer("ann").public_key


@pytest.mark.parametrize(
    ("role", "change", "said"),
    [
        ("targets", own_target, "it offers files itself"),
        ("targets", wider_paths, "the channel canary may speak of canary/*, stable/*/*"),
        ("targets", not_terminating, "asked after the channel stable"),
        ("targets", two_for_a_channel, "stable has 2 keys"),
        ("targets", offline_for_a_channel, "an offline key may sign stable"),
        ("targets", no_delegations, "no channels"),
        ("targets", unknown_field, "fields that nobody knows"),
        ("targets", far_version, "2 is the next one"),
        ("root", inconsistent, "not consistent"),
        ("root", two_names_for_one_key, "not called by its own id"),
        ("root", root_alone, "the same keys and threshold"),
        ("root", nobody_for_timestamp, "timestamp has 0 keys"),
        ("root", offline_for_timestamp, "an offline key may sign timestamp"),
        ("root", too_high, "cannot give 4 signatures"),
        ("root", spare_key, "keys without a role"),
        ("root", unknown_field, "fields that nobody knows"),
        ("root", far_version, "2 is the next one"),
    ],
)
def test_what_no_ceremony_makes_is_not_signed(keys: TestKeys, role: str, change: Edit, said: str) -> None:
    """Nothing that a holder is not told of gets a signature, however many sign; the folder is as it was."""
    draft(keys, role, change)
    before = everything(keys)

    with pytest.raises(MetadataError, match="not one that Ferryman makes") as caught:
        sign(keys.folder, keys.offline()[:2])
    assert any(said in line for line in caught.value.details)
    assert caught.value.advice
    assert everything(keys) == before


def test_what_a_ceremony_makes_is_signed(keys: TestKeys) -> None:
    """The same way round, with a change that a holder is told of: an added channel of the usual form."""
    with edit(keys.folder, keys.settings(), NOW, keys.offline()[:2]) as change:
        ceremony.set_channels(change, ("canary", "stable", "night"), {"night": signer("night").public_key})
    assert KeyFolder(keys.folder.path).channels() == ("canary", "stable", "night")


@pytest.mark.parametrize("role", ["minisign", "provenance", "snapshot", "canary"])
def test_a_holder_has_no_online_key(keys: TestKeys, role: str) -> None:
    """A key on the machine that publishes is no offline key, those of minisign and provenance included."""
    new = ceremony.Named("dora", signer(role).public_key)
    for change_holders in (
        lambda change: ceremony.add_holder(change, new),
        lambda change: ceremony.replace_holder(change, signer("root-3").public_key.keyid, new),
    ):
        with (
            pytest.raises(KeyProblemError, match="role already"),
            edit(keys.folder, keys.settings(), NOW, keys.offline()[:2]) as change,
        ):
            change_holders(change)


# --- through the command line -----------------------------------------------------------------------------------------


@pytest.fixture
def project(keys: TestKeys, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = keys.folder.path.parent
    (path / "pyproject.toml").write_text(
        '[project]\nname = "lantern"\nversion = "1.0.0"\n[project.scripts]\nlantern = "lantern:main"\n'
        '[tool.ferryman.release]\nchannels = ["canary", "stable"]\n'
    )
    monkeypatch.chdir(path)
    monkeypatch.setenv("FERRYMAN_KEY_PASSPHRASE", "five words by pure chance")
    monkeypatch.setattr(command, "now", lambda: NOW)
    return path


def test_what_comes_along_with_a_draft_is_said(
    keys: TestKeys, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another minisign.pub lies in a draft that wants no signature: whoever finishes it reads whose key it is."""
    other = MinisignKey.of(bytes.fromhex(signer("other").public_key.keyval["public"]))
    keys.folder.drafts.mkdir()
    (keys.folder.drafts / "minisign.pub").write_text(other.text())

    assert cli.main(["keys", "sign", "--yes"]) == 0
    assert f"finished: minisign.pub: people are to trust {other.name}" in capsys.readouterr().out
    assert cli.main(["keys", "sign", "--yes"]) == 0
    assert capsys.readouterr().out == "Nothing waits for a signature.\n"


def test_a_provenance_key_in_a_draft_is_said(
    keys: TestKeys, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key for the provenance that waits for the signatures of something else is in the list that holders read."""
    with edit(keys.folder, keys.settings(), NOW) as change:
        change.renew.add("root")
        ceremony.rotate(change, "provenance", signer("another").public_key)

    cli.main(["keys", "sign", "--yes", "--key", f"file:{keys.private / 'root-1.pem'}"])
    out = capsys.readouterr().out
    assert f"keys.json: provenance ({signer('another').public_key.keyid[:12]}) may sign provenance" in out
    assert f"({signer('provenance').public_key.keyid[:12]}) signs no more provenance" in out


@pytest.mark.parametrize("name", ["ann.pub", "ann.pem"])
def test_a_public_half_replaces_nothing(
    tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Neither the private key, when somebody calls that .pub, nor the public key of somebody else."""
    there = tmp_path / "ann.pub"
    there.write_bytes(
        private_key("ann").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    before = there.read_bytes()

    assert cli.main(["keys", "new", str(tmp_path / name)]) == 24
    assert there.read_bytes() == before
    assert not (tmp_path / "ann.pem").exists()
    there.unlink()
    assert cli.main(["keys", "new", str(tmp_path / name)]) == (24 if name == "ann.pub" else 0)
    capsys.readouterr()


@pytest.mark.parametrize(
    "words", [("refresh",), ("rotate", "timestamp", "--public", "timestamp-2.pub"), ("channels",)]
)
def test_a_change_on_top_of_a_draft_signs_what_is_in_it(
    keys: TestKeys, project: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Somebody's draft is not signed because a holder signs a change of their own: it is shown, and agreed to."""
    public = private_key("timestamp-2").public_key()
    (project / "timestamp-2.pub").write_bytes(
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with edit(keys.folder, keys.settings(), NOW) as change:
        ceremony.add_holder(change, ceremony.Named("eve", signer("eve").public_key))
    holders = [word for name in ("root-1", "root-2") for word in ("--key", f"file:{keys.private / name}.pem")]
    before = everything(keys)

    assert cli.main(["keys", *words, *holders]) == 2
    out, err = capsys.readouterr()
    assert f"eve ({signer('eve').public_key.keyid[:12]}) may sign root" in out
    assert "--yes" in err
    assert everything(keys) == before
    assert cli.main(["keys", *words, *holders, "--yes"]) == 0
    assert len(KeyFolder(keys.folder.path).root().signed.roles["root"].keyids) == 4
