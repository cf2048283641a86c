"""What goes wrong around a release: another program's files, odd names, runs of yesterday, hands in the store, Ctrl-C."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ferryman_build.artifacts import Kind
from ferryman_client import HttpFetcher
from ferryman_release import cli
from ferryman_release.commands import opening
from ferryman_release.errors import StoreError
from ferryman_release.gc import plan, reach
from ferryman_release.metadata.documents import history_object
from ferryman_release.pipeline import STEPS, run_steps
from ferryman_release.store.capabilities import Capabilities
from ferryman_release.store.file import FileStore
from support import release_keys
from support.dist_factory import file_name, make_dist
from support.release_factory import sbom
from support.releasing import World, make_world

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    made.project()
    return made


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, standard output, standard error) of a command in the project's folder."""
    monkeypatch.chdir(world.root)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([*words, "--plain"])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def prepare(world: World, version: str, **options: Any) -> None:
    """dist/ and pyproject.toml of this version."""
    world.project(version)
    make_dist(world.root / "dist", version, targets=world.targets, **options)


def publish(world: World, run: Run, *versions: str, words: tuple[str, ...] = ()) -> None:
    for version in versions:
        prepare(world, version)
        code, _, err = run("release", *words)
        assert code == 0, err


def offered(world: World, channel: str = "canary") -> str:
    client = world.client(channel, state=f"state-{channel}")
    client.strict_refresh()
    return client.channel().version


# --- names and programs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0.0+local.1", "1!2.0", "1.0.0.dev3", "1.0.0rc1", "2026.11.1"])
def test_every_version_of_the_standard_can_be_released(world: World, run: Run, version: str) -> None:
    """Also those whose signs mean something in a URL: a client fetches every artifact of it, twice promoted."""
    publish(world, run, version)
    code, _, err = run("promote", version, "--to", "stable")

    assert code == 0, err
    assert world.look() == world.look("stable") == version
    assert run("release")[0] == 0


