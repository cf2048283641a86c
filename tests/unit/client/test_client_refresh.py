"""What a running program gets from a refresh, whatever the network, the clock and the disk do."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman_client import (
    Action,
    Client,
    ExpiredError,
    MetadataError,
    NoTrustError,
    StateError,
    UnknownReleaseError,
    UnreachableError,
    UsageError,
)
from ferryman_client import refreshing as refreshing_module
from ferryman_client.state import StateDir, Trusted
from support.tuf_simulator import Simulator
from support.web import Handler, serving

DAY = 86400.0


@pytest.fixture
def sim() -> Simulator:
    made = Simulator()
    made.release("1.0.0")
    made.promote("stable", "1.0.0")
    return made


MakeClient = Callable[..., Client]


@pytest.fixture
def client_of(sim: Simulator, tmp_path: Path) -> MakeClient:
    """A client as a program has it that has just been started."""

    def make(**options: object) -> Client:
        usual = {
            "root": sim.root_bytes,
            "fetcher": sim,
            "machine": sim.machine,
            "state_dir": tmp_path / "state",
        }
        return Client(sim.url, **{**usual, **options})  # type: ignore[arg-type]

    return make


def advance(sim: Simulator, version: str = "1.1.0") -> None:
    sim.release(version)
    sim.promote("stable", version)


# --- the network ------------------------------------------------------------------------------------------------------


def test_offline_serves_the_last_state(sim: Simulator, client_of: MakeClient) -> None:
    """Without a network a refresh raises nothing, and a new process knows what the old one knew."""
    client_of().refresh()
    sim.offline = True
    client = client_of()
    status = client.refresh()

    assert (status.version, status.fresh, status.known, status.expired) == ("1.0.0", False, True, False)
    assert status.problem is not None
    assert (status.problem.kind, status.problem.exit_code) == ("unreachable", 21)
    assert status.problem.advice
    assert client.choose("executable", "0.9").version == "1.0.0"
    assert client.choose("executable").action is Action.INSTALL
    with pytest.raises(UnreachableError):
        client.strict_refresh()


def test_state_is_served_for_as_long_as_asked(sim: Simulator, client_of: MakeClient) -> None:
    """Ten years later the state is still there, with its age; nothing is installed from it and nothing raised."""
    before = client_of().refresh()
    sim.offline = True
    client = client_of(clock=lambda: time.time() + 3650 * DAY)
    status = client.refresh()

    assert (status.version, status.expired) == ("1.0.0", True)
    assert round(status.age / DAY) == 3650
    assert status.checked == before.checked
    stays = client.choose("executable", "0.9")
    assert (stays.action, stays.offer) == (Action.STAY, None)
    assert "expired" in stays.reason
    with pytest.raises(ExpiredError, match="nothing is installed from it") as caught:
        client.choose("executable")
    assert caught.value.advice
    with pytest.raises(ExpiredError):
        client.verify(__file__)


def test_first_start_without_a_network(sim: Simulator, client_of: MakeClient) -> None:
    """Who has never seen the repository gets a status that says so; only a first install raises."""
    sim.offline = True
    client = client_of()
    status = client.refresh()

    assert (status.known, status.fresh, status.version) == (False, False, "")
    assert status.problem is not None
    assert status.problem.kind == "unreachable"
    assert client.choose("executable", "1.0.0").action is Action.STAY
    with pytest.raises(NoTrustError, match="Nothing is known of stable yet"):
        client.choose("executable")
    with pytest.raises(NoTrustError):
        client.channel()


def test_repository_comes_back(sim: Simulator, client_of: MakeClient) -> None:
    """The next refresh after a failure is fresh, and its problem is gone."""
    client = client_of()
    sim.offline = True
    client.refresh()
    sim.offline = False
    status = client.refresh()

    assert (status.fresh, status.problem, status.version) == (True, None, "1.0.0")


@pytest.mark.parametrize("number", range(5))
def test_connection_that_breaks_in_mid_refresh(sim: Simulator, client_of: MakeClient, number: int) -> None:
    """Whichever request fails, the old state is served whole, and the next refresh is a good one."""
    client_of().refresh()
    sim.publish_root()
    sim.publish()
    advance(sim)
    sim.forget_requests()
    probe = client_of(state_dir=client_of().state.path.with_name("probe"))
    probe.refresh()
    path = sim.requests[number]
    sim.failing[path] = ConnectionResetError("reset")
    status = client_of().refresh()
    assert (status.version, status.fresh) == ("1.0.0", False)
    assert status.problem is not None
    assert status.problem.kind == "unreachable"

    sim.failing.clear()
    assert client_of().refresh().version == "1.1.0"


def test_mirror_takes_over(sim: Simulator, tmp_path: Path) -> None:
    """A dead first place is one attempt; the mirror serves metadata, documents and artifacts."""
    url = sim.write(tmp_path / "mirror")
    client = Client(
        "http://127.0.0.1:9/", tmp_path / "state", root=sim.root_bytes, mirrors=[url], machine=sim.machine
    )

    assert client.strict_refresh().version == "1.0.0"
    assert client.release("1.0.0").version == "1.0.0"
    assert client.download(client.offers()[0], tmp_path / "new").exists()


def test_mirror_that_is_behind_is_passed_over(sim: Simulator, tmp_path: Path) -> None:
    """A place with older metadata than this machine has seen is not the last word: the next one is asked."""
    behind = sim.write(tmp_path / "behind")
    advance(sim)
    current = sim.write(tmp_path / "current")
    first = Client(current, tmp_path / "state", root=sim.root_bytes, machine=sim.machine)
    assert first.refresh().version == "1.1.0"
    both = Client(behind, tmp_path / "state", root=sim.root_bytes, mirrors=[current], machine=sim.machine)

    assert both.strict_refresh().version == "1.1.0"


def test_all_places_fail_and_the_first_is_told(sim: Simulator, tmp_path: Path) -> None:
    """The failure of the place that was meant is the one that is reported."""
    mirror = (tmp_path / "nowhere").as_uri()
    client = Client(
        "http://127.0.0.1:9/", tmp_path / "state", root=sim.root_bytes, mirrors=[mirror], machine=sim.machine
    )

    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1 did not answer"):
        client.strict_refresh()


# --- what is there ----------------------------------------------------------------------------------------------------


def test_unknown_channel(client_of: MakeClient) -> None:
    """A channel that does not exist is named."""
    with pytest.raises(UnknownReleaseError, match="no channel nightly"):
        client_of(channel="nightly").strict_refresh()
    with pytest.raises(UnknownReleaseError, match="no channel beta, or nothing is released"):
        client_of(channel="beta").strict_refresh()


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "C:", " x", "nul\0"])
def test_channel_name_is_a_plain_one(client_of: MakeClient, name: str) -> None:
    """A channel's name becomes a file's, so it is none that leaves a folder."""
    with pytest.raises(UsageError, match="cannot be used as a name"):
        client_of(channel=name)


def test_unknown_kind(client_of: MakeClient) -> None:
    """A kind that does not exist is answered with those that do."""
    with pytest.raises(UsageError, match="no kind called deb") as caught:
        client_of().choose("deb", "1.0")
    assert "executable" in caught.value.advice


def test_unknown_release(sim: Simulator, client_of: MakeClient) -> None:
    """A version that the channel never had is named."""
    client = client_of()
    client.refresh()

    with pytest.raises(UnknownReleaseError, match=r"stable has never had 9\.9"):
        client.release("9.9")


def test_newer_format_is_refused_and_the_old_state_served(sim: Simulator, client_of: MakeClient) -> None:
    """A document of a format from the future does not break an agent of today."""
    client_of().refresh()
    sim.channels["stable"].targets["stable/channel"].unrecognized_fields["custom"]["format"] = 2
    sim.publish("stable")
    status = client_of().refresh()

    assert (status.version, status.fresh) == ("1.0.0", False)
    assert status.problem is not None
    assert "is of format 2, and this client reads 1" in status.problem.message
    assert "newer release" in status.problem.advice


def test_unknown_fields_do_no_harm(sim: Simulator, client_of: MakeClient) -> None:
    """A field that this client does not know is left out."""
    for target in sim.channels["stable"].targets.values():
        target.unrecognized_fields["custom"]["mood"] = {"good": True}
    sim.publish("stable")

    assert client_of().strict_refresh().version == "1.0.0"


def test_sunset_leads_to_an_older_release(sim: Simulator, client_of: MakeClient) -> None:
    """Where a sunset names a release that is no longer offered, the channel's history has its artifact."""
    advance(sim, "2.0.0")
    sunset = [
        {"target": "linux-amd64", "last": "1.0.0", "reason": "glibc is old", "below": {"glibc": "2.40"}}
    ]
    sim.promote("stable", "2.0.0", sunset=sunset)
    client = client_of()
    client.refresh()
    made = client.choose("executable", "0.9")

    assert (made.action, made.version, made.notice) == (Action.UPDATE, "1.0.0", "glibc is old")
    assert made.offer == client.release("1.0.0").offer("linux-amd64", "executable")
    sim.offline = True
    assert client_of().choose("executable", "0.9").offer == made.offer, "the documents were kept"


