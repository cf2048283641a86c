"""A publisher that is killed at any request leaves the old release whole or the new one whole, and can be run again."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from support.releasing import World
from support.s3.faults import Proxy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]


def run(world: World, *words: str, version: str) -> str:
    """To its end, which is a good one; what it said."""
    done = world.publisher(*words, version=version)
    out, _ = done.communicate(timeout=120)
    assert done.returncode == 0, out.decode()
    return out.decode()


def killed(world: World, proxy: Proxy, version: str, number: int, when: str) -> bool:
    """Publish until request ``number``, and kill it there; False when it came to its end, a good one, before that."""
    proxy.reset()
    proxy.stop_at(number, when)  # type: ignore[arg-type]
    publisher = world.publisher("release", version=version)
    try:
        while not proxy.stopped.wait(0.05):
            if publisher.poll() is not None:
                assert publisher.returncode == 0, publisher.communicate()[0].decode()
                return False
        publisher.send_signal(signal.SIGKILL)
    finally:
        publisher.kill()
        publisher.communicate()
        proxy.reset()
    return True


def rungs(world: World, proxy: Proxy, when: str) -> Iterator[tuple[int, str]]:
    """(request, version) for each request that a publishing has."""
    number = 0
    while True:
        number += 1
        version = f"1.{number}.0"
        if not killed(world, proxy, version, number, when):
            return
        yield number, version


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_ladder(world: World, proxy: Proxy, when: str) -> None:
    """Every request of a publishing, one after the other: killed before it was done, or after and before it was answered.

    At each an anonymous client sees a whole release, the old one until the pointer was replaced and the new one from
    then on; and the next run of the same command ends it.
    """
    run(world, "release", version="1.0.0")
    old, seen_old, seen_new = "1.0.0", 0, 0
    for number, version in rungs(world, proxy, when):
        seen = world.look()
        assert seen in (old, version), f"killed {when} request {number}"
        seen_old += seen == old
        seen_new += seen == version
        run(world, "release", version=version)
        assert world.look() == version, f"killed {when} request {number}"
        old = version
    # It was a ladder: some rungs before the flip, some behind it.
    assert seen_old > 20
    assert seen_new >= 2


def big(version: str) -> dict[str, bytes]:
    """An executable in three parts of a multipart upload."""
    line = f"lantern-{version}-linux-amd64\n".encode()
    return {f"lantern-{version}-linux-amd64": line * (20_000_000 // len(line))}


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_ladder_of_a_large_artifact(world: World, proxy: Proxy, when: str) -> None:
    """The same with an upload in parts: killed between them, it is taken over by the next run, and never half visible."""
    world.targets, world.contents = ("linux-amd64",), big
    run(world, "release", version="1.0.0")
    assert proxy.count("POST", r"amd64\?uploads") == 1
    old, taken_over = "1.0.0", 0
    for number, version in rungs(world, proxy, when):
        assert world.look() in (old, version), f"killed {when} request {number}"
        run(world, "release", version=version)
        begun, completed = (proxy.count("POST", rf"amd64\?{word}") for word in ("uploads", "uploadId"))
        taken_over += (begun, completed) == (0, 1)
        assert world.look() == version, f"killed {when} request {number}"
        old = version
    assert taken_over > 0  # what a dead run had sent was used


def test_a_rerun_of_a_complete_release_writes_nothing(world: World, proxy: Proxy) -> None:
    """Not one request that changes anything, and it says that nothing was to be done."""
    run(world, "release", version="1.0.0")
    proxy.reset()
    said = run(world, "release", version="1.0.0")

    assert [one for one in proxy.requests if one[0] not in ("GET", "HEAD")] == []
    assert "everything is there" in said


def test_a_killed_process_really_was_one(world: World, proxy: Proxy) -> None:
    """The first rung by hand: the publisher is gone by SIGKILL, and nothing is published."""
    proxy.stop_at(1, "before")
    publisher = world.publisher("release", version="1.0.0")
    assert proxy.stopped.wait(60)
    publisher.send_signal(signal.SIGKILL)
    publisher.communicate()

    assert publisher.returncode == -signal.SIGKILL
    assert isinstance(publisher, subprocess.Popen)
    assert world.look() == ""
