"""Alerts of a real agent: a service dies, people are told, the bundle is there, and Prometheus would say the same."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import ROOT, Agent
from support.debian import program

pytestmark = pytest.mark.integration


class Receiver(ThreadingHTTPServer):
    """Somebody who wants to be told."""

    daemon_threads = True

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.refuse = 1
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 503 if self.server.refuse else 200
        if self.server.refuse:
            self.server.refuse -= 1
        else:
            self.server.heard.append(json.loads(body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def config(receiver: Receiver, file: Path) -> dict[str, Any]:
    """A check that fails as long as a file is missing, and rules about it."""
    probe = [sys.executable, "-c", f"import pathlib, sys; sys.exit(not pathlib.Path({str(file)!r}).exists())"]
    return {
        "checks": {
            "c": {"type": "exec", "command": probe, "period": 0.2, "timeout": 20, "failure_threshold": 1}
        },
        "alerting": {
            "interval": 0.2,
            "webhooks": {"people": {"url": receiver.url}},
            "external_url": "http://agent.example/",
        },
        "alerts": {
            "Down": {
                "type": "threshold",
                "metric": "watchkeeper_check_success",
                "match": {"check": "c"},
                "op": "==",
                "threshold": 0,
                "for": 0.4,
                "severity": "critical",
                "triage": True,
                "annotations": {"summary": "{{ $labels.check }} is {{ $value }}"},
            },
            "Busy": {"type": "anomaly", "metric": "process_cpu_seconds_total", "rate": True},
            "Slow": {
                "type": "quantile",
                "metric": "watchkeeper_http_request_duration_seconds",
                "threshold": 30,
            },
        },
    }


def test_from_a_failed_check_to_a_person_and_back(receiver: Receiver, tmp_path: Path) -> None:
    """Firing is told though the first message was refused, the bundle is there, and so is the end when all is well again."""
    file = tmp_path / "there"
    agent = Agent(tmp_path, config(receiver, file), "--state-dir", str(tmp_path / "state"))
    try:
        fires = agent.message("alert Down fires")
        assert fires["severity"] == "critical"
        agent.wait(lambda: receiver.heard, "the first message")
        first = receiver.heard[0]
        assert (first["status"], first["receiver"]) == ("firing", "people")
        [alert] = first["alerts"]
        assert alert["labels"]["alertname"] == "Down"
        assert alert["annotations"] == {"summary": "c is 0"}
        text = agent.get("/metrics")[1]
        assert (
            'watchkeeper_alerts_state{alertname="Down",alertstate="firing",series="check=c,role=readiness"'
            in text
        )
        written = agent.message("triage bundle written")
        assert json.loads(Path(written["file"]).read_text())["rule"] == "Down"
        states = {one["name"]: one["state"] for one in agent.status()["objects"] if one["kind"] == "alert"}
        assert states == {"Down": "firing", "Busy": "inactive", "Slow": "inactive"}
        file.touch()
        agent.message("alert Down is resolved")
        agent.wait(lambda: receiver.heard[-1]["status"] == "resolved", "the end")
        assert agent.end() == 0
    finally:
        agent.process.kill()
        agent.process.wait()


def test_the_rules_for_prometheus(receiver: Receiver, tmp_path: Path) -> None:
    """`watchkeeper rules` prints what `promtool check rules` finds right; a wrong configuration is said to be one."""
    file = tmp_path / "agent.json"
    file.write_text(json.dumps(config(receiver, tmp_path / "x")))

    def rules() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "watchkeeper", "rules", str(file)],
            cwd=ROOT / "agent_src", capture_output=True, text=True, check=False,
        )  # fmt: skip

    printed = rules()
    assert printed.returncode == 0, printed.stderr
    (tmp_path / "rules.yml").write_text(printed.stdout)
    checked = subprocess.run(
        [program("prometheus", "usr/bin/promtool"), "check", "rules", tmp_path / "rules.yml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "3 rules found" in checked.stdout
    file.write_text('{"alerts": {"Down": {"type": "threshold"}}}')
    refused = rules()
    assert refused.returncode == 3
    assert '"metric" is missing' in refused.stderr
