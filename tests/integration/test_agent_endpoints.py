"""The endpoints of a real agent: openssl, another user, orders, certificates that are replaced, sockets from systemd."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import ROOT, Agent, Start
from support.certificates import Authority

pytestmark = pytest.mark.integration

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
OPS = "spiffe://example.org/ops/alice"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


def ask(path: Path, method: str, target: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
    connection = UnixConnection(path)
    try:
        connection.request(method, target, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def port_of(agent: Agent, name: str) -> int:
    """The port that a listener of the configuration has taken."""
    line = agent.message(f"listener {name} is up")
    return int(line["address"].rpartition(":")[2])


def test_orders_over_the_control_socket(start: Start, tmp_path: Path) -> None:
    """A socket for its owner alone; an order replaces the process, is told to /events, and a reload and a level take effect."""
    state = tmp_path / "state"
    agent = start({"services": {"app": {"command": SLEEPER}}}, "--state-dir", str(state))
    path = state / "control.sock"
    before = agent.running()["pid"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    status, answer = ask(path, "POST", "/control/restart/app")
    assert (status, answer["order"]) == (202, "restart")
    agent.running(after=before)
    events = json.loads(agent.get("/events?key=service/app")[1])["events"]
    assert any(event["what"] == "order: restart" for event in events)
    assert ask(path, "POST", "/control/reload")[0] == 202
    agent.message("configuration unchanged")
    assert ask(path, "PUT", "/control/log-level", '{"level": "debug"}') == (200, {"level": "debug"})
    agent.message("the log level is debug now")
    assert agent.end() == 0
    assert not path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="LOUD: only root can ask as somebody else")
def test_another_user(start: Start, tmp_path: Path) -> None:
    """The kernel says who asks: one user may read, another one has the probes, and neither gives orders."""
    folder = Path("/tmp") / f"wk-{os.getpid()}"  # every folder on the way has to let the other user pass
    folder.mkdir(mode=0o755)
    try:
        path = folder / "s"
        listener = {
            "address": f"unix:{path}",
            "socket_mode": "0666",
            "peers": [{"role": "read", "users": ["65533"]}],
        }
        agent = start({"listeners": {"local": listener}, "services": {"app": {"command": SLEEPER}}})
        agent.message("listener local is up")
        program = (
            "import socket, sys\n"
            "for target in ('GET /livez', 'GET /status', 'POST /control/stop/app'):\n"
            "    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "    s.sendall(f'{target} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'.encode())\n"
            "    print(s.makefile('rb').readline().split()[1].decode())\n"
        )

        def statuses(uid: int) -> list[str]:
            command = [
                shutil.which("python3", path="/usr/bin:/bin") or sys.executable,
                "-I",
                "-c",
                program,
                str(path),
            ]
            done = subprocess.run(
                command,
                user=uid,
                group=uid,
                extra_groups=[],
                capture_output=True,
                text=True,
                check=True,
                cwd="/",
            )
            return done.stdout.split()

        assert statuses(65534) == ["200", "403", "403"]
        assert statuses(65533) == ["200", "200", "403"]
        assert statuses(0) == ["200", "200", "202"]
    finally:
        shutil.rmtree(folder)


def first_line(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.readline()


def s_client(
    port: int, *options: str, request: str = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
) -> str:
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", "-verify_quiet", *options],
        input=request,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="LOUD: there is no openssl program here")
def test_with_openssl(start: Start, tmp_path: Path) -> None:
    """openssl's own client: TLS 1.3 and 1.2 with a certificate, nothing older, nothing without one; both on one port."""
    authority = Authority(tmp_path)
    pair, client = authority.issue("server"), authority.issue("client", uris=(OPS,))
    files = {"cert_file": str(pair.cert), "key_file": str(pair.key), "ca_file": str(authority.ca)}
    agent = start(
        {
            "listeners": {
                "strict": {"address": "127.0.0.1:0", "tls": files},
                "both": {"address": "127.0.0.1:0", "tls": files | {"mode": "permissive"}},
            }
        }
    )
    strict, both = port_of(agent, "strict"), port_of(agent, "both")
    trust = ("-CAfile", str(authority.ca), "-verify_return_error")
    own = ("-cert", str(client.cert), "-key", str(client.key))
    for version in ("-tls1_3", "-tls1_2"):
        assert "HTTP/1.1 200 OK" in s_client(strict, *trust, *own, version)
        assert "200 OK" not in s_client(strict, *trust, version)
    assert "200 OK" not in s_client(strict, *trust, *own, "-tls1_1")
    assert "HTTP/1.1 200 OK" in s_client(both, *trust)
    with socket.create_connection(("127.0.0.1", both), 5) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert first_line(plain) == b"HTTP/1.1 200 OK\r\n"
    whole = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{strict}", *trust, *own, "-alpn", "http/1.1"],
        input="",
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    ).stdout
    assert "ALPN protocol: http/1.1" in whole
    assert "Verify return code: 0 (ok)" in whole
    assert agent.end() == 0


