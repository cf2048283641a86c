"""A real etcd of Debian's package on free loopback ports, with its data in a folder of the test."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from support.debian import program


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Etcd:
    """One member. It can be stopped and started again with what it had."""

    def __init__(self, folder: Path) -> None:
        self.program = program("etcd-server", "usr/bin/etcd")
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self._peers = f"http://127.0.0.1:{free_port()}"
        self.token: str | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {
            "data-dir": str(self.folder / "etcd"),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": self._peers,
            "initial-advertise-peer-urls": self._peers,
            "initial-cluster": f"default={self._peers}",
            "unsafe-no-fsync": "true",
        }
        command = [str(self.program), *(f"--{name}={value}" for name, value in options.items())]
        with (self.folder / "etcd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                self.call("kv/range", key=text("ready?"))
            except OSError:
                assert self.process.poll() is None, (self.folder / "etcd.log").read_text()
                time.sleep(0.02)
            else:
                return
        raise AssertionError(f"etcd did not start: {(self.folder / 'etcd.log').read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def call(self, path: str, **message: Any) -> dict[str, Any]:
        """One question through the gateway; errors raise urllib's HTTPError."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = self.token
        request = urllib.request.Request(f"{self.url}/v3/{path}", json.dumps(message).encode(), headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def put(self, key: str, value: str) -> int:
        """Write a key; the revision."""
        return int(self.call("kv/put", key=text(key), value=text(value))["header"]["revision"])

    def delete(self, key: str) -> None:
        self.call("kv/deleterange", key=text(key))

    def get(self, key: str) -> dict[str, Any] | None:
        """The key as the gateway shows it, its value decoded; None: it is not there."""
        found = self.call("kv/range", key=text(key)).get("kvs", [])
        return {**found[0], "value": b64decode(found[0].get("value", "")).decode()} if found else None


def text(value: str) -> str:
    return b64encode(value.encode()).decode()
