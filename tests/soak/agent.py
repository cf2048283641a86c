"""The agent of a soak: started, asked, frozen, killed; with the same state directory and the same address each time."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class _Socket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Agent:
    """One address, one configuration, one state directory, and the process that has them now."""

    def __init__(
        self, folder: Path, state: Path, executable: str | None, environment: dict[str, str]
    ) -> None:
        self.folder, self.state, self.port = folder, state, free_port()
        self.file = folder / "agent.json"
        self.logs: list[Path] = []
        self._command = [executable] if executable else [sys.executable, "-W", "error", "-m", "watchkeeper"]
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT / "agent_src"), **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self.folder / f"agent-{len(self.logs)}.log"
        self.logs.append(log)
        listen = f"127.0.0.1:{self.port}"
        options = ["run", "--config", str(self.file), "--state-dir", str(self.state), "--listen", listen]
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*self._command, *options],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=self._environment,
            )

    def write(self, config: dict[str, Any] | bytes) -> None:
        """Replace the configuration as an editor does; JSON is YAML."""
        partial = self.folder / "agent.json.new"
        partial.write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
        partial.replace(self.file)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self, limit: float) -> int | None:
        """Ask it to end; the exit code, None: it did not."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            return None

    def get(self, path: str, limit: float = 5.0) -> bytes:
        """An answer over TCP, whatever its status.

        Raises:
            OSError: there was none.
        """
        return self._ask(http.client.HTTPConnection("127.0.0.1", self.port, timeout=limit), "GET", path)

    def order(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """An answer over the control socket. Raises OSError."""
        return self._ask(_Socket(self.state / "control.sock", 2.0), method, path, body)

    @staticmethod
    def _ask(
        connection: http.client.HTTPConnection, method: str, path: str, body: dict[str, Any] | None = None
    ) -> bytes:
        with contextlib.closing(connection):
            try:
                connection.request(method, path, None if body is None else json.dumps(body))
                return connection.getresponse().read()
            except http.client.HTTPException as error:
                raise OSError(str(error)) from error

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/status"))
        return found

    def wait_until_started(self, limit: float) -> bool:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline and self.alive:
            with contextlib.suppress(OSError, ValueError):
                if self.status()["state"] == "running":
                    return True
            time.sleep(0.05)
        return False


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
