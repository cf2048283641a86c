"""Ceremonies: drafts that become valid with the last signature, and what no draft may contain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Metadata

from ferryman_build.errors import UsageError
from ferryman_build.settings import ReleaseSettings
from ferryman_release.errors import KeyProblemError, MetadataError
from ferryman_release.keys import ceremony
from ferryman_release.keys import edit as module
from ferryman_release.keys.ceremony import Named
from ferryman_release.keys.describe import changes, status
from ferryman_release.keys.edit import drafts, edit, sign, wanted
from ferryman_release.keys.folder import KeyFolder
from support.release_keys import CHANNELS, NOW, OFFLINE, TestKeys, make_keys, signer

SETTINGS = ReleaseSettings()
ONLINE = ("snapshot", "timestamp", *CHANNELS, "minisign", "provenance")


@pytest.fixture
def keys(tmp_path: Path) -> TestKeys:
    return make_keys(tmp_path / "keys")


def holders(*names: str) -> list[Any]:
    return [signer(name) for name in names]


def public(name: str) -> SSlibKey:
    return signer(name).public_key


def named(name: str) -> Named:
    return Named(name, public(name))


def online() -> dict[str, Key]:
    return {role: public(role) for role in ONLINE}


def begin(folder: KeyFolder, by: Sequence[str], offline: Sequence[str] = OFFLINE, threshold: int = 2) -> None:
    with edit(folder, SETTINGS, NOW, holders(*by)) as change:
        ceremony.begin(change, [named(name) for name in offline], online(), CHANNELS, threshold=threshold)


def fresh(folder: KeyFolder) -> KeyFolder:
    return KeyFolder(folder.path)


# --- the first ceremony -------------------------------------------------------------------------------------------------


def test_two_of_three_make_the_first_root(tmp_path: Path) -> None:
    """One holder leaves a draft, the second makes it valid; nothing is valid before, everything after."""
    folder = KeyFolder(tmp_path / "keys")
    begin(folder, ["root-1"])
    assert not folder.exists()
    assert sorted(drafts(folder)) == ["root", "targets"]
    assert {one.missing for one in wanted(folder)} == {1}
    assert all(set(one.could) == {"root-2", "root-3"} for one in wanted(folder))
    assert sign(folder, holders("root-3")) == []
    found = fresh(folder)
    assert (found.root().signed.version, found.targets().signed.version) == (1, 1)
    assert found.channels() == CHANNELS
    assert not folder.drafts.exists()
    assert {one.name for one in found.known().keys} == {*OFFLINE, *ONLINE}


def test_the_ceremony_and_the_test_keys_agree(tmp_path: Path, keys: TestKeys) -> None:
    """What the other tests take for a finished ceremony is what a ceremony leaves."""
    folder = KeyFolder(tmp_path / "other")
    begin(folder, ["root-1", "root-2"])
    for name in ("metadata/1.root.json", "metadata/1.targets.json", "minisign.pub", "keys.json"):
        assert (folder.path / name).read_bytes() == (keys.folder.path / name).read_bytes(), name


@pytest.mark.parametrize(
    ("offline", "threshold", "text"),
    [
        (["root-1"], 2, "1 keys cannot give 2"),
        (["root-1", "root-2"], 3, "2 keys cannot give 3"),
        (["root-1", "root-2"], 0, "cannot give 0"),
        (["root-1", "root-1", "root-2"], 2, "twice"),
        (["root-1", "root-2", "snapshot"], 2, "offline and online"),
    ],
)
def test_a_ceremony_that_could_not_hold_is_refused(
    tmp_path: Path, offline: list[str], threshold: int, text: str
) -> None:
    """Too few keys, one key twice, an offline key that is online: nothing is written."""
    with pytest.raises(KeyProblemError, match=text) as refused:
        begin(KeyFolder(tmp_path / "keys"), [], offline, threshold)
    assert refused.value.advice
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("role", ["minisign", "provenance"])
def test_keys_of_people_stand_alone(tmp_path: Path, role: str) -> None:
    """What people trust directly is no key of the metadata."""
    with (
        pytest.raises(KeyProblemError, match="another role"),
        edit(KeyFolder(tmp_path / "keys"), SETTINGS, NOW) as change,
    ):
        ceremony.begin(
            change, [named(name) for name in OFFLINE], {**online(), role: public("timestamp")}, CHANNELS
        )


def test_one_key_may_be_snapshot_and_timestamp(tmp_path: Path) -> None:
    """Who has one is mostly the same machine; a rotation of both goes through one after the other."""
    folder = KeyFolder(tmp_path / "keys")
    with edit(folder, SETTINGS, NOW, holders("root-1", "root-2")) as change:
        given = {**online(), "snapshot": public("both"), "timestamp": public("both")}
        ceremony.begin(change, [named(name) for name in OFFLINE], given, CHANNELS)
    with edit(fresh(folder), SETTINGS, NOW, holders("root-1", "root-2")) as change:
        assert ceremony.revoke(change, public("both").keyid, "leaked", named("new")) == (
            "snapshot",
            "timestamp",
        )
    root = fresh(folder).root().signed
    assert root.roles["snapshot"].keyids == root.roles["timestamp"].keyids == [public("new").keyid]


# --- drafts -------------------------------------------------------------------------------------------------------------


def rotate(folder: KeyFolder, role: str, name: str, by: Sequence[str] = ()) -> None:
    with edit(folder, SETTINGS, NOW, holders(*by)) as change:
        ceremony.rotate(change, role, public(name))


def test_a_signature_counts_once(keys: TestKeys) -> None:
    """The same holder twice is one."""
    rotate(keys.folder, "timestamp", "timestamp-2", ["root-1"])
    sign(keys.folder, holders("root-1", "root-1"))
    assert {one.missing for one in wanted(keys.folder)} == {1}
    assert fresh(keys.folder).root().signed.version == 1


@pytest.mark.parametrize("name", ["snapshot", "stable", "stranger"])
def test_who_is_no_holder_signs_nothing(keys: TestKeys, name: str) -> None:
    """A key of another role leaves the draft as it was."""
    rotate(keys.folder, "timestamp", "timestamp-2", ["root-1"])
    before = {path.name: path.read_bytes() for path in keys.folder.drafts.iterdir()}
    with pytest.raises(KeyProblemError, match="signs none of the drafts"):
        sign(keys.folder, holders(name))
    assert {path.name: path.read_bytes() for path in keys.folder.drafts.iterdir()} == before


def test_a_wrong_holder_begins_no_draft(keys: TestKeys) -> None:
    """A change that a stranger wants to sign is not even written down."""
    with pytest.raises(KeyProblemError, match="signs none"):
        rotate(keys.folder, "timestamp", "timestamp-2", ["stranger"])
    assert not keys.folder.drafts.exists()


def test_a_further_change_takes_signatures_back(keys: TestKeys) -> None:
    """Nobody has signed what came after: the version stays, the signatures go, both changes are there."""
    rotate(keys.folder, "timestamp", "timestamp-2", ["root-1"])
    rotate(keys.folder, "snapshot", "snapshot-2")
    draft = drafts(keys.folder)["root"]
    assert draft.signed.version == 2
    assert draft.signatures == {}
    sign(keys.folder, holders("root-1", "root-2"))
    roles = fresh(keys.folder).root().signed.roles
    assert roles["timestamp"].keyids == [public("timestamp-2").keyid]
    assert roles["snapshot"].keyids == [public("snapshot-2").keyid]


def test_a_change_elsewhere_leaves_signatures(keys: TestKeys) -> None:
    """A draft of the root keeps what holders have given while the minisign key changes."""
    rotate(keys.folder, "timestamp", "timestamp-2", ["root-1"])
    rotate(keys.folder, "minisign", "minisign-2")
    assert list(drafts(keys.folder)["root"].signatures) == [public("root-1").keyid]
    assert fresh(keys.folder).minisign_public().public.hex() == public("minisign").keyval["public"]
    sign(keys.folder, holders("root-2"))
    assert fresh(keys.folder).minisign_public().public.hex() == public("minisign-2").keyval["public"]


def test_new_holders_need_old_ones(keys: TestKeys) -> None:
    """Three new keys cannot elect themselves: two of the old ones sign as well."""
    for old in OFFLINE:
        with edit(keys.folder, SETTINGS, NOW) as change:
            ceremony.replace_holder(change, public(old).keyid, named(f"new-{old}"))
    sign(keys.folder, holders("new-root-1", "new-root-2", "new-root-3"))
    assert [(one.by, one.missing) for one in wanted(keys.folder)] == [("root 1", 2)]
    assert sign(keys.folder, holders("root-1", "root-3")) == []
    found = fresh(keys.folder)
    assert (found.root().signed.version, found.targets().signed.version) == (2, 2)


def test_targets_follow_a_root_that_leaves_them_alone(keys: TestKeys) -> None:
    """A holder who goes takes a signature of the targets along: they are signed again, in the same ceremony."""
    with edit(keys.folder, SETTINGS, NOW) as change:
        ceremony.replace_holder(change, public("root-1").keyid, named("root-4"))
    assert sorted(drafts(keys.folder)) == ["root", "targets"]
    sign(keys.folder, holders("root-2"))
    assert fresh(keys.folder).root().signed.version == 1
    sign(keys.folder, holders("root-3"))
    assert fresh(keys.folder).targets().signed.version == 2


def test_targets_that_still_hold_are_left(keys: TestKeys) -> None:
    """A holder who had not signed them goes without a new version of the targets."""
    with edit(keys.folder, SETTINGS, NOW) as change:
        ceremony.replace_holder(change, public("root-3").keyid, named("root-4"))
    assert list(drafts(keys.folder)) == ["root"]


def test_an_exception_in_the_block_changes_nothing(keys: TestKeys) -> None:
    """Half a change is none."""

    def fails() -> None:
        with edit(keys.folder, SETTINGS, NOW, holders("root-1", "root-2")) as change:
            ceremony.rotate(change, "timestamp", public("timestamp-2"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert not keys.folder.drafts.exists()


def test_a_block_that_changes_nothing_makes_no_version(keys: TestKeys) -> None:
    """Neither a draft nor a version."""
    with edit(keys.folder, SETTINGS, NOW):
        pass
    assert not keys.folder.drafts.exists()
    assert fresh(keys.folder).root().signed.version == 1


@pytest.mark.parametrize("crash", [1, 2, 3, 4])
def test_an_interrupted_end_is_finished_by_the_next(
    keys: TestKeys, monkeypatch: pytest.MonkeyPatch, crash: int
) -> None:
    """Wherever the drafts' way into the folder was cut, `keys sign` goes on and leaves it whole."""
    with edit(keys.folder, SETTINGS, NOW) as change:
        ceremony.replace_holder(change, public("root-1").keyid, named("root-4"))
        ceremony.rotate(change, "minisign", public("minisign-2"))
    sign(keys.folder, holders("root-2"))
    real, calls = module.write, [0]

    def failing(path: Path, data: bytes) -> None:
        if "draft" not in path.parts:
            calls[0] += 1
            if calls[0] == crash:
                raise OSError("power")
        real(path, data)

    monkeypatch.setattr(module, "write", failing)
    with pytest.raises(OSError, match="power"):
        sign(keys.folder, holders("root-3"))
    monkeypatch.setattr(module, "write", real)
    assert sign(fresh(keys.folder), ()) == []
    found = fresh(keys.folder)
    assert (found.root().signed.version, found.targets().signed.version) == (2, 2)
    assert found.minisign_public().public.hex() == public("minisign-2").keyval["public"]
    assert "root-4" in {one.name for one in found.known().keys}
    assert not found.drafts.exists()


