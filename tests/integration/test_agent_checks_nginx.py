"""Checks of a real agent against a real nginx, against servers that misbehave, and on a machine that has nothing left."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from support import nginx
from support.agent_process import Agent, Start
from support.certificates import Authority

FAST = {"period": "200ms", "timeout": "10s", "failure_threshold": 1, "splay": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """nginx's own."""
    path = tmp_path / "nginx"
    path.mkdir()
    return path


def http(url: str, **fields: Any) -> dict[str, Any]:
    return {"type": "http", "url": url, **FAST, **fields}


def checks(agent: Agent) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in agent.status()["checks"]}


def settled(agent: Agent) -> dict[str, dict[str, Any]]:
    """All checks, once each has looked."""

    def find() -> dict[str, dict[str, Any]] | None:
        found = checks(agent)
        return found if all(each["outcome"] for each in found.values()) else None

    return cast("dict[str, dict[str, Any]]", agent.wait(find, "all outcomes"))


def becomes(agent: Agent, name: str, word: str) -> dict[str, Any]:
    """A check, once its last look came to `word`."""
    found: dict[str, Any] = agent.wait(
        lambda: (check := checks(agent)[name])["outcome"] == word and check, f"{word} of {name}"
    )
    return found


SERVERS = """
map $http_authorization $known {{ default 0; "Bearer t0ken" 1; }}
server {{
  listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl; listen unix:{folder}/socket;
  ssl_certificate {pair.cert}; ssl_certificate_key {pair.key};
  location = /ok {{ default_type application/json; add_header X-Version 2.1; return 200 '{{"state": "up", "lag": 3}}'; }}
  location = /down {{ return 503; }}
  location = /moved {{ return 301 /ok; }}
  location = /away {{ return 302 http://elsewhere.invalid/; }}
  location = /private {{ if ($known = 0) {{ return 401; }} return 200 'in'; }}
  location = /slow {{ limit_rate 8k; alias {folder}/large; }}
  location = /chunked {{ ssi on; alias {folder}/page.html; }}
}}
"""


def test_nginx(start: Start, folder: Path) -> None:
    """Every kind of look at one nginx: status, redirects, headers, body, JSON, credentials, TLS, Unix socket, slow answers."""
    authority = Authority(folder)
    pair = authority.issue("web", ends=20 * 86_400 + 600)
    (folder / "large").write_bytes(b"x" * 200_000)
    (folder / "page.html").write_text('<!--# set var="a" value="b" --><p>ready</p>' * 50)
    plain, secure = nginx.free_port(), nginx.free_port()
    base, tls = f"http://127.0.0.1:{plain}", {"ca_file": str(authority.ca)}
    servers = SERVERS.format(plain=plain, secure=secure, folder=folder, pair=pair)
    wanted: dict[str, tuple[str, str, dict[str, Any]]] = {
        "ok": ("ok", "status 200", http(f"{base}/ok", status=["200-299"])),
        "down": ("bad_status", f"{base}/down: status 503", http(f"{base}/down")),
        "missing": ("ok", "status 404", http(f"{base}/none", status=[404])),
        "moved": ("ok", "status 200", http(f"{base}/moved")),
        "not-followed": ("bad_status", f"{base}/moved: status 301", http(f"{base}/moved", redirects="none", status=[200])),
        "away": ("warning", "which is not followed", http(f"{base}/away")),
        "header": ("ok", "status 200", http(f"{base}/ok", expect_headers={"X-Version": r"^2\."})),
        "json": ("ok", "status 200", http(f"{base}/ok", expect_json=[{"path": "state", "equals": "up"}])),
        "lag": ("failed", "its lag is 3", http(f"{base}/ok", expect_json=[{"path": "lag", "maximum": 2}])),
        "body": ("ok", "status 200", http(f"{base}/chunked", expect_body="<p>ready</p>")),
        "private": ("bad_status", f"{base}/private: status 401", http(f"{base}/private")),
        "known": ("ok", "status 200", http(f"{base}/private", bearer_token="t0ken")),
        "tls": ("ok", "status 200", http(f"https://127.0.0.1:{secure}/ok", tls=tls)),
        "expiry": (
            "warning", "web expires in 20 days",
            http(f"https://127.0.0.1:{secure}/ok", tls=tls, certificate_warn_days=30),
        ),
        "untrusted": ("unreachable", "its certificate does not hold", http(f"https://127.0.0.1:{secure}/ok")),
        "socket": ("ok", "status 200", http("http://web/ok", unix_socket=f"{folder}/socket")),
        "slow": ("unreachable", "no answer within 300ms", http(f"{base}/slow", timeout="300ms", expect_body="y")),
        # Nobody asks anything of this body: a part of it is enough, and the status counts.
        "patient": ("ok", "status 200", http(f"{base}/slow", timeout="60s")),
        "certificate": (
            "warning", "web expires in 20 days",
            {"type": "certificate", "address": f"127.0.0.1:{secure}", "tls": tls, **FAST},
        ),
        "tcp": ("ok", "answers as expected", {
            "type": "tcp", "address": f"127.0.0.1:{plain}", "send": "GET /ok HTTP/1.0\r\n\r\n", "expect": "^HTTP/1.1 200", **FAST,
        }),
    }  # fmt: skip
    with nginx.running(folder, servers, plain):
        agent = start({"checks": {name: check for name, (_, _, check) in wanted.items()}})
        agent.wait(
            lambda: all(each["outcome"] for name, each in checks(agent).items() if name != "patient"),
            "outcomes",
        )
        found = checks(agent)
        metrics = agent.get("/metrics")[1]
        becomes(agent, "patient", "ok")
    for name, (word, detail, _) in wanted.items():
        if name != "patient":
            assert (found[name]["outcome"], detail in found[name]["why"]) == (word, True), (name, found[name])
            assert f'watchkeeper_check_runs_total{{check="{name}",outcome="{word}"}}' in metrics
    assert found["away"]["state"] == found["expiry"]["state"] == "success"
    assert "t0ken" not in agent.log.read_text() + json.dumps(agent.status())


