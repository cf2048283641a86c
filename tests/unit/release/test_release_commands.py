"""The commands as a person types them: what they print, what they change, how they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from ferryman_build.artifacts import Kind
from ferryman_release import cli
from ferryman_release.commands import gc
from ferryman_release.gc import plan, reach
from ferryman_release.pipeline import STEPS, run_steps
from ferryman_release.steps import github
from support.dist_factory import make_dist
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
        return code, out, err

    return call


def publish(world: World, run: Run, *versions: str, words: tuple[str, ...] = ()) -> None:
    for version in versions:
        world.project(version)
        make_dist(world.root / "dist", version, targets=world.targets)
        code, _, err = run("release", *words)
        assert code == 0, err


def offered(world: World, channel: str) -> str:
    client = world.client(channel, state=f"state-{channel}")
    client.strict_refresh()
    return client.channel().version


def test_release_says_what_is_where(world: World, run: Run) -> None:
    """The table has every file with size and digest; the last line has the page."""
    make_dist(world.root / "dist", targets=world.targets)
    code, _, err = run("release", "--to", "beta")

    assert code == 0
    assert "lantern-1.0.0-linux-amd64.tar.gz" in err
    assert "beta: " in err
    assert offered(world, "beta") == "1.0.0"


def test_a_snapshot_is_a_whole_repository_that_nobody_trusts(world: World, run: Run) -> None:
    """No key, no tag and no changelog are needed; real keys do not vouch for what comes out; a second one is as good."""
    world.settings = {"signers": {}, "tag": "v{version}", "changelog": "CHANGES.md"}
    world.project()
    make_dist(world.root / "dist", targets=world.targets)
    first = run("release", "--snapshot")
    second = run("release", "--snapshot")

    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "would stop a release: there is no tag v1.0.0" in first[2]
    assert (world.root / "out/snapshot/repository/metadata/timestamp.json").exists()
    assert not world.store.exists()
    theirs = (world.root / "out/snapshot/keys/metadata/1.root.json").read_bytes()
    assert theirs != next(iter(world.keys.folder.roots().values()))


def test_a_dry_run_lists_every_request_and_sends_none(world: World, run: Run) -> None:
    """Objects, metadata, the pointer and the pages: all that a release would write."""
    make_dist(world.root / "dist", targets=world.targets)
    code, out, err = run("release", "--dry-run")

    assert code == 0, err
    for key in (
        "lantern-1.0.0-linux-amd64",
        "release.json",
        "metadata/1.canary.json",
        "metadata/timestamp.json",
        "index.html",
    ):
        assert any(key in line for line in out.splitlines()), key
    assert not world.store.exists() or not world.objects()


def test_a_dry_run_lists_the_requests_to_github(world: World) -> None:
    """Those too, when there is to be a release there and the step is not left out."""
    world.settings = {"github": "example/lantern"}
    job = world.job()
    run_steps(
        job, tuple(step for step in STEPS if step.name in ("collect", "checksums", "provenance", "sign"))
    )
    listed = github.requests(job)

    assert listed[0].startswith("POST https://api.github.com/repos/example/lantern/releases")
    assert any("name=SHA256SUMS.minisig" in line for line in listed)
    world.settings = {}
    assert github.requests(world.job()) == []


def test_promote_by_halves(world: World, run: Run) -> None:
    """First a part of the machines, then all; `releases` says how far it is."""
    publish(world, run, "1.0.0", "1.1.0")
    assert run("promote", "1.0.0", "--to", "stable")[1].startswith("stable offers 1.0.0\n")
    code, out, err = run("promote", "1.1.0", "--to", "stable", "--percent", "25")

    assert (code, out.splitlines()[:1]) == (
        0,
        ["stable offers 1.1.0 to 25 % of the machines; all others stay with 1.0.0"],
    ), err
    listed = run("releases")[1]
    assert "offered to 25 %" in listed
    assert "offered to all others" in listed
    assert run("promote", "1.1.0", "--to", "stable")[1].startswith("stable offers 1.1.0\n")


def test_yank_tells_every_channel(world: World, run: Run) -> None:
    """All that have had the version; `releases` shows the reason, and for programs as JSON."""
    publish(world, run, "1.0.0", "1.1.0")
    run("promote", "1.0.0", "--to", "beta")
    run("promote", "1.1.0", "--to", "beta")
    code, out, _ = run("yank", "1.1.0", "--reason", "eats disks")

    assert code == 0
    assert out.splitlines()[:2] == [
        "canary: 1.1.0 is yanked, it offers 1.0.0",
        "beta: 1.1.0 is yanked, it offers 1.0.0",
    ]
    assert "yanked: eats disks" in run("releases")[1]
    document = json.loads(run("releases", "--json")[1])
    assert document["beta"]["channel"]["yanked"][0]["reason"] == "eats disks"


def test_rollback_and_minimum(world: World, run: Run) -> None:
    """What a channel takes back, and what machines must have at least."""
    publish(world, run, "1.0.0", "1.1.0", "1.2.0")
    assert run("minimum", "1.1.0")[1].startswith("canary: machines below 1.1.0 have to update")
    assert run("rollback", "canary")[1].startswith("canary takes back 1.2.0 and offers 1.1.0")
    assert run("minimum", "none")[1].splitlines()[0].endswith("no machine has to update")
    assert offered(world, "canary") == "1.1.0"


def test_sunset(world: World, run: Run) -> None:
    """A platform's machines below a floor are told which version is their last."""
    publish(world, run, "1.0.0", "1.1.0")
    code, out, _ = run(
        "sunset", "linux/amd64", "--last", "1.0.0", "--reason", "too old", "--below", "glibc 2.28"
    )

    assert (code, out.splitlines()[0]) == (
        0,
        "canary: 1.0.0 is the last version for linux-amd64 below glibc 2.28",
    )
    client = world.client()
    client.strict_refresh()
    (rule,) = client.channel().sunset
    assert (rule.target, rule.last, dict(rule.below)) == ("linux-amd64", "1.0.0", {"glibc": "2.28"})


