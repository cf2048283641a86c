"""`nox -s bench -- agent_footprint`: how soon the delivered agent is there, what it takes at rest, and how soon it is gone.

The agent is the one that `ferryman build` makes, its folder unpacked. Beside it, in the same run, stand Debian's
node_exporter, blackbox_exporter, monit and supervisord, unpacked and not installed; where one cannot be had its row says so.

Ready is from exec to the first 200 of /readyz (of a peer: to its first answer), asked every millisecond. Starts run with
real-time priority, so that other work on the machine does not count, and warm: the first ones are left out. Memory is RSS in
units of 10^6 bytes, once the agent has looked after 100 or 1,000 checks and all its collectors for a while and was scraped
every few seconds meanwhile: half of the checks ask it over HTTP for /livez, half open a connection to it.

Promises: ready in 0.35 s as in the demonstration, in 1 s with 1,000 checks; 45 MB with 100 checks, 55 MB with 1,000.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from table import ROOT, Row, keep, row, show

sys.path.insert(0, str(ROOT / "tests"))

import psutil
import pytest
from built import AGENT, Built
from footprint import free_port
from measure import undisturbed

from support.debian import program, unpacked

STARTS, WARMUP = 15, 2
WORK, PEERS_WORK = 60.0, 20.0
IDLE = 20.0
SCRAPE = 5.0
MB = 1e6
PATIENCE = 30.0
SYSTEM_PYTHON = "/usr/bin/python3"
LIMITS = {100: 45.0, 1000: 55.0}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A program that answers on a port until SIGTERM."""

    name: str
    begin: Callable[[Path, int], Sequence[str]]
    path: str = "/metrics"
    environment: dict[str, str] = field(default_factory=dict)


