"""What a client costs: requests, bytes, and modules that are loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ferryman_client import Client
from support.tuf_simulator import Simulator

ROOT = Path(__file__).resolve().parents[3]
ALL = ("linux-amd64", "linux-arm64", "linux-amd64-musl", "linux-arm64-musl", "windows-amd64", "windows-arm64", "darwin-arm64",
       "darwin-amd64")  # fmt: skip


@pytest.fixture(scope="module")
def large() -> Simulator:
    """1,000 releases for eight targets, in three channels; a rollout is running."""
    sim = Simulator(("canary", "beta", "stable"))
    for number in range(1000):
        sim.release(f"1.{number}.0", targets=ALL, content=b"x")
        sim.record("stable", f"1.{number}.0")
    for channel in ("canary", "beta", "stable"):
        sim.promote(
            channel, "1.999.0", previous="1.998.0", rollout={"percent": 10, "seed": "s"}, publish=False
        )
    sim.publish()
    return sim


def test_refresh_among_a_thousand_releases(large: Simulator, tmp_path: Path) -> None:
    """A refresh after a release: at most 4 requests and 100 kB; without one: 2 requests; the first ever: 5."""
    client = Client(large.url, tmp_path, root=large.root_bytes, fetcher=large, machine=large.machine)
    large.forget_requests()
    client.strict_refresh()
    assert (len(large.requests), large.sent < 100_000) == (5, True)

    large.publish("stable")
    large.forget_requests()
    assert client.strict_refresh().fresh
    assert (len(large.requests), large.sent < 100_000) == (4, True)

    large.forget_requests()
    assert client.strict_refresh().fresh
    assert large.requests == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert large.sent < 2_000


def test_choice_asks_nobody(large: Simulator, tmp_path: Path) -> None:
    """All that is needed to choose came with the refresh."""
    client = Client(large.url, tmp_path, root=large.root_bytes, fetcher=large, machine=large.machine)
    client.strict_refresh()
    large.forget_requests()

    assert client.choose("executable", "1.0.0").offer
    assert client.choose("executable").offer
    assert client.offers("windows-amd64")
    assert large.requests == []


def test_older_release_is_two_requests(large: Simulator, tmp_path: Path) -> None:
    """Any of the thousand is a history and a release.json away, and the second time none."""
    client = Client(large.url, tmp_path, root=large.root_bytes, fetcher=large, machine=large.machine)
    client.strict_refresh()
    large.forget_requests()
    first = client.release("1.3.0")
    assert len(large.requests) == 2
    assert client.release("1.3.0") == first
    assert len(large.requests) == 2


def loaded(code: str, *arguments: str) -> set[str]:
    """The modules of a fresh process that has run ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, json\n{code}\nprint(json.dumps(list(sys.modules)))", *arguments],
        env={"PYTHONPATH": str(ROOT / "release" / "client"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"subprocess", "uuid", "tempfile", "shutil", "tuf", "securesystemslib", "urllib3", "requests", "cryptography", "http.client", "ssl", "email", "urllib.request", "asyncio",
         "boto3", "msgspec", "rich"}  # fmt: skip


def test_import_is_light() -> None:
    """A program that links the client pays for neither TUF nor a web client until it asks."""
    assert loaded("import ferryman_client") & HEAVY == set()


def test_known_state_is_light(tmp_path: Path) -> None:
    """Status and choice of a known state load nothing of it either: an agent's start knows its channel at once."""
    sim = Simulator()
    sim.release("1.0.0")
    sim.promote("stable", "1.0.0")
    Client(sim.url, tmp_path, root=sim.root_bytes, fetcher=sim, machine=sim.machine).refresh()
    code = (
        "from ferryman_client import Client\n"
        "client = Client('https://repository.invalid/', sys.argv[1], root=None)\n"
        "assert client.status().version == '1.0.0'\n"
        "client.choose('executable', '0.9')"
    )

    assert loaded(code, str(tmp_path)) & HEAVY == set()


def test_refresh_does_without_urllib3(tmp_path: Path) -> None:
    """A refresh loads python-tuf without its own fetcher, which whoever asks for it still gets."""
    sim = Simulator()
    sim.release("1.0.0")
    sim.promote("stable", "1.0.0")
    (tmp_path / "root.json").write_bytes(sim.root_bytes)
    url = sim.write(tmp_path / "repository")
    code = (
        "from pathlib import Path\n"
        "from ferryman_client import Client\n"
        "client = Client(sys.argv[1], sys.argv[2] + '/state', root=Path(sys.argv[2], 'root.json').read_bytes())\n"
        "assert client.strict_refresh().version == '1.0.0'\n"
        "assert 'tuf.ngclient.urllib3_fetcher' not in sys.modules\n"
    )
    own = "import tuf.ngclient as n, urllib3; f = n.Urllib3Fetcher(socket_timeout=3)\nassert f.socket_timeout == 3\n"

    assert "tuf.ngclient" in loaded(code, url, str(tmp_path))
    assert "tuf.ngclient.urllib3_fetcher" in loaded(code + own, url, str(tmp_path))
