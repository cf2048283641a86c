"""What it costs to run `ferryman release` once more: 1 GB in 200 artifacts, published whole before.

For a folder as the store, and for S3 (moto on loopback, behind a proxy that counts):

1. Under 2 s, from the start of the process to its end.
2. No object is written, and no byte of an artifact is fetched back.

Without a promise: the same from another machine, which has nothing of the first run and must hash and fetch everything.
The 200 artifacts are for a hundred targets that do not exist; the client that walks before the flip is told of them.
``--size=MB`` for a shorter look.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from table import ROOT, Row, keep, row, show

sys.path[:0] = [str(ROOT / name) for name in ("tests", "build", "release", "release/client")]

import ferryman_client.refreshing  # noqa: E402 - from the checkout, as it is
import support.releasing  # noqa: E402
from ferryman_build.artifacts import Kind  # noqa: E402
from support.dist_factory import file_name, make_dist  # noqa: E402
from support.releasing import Clock, World, make_world  # noqa: E402
from support.s3.faults import Proxy, fault_proxy  # noqa: E402
from support.s3.moto import make_public, moto_server  # noqa: E402

KINDS = (Kind.ARCHIVE, Kind.EXECUTABLE)
TARGETS = tuple(f"linux-bench{number:03}" for number in range(100))
SECONDS, MEGABYTES = 2.0, 64
RUNS = 3
VERSION = "1.0.0"
MAIN = """
import sys
from pathlib import Path
from ferryman_release.cli import main
code = main()
print(Path("/proc/self/io").read_text())
sys.exit(code)
"""
READ = re.compile(r"rchar: (\d+)")
BUCKET = "again"


def prepare(folder: Path, size: int) -> World:
    """A world whose dist/ has ``size`` MB."""
    world = make_world(folder)
    world.targets, world.clock = ("host",), Clock(running=True)
    each = (size << 20) // (len(TARGETS) * len(KINDS))
    names = [file_name("lantern", VERSION, target, kind) for target in TARGETS for kind in KINDS]
    make_dist(folder / f"dist-{VERSION}", VERSION, targets=TARGETS, kinds=KINDS,
              contents={name: os.urandom(each) for name in names})  # fmt: skip
    return world


def again(world: World) -> tuple[float, int, str]:
    """Seconds of `ferryman release` in a process of its own, the MB that it has read, and what it said."""
    began = time.perf_counter()
    process = world.publisher("release", version=VERSION)
    out = process.communicate()[0].decode()
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"ferryman release failed:\n{out}")
    return seconds, int(READ.search(out)[1]) >> 20, out  # type: ignore[index]


def rows(name: str, world: World, state: Callable[[], object], fetched: Callable[[], int]) -> Iterator[Row]:
    """``state`` is what would change if something were written; ``fetched`` counts artifacts that were asked for."""
    again(world)  # Python has compiled its modules; the runs that are counted know no more
    before, seen = state(), fetched()
    runs = [again(world) for _ in range(RUNS)]
    idle = state() == before and all("everything is there" in out for _, _, out in runs)
    seconds = statistics.median(seconds for seconds, _, _ in runs)
    wrote = "nothing was written" if idle else "SOMETHING WAS WRITTEN"
    yield row(
        f"again, {name}, s", seconds, SECONDS, f"{len(TARGETS) * len(KINDS)} artifacts; {wrote}", also=idle
    )
    most = max(read for _, read, _ in runs)
    yield row(
        f"again, {name}, MB read", most, MEGABYTES, "modules of Python, and documents", also=fetched() == seen
    )
    shutil.rmtree(world.root / "out" / "release")
    before = state()
    seconds, _, _ = again(world)
    yield row(
        f"again, {name}, from another machine, s",
        seconds,
        None,
        "all hashed and fetched",
        also=state() == before,
    )


def folder(size: int) -> Iterator[Row]:
    """A folder as the store."""
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-") as work:
        world = prepare(Path(work), size)
        world.release(VERSION, plain=True)

        def state() -> dict[Path, int]:
            return {path: path.stat().st_mtime_ns for path in world.store.rglob("*") if path.is_file()}

        yield from rows("file store", world, state, lambda: 0)


def bucket(size: int) -> Iterator[Row]:
    """S3: the proxy has each request."""
    with (
        tempfile.TemporaryDirectory(prefix="ferryman-bench-") as work,
        moto_server() as server,
        fault_proxy(server.url) as proxy,
    ):
        make_public(server, BUCKET)
        world = prepare(Path(work), size)
        world.environ = dict(server.environ)
        world.settings = {"url": f"s3://{BUCKET}/agent", "endpoint": proxy.url,
                          "public_url": f"{proxy.url}/{BUCKET}/agent/"}  # fmt: skip
        world.release(VERSION, plain=True)
        proxy.reset()  # the bodies that it remembers
        yield from rows("S3", world, lambda: written(proxy), lambda: proxy.count("GET", "/lantern-1"))
        proxy.reset()
        again(world)
        again_requests = proxy.requests
        yield row(
            "again, S3, requests",
            len(again_requests),
            None,
            f"{sum(one[0] == 'HEAD' for one in again_requests)} of them HEAD",
        )


def written(proxy: Proxy) -> list[tuple[str, str]]:
    """Every request so far that changes something."""
    return [(method, path) for method, path, _ in proxy.requests if method not in ("GET", "HEAD")]


def main(arguments: list[str]) -> int:
    """Measure both; 1 when a promise is not kept."""
    sizes = [int(word.removeprefix("--size=")) for word in arguments if word.startswith("--size=")]
    size = sizes[0] if sizes else 1024
    began = time.perf_counter()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # moto tells each request
    ferryman_client.refreshing.TARGET_IDS = TARGETS
    support.releasing.MAIN = MAIN
    found = show(folder(size)) + show(bucket(size))
    return keep("release_again", found, time.perf_counter() - began, {"megabytes": size})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