def test_diff_says_what_changed(world: World, run: Run) -> None:
    """Sizes and files that came or went; the same release does not differ from itself."""
    publish(world, run, "1.0.0")
    world.project("1.1.0")
    make_dist(world.root / "dist", "1.1.0", targets=("linux-amd64",), kinds=(Kind.EXECUTABLE,),
              contents={"lantern-1.1.0-linux-amd64": b"x" * 9000})  # fmt: skip
    world.targets = ("linux-amd64",)
    world.project("1.1.0")
    (world.root / "pyproject.toml").write_text(
        (world.root / "pyproject.toml").read_text().replace('["archive", "executable"]', '["executable"]')
    )
    assert run("release")[0] == 0
    code, out, _ = run("diff", "1.0.0", "1.1.0")

    assert code == 0
    assert "9.0 kB" in out
    assert any(
        line.startswith("windows-amd64 archive") and line.rstrip().endswith("-") for line in out.splitlines()
    )
    assert json.loads(run("diff", "1.1.0", "1.1.0", "--json")[1]) == []


def test_refresh_of_a_quiet_repository(world: World, run: Run) -> None:
    """A new timestamp, and no new channel document while there is time."""
    publish(world, run, "1.0.0")
    before = (world.store / "metadata/timestamp.json").read_bytes()
    code, out, _ = run("refresh")

    assert (code, out.splitlines()[0]) == (0, "the timestamp is new; channels signed again: none had to be")
    assert (world.store / "metadata/timestamp.json").read_bytes() != before


def test_gc_shows_asks_and_removes(world: World, run: Run) -> None:
    """Nothing goes without a yes; what a channel offers stays; files go when no valid metadata name them."""
    publish(world, run, "1.0.0", "1.1.0", "1.2.0", "1.3.0")
    run("promote", "1.0.0", "--to", "stable")
    code, out, err = run("gc", "--keep", "1")
    assert (code, "say --yes" in err.lower()) == (2, True)
    assert "kept     1.0.0        in use by stable" in out
    assert "forget   1.1.0" in out

    assert run("gc", "--keep", "1", "--yes")[0] == 0
    folders = {path.name for path in (world.store / "artifacts/lantern").iterdir()}
    assert folders == {"1.0.0", "1.1.0", "1.2.0", "1.3.0"}
    assert [one.version for one in _history(world)] == ["1.3.0", "1.0.0"]

    assert offered(world, "canary") == "1.3.0"


def test_gc_waits_until_no_valid_snapshot_names_a_version(world: World, run: Run) -> None:
    """What was forgotten goes a month later, with the metadata that named it; what is offered stays, and so do the roots."""
    publish(world, run, "1.0.0", "1.1.0", "1.2.0")
    run("gc", "--keep", "1", "--yes")
    place = world.place()
    objects = list(place.store.list())
    current = place.repository("lantern").load()

    def removed(days: float) -> set[str]:
        now = world.clock.moment + timedelta(days=days)
        found = plan(
            current, objects, reach(place.store, objects, current, now), name="lantern", keep=1, now=now
        )
        return {entry.key for entry in found.remove}

    assert removed(0) == removed(29) == set()
    gone = removed(31)
    assert {key.split("/")[2] for key in gone if key.startswith("artifacts/")} == {"1.0.0", "1.1.0"}
    kept = {entry.key for entry in objects} - gone
    assert {"metadata/1.root.json", "metadata/timestamp.json", "channels/canary.signed", "index.json"} <= kept
    assert {f"metadata/{number}.canary.json" for number in (1, 2, 3)} <= gone
    assert "metadata/4.canary.json" in kept


@pytest.mark.parametrize("whole", [False, True])
def test_gc_leaves_a_publishing_that_runs(world: World, run: Run, whole: bool) -> None:
    """A version that nothing names yet is kept for two days, whether its release.json is there or not."""
    publish(world, run, "1.0.0")
    folder = world.store / "artifacts/lantern/1.1.0"
    folder.mkdir()
    for name in ("lantern-1.1.0-linux-amd64", *(["release.json"] if whole else [])):
        (folder / name).write_bytes(b"staged")
    place = world.place()
    objects = list(place.store.list())
    current = place.repository("lantern").load()

    for days, gone in ((0.0, 0), (1.9, 0), (2.1, 2 if whole else 1)):
        now = world.clock.moment + timedelta(days=days)
        reached = reach(place.store, objects, current, now)
        found = plan(current, objects, reached, name="lantern", keep=1, now=now)
        keys = [entry.key for entry in found.remove if "1.1.0" in entry.key]
        assert len(keys) == gone
        assert not whole or not keys or keys[0].endswith("release.json")


