"""The key folder: a chain that holds from the oldest root, and refuses whatever does not."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from ferryman_build.errors import FerrymanError
from ferryman_release.errors import KeyProblemError, MetadataError
from ferryman_release.keys.documents import replace_keys
from ferryman_release.keys.folder import KeyFolder, KeysFile, parse
from support.release_keys import CHANNELS, NOW, OFFLINE, TestKeys, make_keys, signed, signer


@pytest.fixture
def keys(tmp_path: Path) -> TestKeys:
    return make_keys(tmp_path / "keys")


def next_root(keys: TestKeys, by: list[str], holders: list[str], *, version: int = 2) -> Path:
    """Root `version` with the keys of ``holders``, signed by ``by``."""
    root = parse(keys.folder.roots()[version - 1], Root, "root").signed
    root.version = version
    for role in ("root", "targets"):
        replace_keys(root, role, [signer(name).public_key for name in holders])
    path = keys.folder.metadata / f"{version}.root.json"
    path.write_bytes(signed(root, [signer(name) for name in by]))
    return path


def test_a_made_folder_is_whole(keys: TestKeys) -> None:
    """Root and targets verify, channels are in their order, and both documents demand two of three."""
    folder = keys.folder
    assert folder.root().signed.version == folder.targets().signed.version == 1
    assert folder.channels() == CHANNELS
    assert folder.targets_bytes() == (1, (folder.metadata / "1.targets.json").read_bytes())
    for role in ("root", "targets"):
        assert folder.root().signed.roles[role].threshold == 2
        assert len(folder.keys(role)) == 3
    assert folder.minisign_public().public.hex() == signer("minisign").public_key.keyval["public"]


def test_each_channel_may_only_speak_of_itself(keys: TestKeys) -> None:
    """A channel's role signs up to three levels below its own name; it is the last that is asked."""
    delegations = keys.folder.targets().signed.delegations
    assert delegations is not None
    assert delegations.roles is not None
    for name, role in delegations.roles.items():
        assert role.terminating
        for path, may in {
            f"{name}/channel": True, f"{name}/linux-amd64/archive": True, f"{name}/linux-amd64/archive/previous": True,
            "other/channel": False, f"{name}x/channel": False, f"{name}/a/b/c/d": False, name: False,
        }.items():  # fmt: skip
            assert role.is_delegated_path(path) is may, path


def test_a_chain_of_roots_is_walked(keys: TestKeys) -> None:
    """Root 2 is signed by two holders of root 1 and by two of its own."""
    next_root(keys, ["root-2", "root-3", "new"], ["root-2", "root-3", "new"])
    folder = KeyFolder(keys.folder.path)
    assert folder.root().signed.version == 2
    assert list(folder.roots()) == [1, 2]
    assert [root.version for root in folder.all_roots()] == [2, 1]


def test_the_oldest_root_may_be_gone(keys: TestKeys) -> None:
    """A folder that begins with root 2 begins to trust there."""
    next_root(keys, list(OFFLINE), list(OFFLINE))
    (keys.folder.metadata / "1.root.json").unlink()
    assert KeyFolder(keys.folder.path).root().signed.version == 2


@pytest.mark.parametrize(
    ("by", "holders"),
    [
        (["root-1"], list(OFFLINE)),
        (["new-1", "new-2"], ["new-1", "new-2", "new-3"]),
        (["root-1", "root-2"], ["new-1", "new-2", "new-3"]),
        (["root-1", "new-1"], ["root-1", "new-1", "new-2"]),
        ([], list(OFFLINE)),
    ],
    ids=["too few", "new keys alone", "old keys alone", "one of the old", "nobody"],
)
def test_a_root_without_both_thresholds_is_refused(keys: TestKeys, by: list[str], holders: list[str]) -> None:
    """Neither the old keys nor the new ones alone make a root."""
    next_root(keys, by, holders)
    with pytest.raises(MetadataError, match=r"2\.root\.json is not signed") as refused:
        KeyFolder(keys.folder.path).root()
    assert refused.value.exit_code == 25
    assert "version control" in refused.value.advice


def test_a_gap_is_refused(keys: TestKeys) -> None:
    """A chain with a missing link is none."""
    next_root(keys, list(OFFLINE), list(OFFLINE))
    next_root(keys, list(OFFLINE), list(OFFLINE), version=3)
    (keys.folder.metadata / "2.root.json").unlink()
    with pytest.raises(MetadataError, match=r"2\.root\.json is missing"):
        KeyFolder(keys.folder.path).root()