class Asking(threading.Thread):
    """A client that asks again and again, over one connection as long as that is wanted or over a new one each time."""

    def __init__(self, port: int, context: ssl.SSLContext, *, keep: bool) -> None:
        super().__init__()
        self._port, self._context, self._keep = port, context, keep
        self.done = threading.Event()
        self.seen: set[str] = set()
        self.failures: list[str] = []
        self.count = 0

    def run(self) -> None:
        connection = self._connection()
        while not self.done.is_set():
            try:
                close = self._ask(connection)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                close = True
            if close:
                connection.close()
                connection = self._connection()
        connection.close()

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=10, context=self._context)

    def _ask(self, connection: http.client.HTTPSConnection) -> bool:
        """Whether the next request needs a new connection."""
        connection.request("GET", "/livez")
        if isinstance(connection.sock, ssl.SSLSocket):
            subject: Any = (connection.sock.getpeercert() or {})["subject"]
            self.seen.add(subject[0][0][1])
        found = connection.getresponse()
        found.read()
        if found.status != 200:
            self.failures.append(f"status {found.status}")
        self.count += 1
        return not self._keep or found.getheader("Connection") == "close"


def test_certificates_are_replaced_while_requests_come(start: Start, tmp_path: Path) -> None:
    """What an issuer of short certificates does every minute, several times a second: no request fails, all is taken up."""
    authority = Authority(tmp_path)
    pair, own = authority.issue("server", common_name="0"), authority.issue("client", uris=(OPS,))
    tls = {
        "cert_file": str(pair.cert),
        "key_file": str(pair.key),
        "ca_file": str(authority.ca),
        "check_interval": "20ms",
        "spiffe": ["spiffe://example.org/ops/*"],
    }
    agent = start({"listeners": {"x": {"address": "127.0.0.1:0", "tls": tls}}})
    port = port_of(agent, "x")
    asking = [Asking(port, authority.client(own), keep=number % 2 == 0) for number in range(4)]
    for thread in asking:
        thread.start()
    try:
        for number in range(9):
            if number:
                authority.issue("server", common_name=str(number))
            agent.wait(lambda name=str(number): any(name in each.seen for each in asking), f"number {number}")  # type: ignore[misc]
    finally:
        for thread in asking:
            thread.done.set()
        for thread in asking:
            thread.join()
    assert [failure for thread in asking for failure in thread.failures] == []
    assert min(thread.count for thread in asking) > 0
    metrics = agent.get("/metrics")[1]
    assert 'watchkeeper_tls_reloads_total{listener="x",result="success"}' in metrics
    assert 'watchkeeper_tls_certificate_expiry_timestamp_seconds{listener="x"}' in metrics


