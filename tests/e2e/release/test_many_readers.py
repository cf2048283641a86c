"""Twenty clients read while fifty releases are published: whatever any of them gets is of one release, and none goes back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ferryman_client import Client
from ferryman_release.errors import ConflictError
from support.releasing import World
from support.s3.faults import Proxy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

CLIENTS, RELEASES = 20, 50


class Reader(threading.Thread):
    """Refreshes and downloads until it is told to stop; half of them begin anew each time."""

    def __init__(self, world: World, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True, name=f"reader {number}")
        self.world, self.number, self.stop = world, number, stop
        self.seen: list[str] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.seen.append(self.once())
                self.stop.wait(0.2)
        except BaseException as error:  # noqa: BLE001 - the test raises it in its own thread
            self.failure = error

    def once(self) -> str:
        """One look; the version, which every file of it says."""
        state = f"reader-{self.number}" + (f"-{len(self.seen)}" if self.number % 2 else "")
        client: Client = self.world.client(state=state)
        client.strict_refresh()
        version = client.channel().version
        into = self.world.root / f"files-{self.number}" / str(len(self.seen))
        for target in self.world.targets:
            for offer in client.offers(target):
                path: Path = client.download(offer, into)
                assert offer.version == version
                assert path.read_text().startswith(f"lantern-{version}-{target}")
        assert client.history().releases[0].version == version
        assert client.release(version).version == version
        return version


def test_nobody_sees_a_mixture(world: World, proxy: Proxy) -> None:
    """Each look is of one version from the first document to the last byte, and versions only rise."""
    world.release("1.0.0")
    stop = threading.Event()
    readers = [Reader(world, number, stop) for number in range(CLIENTS)]
    for reader in readers:
        reader.start()
    for number in range(1, RELEASES):
        world.release(f"1.{number}.0")
    stop.set()
    for reader in readers:
        reader.join(120)

    failures = [f"{reader.name}: {reader.failure!r}" for reader in readers if reader.failure]
    assert failures == []
    for reader in readers:
        order = [int(version.split(".")[1]) for version in reader.seen]
        assert order == sorted(order)
    assert sum(len(set(reader.seen)) for reader in readers) > 2 * CLIENTS  # they did see them change


def test_two_publishers_at_once(world: World, proxy: Proxy) -> None:
    """Of two processes that publish two versions, each ends well, or is told that the other was faster and then ends well."""
    world.release("1.0.0")
    for round_number in range(1, 6):
        versions = [f"2.{round_number}.0", f"3.{round_number}.0"]
        outs = {version: world.root / f"out-{version}" for version in versions}
        running = {v: world.publisher("release", "--out", str(outs[v]), version=v) for v in versions}
        said = {v: process.communicate(timeout=120)[0].decode() for v, process in running.items()}
        codes = {v: process.returncode for v, process in running.items()}

        assert set(codes.values()) <= {0, ConflictError.exit_code}, said
        assert 0 in codes.values(), said
        for version in [v for v, code in codes.items() if code]:
            assert "Another publisher was faster" in said[version]
            again = world.publisher("release", "--out", str(outs[version]), version=version)
            out = again.communicate(timeout=120)[0].decode()
            assert again.returncode == 0, out
        history = {entry.version for entry in _history(world)}
        assert set(versions) <= history
        assert world.look() in versions


def _history(world: World) -> tuple[object, ...]:
    client = world.client(state="history")
    client.strict_refresh()
    return client.history().releases