def test_a_plus_is_escaped_when_files_are_fetched_back(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 reads a bare + as a blank: the publisher asks for what clients ask for."""
    asked: list[str] = []
    opened = HttpFetcher.open

    def listening(fetcher: HttpFetcher, url: str, **words: Any) -> Any:
        asked.append(url)
        return opened(fetcher, url, **words)

    monkeypatch.setattr(HttpFetcher, "open", listening)
    publish(world, run, "1.0.0+local.1")

    assert len([url for url in asked if "/lantern-1.0.0%2Blocal.1-linux-amd64" in url]) >= 2
    assert not [url for url in asked if "+" in url]


@pytest.mark.parametrize("name", ["Lantern.Agent", "lantern_2", "L"])
def test_names_with_dots_and_capitals(world: World, run: Run, name: str) -> None:
    """A program is called what its project calls it, in paths and in what clients are offered."""
    _rename(world, name)
    make_dist(world.root / "dist", "1.0.0", targets=world.targets, name=name)
    code, _, err = run("release")

    assert code == 0, err
    assert world.look() == "1.0.0"
    assert run("gc", "--yes")[0] == 0


def _rename(world: World, name: str) -> None:
    path = world.root / "pyproject.toml"
    path.write_text(path.read_text().replace('name = "lantern"', f'name = "{name}"'))


def test_the_files_of_another_program_are_not_released(world: World, run: Run) -> None:
    """dist/ of one project, settings of another: nothing is sent."""
    make_dist(world.root / "dist", "1.0.0", targets=world.targets, name="beacon")
    code, _, err = run("release")

    assert code == 20
    assert "dist/ holds beacon" in err
    assert not (world.store / "artifacts").exists()


def test_another_program_in_the_same_place_is_refused(world: World, run: Run) -> None:
    """A place has one program's channels: two that share it, and even the keys, do not offer each other's files."""
    publish(world, run, "1.0.0")
    before = world.objects()
    _rename(world, "beacon")
    make_dist(world.root / "dist", "2.0.0", targets=world.targets, name="beacon")
    code, _, err = run("release")

    assert code == 20
    assert "is that of lantern" in err
    assert world.objects() == before
    assert run("releases")[0] == 0


def test_another_program_with_keys_of_its_own_is_refused(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there was signed by somebody else: nothing of it is touched, and the keys are named."""
    publish(world, run, "1.0.0")
    before = world.objects()
    for folder in (world.keys.private, world.keys.folder.path):
        shutil.rmtree(folder)
    own = functools.cache(lambda name: Ed25519PrivateKey.generate())
    monkeypatch.setattr(release_keys, "private_key", own)
    release_keys.make_keys(world.root / "keys", clock=world.clock)
    code, _, err = run("release")

    assert code == 20
    assert "cannot be trusted" in err
    assert "keys/ is not that of this store" in err
    assert world.objects() == before


@pytest.mark.parametrize(
    "name", ["a b.exe", "größe.exe", "a@b.exe", "~x", "-x", ".x", "release.json", "SHA256SUMS.minisig"]
)
def test_a_file_whose_name_no_client_takes_stops_before_anything_is_sent(
    world: World, run: Run, name: str
) -> None:
    """Names that a URL, a store or a client does not take, and those that the release itself uses."""
    world.targets = ("linux-amd64",)
    prepare(world, "1.0.0")
    _call_it(world.root / "dist", file_name("lantern", "1.0.0", "linux-amd64", Kind.EXECUTABLE), name)
    code, _, err = run("release")

    assert code == 20
    assert name in err
    assert not (world.store / "artifacts").exists()


def _call_it(dist: Path, old: str, new: str) -> None:
    manifest = msgspec.json.decode((dist / "manifest.json").read_bytes())
    for artifact in manifest["artifacts"]:
        if artifact["path"] == old:
            artifact["path"] = new
    (dist / old).rename(dist / new)
    (dist / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def test_a_link_in_dist_is_followed(world: World, run: Run) -> None:
    """What a build system keeps elsewhere is released as the file that it is."""
    prepare(world, "1.0.0")
    path = world.root / "dist" / "lantern-1.0.0-linux-amd64"
    path.rename(world.root / "elsewhere")
    path.symlink_to("../elsewhere")
    code, _, err = run("release")

    assert code == 0, err
    assert not (world.store / "artifacts/lantern/1.0.0/lantern-1.0.0-linux-amd64").is_symlink()
    assert world.look() == "1.0.0"


def test_a_changelog_in_another_encoding_is_read(world: World, run: Run) -> None:
    """The heading is found; what cannot be read is shown as such."""
    prepare(world, "1.0.0")
    world.settings = {"changelog": "CHANGES.md"}
    world.project("1.0.0")
    (world.root / "CHANGES.md").write_bytes("# 1.0.0\n\nGrößer\n".encode("latin-1"))
    code, _, err = run("release")

    assert code == 0, err


# --- yesterday's runs ----------------------------------------------------------------------------------------------------


def test_the_run_of_an_older_release_does_not_bring_it_back(world: World, run: Run) -> None:
    """A job of last week that is run again finds its release complete: the channel keeps the newer one."""
    publish(world, run, "1.0.0", "1.1.0")
    before = world.objects()
    prepare(world, "1.0.0")
    code, _, err = run("release")

    assert code == 0, err
    assert "canary has had it and offers 1.1.0 now" in err
    assert "ferryman promote 1.0.0 --to canary" in err
    assert world.objects() == before


def test_the_run_of_a_release_that_was_taken_back_does_not_undo_that(world: World, run: Run) -> None:
    """A rollback is a person's decision, and so is its end."""
    publish(world, run, "1.0.0", "1.1.0")
    assert run("rollback", "canary")[0] == 0
    before = world.objects()
    code, _, err = run("release")

    assert code == 0, err
    assert world.objects() == before
    assert offered(world) == "1.0.0"


def test_the_run_of_what_a_channel_went_back_to_writes_nothing(world: World, run: Run) -> None:
    """After a rollback the newest entry of the history is not what is offered."""
    publish(world, run, "1.0.0", "1.1.0")
    run("rollback", "canary")
    before = world.objects()
    prepare(world, "1.0.0")

    assert run("release")[0] == 0
    assert world.objects() == before


def test_a_yanked_version_is_not_released_again(world: World, run: Run) -> None:
    """It is said before anything is sent, with the reason, and for every channel."""
    publish(world, run, "1.0.0", "1.1.0")
    assert run("yank", "1.1.0", "--reason", "eats disks")[0] == 0
    before = world.objects()
    for words in ((), ("--to", "stable")):
        code, _, err = run("release", *words)
        assert code == 20
        assert "1.1.0 was yanked from canary: eats disks" in err
    assert world.objects() == before


def test_a_yanked_version_is_not_promoted_to_a_channel_that_never_had_it(world: World, run: Run) -> None:
    """That no machine should have it holds for every channel."""
    publish(world, run, "1.0.0", "1.1.0")
    run("yank", "1.1.0", "--reason", "eats disks")
    before = world.objects()
    code, _, err = run("promote", "1.1.0", "--to", "stable")

    assert code == 22
    assert "eats disks" in err
    assert world.objects() == before


def test_a_second_promotion_to_the_same_channel_changes_nothing_that_is_offered(
    world: World, run: Run
) -> None:
    """Also with a share of the machines: what all may have is not taken from any of them."""
    publish(world, run, "1.0.0")
    assert run("promote", "1.0.0", "--to", "canary")[1].startswith("canary offers 1.0.0\n")
    code, out, _ = run("promote", "1.0.0", "--to", "canary", "--percent", "5")

    assert (code, out.splitlines()[0]) == (0, "canary offers 1.0.0 to every machine already")
    assert offered(world) == "1.0.0"


def test_the_first_release_of_a_channel_is_for_everyone_and_says_so(world: World, run: Run) -> None:
    """There is nothing that the other machines could stay with."""
    prepare(world, "1.0.0")
    code, _, err = run("release", "--percent", "10")

    assert code == 0
    assert "10 %" not in err
    assert "canary offers 1.0.0 to every machine: it has nothing that others could stay with" in err
    assert "canary offers it" in run("release", "--percent", "10")[2]


def test_a_rollback_during_a_second_rollout_goes_to_what_everyone_has(world: World, run: Run) -> None:
    """Not to the version before, which only a part of the machines was to have."""
    publish(world, run, "1.0.0")
    publish(world, run, "1.1.0", "1.2.0", words=("--percent", "10"))

    assert run("rollback", "canary")[1].startswith("canary takes back 1.2.0 and offers 1.0.0")


def test_two_rollbacks(world: World, run: Run) -> None:
    """Each takes back what is offered; the third has nothing to go to."""
    publish(world, run, "1.0.0", "1.1.0", "1.2.0")
    assert run("rollback", "canary")[1].startswith("canary takes back 1.2.0 and offers 1.1.0")
    assert run("rollback", "canary")[1].startswith("canary takes back 1.1.0 and offers 1.0.0")
    code, _, err = run("rollback", "canary")
    assert (code, "no release before 1.0.0" in err) == (27, True)
    assert offered(world) == "1.0.0"


def test_a_version_below_the_minimum_is_not_promoted(world: World, run: Run) -> None:
    """The minimum says that nobody should have it; whoever means it takes the minimum back first."""
    publish(world, run, "1.0.0", "1.1.0")
    run("minimum", "1.1.0")
    code, _, err = run("promote", "1.0.0", "--to", "canary")

    assert code == 22
    assert "below 1.1.0" in err
    assert "ferryman minimum none" in err
    assert run("minimum", "none")[0] == run("promote", "1.0.0", "--to", "canary")[0] == 0


def test_a_minimum_that_was_yanked_stays_one(world: World, run: Run) -> None:
    """Machines below it go to what is offered, above it; when nothing above is offered it cannot be set."""
    publish(world, run, "1.0.0", "1.1.0", "1.2.0")
    run("yank", "1.1.0", "--reason", "eats disks")
    assert run("minimum", "1.1.0")[0] == 0
    client = world.client()
    client.strict_refresh()
    assert client.choose("executable", installed="1.0.0").version == "1.2.0"

    run("rollback", "canary")
    assert run("minimum", "1.1.0")[0] == 22
    assert offered(world) == "1.0.0"


@pytest.mark.parametrize("how", [("yank", "1.0.0", "--reason", "x"), ("rollback", "canary")])
def test_the_last_version_of_a_platform_is_a_good_one(world: World, run: Run, how: tuple[str, ...]) -> None:
    """What nobody should have cannot be where a platform ends."""
    publish(world, run, "0.9.0", "1.0.0")
    run(*how)
    code, _, err = run("sunset", "linux-amd64", "--last", "1.0.0", "--reason", "old")

    assert code == 22
    assert "1.0.0" in err


# --- hands in the store, and in out/ ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [
    b"", b"{", b"\xff\xfe", b"[]", b'{"done": {"verify": {"key": 1, "note": "x"}}}', b'{"done": {"\xff": {}}}',
    b'{"hashes": {"lantern-1.0.0-linux-amd64": [1, 2, "x"]}}',
])  # fmt: skip
def test_a_broken_memory_of_a_run_is_none(world: World, run: Run, content: bytes) -> None:
    """Everything is looked at again."""
    publish(world, run, "1.0.0")
    path = world.root / "out/release/lantern-1.0.0/run.json"
    path.chmod(0o644)
    path.write_bytes(content)

    assert run("release")[0] == 0
    assert world.look() == "1.0.0"