def test_a_restart_of_the_target(start: Start, folder: Path) -> None:
    """While nginx is away its checks say unreachable, and within a period of its return ok; the verdict and the log follow."""
    port = nginx.free_port()
    servers = f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 'in'; }} }}"
    config = {
        "web": http(f"http://127.0.0.1:{port}/", action="log"),
        "other": {"type": "tcp", "address": "127.0.0.1:1", **FAST},
    }
    with nginx.running(folder, servers, port):
        agent = start({"checks": config})
        becomes(agent, "web", "ok")
    found = becomes(agent, "web", "unreachable")
    assert found["why"] == f"http://127.0.0.1:{port}/: Connection refused"
    agent.message("check web is now failure")
    with nginx.running(folder, servers, port):
        assert becomes(agent, "web", "ok")["state"] == "success"
    looks = [line for line in agent.lines() if line["message"].startswith("check web: ")]
    assert {line["outcome"] for line in looks} == {"ok", "unreachable"}
    assert {line["level"] for line in looks if line["outcome"] == "ok"} == {"INFO"}
    assert all(line["error_class"] == "CHECK_FAILED" for line in looks if line["outcome"] == "unreachable")


HUNG = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if os.path.exists(sys.argv[2]) else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_the_liveness_prober(start: Start, tmp_path: Path) -> None:
    """Seed row 5: status 200 or it is killed at the first failure and started again; the period is shorter here."""
    port, sick = nginx.free_port(), tmp_path / "sick"
    probe = http(
        f"http://127.0.0.1:{port}/health",
        status=[200],
        role="liveness",
        failure_threshold=1,
    )
    up = {
        "type": "tcp",
        "address": f"127.0.0.1:{port}",
        "role": "startup",
        "period": "100ms",
        "failure_threshold": 600,
    }
    service = {
        "command": [sys.executable, "-c", HUNG, str(port), str(sick)],
        "stop": "kill",
        "backoff": {"initial": "50ms", "jitter": 0},
        "checks": {"alive": probe, "up": up},
    }
    agent = start({"services": {"app": service}})
    before = agent.running()["pid"]
    becomes(agent, "app/alive", "ok")
    sick.touch()
    line = agent.message("service app is stopped: check app/alive (liveness) failed")
    assert line["message"].endswith("status 500")
    sick.unlink()
    after = agent.running(after=before)
    assert (after["restarts"], "SIGKILL" in str(after["last_exit"])) == (1, True)
    becomes(agent, "app/alive", "ok")