def test_a_draft_with_a_key_that_clients_ignore_is_refused(keys: TestKeys) -> None:
    """Whoever has edited a draft by hand: an ECDSA key is not signed into it."""
    rotate(keys.folder, "timestamp", "timestamp-2")
    (path,) = keys.folder.drafts.glob("*.root.json")
    draft = Metadata.from_bytes(path.read_bytes())
    draft.signed.add_key(
        SSlibKey.from_crypto(ec.generate_private_key(ec.SECP256R1()).public_key()), "timestamp"
    )  # type: ignore[attr-defined]
    path.write_bytes(draft.to_bytes())
    with pytest.raises(KeyProblemError, match="takes for no signature"):
        sign(keys.folder, holders("root-1"))


def test_a_broken_draft_is_said(keys: TestKeys) -> None:
    """Half a file of somebody's merge is a sentence."""
    rotate(keys.folder, "timestamp", "timestamp-2")
    (path,) = keys.folder.drafts.glob("*.root.json")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MetadataError, match=r"draft/2\.root\.json is no TUF metadata"):
        sign(keys.folder, holders("root-1"))


# --- rotation and revocation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["snapshot", "timestamp", *CHANNELS])
def test_each_online_role_rotates(keys: TestKeys, role: str) -> None:
    """The new key is alone in its role, the old one is retired and no longer listed."""
    rotate(keys.folder, role, "new", ["root-1", "root-2"])
    found = fresh(keys.folder)
    assert [key.keyid for key in found.keys(role)] == [public("new").keyid]
    (old,) = [one for one in found.known().keys if one.id == public(role).keyid]
    assert (old.retired, old.revoked) == (NOW.date().isoformat(), "")