def test_an_object_that_was_removed_is_sent_again(world: World, run: Run) -> None:
    """A version whose release.json is there is looked through: what a hand has taken away comes back."""
    publish(world, run, "1.0.0")
    folder = world.store / "artifacts/lantern/1.0.0"
    lost = folder / "lantern-1.0.0-linux-amd64"
    content = lost.read_bytes()
    lost.unlink()
    code, _, err = run("release")

    assert code == 0, err
    assert "sent what was missing: 1 objects" in err
    assert lost.read_bytes() == content
    assert world.look() == "1.0.0"


def test_a_broken_history_is_not_guessed_at(world: World, run: Run) -> None:
    """An old one that a valid snapshot still names: gc goes on without it, and keeps what the channel document names."""
    publish(world, run, "1.0.0", "1.1.0", "1.2.0")
    newest = _newest_history(world)
    for path in (world.store / "channels/canary").iterdir():
        if not newest.endswith(path.name):
            path.chmod(0o644)
            path.write_bytes(b"{")
    code, _, err = run("gc", "--keep", "1", "--yes")

    assert code == 0, err
    assert world.look() == "1.2.0"
    newest = _newest_history(world)
    (world.store / newest).chmod(0o644)
    (world.store / newest).write_bytes(b"{")
    assert run("gc", "--keep", "1", "--yes")[0] == run("releases")[0] == 25


