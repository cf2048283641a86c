"""Sources of configuration in a running agent: a folder, a server of documents, secrets, copies, and who restarts when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import ROOT, Agent, Start

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


class Centre:
    """A server of one document: ETag, long poll, and whatever else a test wants it to say."""

    def __init__(self) -> None:
        self.body, self.status, self.changed = b"{}", 200, threading.Condition()
        self.asked: list[dict[str, str]] = []
        centre = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                centre.asked.append({name.lower(): value for name, value in self.headers.items()})
                with suppress(ConnectionError):
                    centre.answer(self)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/web.json"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def tag(self) -> str:
        return f'"{hash(self.body) & 0xFFFFFFFF:x}"'

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wait = request.headers.get("Prefer", "").removeprefix("wait=")
        with self.changed:
            if wait and request.headers.get("If-None-Match") == self.tag and self.status == 200:
                self.changed.wait(float(wait))
            same = request.headers.get("If-None-Match") == self.tag and self.status == 200
            body = b"" if same else self.body
            request.send_response(304 if same else self.status)
            request.send_header("ETag", self.tag)
            request.send_header("Content-Length", str(len(body)))
            request.send_header("Content-Type", "application/json")
            request.end_headers()
            request.wfile.write(body)

    def put(self, body: Any, status: int = 200) -> None:
        """Another document from now on; whoever waits hears of it at once."""
        with self.changed:
            self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.status = status
            self.changed.notify_all()

    def stop(self) -> None:
        self.put(b"{}", 503)
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def centre() -> Iterator[Centre]:
    found = Centre()
    yield found
    found.stop()


def one(name: str = "web", **fields: Any) -> dict[str, Any]:
    return {"services": {name: {"command": SLEEPER, **fields}}}


def source(agent: Agent, name: str = "c") -> dict[str, Any]:
    found = [each for each in agent.status()["objects"] if (each["kind"], each["name"]) == ("source", name)]
    return found[0] if found else {"state": None}


def names(agent: Agent) -> list[str]:
    return [each["name"] for each in agent.status()["services"]]


def test_a_long_poll_brings_a_change_at_once(start: Start, centre: Centre) -> None:
    """A service comes, changes and goes with the document of a server, within a second; others are not touched."""
    centre.put(one())
    sources = {"c": {"type": "http", "url": centre.url, "wait": "30s"}}
    agent = start({"sources": sources, "services": {"own": {"command": SLEEPER}}})
    own, web = agent.running("own")["pid"], agent.running("web")["pid"]
    agent.wait(lambda: any("prefer" in each for each in centre.asked), "a long poll")
    began = time.monotonic()
    centre.put(one() | {"checks": {"new": {"type": "exec", "command": ["true"]}}})
    agent.wait(lambda: [each["name"] for each in agent.status()["checks"]] == ["new"], "the check")
    assert time.monotonic() - began < 5
    centre.put(one(environment={"A": "1"}))
    agent.running("web", after=web)
    centre.put({})
    agent.wait(lambda: names(agent) == ["own"], "the end of web")
    assert agent.running("own")["pid"] == own
    assert source(agent)["state"] == "active"
    metrics = agent.get("/metrics")[1]
    assert 'watchkeeper_config_fetches_total{source="c",result="changed"}' in metrics.replace(
        'result="changed",source="c"', 'source="c",result="changed"'
    )
    assert agent.end() == 0


def test_nonsense_and_silence_change_nothing(start: Start, centre: Centre, tmp_path: Path) -> None:
    """A source that lies, then fails, then dies: what it delivered stays, and its copy is what the next agent starts with."""
    centre.put(one())
    config = {"sources": {"c": {"type": "http", "url": centre.url, "interval": "100ms"}}}
    state = str(tmp_path / "state")
    agent = start(config, "--state-dir", state)
    pid = agent.running("web")["pid"]
    for body, status, expected in (
        (b'{"services": {"web": {"command": "x"}}}', 200, "refused"),
        (b"<html>", 200, "refused"),
        (b"{}", 404, "failing"),
    ):
        centre.put(body, status)
        agent.wait(lambda expected=expected: source(agent)["state"] == expected, expected)
        assert agent.running("web")["pid"] == pid
    assert "web.json:1:" in next(line["problems"][0] for line in agent.lines() if line.get("problems"))
    agent.send(signal.SIGKILL)
    agent.process.wait()
    os.killpg(pid, signal.SIGKILL)
    again = start(config, "--state-dir", state)
    again.running("web")
    assert again.wait(lambda: source(again)["state"] == "failing" and source(again), "failing")["details"][
        "from_copy"
    ]
    centre.put(one("other"))
    again.wait(lambda: names(again) == ["other"], "what the source says now")
    assert source(again)["details"]["from_copy"] is False


def test_a_folder_is_the_configuration(start: Start, tmp_path: Path) -> None:
    """Fragments come and go; only what changed is restarted; a wrong one is refused with its file and line."""
    place = tmp_path / "conf.d"
    place.mkdir()
    (place / "10-web.json").write_text(json.dumps(one("web")))
    (place / "20-app.toml").write_text(f"[services.app]\ncommand = {json.dumps(SLEEPER)}\n")
    agent = Agent.__new__(Agent)
    agent.folder, agent.file, agent.log = tmp_path, place, tmp_path / "agent.log"
    with agent.log.open("wb") as stream:
        agent.process = subprocess.Popen(
            [sys.executable, "-m", "watchkeeper", "run", "--config", str(place), "--listen", "127.0.0.1:0"],
            stderr=stream,
            env={**os.environ, "PYTHONPATH": str(ROOT / "agent_src")},
        )
    try:
        web, app = agent.running("web")["pid"], agent.running("app")["pid"]
        (place / "30-wrong.yaml").write_text("services:\n  web: {command: [x]}\n")
        agent.message("configuration refused")
        assert f"{place}/30-wrong.yaml:2:3: services.web: this name is already there" in agent.log.read_text()
        (place / "30-wrong.yaml").rename(place / "30-wrong.yaml.bak")
        (place / "20-app.toml").unlink()
        agent.wait(lambda: names(agent) == ["web"], "the end of app")
        assert agent.running("web")["pid"] == web != app
    finally:
        assert agent.end() == 0


def test_sighup_asks_every_source(start: Start, centre: Centre, tmp_path: Path) -> None:
    """Also those whose interval is an hour; and a secret behind a reference is read again."""
    secret, place = tmp_path / "token", tmp_path / "more.yaml"
    secret.write_text("first-secret-token\n")
    place.write_text("{}")
    sources = {
        "c": {"type": "http", "url": centre.url, "interval": "1h", "token": f"${{file:{secret}}}"},
        "f": {"type": "file", "path": str(place), "interval": "1h", "watch": False},
    }
    agent = start({"sources": sources})
    agent.wait(lambda: {source(agent, name)["state"] for name in "cf"} == {"active"}, "both sources")
    assert centre.asked[0]["authorization"] == "Bearer first-secret-token"
    centre.put(one("web"))
    place.write_text(json.dumps(one("app")))
    agent.send(signal.SIGHUP)
    agent.wait(lambda: names(agent) == ["app", "web"], "both services")
    secret.write_text("second-secret-token\n")
    agent.wait(lambda: centre.asked[-1]["authorization"] == "Bearer second-secret-token", "the new token")
    said = agent.log.read_text() + agent.get("/status")[1] + agent.get("/metrics")[1]
    assert "secret-token" not in said


def test_no_secret_is_said(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in every way that they can be given, and everything that can say them: log, endpoints, check-config, errors."""
    secret = "hunter22-" + "x" * 8
    monkeypatch.setenv("A_SECRET", secret + "-env")
    (tmp_path / "s").write_text(secret + "-file")
    shout = f"import os; print(os.environ['S'], 'and', {secret + '-plain'!r}, flush=True); raise SystemExit(os.environ['S'])"
    config = {
        "services": {
            "app": {
                "command": [sys.executable, "-c", shout],
                "secrets": {"S": "${env:A_SECRET}"},
                "backoff": {"initial": "100ms"},
            }
        },
        "checks": {
            "h": {
                "type": "http",
                "url": "http://127.0.0.1:9/",
                "bearer_token": f"${{file:{tmp_path}/s}}",
                "period": "100ms",
            },
            "x": {
                "type": "exec",
                "command": [sys.executable, "-c", shout],
                "secrets": {"S": secret + "-plain"},
                "period": "500ms",
                "timeout": "5s",
            },
        },
        "sources": {
            "c": {
                "type": "http",
                "url": "http://127.0.0.1:9/",
                "token": secret + "-plain",
                "headers": {"X-Y": secret + "-head"},
            }
        },
    }
    agent = start(config)
    agent.message("and")
    agent.wait(lambda: source(agent)["state"] == "failing", "the source")
    agent.wait(lambda: all(each["last_error"] for each in agent.status()["checks"]), "the checks")
    said = agent.log.read_text()
    for path in (
        "/status",
        "/metrics",
        "/events",
        "/logs",
        "/health?verbose=1",
        "/",
        "/status/service/app",
        "/status/check/x",
        "/status/source/c",
    ):
        said += agent.get(path)[1]
    wrong = json.loads(json.dumps(config)) | {"frob": 1}
    wrong["checks"]["h"]["period"] = "never"
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(wrong))
    for options in ([], ["--json"], ["--no-secrets"]):
        command = [sys.executable, "-m", "watchkeeper", "check-config", str(file), *options]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT / "agent_src")},
        )
        assert done.returncode == 3
        said += done.stdout + done.stderr
    agent.write(wrong)
    agent.message("configuration refused")
    assert agent.end() == 0
    said += agent.log.read_text()
    assert "[redacted]" in said
    assert "hunter22" not in said