def test_provenance_of_old_releases_still_counts(keys: TestKeys) -> None:
    """After a rotation the old key verifies, after a revocation it does not."""
    rotate(keys.folder, "provenance", "provenance-2")
    assert [key.keyid for key in fresh(keys.folder).keys("provenance")] == [public("provenance-2").keyid]
    assert len(fresh(keys.folder).provenance_keys()) == 2
    with edit(fresh(keys.folder), SETTINGS, NOW) as change:
        assert ceremony.revoke(change, public("provenance").keyid, "leaked after all") == ()
    assert [key.keyid for key in fresh(keys.folder).provenance_keys()] == [public("provenance-2").keyid]


@pytest.mark.parametrize(
    ("role", "name", "text"),
    [
        ("timestamp", "timestamp", "has this key already"),
        ("timestamp", "root-1", "is an offline key"),
        ("timestamp", "minisign", "is that of minisign"),
        ("minisign", "timestamp", "is that of timestamp"),
    ],
)
def test_a_key_in_the_wrong_place_is_refused(keys: TestKeys, role: str, name: str, text: str) -> None:
    """The role's own key, an offline key, a key that people trust by itself."""
    with pytest.raises(KeyProblemError, match=text):
        rotate(keys.folder, role, name)


def test_an_unknown_role_lists_the_known(keys: TestKeys) -> None:
    """A typo in a role is a usage error with all roles."""
    with pytest.raises(UsageError, match="no role 'nightly'") as refused:
        rotate(keys.folder, "nightly", "new")
    assert "stable" in refused.value.advice


