"""What a program that runs takes: memory, processes, and files that it writes where nobody asked it to."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

PATIENCE = 30.0


@dataclass(frozen=True, kw_only=True)
class Service:
    """A program that serves until it is told to stop, and the places that it may write to."""

    name: str
    args: Callable[[int], Sequence[str]]  # with the port that it is to listen on
    env: Mapping[str, str]
    cwd: Path


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Of all its processes together. RSS counts pages that are shared with other programs too, USS does not."""

    rss: int
    uss: int
    processes: int


def footprint(service: Service) -> Footprint:
    """Start it, ask it for everything that it has once, let it come to rest, look, and stop it."""
    port = free_port()
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(
            service.args(port), env=service.env, cwd=service.cwd, stdin=subprocess.DEVNULL, stdout=nowhere,
            stderr=nowhere, start_new_session=True,
        )  # fmt: skip
    try:
        _ready(process, port)
        time.sleep(1.0)
        root = psutil.Process(process.pid)
        family = [root, *root.children(recursive=True)]
        memory = [one.memory_full_info() for one in family]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    return Footprint(
        rss=sum(one.rss for one in memory), uss=sum(one.uss for one in memory), processes=len(family)
    )


def median(service: Service, runs: int) -> Footprint:
    """Of several runs, value by value; the number of processes is the largest seen."""
    seen = [footprint(service) for _ in range(runs)]
    return Footprint(
        rss=round(statistics.median(one.rss for one in seen)),
        uss=round(statistics.median(one.uss for one in seen)),
        processes=max(one.processes for one in seen),
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait for readiness, then read the metrics, for which the agent imports the last of its libraries."""
    until = time.monotonic() + PATIENCE
    for path in ("readyz", "metrics", "status"):
        while not _answers(f"http://127.0.0.1:{port}/{path}"):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{process.args!r} is not ready on port {port}: {process.returncode}")
            time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            answer.read()
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


# Everything that the command writes goes into one folder on top of the real filesystem, which stays as it is. A folder
# is copied up as soon as a name in it is made or removed, so that a file that was removed again is seen as well.
OVERLAY = """\
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
chroot=$(PATH="/usr/sbin:/sbin:$PATH" command -v chroot)
top=$1; shift
"$chroot" "$top/root" "$@" >&2
cd "$top/upper"
find . -mindepth 1
"""


def written(script: str, env: Mapping[str, str]) -> list[str] | None:
    """Absolute paths that a shell script writes, makes or removes anywhere; None where that cannot be seen."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        return None
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-overlay-") as folder:
        done = subprocess.run(
            [unshare, "--mount", "sh", "-c", OVERLAY, "sh", folder, "/bin/sh", "-c", script],
            env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"nothing can be said about what is written:\n{done.stderr}")
    return sorted(line.removeprefix(".") for line in done.stdout.splitlines())


def outside(paths: Sequence[str], allowed: Path) -> list[str]:
    """Those that are neither ``allowed``, nor in it, nor a folder on the way to it."""
    place = str(allowed)
    return [
        path
        for path in paths
        if path != place and not path.startswith(f"{place}/") and not place.startswith(f"{path}/")
    ]
