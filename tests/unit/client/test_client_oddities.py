"""What nobody sends on purpose must not end an agent: numbers without end, dates of no calendar, addresses that are none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman_client import Action, Client, HttpFetcher, UnreachableError, cli
from ferryman_client.versions import below, key, older
from support.tuf_simulator import Simulator
from support.web import Handler, Web, serving

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def sim() -> Simulator:
    made = Simulator()
    made.release("1.0.0")
    made.promote("stable", "1.0.0")
    return made


@pytest.fixture
def client(sim: Simulator, tmp_path: Path) -> Client:
    return Client(sim.url, tmp_path / "state", root=sim.root_bytes, fetcher=sim, machine=sim.machine)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "file").write_bytes(b"bytes")
    with serving(tmp_path) as made:
        yield made


@pytest.fixture
def fetcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpFetcher]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = HttpFetcher(timeout=5)
    yield made
    made.close()


def read(fetcher: HttpFetcher, url: str) -> bytes:
    with fetcher.open(url) as answer:
        return b"".join(answer.body)


# --- documents --------------------------------------------------------------------------------------------------------


def test_a_percentage_without_end_is_refused(sim: Simulator, client: Client) -> None:
    """A whole number that no float holds: the document is refused, and the old state is served."""
    client.refresh()
    custom = sim.channels["stable"].targets["stable/linux-amd64/executable"].unrecognized_fields["custom"]
    custom["rollout"] = {"percent": 10**400, "seed": "s"}
    sim.publish("stable")
    status = client.refresh()

    assert status.problem is not None
    assert (status.problem.kind, status.version) == ("refused", "1.0.0")


@pytest.mark.parametrize("size", ["1e999", "1" + "0" * 400, "NaN", "-1", "true", '"5"', "1.5"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    """Of a release.json or a history, whose digest was right: a sentence, and no arithmetic."""
    from ferryman_client.errors import MetadataError
    from ferryman_client.reading import read_release

    asset = f'{{"path": "a", "kind": "artifact", "sha256": "{"0" * 64}", "size": {size}}}'
    document = f'{{"project": {{"name": "n", "version": "1"}}, "source": {{}}, "assets": [{asset}]}}'

    with pytest.raises(MetadataError, match="size"):
        read_release(document.encode(), "release.json")


def test_a_size_beyond_floats_is_kept() -> None:
    """Sizes are whole numbers: one above 2**53 is read as it stands."""
    from ferryman_client.reading import Reader

    assert Reader("x", {"size": 2**53 + 1}).size("size") == 2**53 + 1


def test_a_version_of_thousands_of_digits_is_none(sim: Simulator, client: Client) -> None:
    """Python makes no number of so many digits: such a thing is older than every version, and a choice is made."""
    long = "9" * 5000
    sim.channels["stable"].targets["stable/channel"].unrecognized_fields["custom"]["minimum"] = long
    sim.publish("stable")
    status = client.refresh()

    assert status.problem is None
    assert client.choose("executable", installed="0.9").action is Action.UPDATE
    assert client.choose("executable", installed=long).action is Action.UPDATE
    assert older(f"1.{long}", "1.0") == (not older("1.0", f"1.{long}"))
    assert key(long) == key(long)
    assert below("2.17", f"2.{long}") in (True, False)


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "date", ["Mon, 20 Nov 1995 19:12:08 -9999999999", "Mon, 20 Nov 99999 19:12:08 GMT", "soon", ""]
)
def test_a_date_of_no_calendar_is_no_date(web: Web, fetcher: HttpFetcher, date: str) -> None:
    """A server's clock is a hint; one that cannot be read is none."""

    def dated(request: Handler) -> bool:
        request.date_time_string = lambda timestamp=None: date  # type: ignore[method-assign]
        return False

    web.behave = dated
    assert read(fetcher, f"{web.url}file") == b"bytes"
    assert fetcher.date is None


@pytest.mark.parametrize("place", ["http://[::1", "http://host:port/", "http://host:99999/", "//["])
def test_a_redirect_to_no_address_is_a_failure(web: Web, fetcher: HttpFetcher, place: str) -> None:
    """With a sentence and a cure, not with the exception of whoever reads addresses."""
    web.behave = lambda request: request.answer(302, b"", {"Location": place}) or True  # type: ignore[func-returns-value]

    with pytest.raises(UnreachableError) as caught:
        read(fetcher, f"{web.url}file")
    assert caught.value.advice


@pytest.mark.parametrize(
    "url", ["http://[::1/file", "http://host:99999/file", "http://host:port/x", "file:///a%00b"]
)
def test_an_address_that_is_none_is_a_failure(
    fetcher: HttpFetcher, sim: Simulator, tmp_path: Path, url: str
) -> None:
    """Of a fetcher, and in the status of a client that was given it."""
    from ferryman_client import ClientError

    with pytest.raises(ClientError) as caught:
        read(fetcher, url)
    assert caught.value.advice

    client = Client(url, tmp_path / "state", root=sim.root_bytes, fetcher=fetcher, machine=sim.machine)
    problem = client.refresh().problem
    assert problem is not None
    assert problem.kind in ("unreachable", "usage")


def test_a_proxy_that_is_none_is_a_failure(
    web: Web, fetcher: HttpFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever set the variable is told."""
    monkeypatch.setenv("http_proxy", "http://[::1")
    monkeypatch.setenv("no_proxy", "")

    with pytest.raises(UnreachableError):
        read(fetcher, f"{web.url}file")


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_state_folder_of_an_impossible_name_raises_nothing(sim: Simulator, tmp_path: Path) -> None:
    """Also without a root of one's own: the status says what is wrong."""
    client = Client(sim.url, tmp_path / ("x" * 300), root=None, fetcher=sim, machine=sim.machine)
    problem = client.refresh().problem

    assert problem is not None
    assert problem.kind in ("no-trust", "state")


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_is_a_number_of_seconds(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What no socket takes is a mistake of the command line."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["refresh", f"--timeout={seconds}"], {})
    assert caught.value.code == 2
    assert "timeout" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_failure(sim: Simulator, tmp_path: Path) -> None:
    """`ferryman-client history | true` ends well, and says nothing about pipes."""
    (tmp_path / "root.json").write_bytes(sim.root_bytes)
    url = sim.write(tmp_path / "repository")
    words = [sys.executable, "-m", "ferryman_client", "refresh", "--url", url, "--root", str(tmp_path / "root.json"),
             "--state", str(tmp_path / "state"), "--json"]  # fmt: skip
    done = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT / "release/client")},
    )
    assert done.stdout is not None
    done.stdout.close()  # before it has written anything
    assert done.stderr is not None
    err = done.stderr.read()
    done.stderr.close()

    assert (done.wait(), err) == (0, b"")


def test_unknown_fields_are_passed_over(sim: Simulator, client: Client) -> None:
    """A later Ferryman may say more; what it must be understood for raises the number of the format."""
    custom = sim.channels["stable"].targets["stable/channel"].unrecognized_fields["custom"]
    custom["moon"] = json.loads('{"phase": [1, null]}')
    sim.publish("stable")

    assert client.refresh().problem is None
