"""nginx of Debian in the foreground, with every file of it below one folder, as root or as anybody else."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from support.debian import program

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def free_port() -> int:
    """One that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def write_config(folder: Path, servers: str) -> list[str]:
    """A configuration with these `server` blocks; the command that runs it."""
    paths = "".join(f"{name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off;\n{user}pid {folder}/pid;\nerror_log {folder}/error.log;\nworker_processes 1;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{paths}{servers}\n}}\n"
    )
    binary = program("nginx", "usr/sbin/nginx")
    return [str(binary), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


@contextlib.contextmanager
def running(folder: Path, servers: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """nginx, once it accepts connections on `port`; ended at the end."""
    process = subprocess.Popen(write_config(folder, servers), stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def wait_for(port: int, limit: float = 10.0) -> None:
    """Until somebody accepts connections there.

    Raises:
        TimeoutError: nobody has.
    """
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise TimeoutError(f"nobody listens on port {port}")