def test_a_state_directory_that_is_full(start: Start, centre: Centre, tmp_path: Path) -> None:
    """No copy can be written: it is said and counted, and the agent does everything else."""
    state = tmp_path / "state"
    agent = start(
        {"sources": {"c": {"type": "http", "url": centre.url, "interval": "100ms"}}},
        "--state-dir",
        str(state),
    )
    agent.wait(lambda: source(agent)["state"] == "active", "the source")
    (state / ".source.c.json.partial").mkdir()  # in the place of the file that is written first
    centre.put(one())
    agent.running("web")
    assert "could not be kept" in agent.message("the last good configuration")["message"]
    assert 'watchkeeper_errors_total{error_class="STATE_UNUSABLE"}' in agent.get("/metrics")[1]
    (state / ".source.c.json.partial").rmdir()
    agent.wait(lambda: b"web" in (state / "source.c.json").read_bytes(), "the copy, later")


def test_a_source_that_flaps(start: Start, centre: Centre) -> None:
    """Good, wrong, gone, another: for three seconds as fast as it can. A service that is in every good answer keeps running."""
    centre.put(one())
    agent = start(
        {
            "sources": {"c": {"type": "http", "url": centre.url, "wait": "5s", "interval": "50ms"}},
            "services": {"own": {"command": SLEEPER}},
        }
    )
    pids = [agent.running(name)["pid"] for name in ("own", "web")]
    until, number = time.monotonic() + 3, 0
    while time.monotonic() < until:
        number += 1
        centre.put(
            *[
                (one() | {"checks": {f"c{number}": {"type": "exec", "command": ["true"]}}},),
                (b'{"services": {"web": 5}}',),
                (b"", 500),
                (b"\xff\xfe", 200),
            ][number % 4]
        )
        time.sleep(0.02)
    centre.put(one() | {"checks": {"last": {"type": "exec", "command": ["true"]}}})
    agent.wait(
        lambda: [each["name"] for each in agent.status()["checks"]] == ["last"], "the last state", limit=60
    )
    assert [agent.running(name)["pid"] for name in ("own", "web")] == pids
    assert "TASK_CRASHED" not in agent.log.read_text()