def _newest_history(world: World) -> str:
    return history_object(world.place("1.2.0").repository("lantern").load().channels["canary"].history)[0]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"{}", None], ids=str)
@pytest.mark.parametrize("command", [("promote", "1.0.0", "--to", "beta"), ("diff", "1.0.0", "1.1.0"), ("rollback", "canary")],
                         ids=lambda words: words[0])  # fmt: skip
def test_a_broken_release_json_stops_what_needs_it(
    world: World, run: Run, command: tuple[str, ...], content: bytes | None
) -> None:
    """With its name; nothing becomes visible."""
    publish(world, run, "1.0.0", "1.1.0")
    path = world.store / "artifacts/lantern/1.0.0/release.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    pointer = (world.store / "metadata/timestamp.json").read_bytes()
    code, _, err = run(*command)

    assert code == 23
    assert "artifacts/lantern/1.0.0/release.json" in err
    assert (world.store / "metadata/timestamp.json").read_bytes() == pointer


@pytest.mark.parametrize("content", [b"", b"{", b'{"components": 1}', b'{"components": []}', None], ids=str)
def test_diff_believes_no_sbom_that_was_changed(world: World, run: Run, content: bytes | None) -> None:
    """What is inside of a release is what release.json has the digest of."""
    for version in ("1.0.0", "1.1.0"):
        prepare(world, version, sbom=sbom)
        assert run("release")[0] == 0
    path = world.store / "artifacts/lantern/1.0.0/lantern-1.0.0-linux-amd64.cdx.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    code, _, err = run("diff", "1.0.0", "1.1.0")

    assert code == 23
    assert path.name in err


