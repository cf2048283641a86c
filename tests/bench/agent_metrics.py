"""`nox -s bench -- agent_metrics`: what a scrape takes, beside Debian's node_exporter, and what the collectors cost.

The agent has all its collectors and so many checks that its page has at least a thousand series; node_exporter has its
usual collectors. Both are scraped in turn, each time over a new connection and as Prometheus asks, so that other work on the
machine hits both. node_exporter measures when it is asked, the agent has measured before: therefore the processor time of
both over the same scrapes is shown beside it, and the agent's includes its collections.

Promises: a scrape takes at most as long as node_exporter's (median of each); writing 3,000 lines takes at most 50 ms, and at
most a third of what prometheus_client takes; 45 MB with 100 checks and all collectors.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from table import ROOT, Row, keep, row, show

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "agent_src"))

import psutil

from support import nginx
from support.debian import program

SERIES, CHECKS, SCRAPES = 1000, 100, 200
MB = 1e6
RSS_LIMIT, RENDER_LIMIT = 45.0, 50.0
HEADERS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}


def scrape(port: int) -> tuple[float, bytes]:
    """Seconds from the connection to the last byte, and the page."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics", headers=HEADERS)
    body = connection.getresponse().read()
    connection.close()
    return time.perf_counter() - started, body


def series(page: bytes) -> int:
    return sum(bool(line) and not line.startswith(b"#") for line in page.splitlines())


@contextlib.contextmanager
def running(
    command: list[str], port: int, environment: dict[str, str] | None = None
) -> Iterator[psutil.Process]:
    """A server, from the first answer on."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        nginx.wait_for(port)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def agent(folder: Path, checks: int, target: int) -> Iterator[tuple[psutil.Process, int]]:
    """The agent from its sources, optimised as the frozen one is, with its bytecode at hand."""
    port, file = nginx.free_port(), folder / f"agent-{checks}.json"
    each = {"type": "http", "url": f"http://127.0.0.1:{target}/", "period": 5}
    file.write_text(json.dumps({"checks": {f"check-{number}": each for number in range(checks)}}))
    command = [sys.executable, "-OO", "-m", "watchkeeper", "run", "--config", str(file)]
    environment = {"PYTHONPATH": str(ROOT / "agent_src"), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment["PYTHONDONTWRITEBYTECODE"] = ""
    with running([*command, "--listen", f"127.0.0.1:{port}"], port, environment) as process:
        yield process, port


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def scrapes(folder: Path, target: int) -> Iterator[Row]:
    """The agent and node_exporter in turn."""
    node_port = nginx.free_port()
    exporter = program("prometheus-node-exporter", "usr/bin/prometheus-node-exporter")
    command = [str(exporter), f"--web.listen-address=127.0.0.1:{node_port}"]
    with agent(folder, 260, target) as (ours, port), running(command, node_port) as theirs:
        time.sleep(8)
        pages = (scrape(port)[1], scrape(node_port)[1])
        before = (cpu(ours), cpu(theirs))
        times = [(scrape(port)[0], scrape(node_port)[0]) for _ in range(SCRAPES)]
        used = [now - then for now, then in zip((cpu(ours), cpu(theirs)), before, strict=True)]
    found, others = (series(page) for page in pages)
    mine, other = (statistics.median(side) for side in zip(*times, strict=True))
    seen = f"{mine * 1e3:.2f} ms / {other * 1e3:.2f} ms, {found} series / {others} series"
    yield row("scrape / node_exporter's, median", mine / other, 1.0, seen, also=found >= SERIES)
    worst = [sorted(side)[int(0.99 * SCRAPES)] for side in zip(*times, strict=True)]
    seen = f"{worst[0] * 1e3:.2f} ms / {worst[1] * 1e3:.2f} ms"
    yield row("scrape / node_exporter's, 99 of 100", worst[0] / worst[1], None, seen)
    seen = f"{used[0]:.2f} s / {used[1]:.2f} s for {SCRAPES} scrapes; the agent's with 260 checks meanwhile"
    yield row("processor time / node_exporter's", used[0] / max(used[1], 0.01), None, seen)


def memory(folder: Path, target: int) -> Iterator[Row]:
    """At rest, after everything was used once."""
    with agent(folder, CHECKS, target) as (_, port):
        scrape(port)  # the bytecode is written
    with agent(folder, CHECKS, target) as (ours, port):
        time.sleep(20)
        lines = series(scrape(port)[1])
        time.sleep(1)
        used = ours.memory_info().rss / MB
    yield row(f"memory with {CHECKS} checks and all collectors (MB)", used, RSS_LIMIT, f"{lines} series")


def rendering() -> Iterator[Row]:
    """The page alone: ours beside prometheus_client's, of the same registry."""
    from prometheus_client import generate_latest

    from watchkeeper.metrics import Metrics, render

    metrics = Metrics()
    family = metrics.histogram("bench_wait_seconds", "How long.", "path")
    for number in range(250):
        family.labels(f"/path/{number}").observe(number / 100)
    lines = len(render(metrics.registry).splitlines())

    def best(write: Callable[[], object]) -> float:
        seconds = []
        for _ in range(20):
            started = time.perf_counter()
            write()
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    mine, other = best(lambda: render(metrics.registry)), best(lambda: generate_latest(metrics.registry))
    seen = f"{lines} lines; prometheus_client {other * 1e3:.1f} ms"
    yield row("writing the page (ms)", mine * 1e3, RENDER_LIMIT, seen, also=lines >= 3000)
    yield row("writing the page / prometheus_client's", mine / other, 1 / 3, f"{mine * 1e3:.2f} ms")


def measure(folder: Path) -> Iterator[Row]:
    yield from rendering()
    target = nginx.free_port()
    answer = f"server {{ listen 127.0.0.1:{target}; location / {{ return 200; }} }}"
    with nginx.running(folder, answer, target):
        yield from memory(folder, target)
        yield from scrapes(folder, target)


def main() -> int:
    """Measure, print a table, keep the figures as JSON; 1 when a promise is not kept."""
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="watchkeeper-bench-") as folder:
        rows = show(measure(Path(folder)))
    return keep("agent_metrics", rows, time.time() - started)


if __name__ == "__main__":
    sys.exit(main())