def test_sunset_whose_release_is_not_to_be_had(sim: Simulator, client_of: MakeClient) -> None:
    """A running program that cannot fetch the history stays; a first install is told why."""
    sim.promote("stable", "1.0.0", sunset=[{"target": "linux-amd64", "last": "0.5.0", "reason": "old"}])
    client = client_of()
    client.refresh()

    assert client.choose("executable", "0.4").action is Action.STAY
    assert "has never had 0.5.0" in client.choose("executable", "0.4").reason
    with pytest.raises(UnknownReleaseError):
        client.choose("executable")


# --- the clock --------------------------------------------------------------------------------------------------------


def test_clock_set_back(sim: Simulator, client_of: MakeClient) -> None:
    """A clock that is behind the last check is reported, and makes nothing young again."""
    client_of().refresh()
    client = client_of(clock=lambda: time.time() - 30 * DAY)
    sim.offline = True
    status = client.status()

    assert status.problem is not None
    assert status.problem.kind == "clock"
    assert "30 days behind the last check" in status.problem.message
    assert status.version == "1.0.0"
    assert status.age == 0.0


def test_expired_state_stays_expired_when_the_clock_is_set_back() -> None:
    """Expiry is judged by the latest time that this machine has seen."""
    from ferryman_client.state import Role
    from ferryman_client.status import expired_at

    trusted = Trusted(channel="stable", checked=1000.0, roles={"timestamp": Role(version=1, expires=999.0)})

    assert expired_at(trusted, 0.0)
    assert expired_at(trusted, 2000.0)