def test_a_listener_that_cannot_be(start: Start) -> None:
    """Its address is taken: the agent runs, says so, and takes the address when it is free."""
    with socket.create_server(("127.0.0.1", 0)) as blocker:
        address = f"127.0.0.1:{blocker.getsockname()[1]}"
        agent = start({"listeners": {"x": {"address": address}}, "services": {"app": {"command": SLEEPER}}})
        agent.running()
        line = agent.message(f"listener x: the address {address} is taken by another program")
        assert line["error_class"] == "LISTEN_FAILED"
        found = json.loads(agent.get("/status/listener/x")[1])
        assert found["state"] == "failed"
    agent.message("listener x is up")
    assert json.loads(agent.get("/status/listener/x")[1])["state"] == "listening"


def test_a_socket_from_systemd(tmp_path: Path) -> None:
    """Descriptor 3 with a name, as a .socket unit hands it over."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        port = made.getsockname()[1]
        config = tmp_path / "a.yaml"
        config.write_text("listeners: {web: {address: 'systemd:web'}}")
        program = (
            "import os, sys\n"
            "os.dup2(int(sys.argv[1]), 3)\nos.set_inheritable(3, True)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='web')\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'watchkeeper', 'run', *sys.argv[2:]])"
        )
        log = tmp_path / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    program,
                    str(made.fileno()),
                    "--config",
                    str(config),
                    "--listen",
                    "127.0.0.1:0",
                ],
                pass_fds=[made.fileno()],
                stderr=stream,
                env={**os.environ, "PYTHONPATH": str(ROOT / "agent_src")},
            )
    try:
        with socket.create_connection(
            ("127.0.0.1", port), 20
        ) as client:  # it waits in the queue until the agent comes
            client.settimeout(20)
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert first_line(client) == b"HTTP/1.1 200 OK\r\n", log.read_text()
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_faults_in_a_running_agent(start: Start, tmp_path: Path) -> None:
    """What a section allows happens to who asks for it, ends by itself, and is switched off by one request."""
    state = tmp_path / "state"
    agent = start({"faults": {"enabled": True, "ttl": 3600}}, "--state-dir", str(state))
    agent.message("faults are armed")

    def chaos(headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection(agent.url.removeprefix("http://"), timeout=10)
        try:
            connection.request("GET", "/events", headers={"X-Chaos-Enabled": "true"} | headers)
            return connection.getresponse().status
        finally:
            connection.close()

    assert chaos({"X-Chaos-Abort": "503"}) == 503
    with pytest.raises(ConnectionResetError):
        chaos({"X-Chaos-Reset": "true"})
    assert chaos({"X-Chaos-Delay": "50", "X-Chaos-CPU": "50"}) == 200
    assert json.loads(agent.get("/status/faults/faults")[1])["state"] == "active"
    answer = ask(state / "control.sock", "PUT", "/control/faults", '{"enabled": false}')
    assert answer == (200, {"enabled": False, "left": 0.0})
    assert chaos({"X-Chaos-Abort": "503"}) == 200
    agent.wait(lambda: json.loads(agent.get("/status/faults/faults")[1])["state"] == "inactive", "the state")


def test_a_profile_of_a_running_agent(start: Start, tmp_path: Path) -> None:
    """Over the control socket alone; /livez answers meanwhile."""
    state = tmp_path / "state"
    agent = start({"services": {"app": {"command": SLEEPER}}}, "--state-dir", str(state))
    agent.running()
    assert agent.get("/debug/pprof/profile?seconds=1")[0] == 403
    found: list[Any] = []
    target = "/debug/pprof/profile?seconds=1&format=speedscope&idle=1"
    thread = threading.Thread(target=lambda: found.append(ask(state / "control.sock", "GET", target)))
    thread.start()
    count = 0
    while thread.is_alive():
        assert agent.get("/livez") == (200, "ok\n")
        count += 1
    assert count > 10
    status, profile = found[0]
    assert status == 200
    assert "MainThread" in {each["name"] for each in profile["profiles"]}