def test_a_root_under_another_number_is_refused(keys: TestKeys) -> None:
    """The number in the name is the one inside, as a client will find it."""
    path = next_root(keys, list(OFFLINE), list(OFFLINE))
    first = (keys.folder.metadata / "1.root.json").read_bytes()
    path.write_bytes(first)
    with pytest.raises(MetadataError, match="says that it is version 1"):
        KeyFolder(keys.folder.path).root()


def test_targets_of_replaced_holders_are_refused(keys: TestKeys) -> None:
    """A new root that leaves the targets with one valid signature makes them worth nothing."""
    next_root(keys, ["root-2", "root-3", "new-1"], ["root-2", "root-3", "new-1"])
    folder = KeyFolder(keys.folder.path)
    assert folder.root().signed.version == 2
    with pytest.raises(MetadataError, match=r"1\.targets\.json is not signed"):
        folder.targets()


@pytest.mark.parametrize("name", ["1.root.json", "1.targets.json"])
def test_a_changed_document_is_refused(keys: TestKeys, name: str) -> None:
    """One character of what is signed is enough."""
    path = keys.folder.metadata / name
    path.write_text(path.read_text().replace('"threshold":1', '"threshold":9', 1))
    with pytest.raises(MetadataError, match=r"is not signed|is no TUF metadata"):
        keys.folder.targets()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"nonsense", b'{"signed":{"_type":"root"},"signatures":[]}']
)
def test_a_broken_document_is_said(keys: TestKeys, content: bytes) -> None:
    """Whatever is in the file, the failure is a sentence."""
    (keys.folder.metadata / "1.targets.json").write_bytes(content)
    with pytest.raises(MetadataError, match=r"1\.targets\.json is no TUF metadata"):
        keys.folder.targets()


def test_a_document_of_another_role_is_refused(keys: TestKeys) -> None:
    """A root in the place of the targets is not taken for them."""
    (keys.folder.metadata / "1.targets.json").write_bytes((keys.folder.metadata / "1.root.json").read_bytes())
    with pytest.raises(MetadataError, match="holds root and not targets"):
        keys.folder.targets()


def test_an_empty_folder_names_the_ceremony(tmp_path: Path) -> None:
    """Before the first ceremony every question is answered with how to begin."""
    folder = KeyFolder(tmp_path / "keys")
    assert not folder.exists()
    for ask in (
        folder.root,
        folder.roots,
        folder.targets,
        folder.channels,
        folder.targets_bytes,
        folder.minisign_public,
    ):
        with pytest.raises(KeyProblemError) as refused:
            ask()
        assert "ferryman keys" in refused.value.advice


def test_what_was_revoked_counts_for_nothing(keys: TestKeys) -> None:
    """Old documents are read with the keys that are left; the evidence can be asked for."""
    known = keys.folder.known()
    import msgspec

    keyid = signer("stable").public_key.keyid
    keys.folder.store_known(
        KeysFile(
            keys=tuple(
                msgspec.structs.replace(one, revoked="2026-11-02", reason="stolen")
                if one.id == keyid
                else one
                for one in known.keys
            )
        )
    )
    (targets,) = keys.folder.all_targets()
    assert targets.get_delegated_role("stable").keyids == []
    assert targets.get_delegated_role("beta").keyids == [signer("beta").public_key.keyid]
    (evidence,) = keys.folder.all_targets(revoked=True)
    assert evidence.get_delegated_role("stable").keyids == [keyid]
    assert keys.folder.targets().signed.get_delegated_role("stable").keyids == [keyid], (
        "what was verified is untouched"
    )


def test_a_broken_list_of_keys_is_said(keys: TestKeys) -> None:
    """keys.json of somebody's editor is a sentence."""
    (keys.folder.path / "keys.json").write_text(json.dumps({"format": 1, "keys": [{"id": 1}]}))
    with pytest.raises(FerrymanError, match=r"keys\.json is broken") as refused:
        keys.folder.known()
    assert refused.value.exit_code == 25


def test_expiry_is_not_asked(tmp_path: Path) -> None:
    """An expired root is still the one that signs its successor."""
    keys = make_keys(tmp_path / "keys", clock=lambda: NOW - timedelta(days=4000))
    assert keys.folder.root().signed.is_expired(NOW)


def test_documents_keep_their_bytes(keys: TestKeys) -> None:
    """What was signed is handed on byte for byte: its digest stands in other metadata."""
    version, data = keys.folder.targets_bytes()
    found: Metadata[Targets] = Metadata.from_bytes(data)
    assert (version, found.signed.version) == (1, 1)
    assert keys.folder.roots()[1] == (keys.folder.metadata / "1.root.json").read_bytes()
