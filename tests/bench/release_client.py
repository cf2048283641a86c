"""What a machine pays for its updates.

1. A refresh after a release, in a repository with 1,000 releases for 8 targets: at most 4 requests and 100 kB, counted by
   the server.
2. Verifying an artifact of 30 MB: at most 1.2 times what ``sha256sum`` takes for it, which is a program of C that is
   started, too.

Without a promise: what a first refresh and one with nothing new cost, and what an import of the client adds to a start.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from table import ROOT, Row, keep, row, show
from timing import command, pair

sys.path[:0] = [str(ROOT / "release" / "client"), str(ROOT / "tests")]

from ferryman_client import Client  # noqa: E402 - from the checkout, as it is
from support.tuf_simulator import Simulator  # noqa: E402
from support.web import Handler, serving  # noqa: E402

SIZE = 30 * 1024 * 1024
RELEASES = 1000
TARGETS = ("linux-amd64", "linux-arm64", "linux-amd64-musl", "linux-arm64-musl", "windows-amd64", "windows-arm64", "darwin-arm64",
           "darwin-amd64")  # fmt: skip


def repository() -> Simulator:
    """1,000 releases; the newest is in three channels, in a rollout, and its Linux executable has 30 MB."""
    sim = Simulator(("canary", "beta", "stable"))
    for number in range(RELEASES):
        sim.release(f"1.{number}.0", targets=TARGETS, content=b"x")
        sim.record("stable", f"1.{number}.0")
    sim.release("2.0.0", targets=TARGETS, content=os.urandom(SIZE))
    for channel in ("canary", "beta", "stable"):
        sim.promote(
            channel, "2.0.0", previous="1.999.0", rollout={"percent": 100, "seed": "s"}, publish=False
        )
    sim.publish()
    return sim


class Counted:
    """A server's answers to GET: how many, and how many bytes with their heads."""

    def __init__(self) -> None:
        self.requests, self.bytes = 0, 0

    def __call__(self, request: Handler) -> bool:
        self.requests += 1
        write = request.wfile.write

        def counting(data: bytes) -> int:
            self.bytes += len(data)
            return write(data)

        if not getattr(request, "counting", False):
            request.counting = True  # type: ignore[attr-defined] # once for each connection
            request.wfile.write = counting  # type: ignore[method-assign,assignment]
        return False


def requests(sim: Simulator, work: Path) -> Iterator[Row]:
    """First, after a release, and with nothing new."""
    folder = work / "repository"
    sim.write(folder)
    with serving(folder) as web:
        client = Client(web.url, work / "state", root=sim.root_bytes, machine=sim.machine)
        for name, limits in (
            ("first refresh", None),
            ("refresh after a release", (4, 100)),
            ("refresh, nothing new", None),
        ):
            if limits:
                sim.publish("stable")
                for path, data in sim.objects.items():
                    if path.startswith("metadata/"):
                        (folder / path).write_bytes(data)
            web.behave = counted = Counted()
            began = time.perf_counter()
            client.strict_refresh()
            seconds = time.perf_counter() - began
            most, kilobytes = limits or (None, None)
            yield row(f"{name}, requests", counted.requests, most, f"{seconds * 1e3:.0f} ms over loopback")
            yield row(
                f"{name}, kB", counted.bytes / 1e3, kilobytes, f"{RELEASES} releases, {len(TARGETS)} targets"
            )


def verification(sim: Simulator, work: Path) -> Iterator[Row]:
    """The library's verify beside sha256sum; and the whole command, whose start is Python's."""
    client = Client((work / "repository").as_uri(), work / "state", root=sim.root_bytes, machine=sim.machine)
    client.strict_refresh()
    path = client.download(client.choose("executable").offer, work / "new")  # type: ignore[arg-type]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == client.verify(path).sha256
    peer = command(["sha256sum", str(path)])
    seen = pair(timed(lambda: client.verify(path)), peer, runs=15)
    yield row("verify 30 MB / sha256sum", seen.ratio, 1.2, _seen(seen.ours, seen.theirs, "sha256sum"))
    args = [sys.executable, "-m", "ferryman_client", "verify", str(path), "--offline",
            "--url", client.urls[0], "--state", str(work / "state")]  # fmt: skip
    whole = pair(command(args, {"PYTHONPATH": str(ROOT / "release" / "client")}), peer, runs=7)
    yield row(
        "ferryman-client verify 30 MB / sha256sum",
        whole.ratio,
        None,
        _seen(whole.ours, whole.theirs, "sha256sum"),
    )
    copy = work / "copy"
    fetch = pair(
        timed(
            lambda: client.download(client.choose("executable").offer, work / "again"),
            before=lambda: _gone(work / "again" / path.name),
        ),  # type: ignore[arg-type]
        command(["sh", "-c", f"cp '{path}' '{copy}' && sync '{copy}' && sha256sum '{copy}'"]),
        runs=7,
    )
    yield row(
        "download 30 MB from a file / cp, sync, sha256sum",
        fetch.ratio,
        None,
        _seen(fetch.ours, fetch.theirs, "cp"),
    )


def timed(call: Callable[[], object], before: Callable[[], object] | None = None) -> Callable[[], float]:
    """Seconds of one call."""

    def run() -> float:
        if before:
            before()
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    return run


def _gone(path: Path) -> None:
    path.unlink(missing_ok=True)


def _seen(ours: float, theirs: float, peer: str) -> str:
    return f"{ours * 1e3:.0f} ms, {peer} {theirs * 1e3:.0f} ms"


def start() -> Iterator[Row]:
    """What `import ferryman_client` adds to a bare start, and what a refresh imports."""
    env = {"PYTHONPATH": str(ROOT / "release" / "client")}
    bare = command([sys.executable, "-S", "-c", "pass"], env)
    for name, code in (("import ferryman_client", "import ferryman_client"),):
        seen = pair(command([sys.executable, "-S", "-c", code], env), bare, runs=15)
        yield row(f"{name} / python -S -c pass", seen.ratio, None, _seen(seen.ours, seen.theirs, "python"))


def main() -> int:
    """Measure all; 1 when a promise is not kept."""
    began = time.perf_counter()
    print("making 1,000 releases ...", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-") as folder:
        work, sim = Path(folder), repository()
        rows = show([])
        for part in (requests(sim, work), verification(sim, work), start()):
            rows += show(part)
        version = subprocess.run(
            ["sha256sum", "--version"], capture_output=True, text=True, check=True
        ).stdout
    more = {"peer": version.splitlines()[0]}
    return keep("release_client", rows, time.perf_counter() - began, more)


if __name__ == "__main__":
    sys.exit(main())