def test_clock_far_ahead(sim: Simulator, client_of: MakeClient, tmp_path: Path) -> None:
    """With a clock in the future everything has expired: the server's date says whose fault that is."""
    sim.write(tmp_path / "repository")
    with serving(tmp_path / "repository") as web:
        good = Client(web.url, tmp_path / "state", root=sim.root_bytes, machine=sim.machine)
        assert good.refresh().problem is None
        wrong = Client(
            web.url,
            tmp_path / "state",
            root=sim.root_bytes,
            machine=sim.machine,
            clock=lambda: time.time() + 400 * DAY,
        )
        status = wrong.refresh()
        assert status.problem is not None
        assert status.problem.kind == "clock"
        assert "400 days ahead of the server's" in status.problem.message
        assert status.skew is not None
        assert round(status.skew / DAY) == -400
        assert status.version == "1.0.0"
        assert good.refresh().problem is None, "a wrong clock leaves nothing behind"


def test_clock_that_is_off_without_harm(sim: Simulator, tmp_path: Path) -> None:
    """A clock that is an hour behind refreshes, and is reported."""
    sim.write(tmp_path / "repository")
    with serving(tmp_path / "repository") as web:
        client = Client(
            web.url,
            tmp_path / "state",
            root=sim.root_bytes,
            machine=sim.machine,
            clock=lambda: time.time() - 3600,
        )
        status = client.refresh()

    assert status.fresh
    assert status.problem is not None
    assert (status.problem.kind, status.problem.exit_code) == ("clock", 42)
    assert "60 minutes behind the server's" in status.problem.message


def test_clock_of_the_caller_makes_metadata_expire_earlier(sim: Simulator, client_of: MakeClient) -> None:
    """The caller's clock counts beside the system's: whoever passes the expiry gets an ExpiredError."""
    with pytest.raises(ExpiredError, match="timestamp metadata has expired"):
        client_of(clock=lambda: time.time() + 8 * DAY).strict_refresh()


