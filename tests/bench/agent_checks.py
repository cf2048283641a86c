"""`nox -s bench -- agent_checks`: a thousand http checks every five seconds, beside Debian's blackbox exporter.

The agent is the delivered one; nginx answers it, in a process of its own. Measured are the agent's processor time, how late
its looks begin, and its memory: with a thousand good targets, and with a hundred among them that accept and never answer.
blackbox_exporter probes the same targets at the same rate, asked by this bench as Prometheus would ask it; that Prometheus
keeps the time in its case is not counted against it. Then single looks, one after the other: the agent's own, and what each
would cost with aiohttp.

Promises: 25 % of one processor, looks that begin at most 50 ms late in 99 of 100 cases, 55 MB; the hundred change nothing of
that, nor do they cost the others a look.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from built import Built
from table import ROOT, Row, keep, row, show

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "agent_src"))

import psutil

from support import nginx
from support.debian import program

CHECKS, HANGING, PERIOD = 1000, 100, 5.0
WARM_UP, SECONDS = 12.0, 30.0
HANG_TIMEOUT = 4.0
CPU_LIMIT, LATE_LIMIT, RSS_LIMIT = 0.25, 0.050, 55.0
LOOKS, ROUNDS = 300, 7
MB = 1e6


@dataclass(frozen=True)
class Used:
    """What a process took. `cpu`: share of one processor; `rss`: MB at the end."""

    cpu: float
    rss: float


@dataclass(frozen=True)
class Looked:
    """What the agent took and did. `late`: seconds that 99 of 100 looks were late at most; `missed`: share of the looks."""

    used: Used
    late: float
    missed: float


def watch(pid: int, during: Callable[[], None]) -> Used:
    """What a process takes while something is done."""
    process = psutil.Process(pid)

    def cpu() -> float:
        times = process.cpu_times()
        return times.user + times.system

    before, began = cpu(), time.monotonic()
    during()
    used = (cpu() - before) / (time.monotonic() - began)
    return Used(used, process.memory_info().rss / MB)


@contextlib.contextmanager
def never_answering() -> Iterator[int]:
    """A server that accepts and says nothing."""
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    held: list[tuple[float, socket.socket]] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                held.append((time.monotonic(), server.accept()[0]))
                while held and held[0][0] < time.monotonic() - 2 * PERIOD:
                    held.pop(0)[1].close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for _, connection in held:
        connection.close()


def config(good: int, hanging: int, port: int, silent: int) -> str:
    """JSON is YAML."""
    usual = {"type": "http", "period": PERIOD}
    checks = {
        f"good-{n}": {**usual, "url": f"http://127.0.0.1:{port}/{n}", "timeout": 1} for n in range(good)
    }
    late = {**usual, "url": f"http://127.0.0.1:{silent}/", "timeout": HANG_TIMEOUT}
    return json.dumps({"checks": checks | {f"hanging-{n}": late for n in range(hanging)}})


def agent(executable: Path, folder: Path, port: int, silent: int, hanging: int) -> Looked:
    """One run of the agent."""
    file, endpoint = folder / "agent.yaml", nginx.free_port()
    file.write_text(config(CHECKS - hanging, hanging, port, silent))
    listen = f"127.0.0.1:{endpoint}"
    command = [str(executable), "run", "--config", str(file), "--listen", listen]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        nginx.wait_for(endpoint)
        time.sleep(WARM_UP)
        before = scrape(endpoint)
        used = watch(process.pid, lambda: time.sleep(SECONDS))
        after = scrape(endpoint)
    finally:
        process.terminate()
        process.wait(30)
    good = 'watchkeeper_check_runs_total{check="good-'
    made = sum(value - before.get(name, 0.0) for name, value in after.items() if name.startswith(good))
    due = (CHECKS - hanging) * SECONDS / PERIOD
    return Looked(used, late(before, after), max(0.0, 1 - made / due))


def scrape(port: int) -> dict[str, float]:
    """Every series of /metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def late(before: dict[str, float], after: dict[str, float]) -> float:
    """The upper end of the bucket in which 99 of 100 looks are."""
    start = 'watchkeeper_check_lateness_seconds_bucket{le="'
    counts = {
        float(name.removeprefix(start).removesuffix('"}').replace("+Inf", "inf")): value
        - before.get(name, 0.0)
        for name, value in after.items()
        if name.startswith(start)
    }
    total = counts[float("inf")]
    return min(bound for bound, count in counts.items() if count >= 0.99 * total)


# -- the peer -----------------------------------------------------------------------------------------------------------------