def test_a_revoked_key_never_comes_back(keys: TestKeys) -> None:
    """Not for its old role and not for another."""
    with edit(keys.folder, SETTINGS, NOW, holders("root-1", "root-2")) as change:
        ceremony.revoke(change, public("stable").keyid, "in a log", named("stable-2"))
    for role in ("stable", "beta", "minisign"):
        with pytest.raises(KeyProblemError, match=r"was revoked on 2026-11-01: in a log"):
            rotate(fresh(keys.folder), role, "stable")


def test_a_revoked_role_needs_a_successor(keys: TestKeys) -> None:
    """A channel without a key could never be signed again."""
    with (
        pytest.raises(KeyProblemError, match="stable would have no key"),
        edit(keys.folder, SETTINGS, NOW) as change,
    ):
        ceremony.revoke(change, public("stable").keyid, "leaked")


def test_holders_can_go_until_the_threshold(keys: TestKeys) -> None:
    """Three become two; two of two cannot become one."""
    with edit(keys.folder, SETTINGS, NOW, holders("root-1", "root-2")) as change:
        ceremony.revoke(change, public("root-3").keyid, "lost")
    found = fresh(keys.folder)
    assert len(found.keys("root")) == 2
    with pytest.raises(KeyProblemError, match="1 keys cannot give 2"), edit(found, SETTINGS, NOW) as change:
        ceremony.revoke(change, public("root-2").keyid, "lost as well")
    with edit(found, SETTINGS, NOW, holders("root-1", "root-2")) as change:
        ceremony.add_holder(change, named("root-5"))
    assert len(fresh(keys.folder).keys("targets")) == 3