def test_status_says_what_expires_first(sim: Simulator, client_of: MakeClient) -> None:
    """The role that ends first and when, in UTC."""
    sim.lifetimes["snapshot"] = 3
    sim.publish()
    status = client_of().refresh()

    assert status.expiring == "snapshot"
    assert status.expires == sim.now + timedelta(days=3)
    assert status.checked is not None
    assert abs(status.checked - datetime.now(UTC)) < timedelta(hours=1)


# --- the disk ---------------------------------------------------------------------------------------------------------

FILES = ["trusted-stable.json", "lock", "metadata/root.json", "metadata/timestamp.json", "metadata/snapshot.json",
         "metadata/targets.json", "metadata/stable.json", "metadata/root_history/1.root.json",
         "metadata/root_history/2.root.json"]  # fmt: skip


@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "gone", "folder", "link to nowhere"])
@pytest.mark.parametrize("name", FILES)
def test_damaged_state_heals(sim: Simulator, client_of: MakeClient, name: str, damage: str) -> None:
    """Any file of the state folder may be broken: the refresh is a fresh one, and afterwards the state serves."""
    sim.publish_root()
    client = client_of()
    client.refresh()
    path = client.state.path / name
    data = path.read_bytes()
    path.unlink()
    if damage in ("empty", "half", "garbage"):
        path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "garbage": b"\0\xff{[" * 99}[damage])
    elif damage == "folder":
        path.mkdir()
    elif damage == "link to nowhere":
        path.symlink_to("nowhere")
    advance(sim)
    client = client_of()
    status = client.refresh()
    assert (status.version, status.fresh) == ("1.1.0", True)
    if (
        damage == "folder"
    ):  # nothing is deleted that somebody has put there; what was fetched is kept in memory
        return

    assert status.problem is None
    sim.offline = True
    assert client_of().refresh().version == "1.1.0"