def test_check_config_of_folders(tmp_path: Path) -> None:
    """Several files and folders at once: every problem of all of them, for people and for programs, with file and line."""
    place = tmp_path / "conf.d"
    place.mkdir()
    (place / "a.yaml").write_text("agent:\n  listn: x\n")
    (place / "b.toml").write_text("[services.web]\ncomand = 5\n")
    right = tmp_path / "right.json"
    right.write_text("{}")

    def check(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "watchkeeper", "check-config", *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "agent_src")}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    done = check(str(place), str(right))
    assert done.returncode == 3
    assert [line.removeprefix(str(tmp_path)) for line in done.stderr.splitlines()[1:-1]] == [
        '/conf.d/a.yaml:2:3: agent.listn: unknown key; did you mean "listen"?',
        '/conf.d/b.toml:1:1: services.web: the key "command" is missing',
        '/conf.d/b.toml:2:1: services.web.comand: unknown key; did you mean "command"?',
    ]
    done = check(str(place), str(right), str(tmp_path / "none.yaml"), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"], len(found["problems"])) == (3, False, 4)
    assert found["findings"][0] == {
        "file": f"{place}/a.yaml",
        "line": 2,
        "column": 3,
        "path": "agent.listn",
        "message": 'unknown key; did you mean "listen"?',
    }
    secret = tmp_path / "secret.yaml"
    secret.write_text("sources: {c: {type: http, url: 'http://h/', token: '${env:NOT_SET_ANYWHERE}'}}")
    assert "the environment has no variable NOT_SET_ANYWHERE" in check(str(secret)).stderr
    assert check(str(secret), "--no-secrets").stdout == "ok: 0 services, 0 checks, 1 source (not asked)\n"


def test_the_schema_is_printed() -> None:
    """For editors, and for people; without asyncio."""
    command = [sys.executable, "-X", "importtime", "-m", "watchkeeper", "schema"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent_src")},
    )
    assert json.loads(done.stdout)["$defs"]["HttpSource"]
    assert "asyncio" not in {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