@pytest.mark.parametrize("text", ["nobody", "root", "", "abc"])
def test_a_key_is_named_without_doubt(keys: TestKeys, text: str) -> None:
    """A name, or six characters of an id; anything else says where ids are."""
    with edit(keys.folder, SETTINGS, NOW) as change:
        with pytest.raises(UsageError, match="names no key"):
            ceremony.find_key(change, text)
        assert ceremony.find_key(change, "root-2") == ceremony.find_key(change, public("root-2").keyid[:6])


def test_channels_come_and_go(keys: TestKeys) -> None:
    """A new channel has its key and its paths; one that goes leaves no key behind, and the others stay as they are."""
    with edit(keys.folder, SETTINGS, NOW, holders("root-1", "root-2")) as change:
        done = ceremony.set_channels(change, ("canary", "nightly", "stable"), {"nightly": public("nightly")})
    assert done == (["nightly"], ["beta"])
    found = fresh(keys.folder)
    assert set(found.channels()) == {"canary", "stable", "nightly"}
    delegations = found.targets().signed.delegations
    assert delegations is not None
    assert public("beta").keyid not in delegations.keys
    assert [key.keyid for key in found.keys("nightly")] == [public("nightly").keyid]
    assert {one.name for one in found.known().keys if one.retired} == {"beta"}


# --- what people see ----------------------------------------------------------------------------------------------------


def test_a_holder_reads_what_changes(keys: TestKeys) -> None:
    """Who gains, who loses, which channels go, and until when it holds; ids beside the names."""
    with edit(keys.folder, SETTINGS, NOW) as change:
        ceremony.replace_holder(change, public("root-1").keyid, named("ann"))
        ceremony.set_channels(change, ("stable", "nightly"), {"nightly": public("nightly")})
    text = "\n".join(changes(keys.folder))
    for line in (
        f"2.root.json: ann ({public('ann').keyid[:12]}) may sign root",
        f"2.root.json: root-1 ({public('root-1').keyid[:12]}) may no longer sign targets",
        "2.targets.json: the channel beta goes",
        f"2.targets.json: nightly ({public('nightly').keyid[:12]}) may sign nightly",
        "2.root.json: holds until 2027-11-01",
    ):
        assert line in text


def test_status_has_every_role(keys: TestKeys) -> None:
    """Keys, thresholds and expiries; nothing waits and nothing is due."""
    found = status(keys.folder, NOW, {})
    assert [row.role for row in found.roles] == [
        "root", "snapshot", "targets", "timestamp", *CHANNELS, "minisign", "provenance",
    ]  # fmt: skip
    (root,) = [row for row in found.roles if row.role == "root"]
    assert (root.threshold, root.version, root.left) == (2, 1, 365.0)
    assert set(root.keys) == set(OFFLINE)
    assert found.wanted == found.alarms == found.revoked == ()


# --- any order ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["timestamp", "snapshot", "stable", "root"]), st.permutations(range(3))),
        max_size=5,
    )
)
def test_any_row_of_rotations_is_a_chain(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[int]]]
) -> None:
    """Whatever is rotated in which order and by whom, the folder holds from root 1 to the last."""
    folder = make_keys(tmp_path_factory.mktemp("row") / "keys").folder
    names = list(OFFLINE)
    for number, (role, order) in enumerate(steps):
        signing = [names[index] for index in order]
        with edit(folder, SETTINGS, NOW) as change:
            if role == "root":
                old, names[order[0]] = names[order[0]], f"holder-{number}"
                ceremony.replace_holder(change, public(old).keyid, named(f"holder-{number}"))
            else:
                ceremony.rotate(change, role, public(f"{role}-{number}"))
        missing = sign(folder, holders(*signing[1:]))
        assert missing == []
        folder = fresh(folder)
        folder.targets()
    assert len(folder.roots()) == 1 + sum(1 for role, _ in steps if role != "stable")