@given(st.binary(max_size=200))
def test_any_bytes_in_the_state_are_no_state(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """What has not been written by the client is not read as a state."""
    state = StateDir(tmp_path_factory.mktemp("state"))
    (state.path / "trusted-stable.json").write_bytes(data)

    assert state.load("stable") is None


def test_state_of_another_version_is_no_state(tmp_path: Path) -> None:
    """A state in a form from the future is fetched again."""
    import hashlib

    state = StateDir(tmp_path)
    body = b'{"format": 2}'
    (tmp_path / "trusted-stable.json").write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    assert state.load("stable") is None


def test_state_folder_that_cannot_be(sim: Simulator, client_of: MakeClient, tmp_path: Path) -> None:
    """Where no folder can be made the client works from memory, and says so."""
    (tmp_path / "file").write_text("")
    client = client_of(state_dir=tmp_path / "file" / "state")
    status = client.refresh()

    assert (status.version, status.fresh) == ("1.0.0", True)
    assert status.problem is not None
    assert (status.problem.kind, status.problem.exit_code) == ("state", 41)
    assert client.choose("executable", "0.9").version == "1.0.0"
    sim.offline = True
    assert client.refresh().version == "1.0.0"


def test_read_only_state_folder(
    sim: Simulator, client_of: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state folder that can be read and not written still protects: its versions count."""
    advance(sim)
    client_of().refresh()
    old = sim.save()
    advance(sim, "1.2.0")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(StateDir, "lock", refuse)
    monkeypatch.setattr("ferryman_client.state.write", refuse)
    client = client_of()
    before = {path: path.read_bytes() for path in client.state.path.rglob("*") if path.is_file()}
    status = client.refresh()
    assert (status.version, status.fresh) == ("1.2.0", True)
    assert status.problem is not None
    assert "Permission denied" in status.problem.message
    assert before == {path: path.read_bytes() for path in client.state.path.rglob("*") if path.is_file()}

    sim.restore(old)
    assert client.refresh().version == "1.2.0"


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond ``size`` bytes: as good as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 700, 1500])
def test_disk_full(sim: Simulator, client_of: MakeClient, size: int) -> None:
    """Wherever writing ends, the old state is served, what is on the disk stays whole, and room heals everything."""
    client_of().refresh()
    advance(sim)
    client = client_of()
    with no_file_longer_than(size):
        status = client.refresh()
    assert status.known
    assert status.problem is not None
    assert status.problem.kind == "state"
    sim.offline = True
    assert client_of().refresh().version in ("1.0.0", "1.1.0")

    sim.offline = False
    status = client_of().refresh()
    assert (status.version, status.problem) == ("1.1.0", None)
    assert [path.name for path in client.state.path.rglob("tmp*")] == []
    assert [path.name for path in client.state.path.glob(".*")] == []


def test_nowhere_to_write(client_of: MakeClient) -> None:
    """Without a byte of room a first refresh says so in a sentence."""
    client = client_of()
    with no_file_longer_than(0), pytest.raises(StateError, match="can be written") as caught:
        client.strict_refresh()
    assert "Make room" in caught.value.advice


# --- other processes --------------------------------------------------------------------------------------------------

HOLD = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"


def test_another_process_holds_the_lock(
    sim: Simulator, client_of: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that is not given back is a problem and no hang; when its process is gone so is the lock."""
    monkeypatch.setattr(refreshing_module, "LOCK_TIMEOUT", 0.0)
    client = client_of()
    client.refresh()
    advance(sim)
    command = [sys.executable, "-c", HOLD, str(client.state.path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        status = client.refresh()
        holder.kill()

    assert (status.version, status.fresh) == ("1.0.0", False)
    assert status.problem is not None
    assert (status.problem.kind, status.problem.exit_code) == ("busy", 11)
    assert client.refresh().version == "1.1.0"


def test_many_at_once(sim: Simulator, tmp_path: Path) -> None:
    """Threads with clients of their own on one state folder all end up fresh."""
    url = sim.write(tmp_path / "repository")
    seen = []

    def run() -> None:
        client = Client(url, tmp_path / "state", root=sim.root_bytes, machine=sim.machine)
        seen.append(client.refresh())

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [(one.version, one.problem) for one in seen] == [("1.0.0", None)] * 8


def test_one_client_in_many_threads(sim: Simulator, client_of: MakeClient) -> None:
    """One client may be refreshed from several threads; each gets a whole answer."""
    client = client_of()
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(client.refresh())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [one.version for one in seen] == ["1.0.0"] * 8


# --- roots ------------------------------------------------------------------------------------------------------------


def test_no_root_to_trust(client_of: MakeClient) -> None:
    """Without a root there is no first refresh; the sentence says what to give."""
    with pytest.raises(NoTrustError, match="There is no root metadata") as caught:
        client_of(root=None).strict_refresh()
    assert "root.json" in caught.value.advice


def test_root_of_the_state_folder(sim: Simulator, client_of: MakeClient) -> None:
    """Without a root of its own a client trusts the one that an installer has left in the state folder."""
    client_of().refresh()
    advance(sim)

    assert client_of(root=None).strict_refresh().version == "1.1.0"


def test_root_that_is_none(client_of: MakeClient) -> None:
    """Bytes that are no root metadata are refused."""
    with pytest.raises(MetadataError):
        client_of(root=b"{}").strict_refresh()


def test_newer_root_of_a_newer_program(sim: Simulator, client_of: MakeClient) -> None:
    """A program that was updated brings a newer root; it goes on in the old state folder."""
    client_of().refresh()
    sim.replace_signers("timestamp")
    sim.publish_root()
    advance(sim)
    newer = sim.objects[f"metadata/{sim.root.version}.root.json"]
    sim.forget_requests()

    assert client_of(root=newer).strict_refresh().version == "1.1.0"
    assert "metadata/2.root.json" not in sim.requests


def test_state_folder_is_deleted_in_between(sim: Simulator, client_of: MakeClient) -> None:
    """A client whose folder was deleted makes it again."""
    client = client_of()
    client.refresh()
    shutil.rmtree(client.state.path)
    advance(sim)

    assert client.refresh().version == "1.1.0"
    assert client_of().status().version == "1.1.0"


def test_server_that_answers_nonsense(sim: Simulator, tmp_path: Path) -> None:
    """A portal that answers every request with its own page is a problem in a sentence, and nothing is taken from it."""
    sim.write(tmp_path / "repository")
    client = Client(sim.url, tmp_path / "state", root=sim.root_bytes, fetcher=sim, machine=sim.machine)
    client.refresh()

    def behave(request: Handler) -> bool:
        request.answer(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
        return True

    with serving(tmp_path / "repository") as web:
        web.behave = behave
        status = Client(web.url, tmp_path / "state", root=sim.root_bytes, machine=sim.machine).refresh()

    assert (status.version, status.fresh) == ("1.0.0", False)
    assert status.problem is not None
    assert status.problem.kind == "refused"