def answers(port: int, path: str) -> bool:
    """Whether it says 200 now."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as asked:
            asked.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            head = asked.recv(64)
            while asked.recv(65536):
                pass
    except OSError:
        return False
    return head.split(b" ", 2)[1:2] == [b"200"]


def started(peer: Peer, folder: Path, port: int) -> tuple[subprocess.Popen[bytes], float]:
    """The process, and seconds until it answered.

    Raises:
        SystemExit: it ended, or did not answer in time; with what it wrote.
    """
    words = list(peer.begin(folder, port))
    log = folder / f"{peer.name.replace('/', '-')}.log"
    begun = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words,
            env={**os.environ, **peer.environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    while not answers(port, peer.path):
        if process.poll() is not None or time.perf_counter() - begun > PATIENCE:
            raise SystemExit(f"{peer.name} does not answer:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.001)
    return process, time.perf_counter() - begun


def ended(process: subprocess.Popen[bytes]) -> float:
    """Seconds from SIGTERM to its end."""
    begun = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    return time.perf_counter() - begun


@dataclass
class Starts:
    """Medians of some starts, in seconds."""

    ready: float
    gone: float
    slowest: float


def starts(peer: Peer, folder: Path) -> Starts:
    """Start and end it often."""
    took = []
    with undisturbed():
        for _ in range(WARMUP + STARTS):
            process, ready = started(peer, folder, free_port())
            took.append((ready, ended(process)))
    ready, gone = zip(*took[WARMUP:], strict=True)
    return Starts(statistics.median(ready), statistics.median(gone), max(ready))


@dataclass
class Rest:
    """What a program takes."""

    rss: float
    """In 10^6 bytes."""
    cpu: float
    """Hundredths of one core, while nobody asked it for anything."""


def rest(peer: Peer, folder: Path, work: float = WORK) -> Rest:
    """Let it work and answer for a while, then leave it alone, then look."""
    port = free_port()
    process, _ = started(peer, folder, port)
    try:
        until = time.monotonic() + work
        while time.monotonic() < until:
            answers(port, peer.path if peer.path != "/readyz" else "/metrics")
            time.sleep(SCRAPE)
        seen = psutil.Process(process.pid)
        family = [seen, *seen.children(recursive=True)]
        before = used(family)
        time.sleep(IDLE)
        cpu = (used(family) - before) / IDLE * 100
        return Rest(sum(each.memory_info().rss for each in family) / MB, cpu)
    finally:
        ended(process)


def used(family: Sequence[psutil.Process]) -> float:
    """Seconds of processor time."""
    return sum(each.cpu_times().user + each.cpu_times().system for each in family)


def agent(executable: Path, name: str, config: dict[str, object] | Path) -> Peer:
    """Ours with a configuration."""

    def begin(folder: Path, port: int) -> list[str]:
        file = config if isinstance(config, Path) else folder / "agent.yaml"
        if not isinstance(config, Path):
            text = json.dumps(config).replace("PORT", str(port))
            file.write_text(text, encoding="utf-8")
        return [str(executable), "run", "--config", str(file), "--listen", f"127.0.0.1:{port}"]

    return Peer(name=name, begin=begin, path="/readyz")


def checks(number: int) -> dict[str, object]:
    """So many checks of the agent itself."""
    kinds = (
        {"type": "http", "url": "http://127.0.0.1:PORT/livez", "period": "10s"},
        {"type": "tcp", "address": "127.0.0.1:PORT", "period": "10s"},
    )
    return {"checks": {f"check-{each}": kinds[each % 2] for each in range(number)}}


def demo(folder: Path) -> Path:
    """The demonstration, which is ready when the agent is: not when a web server in Python is."""
    text = (AGENT / "examples" / "demo.yaml").read_text(encoding="utf-8")
    file = folder / "demo.yaml"
    file.write_text(text.replace("ready_when: checks", "ready_when: agent"), encoding="utf-8")
    return file


def node_exporter(_folder: Path, port: int) -> list[str]:
    binary = program("prometheus-node-exporter", "usr/bin/prometheus-node-exporter")
    return [str(binary), f"--web.listen-address=127.0.0.1:{port}"]


def blackbox_exporter(folder: Path, port: int) -> list[str]:
    binary = program("prometheus-blackbox-exporter", "usr/bin/prometheus-blackbox-exporter")
    file = folder / "blackbox.yml"
    file.write_text("modules: {http_2xx: {prober: http}}\n", encoding="utf-8")
    return [str(binary), f"--web.listen-address=127.0.0.1:{port}", f"--config.file={file}"]


def monit(folder: Path, port: int) -> list[str]:
    binary = unpacked("monit") / "usr/bin/monit"
    file = folder / "monitrc"
    file.touch(mode=0o600)
    file.write_text(
        textwrap.dedent(f"""
        set daemon 5
        set pidfile {folder}/monit.pid
        set idfile {folder}/monit.id
        set statefile {folder}/monit.state
        set httpd port {port} address 127.0.0.1 allow 127.0.0.1
        check system box if memory usage > 99% then alert
        check filesystem root with path / if space usage > 99% then alert
    """),
        encoding="utf-8",
    )
    return [str(binary), "-I", "-c", str(file)]


def supervisord(folder: Path, port: int) -> list[str]:
    unpacked("supervisor", "python3-pkg-resources")
    file = folder / "supervisord.conf"
    file.write_text(
        textwrap.dedent(f"""
        [supervisord]
        nodaemon = true
        user = root
        logfile = {folder}/supervisord.log
        pidfile = {folder}/supervisord.pid
        [inet_http_server]
        port = 127.0.0.1:{port}
        [program:app]
        command = /bin/sleep 600
    """),
        encoding="utf-8",
    )
    return [SYSTEM_PYTHON, "-m", "supervisor.supervisord", "-c", str(file)]


SUPERVISOR = ROOT / "out/cache/debian/supervisor+python3-pkg-resources/usr/lib/python3/dist-packages"
PEERS = (
    Peer(name="node_exporter", begin=node_exporter),
    Peer(name="blackbox_exporter", begin=blackbox_exporter),
    Peer(name="monit", begin=monit, path="/"),
    Peer(
        name="supervisord",
        begin=supervisord,
        path="/",
        environment={"PYTHONPATH": str(SUPERVISOR), "PYTHONWARNINGS": "ignore"},
    ),
)


def rows(folder: Path) -> Iterator[Row]:
    """One for each promise, then the peers for information."""
    built = Built()
    tree = built.unpack_tree(folder / "tree")
    size = built.path("executable").stat().st_size
    yield row("size of the one file (MB)", size / MB, None, f"{size:,} B")

    shown = starts(agent(tree, "demo", demo(folder)), folder)
    seen = f"median of {STARTS}, slowest {shown.slowest:.3f} s"
    yield row("exec to ready, the demonstration (s)", shown.ready, 0.35, seen)
    many = starts(agent(tree, "many", checks(1000)), folder)
    yield row("exec to ready, 1,000 checks (s)", many.ready, 1.0, f"slowest {many.slowest:.3f} s")
    one = starts(agent(tree, "one", checks(1)), folder)
    yield row("SIGTERM to the end, one check (s)", one.gone, None, f"with 1,000 checks {many.gone:.3f} s")

    for number, limit in LIMITS.items():
        found = rest(agent(tree, f"{number}-checks", checks(number)), folder)
        seen = f"all collectors; {WORK:g} s of work, {found.cpu:.2f} % of a core meanwhile"
        yield row(f"memory with {number:,} checks (MB)", found.rss, limit, seen)
    yield from peers(folder)


def peers(folder: Path) -> Iterator[Row]:
    """Nothing is promised of them, and they do other work."""
    for peer in PEERS:
        try:
            took, found = starts(peer, folder), rest(peer, folder, PEERS_WORK)
        except pytest.skip.Exception as reason:
            yield row(f"{peer.name}: not to be had", 0.0, None, str(reason))
            continue
        yield row(
            f"{peer.name}: exec to its first answer (s)",
            took.ready,
            None,
            f"{found.rss:.1f} MB, {found.cpu:.2f} % of a core, SIGTERM to the end {took.gone:.3f} s",
        )


def main() -> int:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="agent-footprint-") as folder:
        kept = show(rows(Path(folder)))
    return keep("agent_footprint", kept, time.monotonic() - begun)


if __name__ == "__main__":
    sys.exit(main())