def test_gc_removes_only_what_was_shown_and_still_holds(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that was overtaken while somebody thought about it is made again before anything goes."""
    publish(world, run, "1.0.0")
    orphan = "metadata/7.canary.json"
    (world.store / orphan).write_bytes((world.store / "metadata/1.canary.json").read_bytes())
    plans = iter(["first"])
    made = gc._plan

    def stale(*words: object) -> object:
        found = made(*words)  # type: ignore[arg-type]
        if next(plans, None):
            extra = [
                entry for entry in world.place().store.list() if "1.0.0" in entry.key or entry.key == orphan
            ]
            return msgspec.structs.replace(found, remove=(*found.remove, *extra))
        return found

    monkeypatch.setattr(gc, "_plan", stale)
    assert run("gc", "--yes")[0] == 0
    assert offered(world, "canary") == "1.0.0"
    assert (world.store / orphan).exists()  # too young to go
    assert world.look() == "1.0.0"


def _history(world: World) -> tuple[object, ...]:
    client = world.client(state="history")
    client.strict_refresh()
    return client.history().releases


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("promote", "9.9", "--to", "stable"), 27, "No channel ever offered 9.9"),
        (("promote", "1.0.0", "--to", "nightly"), 27, "no channel 'nightly'"),
        (("yank", "9.9", "--reason", "bad"), 27, "never had 9.9"),
        (("rollback", "canary"), 27, "no release before 1.0.0"),
        (("rollback", "stable"), 27, "offers nothing"),
        (("minimum", "9.9"), 27, "never had 9.9"),
        (("sunset", "linux-amd64", "--last", "9.9", "--reason", "old"), 27, "never had 9.9"),
        (
            ("sunset", "linux-amd64", "--last", "1.0.0", "--reason", "old", "--below", "wine 3"),
            2,
            "is no floor",
        ),
        (("sunset", "linux-z80", "--last", "1.0.0", "--reason", "old"), 2, "linux-z80"),
        (("diff", "1.0.0", "9.9"), 27, "No channel ever offered 9.9"),
        (("gc", "--keep", "0"), 2, "at least 1"),
        (("release", "--percent", "0"), 2, "no whole number"),
        (("release", "--skip", "sigm"), 2, "cannot be left out"),
        (("release", "--dist", "nowhere"), 20, "no manifest.json"),
        (("promot", "1.0.0"), 2, "promote"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_refusals(world: World, run: Run, words: tuple[str, ...], code: int, said: str) -> None:
    """One sentence, a cure, an exit code; nothing changes."""
    publish(world, run, "1.0.0")
    before = world.objects()
    found, _, err = run(*words)

    assert (found, said in err, "what to do:" in err) == (code, True, True), err
    assert world.objects() == before


def test_a_missing_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever installed Ferryman without its extra is told how to get it."""

    def fail(name: str) -> object:
        raise ModuleNotFoundError("No module named 'tuf'", name="tuf")

    monkeypatch.setattr(cli.importlib, "import_module", fail)
    code, _, err = run("releases")

    assert (code, "ferryman[release]" in err) == (4, True)


def test_doctor_tells_what_expires(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both halves' tables; the exit code is that of the worst that is due."""
    monkeypatch.setattr("ferryman_release.commands.doctor.run_doctor", lambda _: 0)
    assert "timestamp" not in run("doctor")[1]
    publish(world, run, "1.0.0")
    code, out, _ = run("doctor")
    assert (code, "timestamp 1" in out, "canary 1" in out) == (0, True, True)

    world.settings = {"expires": {"timestamp": 1, "channel": 6}}
    publish(world, run, "1.1.0")
    code, out, _ = run("doctor")
    assert (code, "6 days left" in out) == (26, True), out

    (world.store / "metadata/timestamp.json").write_bytes(b"{}")
    assert run("doctor")[0] == 25


def test_doctor_says_that_there_are_no_keys(
    tmp_path: Path, run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever only builds is told how to begin, and that is no failure."""
    monkeypatch.setattr("ferryman_release.commands.doctor.run_doctor", lambda _: 0)
    world.settings = {"keys": str(tmp_path / "none")}
    world.project()
    code, out, _ = run("doctor")

    assert (code, "ferryman keys init" in out) == (0, True)


def test_doctor_without_the_extra_is_that_of_building(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that only builds has no need of the release half's libraries."""

    def fail(name: str) -> object:
        raise ModuleNotFoundError("No module named 'tuf'", name="tuf")

    monkeypatch.setattr(cli.importlib, "import_module", fail)
    assert cli._run("doctor", otherwise=lambda _: 7)(None) == 7  # type: ignore[arg-type]
