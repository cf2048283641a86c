"""The agent as it is delivered: one file, a folder, an archive for Python. Whatever it imports late has to be in there."""

from __future__ import annotations

import ast
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from support import built_agent
from support.agent_process import ROOT, Agent
from support.certificates import Authority, Pair
from watchkeeper._version import __version__

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SOURCES = ROOT / "agent_src" / "watchkeeper"
NOT_SHIPPED = {"msvcrt", "opentelemetry", "watchfiles", "watchkeeper.tracing.sdk"}
"""What only Windows' Python has; the extras, and the one module that imports one of them at its head."""
BROKEN = ("ImportError", "ModuleNotFoundError", "No module named", "AttributeError", "Traceback")
SERVED = b"checks: {from-centre: {type: memory, max_used_percent: 100, period: 1s}}\n"
CURIOUS = [
    ["/livez", "/readyz", "/health", "/health?verbose=1", "/metrics", "/status", "/events", "/logs", "/"],
    [f"/debug/pprof{each}" for each in ("", "/tasks", "/threads", "/gc", "/heap", "/profile?seconds=1")],
]


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """What is typed for each of them."""
    made = built_agent.build()
    tree = built_agent.unpacked(made["archive"], tmp_path_factory.mktemp("tree"))
    return {
        "executable": (str(made["executable"]),),
        "archive": (str(tree),),
        "pyz": (sys.executable, str(made["pyz"])),
    }