def blackbox(folder: Path, port: int) -> Used:
    """blackbox_exporter, asked as often."""
    binary = program("prometheus-blackbox-exporter", "usr/bin/prometheus-blackbox-exporter")
    listen = nginx.free_port()
    file = folder / "blackbox.yml"
    file.write_text("modules: {http: {prober: http, timeout: 1s}}\n")
    command = [
        str(binary),
        f"--config.file={file}",
        f"--web.listen-address=127.0.0.1:{listen}",
        "--log.level=error",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        nginx.wait_for(listen)
        asyncio.run(ask_for(listen, port, PERIOD))
        return watch(process.pid, lambda: asyncio.run(ask_for(listen, port, SECONDS)))
    finally:
        process.terminate()
        process.wait(30)


async def ask_for(listen: int, port: int, seconds: float) -> None:
    """A probe of every target every period, each at its own time; at the end all of them have to have succeeded."""
    clock, began = asyncio.get_running_loop().time, asyncio.get_running_loop().time()
    running: set[asyncio.Task[bool]] = set()
    results: list[bool] = []
    for number in range(round(CHECKS * seconds / PERIOD)):
        await asyncio.sleep(max(0.0, began + number * PERIOD / CHECKS - clock()))
        task = asyncio.create_task(ask_one(listen, f"http://127.0.0.1:{port}/{number % CHECKS}"))
        running.add(task)
        task.add_done_callback(lambda done: (running.discard(done), results.append(done.result())))
    await asyncio.gather(*running)
    if not all(results):
        raise SystemExit(f"blackbox_exporter failed {results.count(False)} of {len(results)} probes")


async def ask_one(listen: int, target: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", listen)
    writer.write(f"GET /probe?module=http&target={target} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return b"\nprobe_success 1\n" in answer


# -- single looks -------------------------------------------------------------------------------------------------------------


def look_costs(port: int) -> dict[str, float]:
    """Processor seconds of one look: the agent's, and the same request by aiohttp in two ways. Medians of rounds in turn."""
    import aiohttp

    from watchkeeper.checks.http import probe
    from watchkeeper.config.schema.checks import HttpCheck

    url = f"http://127.0.0.1:{port}/"
    spec, memory = HttpCheck(url=url), {}

    async def own() -> None:
        assert (await probe(spec, memory)).success

    async def fetch(session: aiohttp.ClientSession) -> None:
        async with session.get(url, allow_redirects=False) as response:
            await response.content.read(10_240)
            assert response.status == 200

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    async def alone() -> None:
        async with session() as one:
            await fetch(one)

    async def run() -> dict[str, float]:
        async with session() as shared:
            ways: dict[str, Callable[[], Awaitable[None]]] = {
                "own": own,
                "a session for each look": alone,
                "one session, no pool": lambda: fetch(shared),
            }
            seen: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(ROUNDS + 1):
                for name, way in ways.items():
                    began = time.process_time()
                    for _ in range(LOOKS):
                        await way()
                    seen[name].append((time.process_time() - began) / LOOKS)
        return {name: sorted(costs[1:])[ROUNDS // 2] for name, costs in seen.items()}

    return asyncio.run(run())


def measure(folder: Path) -> Iterator[Row]:
    executable = Built().unpack_tree(folder / "tree")
    port = nginx.free_port()
    answer = f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 'in'; }} }}"
    with nginx.running(folder, answer, port), never_answering() as silent:
        plain = agent(executable, folder, port, silent, 0)
        said = f"{CHECKS} checks every {PERIOD:g} s, {SECONDS:g} s long"
        yield from agent_rows(plain, said)
        peer = blackbox(folder, port)
        seen = f"{plain.used.cpu:.1%} / {peer.cpu:.1%} of a processor"
        yield row("checks: processor / blackbox_exporter", plain.used.cpu / peer.cpu, None, seen)
        seen = f"{plain.used.rss:.1f} / {peer.rss:.1f} MB"
        yield row("checks: memory / blackbox_exporter", plain.used.rss / peer.rss, None, seen)
        yield from agent_rows(
            agent(executable, folder, port, silent, HANGING),
            f"{HANGING} of {CHECKS} never answer",
            "hanging: ",
        )
        costs = look_costs(port)
        own = costs.pop("own")
        for name, cost in costs.items():
            seen = f"{own * 1e6:.0f} / {cost * 1e6:.0f} us of a processor, {LOOKS} looks x {ROUNDS}"
            yield row(f"one look / aiohttp, {name}", own / cost, None, seen)


def agent_rows(looked: Looked, said: str, start: str = "checks: ") -> Iterator[Row]:
    yield row(f"{start}share of one processor", looked.used.cpu, CPU_LIMIT, said)
    yield row(f"{start}p99 of lateness (s, upper end of its bucket)", looked.late, LATE_LIMIT, said)
    yield row(f"{start}looks at good targets that were missed", looked.missed, 0.01, said)
    yield row(f"{start}memory (MB)", looked.used.rss, RSS_LIMIT, said)


def main() -> int:
    """Measure, print a table, keep the figures as JSON; 1 when a promise is not kept."""
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-") as folder:
        rows = show(measure(Path(folder)))
    return keep("agent_checks", rows, time.time() - started)


if __name__ == "__main__":
    sys.exit(main())