def test_what_was_done_is_said_before_the_pages_fail(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promotion that is visible is reported, whatever comes after; the cure is to run it again."""
    publish(world, run, "1.0.0")

    def fail(*_: object) -> int:
        raise StoreError("The store went away.", advice="Wait.")

    monkeypatch.setattr(opening, "write_pages", fail)
    code, out, _ = run("promote", "1.0.0", "--to", "stable")

    assert code == 21
    assert out.startswith("stable offers 1.0.0\n")
    assert offered(world, "stable") == "1.0.0"


def test_without_the_key_of_the_pointers_nothing_is_changed(world: World, run: Run) -> None:
    """What the pages need is looked at before the channel is changed."""
    publish(world, run, "1.0.0")
    world.settings = {
        "signers": {role: uri for role, uri in world.keys.signers.items() if role != "minisign"}
    }
    world.project()
    before = world.objects()
    code, _, err = run("promote", "1.0.0", "--to", "stable")

    assert (code, "minisign" in err) == (24, True)
    assert world.objects() == before


def test_a_channel_that_the_settings_forgot_is_still_served(world: World, run: Run) -> None:
    """Its keys are committed and machines follow it: its pointer stays fresh until the keys let go of it."""
    publish(world, run, "1.0.0")
    run("promote", "1.0.0", "--to", "beta")
    publish(world, run, "1.1.0")
    world.settings = {"channels": ["canary", "stable"]}
    world.project("1.1.0")
    code, _, err = run("promote", "1.1.0", "--to", "beta")

    assert code == 0, err
    assert offered(world, "beta") == "1.1.0"
    assert b"\nversion 1.1.0\n" in (world.store / "channels/beta.signed").read_bytes()


# --- steps that are left out, snapshots, Ctrl-C ------------------------------------------------------------------------------


def test_a_release_is_ended_with_the_steps_that_it_was_begun_with(world: World, run: Run) -> None:
    """With other files it is another release: what was left out once cannot come later under the same version."""
    prepare(world, "1.0.0")
    assert run("release", "--skip", "provenance")[0] == 0
    code, _, err = run("release")

    assert code == 22
    assert "--skip" in err
    assert run("release", "--skip", "provenance")[0] == 0


def test_a_snapshot_of_other_files_says_how_to_begin_anew(world: World, run: Run) -> None:
    """Its repository keeps versions as a real one does; nobody else has it, so it may go."""
    prepare(world, "1.0.0")
    assert run("release", "--snapshot")[0] == 0
    prepare(world, "1.0.0", contents={"lantern-1.0.0-linux-amd64": b"built again"})
    code, _, err = run("release", "--snapshot")

    assert code == 22
    assert "Remove" in err
    assert "out/snapshot" in err
    shutil.rmtree(world.root / "out" / "snapshot")
    assert run("release", "--snapshot")[0] == 0


def test_a_snapshot_warns_of_nothing_that_does_not_matter(world: World, run: Run) -> None:
    """Its keys are of the moment: that they expire is no news."""
    prepare(world, "1.0.0")
    code, _, err = run("release", "--snapshot")

    assert code == 0
    assert "expires in" not in err


@pytest.mark.parametrize("gone", ["private", "keys", "private/timestamp.pem", "keys/minisign.pub", "keys/keys.json",
                                  "keys/metadata/1.targets.json"])  # fmt: skip
def test_a_snapshot_makes_keys_again_that_are_gone(world: World, run: Run, gone: str) -> None:
    """They are of the moment: half of them are none."""
    prepare(world, "1.0.0")
    assert run("release", "--snapshot")[0] == 0
    path = world.root / "out/snapshot" / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, _, err = run("release", "--snapshot")

    assert code == 0, err


@pytest.mark.parametrize("name", [step.name for step in STEPS])
@pytest.mark.parametrize("when", ["before", "after"])
def test_ctrl_c_in_each_step(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    """Exit code 130 with a sentence about releases; nobody sees a half, and the same command ends it."""
    publish(world, run, "0.9.0")
    prepare(world, "1.0.0")
    number = [step.name for step in STEPS].index(name)
    step = STEPS[number]

    def interrupted(job: Any) -> str:
        if when == "after" and step.name != "github":
            step.run(job)
        raise KeyboardInterrupt

    broken = msgspec.structs.replace(step, run=interrupted, skip=lambda _: "")
    monkeypatch.setattr(
        "ferryman_release.commands.release.run_steps",
        lambda job: sum(_run_one(job, broken if one is step else one) for one in STEPS),
    )
    code, _, err = run("release")
    assert code == 130
    assert "Run the same command again" in err
    assert world.look() in ("0.9.0", "1.0.0")
    monkeypatch.undo()
    monkeypatch.chdir(world.root)

    assert run("release")[0] == 0
    assert world.look() == "1.0.0"


def _run_one(job: Any, step: Any) -> int:
    return run_steps(job, (step,))


def test_a_bucket_is_not_asked_again_for_what_is_complete(world: World) -> None:
    """Asking a store what it keeps of its word writes small objects: a release that is there needs none of them."""
    world.release("1.0.0")
    asked: list[str] = []

    class Bucket(FileStore):
        def capabilities(self, *, refresh: bool = False) -> Capabilities:
            asked.append("capabilities")
            return super().capabilities(refresh=refresh)

        def known(self) -> None:
            """Nothing yet."""

    complete, new = (
        world.job(version, place=msgspec.structs.replace(world.place(version), store=Bucket(world.store)))
        for version in ("1.0.0", "1.1.0")
    )
    run_steps(complete)
    assert asked == []
    run_steps(new)
    assert asked


def test_what_a_killed_preflight_left_goes_after_two_days(world: World) -> None:
    """The small object by which it asked whether it may write, and nothing else of that folder."""
    world.release("1.0.0")
    left = world.store / "probe" / f"{'0a' * 16}.txt"
    left.parent.mkdir()
    for path in (left, left.with_name("mine.txt")):
        path.write_bytes(b"?")
    place = world.place()
    objects, current = list(place.store.list()), place.repository("lantern").load()

    def removed(days: float) -> list[str]:
        now = world.clock.moment + timedelta(days=days)
        reached = reach(place.store, objects, current, now)
        return [one.key for one in plan(current, objects, reached, name="lantern", keep=1, now=now).remove]

    assert removed(1.9) == []
    assert removed(2.1) == [f"probe/{left.name}"]