def test_a_liveness_check_that_only_logs(start: Start, tmp_path: Path) -> None:
    """action: log in place of restart: it fails, says so at every look, and the process lives on."""
    sick = tmp_path / "sick"
    sick.touch()
    check = {"type": "file", "path": str(sick), "exists": False, "role": "liveness", "action": "log", **FAST}
    agent = start({"services": {"app": {"command": ["sleep", "600"], "checks": {"alive": check}}}})
    pid = agent.running()["pid"]
    agent.wait(
        lambda: sum("check app/alive: failed" in line for line in agent.messages()) >= 3, "three lines"
    )
    assert checks(agent)["app/alive"]["state"] == "failure"
    sick.unlink()
    becomes(agent, "app/alive", "ok")
    assert (agent.service()["pid"], agent.service()["restarts"]) == (pid, 0)


@contextlib.contextmanager
def raw(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one's own, with a thread for each connection."""
    server = socket.create_server(("127.0.0.1", 0), backlog=100)
    ended = threading.Event()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            connection.recv(65_536)
            answer(connection)

    def accept() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    ended.set()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def endless(head: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x" * 65_536)

    return answer


def drip(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


MISBEHAVING: dict[str, tuple[Callable[[socket.socket], None], str]] = {
    "nothing": (lambda connection: None, "the connection ended without an answer"),
    "no-http": (lambda connection: connection.sendall(b"220 smtp\r\n"), "does not answer in HTTP/1"),
    "torn": (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), "middle of the body"),
    "endless-head": (endless(b"HTTP/1.1 200 OK\r\nX: "), "the head of the answer is longer than 64 KiB"),
    "drip": (drip, "no answer within 500ms"),
    "silent": (lambda connection: time.sleep(2), "no answer within 500ms"),
    "bomb": (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999999\r\n\r\n"), "length"),
}  # fmt: skip


def test_servers_that_misbehave(start: Start) -> None:
    """Malformed, torn, endless, dripping and silent: each is unreachable with its reason, and all others keep their pace."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(raw(answer)) for name, (answer, _) in MISBEHAVING.items()}
        endless_body = stack.enter_context(raw(endless(b"HTTP/1.1 200 OK\r\n\r\n")))
        config = {name: http(f"http://127.0.0.1:{port}/", timeout="500ms") for name, port in ports.items()}
        config["endless-body"] = http(f"http://127.0.0.1:{endless_body}/")
        agent = start({"checks": config})
        found = settled(agent)
    for name, (_, why) in MISBEHAVING.items():
        assert (found[name]["outcome"], why in found[name]["why"]) == ("unreachable", True), found[name]
    assert found["endless-body"]["outcome"] == "ok"
    assert agent.end() == 0


def first_free(pid: int) -> int:
    """The number that the next descriptor of a process would have in its quietest moment: with this limit it gets none."""
    found = []
    for _ in range(20):
        taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208 - numbers
        found.append(next(number for number in itertools.count() if number not in taken))
        time.sleep(0.01)
    return min(found)


def test_a_machine_without_descriptors(start: Start, folder: Path) -> None:
    """EMFILE: looks become errors of the agent's own, no verdict changes, and when there are descriptors again all is well."""
    port = nginx.free_port()
    servers = f"server {{ listen 127.0.0.1:{port}; location / {{ return 200; }} }}"
    with nginx.running(folder, servers, port):
        agent = start({
            "checks": {
                "web": http(f"http://127.0.0.1:{port}/"),
                "command": {"type": "exec", "command": ["true"], **FAST},
                "file": {"type": "file", "path": str(folder), **FAST},
            }
        })  # fmt: skip
        settled(agent)
        pid = agent.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        counted = agent.get("/metrics")[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free(pid), before[1]))
        time.sleep(1)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        found = agent.wait(
            lambda: 'check="web",outcome="error"' in agent.get("/metrics")[1] and settled(agent), "an error"
        )
        assert 'outcome="error"' not in counted
        for name in ("web", "command", "file"):
            becomes(agent, name, "ok")
        assert {check["state"] for check in found.values()} == {"success"}
    assert not any("is now failure" in message for message in agent.messages())
    assert agent.end(signal.SIGTERM) == 0