@pytest.fixture(params=["executable", "archive", "pyz"])
def program(
    request: pytest.FixtureRequest, products: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> tuple[str, ...]:
    """One of them, with a cache of the tests."""
    cache = built_agent.KEPT / "cache"
    cache.mkdir(mode=0o755, exist_ok=True)
    monkeypatch.setenv("FERRYMAN_CACHE", str(cache))
    return products[request.param]


def imported() -> set[str]:
    """Every module that a line of the agent's sources imports, wherever it stands, and each of its own."""
    names = set()
    for file in SOURCES.rglob("*.py"):
        own = ".".join(file.relative_to(SOURCES.parent).with_suffix("").parts).removesuffix(".__init__")
        names.add(own)
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
    return {name for name in names if not name.startswith(tuple(NOT_SHIPPED))} - {"watchkeeper.__main__"}


def test_every_module_is_there(program: tuple[str, ...]) -> None:
    """Asked of the interpreter inside: also what only one configuration in a thousand imports."""
    script = (
        "import importlib, sys\n"
        "for name in sys.stdin.read().split():\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except Exception as error:\n"
        "        print(name, repr(error))\n"
    )
    done = subprocess.run(
        [*program, "-c", script],
        input=" ".join(sorted(imported())),
        env={**os.environ, "FERRYMAN_INTERPRETER": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Neighbour(ThreadingHTTPServer):
    """Whoever the agent talks to over HTTP: a configuration under /agent.yaml, thanks for what is sent, else 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.sent: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    """The answers of a Neighbour."""

    server: Neighbour
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = self.path == "/agent.yaml"
        self._answer(200 if found else 404, SERVED if found else b"", "application/yaml")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.sent.add(self.path)
        self._answer(200, b"{}", "application/json")

    def do_PUT(self) -> None:
        self.do_POST()

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    with Neighbour() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def grpc_server() -> Iterator[str]:
    """A server that says SERVING."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    server = grpc.server(pool)
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
    pool.shutdown()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Path]:
    """A syslog socket, read so that nobody waits."""
    path = tmp_path / "log.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))

        def read() -> None:
            with contextlib.suppress(OSError):
                while listener.recv(65536):
                    pass

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(path))
        reader.join(5)


@pytest.fixture
def everything(
    tmp_path: Path, neighbour: Neighbour, grpc_server: str, journal: Path
) -> tuple[dict[str, Any], Path, Pair]:
    """A configuration that has every kind that this machine can show, a Unix socket, and a client's certificate."""
    authority = Authority(tmp_path)
    own, other = authority.issue("server"), authority.issue("client", uris=("spiffe://example.org/ops/a",))
    unix = tmp_path / "agent.sock"
    tls = {"cert_file": str(own.cert), "key_file": str(own.key), "ca_file": str(authority.ca)}
    address = neighbour.url.removeprefix("http://")
    nobody = {"url": neighbour.url}
    place: dict[str, Any] = {"service": "app", "address": "127.0.0.1", "port": 9}
    textfiles = tmp_path / "textfiles"
    textfiles.mkdir()
    (textfiles / "a.prom").write_text("# TYPE one gauge\none 1\n")
    config: dict[str, Any] = {
        "agent": {"log_level": "debug", "reload_interval": "200ms"},
        "sources": {
            "centre": {"type": "http", "url": f"{neighbour.url}/agent.yaml", "interval": "1s"},
            "folder": {"type": "file", "path": str(textfiles), "allow_missing": True, "interval": "1s"},
            "consul": {"type": "consul", "key": "a.yaml", "server": nobody},
            "etcd": {"type": "etcd", "key": "a.yaml", "server": {"urls": [neighbour.url]}},
            "cluster": {"type": "kubernetes", "url": neighbour.url, "token": "t", "namespace": "n"},
        },
        "services": {
            "app": {
                "command": ["/bin/sleep", "600"],
                "log": {"to": "both", "file": str(tmp_path / "app.log")},
                "condition": ["/bin/true"],
                "limits": {"nofile": 100},
                "follow_orphans": True,
                "checks": {
                    "lean": {"type": "process", "role": "liveness", "name": "sleep", "max_rss": "1GiB"}
                },
            },
            "unit": {"driver": "systemd", "unit": "none.service", "systemctl": ["/bin/false"]},
            "spooler": {"driver": "windows", "service": "Spooler"},
            "box": {"driver": "container", "image": "none", "socket": str(tmp_path / "none.sock")},
        },
        "checks": {
            "http": {"type": "http", "url": f"{neighbour.url}/agent.yaml", "expect_body": "checks"},
            "https": {"type": "http", "url": "https://127.0.0.1:9/", "certificate_days": 1},
            "json": {"type": "http", "url": f"{neighbour.url}/", "expect_json": [{"path": "a"}]},
            "tcp": {"type": "tcp", "address": address},
            "exec": {"type": "exec", "command": ["/bin/true"]},
            "process": {"type": "process", "name": "sleep"},
            "file": {"type": "file", "path": str(own.cert), "max_age": "1h", "sha256": "0" * 64},
            "disk": {"type": "disk", "path": "/", "max_used_percent": 100},
            "memory": {"type": "memory", "max_used_percent": 100},
            "certificate": {"type": "certificate", "file": str(own.cert), "min_days": 0, "warn_days": 0},
            "dns": {"type": "dns", "name": "localhost"},
            "txt": {"type": "dns", "name": "localhost", "record": "TXT", "server": "127.0.0.1:9"},
            "icmp": {"type": "icmp", "host": "127.0.0.1"},
            "grpc": {"type": "grpc", "address": grpc_server},
        },
        "jobs": {"work": {"command": ["/bin/true"], "every": "1s", "at_start": True}},
        "collectors": {"textfile": {"directories": [str(textfiles)], "interval": "1s"}},
        "listeners": {
            "local": {"address": f"unix:{unix}", "debug": True},
            "mesh": {
                "address": "127.0.0.1:0",
                "tls": tls,
                "peers": [{"role": "control", "spiffe": ["spiffe://example.org/**"]}],
            },
        },
        "outputs": {
            "file": {"type": "file", "path": str(tmp_path / "out.json")},
            "stdout": {"type": "stdout", "level": "error"},
            "syslog": {"type": "syslog", "address": str(journal)},
            "otlp": {"type": "otlp", "url": neighbour.url, "spool": "1MiB"},
            "loki": {"type": "loki", "url": neighbour.url},
        },
        "tracing": {"enabled": True, "exporter": "otlp", "endpoint": neighbour.url, "interval": "200ms"},
        "registrations": {
            "file": {"type": "file", "path": str(tmp_path / "targets.json"), **place},
            "consul": {"type": "consul", "server": nobody, **place},
            "etcd": {"type": "etcd", "server": {"urls": [neighbour.url]}, **place},
        },
        "discovery": {
            "static": {"type": "static", "instances": [{"host": "127.0.0.1", "port": 9}]},
            "dns": {"type": "dns", "name": "_a._tcp.localhost", "server": "127.0.0.1:9"},
            "consul": {"type": "consul", "service": "app", "server": nobody},
            "etcd": {"type": "etcd", "prefix": "/a/", "server": {"urls": [neighbour.url]}},
        },
        "outbound": {
            "destinations": {
                "hook": {
                    "hosts": ["hook.internal"],
                    "balance": {"discovery": "static", "policy": "hash"},
                    "limit": {},
                    "flow": {"rate": 100},
                }
            }
        },
        "alerting": {"interval": "200ms", "webhooks": {"hook": {"url": f"{neighbour.url}/hook"}}},
        "alerts": {
            kind: {"type": kind, "metric": metric, "op": ">=", "threshold": 0, "triage": kind == "threshold"}
            for kind, metric in (
                ("threshold", "watchkeeper_tasks_alive"),
                ("rate", "watchkeeper_reconciles_total"),
                ("average", "watchkeeper_tasks_alive"),
                ("quantile", "watchkeeper_check_duration_seconds"),
                ("anomaly", "watchkeeper_tasks_alive"),
            )
        },
        "faults": {"enabled": True, "paths": ["/events"], "rules": [{"paths": ["/events"], "delay": "1ms"}]},
    }
    return config, unix, other


class Unix(http.client.HTTPConnection):
    """Requests through a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def ask(unix: Path, path: str, method: str = "GET", body: str | None = None) -> tuple[int, str]:
    connection = Unix(unix)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def started(program: tuple[str, ...], folder: Path, config: dict[str, Any]) -> Agent:
    class Delivered(Agent):
        PROGRAM: ClassVar[tuple[str, ...]] = program

    return Delivered(folder, config, "--state-dir", str(folder / "state"))


def states(agent: Agent) -> dict[str, dict[str, Any]]:
    """Every thing that /status knows, by its name in there."""
    found = agent.status()
    return {
        f"{kind}/{each['name']}": each for kind in ("services", "checks", "objects") for each in found[kind]
    }


def test_one_of_everything(
    program: tuple[str, ...],
    everything: tuple[dict[str, Any], Path, Pair],
    neighbour: Neighbour,
    tmp_path: Path,
) -> None:
    """Every kind of everything works in the product, or says what it misses of the machine, and never of itself."""
    config, unix, _ = everything
    agent = started(program, tmp_path, config)
    try:
        agent.message("started", exactly=True)
        settled(agent, neighbour)
        for path in [path for group in CURIOUS for path in group]:
            status, text = ask(unix, path)
            assert status == 200, (path, status, text)
            assert not [word for word in BROKEN if word in text], (path, text)
        orders(unix)
        commands(program, unix, agent.file)
        healthy(agent)
    finally:
        agent.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            agent.process.wait(40)
        agent.process.kill()
    assert agent.process.returncode == 0, agent.log.read_text()
    said = agent.log.read_text() + (tmp_path / "out.json").read_text()
    assert not [line for line in said.splitlines() for word in BROKEN if word in line]


def settled(agent: Agent, neighbour: Neighbour) -> None:
    """Until everything has been looked at, and everybody has heard of it."""
    agent.wait(
        lambda: {"/v1/logs", "/loki/api/v1/push", "/v1/traces", "/hook"} <= neighbour.sent, "the exports", 30
    )
    good = ("http", "tcp", "exec", "process", "disk", "memory", "certificate", "dns", "grpc", "from-centre")

    def outcomes() -> dict[str, Any]:
        return {each["name"]: each["outcome"] for each in agent.status()["checks"]}

    agent.wait(lambda: all(outcomes().values()), "a look of every check", 40)
    seen = outcomes()
    assert {name: seen[name] for name in good} == dict.fromkeys(good, "ok"), seen


def orders(unix: Path) -> None:
    """What asks for something; heap profiling is begun and ended."""
    for method, path, body in (
        ("PUT", "/control/log-level", '{"level": "trace"}'),
        ("PUT", "/control/faults", '{"enabled": false}'),
        ("POST", "/control/reload", None),
        ("POST", "/debug/pprof/heap/start", None),
    ):
        status, text = ask(unix, path, method, body)
        assert status in {200, 202}, (path, status, text)
    assert ask(unix, "/debug/pprof/heap?top=5")[0] == 200
    assert ask(unix, "/debug/pprof/heap/stop", "POST")[0] == 200


def commands(program: tuple[str, ...], unix: Path, file: Path) -> None:
    """The command line, with and without a running agent."""
    at = ["--socket", str(unix)]
    lines = [
        ["version"], ["--help"], ["schema"], ["schema", "--markdown"], ["crd"], ["rules", str(file)],
        ["check-config", str(file)], *(["completions", shell] for shell in ("bash", "zsh", "fish", "powershell")),
        *(["unit", manager] for manager in ("systemd", "launchd", "windows", "daemonset")),
        ["status", *at], ["status", "--json", *at], ["names", *at], ["events", "-n", "5", *at], ["logs", "-n", "5", *at],
        ["explain", "service/app", *at], ["explain", "check/grpc", *at], ["reload", *at], ["log-level", "info", *at],
        ["restart", "app", "--wait", "30s", *at], ["stop", "app", "--wait", "30s", *at], ["start", "app", "--wait", "30s", *at],
        ["load", f"http+unix://{str(unix).replace('/', '%2F')}/livez", "--qps", "20", "--duration", "500ms"],
    ]  # fmt: skip
    for line in lines:
        done = subprocess.run([*program, *line], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), (line, done)
        assert done.stdout, line
    assert (
        __version__
        in subprocess.run([*program, "--version"], capture_output=True, text=True, check=True).stdout
    )


def healthy(agent: Agent) -> None:
    """Nothing crashed, nothing is a defect, and no state blames a module."""
    _, metrics = agent.get("/metrics")
    crashed = [line for line in metrics.splitlines() if line.startswith("watchkeeper_task_crashes_total{")]
    assert crashed == []
    assert not [
        line
        for line in metrics.splitlines()
        if 'error_class="INTERNAL"' in line and not line.endswith(" 0.0")
    ]
    for name, state in states(agent).items():
        assert not [word for word in BROKEN if word in json.dumps(state)], (name, state)


def test_tls(program: tuple[str, ...], everything: tuple[dict[str, Any], Path, Pair], tmp_path: Path) -> None:
    """A listener that wants certificates answers whoever shows one that is right, and nobody else."""
    config, unix, other = everything
    agent = started(program, tmp_path, {"listeners": config["listeners"]})
    try:
        agent.message("started", exactly=True)
        mesh = agent.wait(lambda: listening(unix), "the listener mesh")
        ca = config["listeners"]["mesh"]["tls"]["ca_file"]
        known = ssl.create_default_context(cafile=ca)
        known.load_cert_chain(other.cert, other.key)
        assert json.loads(encrypted(mesh, known))["version"] == __version__
        with pytest.raises((ssl.SSLError, ConnectionError)):
            encrypted(mesh, ssl.create_default_context(cafile=ca))
        healthy(agent)
    finally:
        assert agent.end() == 0


def encrypted(address: str, context: ssl.SSLContext) -> bytes:
    """What /status says over TLS."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=30, context=context)
    try:
        connection.request("GET", "/status")
        return connection.getresponse().read()
    finally:
        connection.close()


def listening(unix: Path) -> str:
    """HOST:PORT of the listener with certificates, once it has one."""
    found = json.loads(ask(unix, "/status/listener/mesh")[1]) if unix.exists() else {}
    return str(found.get("details", {}).get("address", ""))
