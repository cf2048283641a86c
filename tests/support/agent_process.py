"""The agent as a process: real children, real signals, loopback only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Agent:
    """A running agent and what it has written."""

    PROGRAM: ClassVar[tuple[str, ...]] = (sys.executable, "-W", "error", "-X", "dev", "-m", "watchkeeper")
    """From the sources, with every warning an error."""

    def __init__(self, folder: Path, config: dict[str, Any], *options: str) -> None:
        self.folder = folder
        self.file = folder / "agent.yaml"
        self.write(config)
        self.log = folder / "agent.log"
        command = [
            *self.PROGRAM,
            "run",
            "--config",
            str(self.file),
        ]
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*command, "--listen", "127.0.0.1:0", *options],
                stderr=stream,
                stdout=stream,
                env={**os.environ, "PYTHONPATH": str(ROOT / "agent_src")},
            )

    def write(self, config: dict[str, Any] | str) -> None:
        """Replace the configuration as an editor does; JSON is YAML."""
        partial = self.folder / "agent.yaml.new"
        partial.write_text(config if isinstance(config, str) else json.dumps(config))
        partial.replace(self.file)

    def lines(self) -> list[dict[str, Any]]:
        """The log, in which every line has to be a JSON object."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines()]

    def wait(self, condition: Callable[[], Any], what: str, limit: float = 20.0) -> Any:
        """Until something is so; it is asked often, so that a test takes no longer than the agent."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if found := condition():
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        pytest.fail(f"{what} did not come; the agent wrote:\n{self.log.read_text()}")

    def message(self, text: str, *, exactly: bool = False) -> dict[str, Any]:
        """The first log line whose message contains a text, or is that text."""

        def find() -> dict[str, Any] | None:
            whole = self.log.read_text().rpartition("\n")[0].splitlines()
            lines = (json.loads(line) for line in whole)
            fits = (lambda said: said == text) if exactly else (lambda said: text in said)
            return next((line for line in lines if fits(line["message"])), None)

        line: dict[str, Any] = self.wait(find, f"a line with {text!r}")
        return line

    @property
    def url(self) -> str:
        return f"http://{self.message('listening', exactly=True)['address']}"

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/status")[1])
        return found

    def service(self, name: str = "app") -> dict[str, Any]:
        return next(each for each in self.status()["services"] if each["name"] == name)

    def shown(self, kind: str, name: str) -> dict[str, Any]:
        """What /status says about a key; its state is None while there is no such key."""
        found: list[dict[str, Any]] = self.status()["objects"]
        nothing = {"state": None, "last_error": None, "details": {}}
        return next((each for each in found if (each["kind"], each["name"]) == (kind, name)), nothing)

    def running(self, name: str = "app", after: int | None = None) -> dict[str, Any]:
        """The service, once it runs with a pid other than `after`."""

        def find() -> dict[str, Any] | None:
            found = [each for each in self.status()["services"] if each["name"] == name]
            return (
                found[0]
                if found and found[0]["state"] == "running" and found[0]["pid"] not in (None, after)
                else None
            )

        service: dict[str, Any] = self.wait(find, f"service {name}")
        return service

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM, limit: float = 20.0) -> int:
        """Send a signal; the exit code."""
        self.send(number)
        return self.process.wait(limit)


Start = Callable[..., Agent]
"""Start(config, *options): one more agent, in a folder of its own (the fixture `start` of tests/integration)."""
