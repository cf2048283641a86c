"""The commands that ask a running agent, against a small server of the tests' own."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from watchkeeper.cli import main
from watchkeeper.client import asking, transport
from watchkeeper.client.colours import Palette, palette
from watchkeeper.client.transport import find
from watchkeeper.client.watching import CLEAR, again
from watchkeeper.config.snapshot import Kind
from watchkeeper.errors import AgentUnreachableError, ExitCode

SERVICE = {
    "name": "web",
    "state": "backoff",
    "why": "signal SIGKILL",
    "since": "2026-01-01T00:00:00.000Z",
    "ready": False,
    "pid": None,
    "instance": 1,
    "restarts": 2,
    "failures_in_a_row": 1,
    "last_exit": "signal SIGKILL",
    "last_error": "it ended by itself: signal SIGKILL",
    "next_try_in": 1.5,
}
CHECK = {
    "name": "web/up",
    "service": "web",
    "role": "liveness",
    "state": "success",
    "why": "fine",
    "since": "2026-01-01T00:00:00.000Z",
    "on_hold": False,
    "run": 3,
    "last_run": None,
    "last_error": None,
    "next_try_in": 2.0,
}
STATUS = {
    "version": "1",
    "pid": 7,
    "state": "running",
    "ready": True,
    "not_ready_because": [],
    "started_at": "2026-01-01T00:00:00.000Z",
    "listen": "127.0.0.1:1",
    "config": {
        "file": "f.yaml",
        "generation": 3,
        "digest": "d",
        "loaded_at": "2026-01-01T00:00:00.000Z",
        "from_last_good": False,
        "last_reload_error": None,
        "problems": [],
        "needs_restart": [],
    },
    "services": [SERVICE],
    "checks": [CHECK],
    "objects": [
        {
            "kind": "output",
            "name": "web",
            "state": "running",
            "why": "",
            "since": "2026-01-01T00:00:00.000Z",
            "last_error": None,
            "details": {},
        }
    ],
}
EVENT = {
    "number": 4,
    "at": "2026-01-01T00:00:00.000Z",
    "key": "service/web",
    "what": "backoff",
    "why": "signal SIGKILL",
}
Reply = tuple[int, Any]


class Server:
    """Answers what it is told to, and notes what it is asked."""

    def __init__(self, where: tuple[str, int] | str) -> None:
        self.replies: dict[str, Reply | Callable[[int], Reply]] = {"GET /status": (200, STATUS)}
        self.asked: list[tuple[str, Any]] = []
        self.headers: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                what = f"{self.command} {self.path.partition('?')[0]}"
                outer.asked.append((f"{self.command} {self.path}", json.loads(content) if content else None))
                outer.headers = dict(self.headers)
                reply = outer.replies.get(what, (404, {"error": "there is nothing at this path"}))
                status, body = reply(len(outer.asked)) if callable(reply) else reply
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = answer  # noqa: N815 - http.server's names

            def log_message(self, *_arguments: object) -> None:
                pass

            def address_string(self) -> str:
                return "client"

        class UnixServer(ThreadingHTTPServer):
            address_family = socket.AF_UNIX

            def server_bind(self) -> None:
                self.socket.bind(self.server_address)
                self.server_name, self.server_port = "unix", 0

        kind = UnixServer if isinstance(where, str) else ThreadingHTTPServer
        self.server = kind(where, Handler)  # type: ignore[arg-type]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No agent of the machine's own is found."""
    monkeypatch.setattr(transport, "PLACES", ())
    for name in ("WATCHKEEPER_URL", "WATCHKEEPER_SOCKET", "RUNTIME_DIRECTORY", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_where_the_agent_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A1 to A4, in that order."""
    runtime, state, usual = tmp_path / "runtime", tmp_path / "state", tmp_path / "usual.sock"
    for folder in (runtime, state):
        folder.mkdir()
    environment: dict[str, str] = {}
    monkeypatch.setattr(transport, "PLACES", (str(usual),))

    def place(**options: str) -> str:
        return str(find(environment=environment, **options))

    assert place() == "http://127.0.0.1:9470"
    usual.touch()
    assert place() == str(usual)
    environment["STATE_DIRECTORY"] = str(state)
    assert place() == str(usual)
    (state / "control.sock").touch()
    assert place() == str(state / "control.sock")
    (runtime / "watchkeeper.sock").touch()
    environment["RUNTIME_DIRECTORY"] = f"{runtime}:{tmp_path}"
    assert place() == str(runtime / "watchkeeper.sock")
    environment["WATCHKEEPER_SOCKET"] = str(usual)
    assert place() == str(usual)
    environment["WATCHKEEPER_URL"] = "http://h:1/"
    assert place() == "http://h:1"
    assert place(socket="/s") == "/s"
    assert place(state_dir="/d") == "/d/control.sock"
    assert place(url="http://other:2", socket="/s") == "http://other:2"


def test_over_a_unix_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By --socket, and by the state directory it is in."""
    made = Server(str(tmp_path / "control.sock"))
    try:
        code, out, _ = run(capsys, "status", "--socket", str(tmp_path / "control.sock"))
        assert (code, out.splitlines()[0]) == (0, "watchkeeper 1  pid 7  running  ready")
        assert run(capsys, "names", "--state-dir", str(tmp_path))[1].split() == [
            "service/web",
            "check/web/up",
            "output/web",
        ]
    finally:
        made.close()


def test_nobody_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 6, with the reason; a socket of another user is another sentence."""
    code, _, err = run(capsys, "status", "--socket", str(tmp_path / "none.sock"))
    assert code == ExitCode.AGENT_UNREACHABLE
    assert err.startswith(
        f"watchkeeper: no agent answers at {tmp_path}/none.sock: No such file or directory\n  Start it"
    )


@pytest.mark.parametrize(
    ("reply", "code", "message"),
    [
        ((200, b"<html>"), 6, "is not an agent of this version"),
        ((500, b"<html>"), 6, "answers with status 500: not an agent"),
        ((302, b""), 6, "answers with status 302: not an agent"),
        (
            (403, {"error": "this needs the role read"}),
            10,
            "this needs the role read\n  Ask through the agent's Unix",
        ),
        ((429, {"error": "too many requests", "advice": "Wait."}), 10, "too many requests\n  Wait."),
    ],
)
def test_what_else_may_answer(
    server: Server, capsys: pytest.CaptureFixture[str], reply: Reply, code: int, message: str
) -> None:
    """Somebody else's server is exit code 6; an agent that refuses, 10."""
    server.replies["GET /status"] = reply
    ended, out, err = run(capsys, "status", "--url", server.url)
    assert (ended, out) == (code, "")
    assert message in err


def test_the_table(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each; --json is what the agent has said; no colours in a pipe, and on request all the same."""
    _, out, _ = run(capsys, "status", "--url", server.url)
    assert out.splitlines() == [
        "watchkeeper 1  pid 7  running  ready",
        "",
        "SERVICE  STATE    READY  PID  RESTARTS  NEXT TRY  WHY",
        "web      backoff  no     -    2         in 1.5s   signal SIGKILL",
        "",
        "CHECK   ROLE      STATE    NEXT LOOK  WHY",
        "web/up  liveness  success  in 2s      fine",
        "",
        "KIND    NAME  STATE    WHY",
        "output  web   running",
    ]
    assert json.loads(run(capsys, "status", "--url", server.url, "--json")[1]) == STATUS
    _, painted, _ = run(capsys, "status", "--url", server.url, "--colour", "always")
    assert "\x1b[31mbackoff\x1b[0m  no " in painted


@pytest.mark.parametrize(
    ("terminal", "environment", "on"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals(terminal: bool, environment: dict[str, str], on: bool) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    assert palette("auto", Stream(), environment).on is on
    assert palette("always", Stream(), environment).on
    assert not palette("never", Stream(), environment).on


def test_explain(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """State and why first, then the rest, what it waits for, what is wanted, and what has happened."""
    server.replies["GET /status/service/web"] = (
        200,
        SERVICE
        | {
            "kind": "service",
            "desired": {"command": ["sleep", "1"], "user": None, "stop_grace": 10.0},
            "order": "stop",
            "needs": [{"key": "service/db", "state": "running"}],
            "needed_by": [],
            "events": [EVENT],
        },
    )
    code, out, _ = run(capsys, "explain", "service/web", "--url", server.url)
    assert code == 0
    assert out.splitlines() == [
        "service web: backoff",
        "  why          signal SIGKILL",
        "  since        2026-01-01T00:00:00.000Z",
        "  ready        no",
        "  next try in  1.5",
        "  last error   it ended by itself: signal SIGKILL",
        "  last exit    signal SIGKILL",
        "  order  stop (an operator's)",
        "",
        "  instance           1",
        "  restarts           2",
        "  failures in a row  1",
        "",
        "needs:",
        "  service/db: running",
        "",
        "wanted:",
        '  command     ["sleep", "1"]',
        "  stop grace  10.0",
        "",
        "events, the newest last:",
        "  2026-01-01T00:00:00.000Z  service/web  backoff: signal SIGKILL",
    ]


def test_a_name_alone(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """It is looked for among everything; two of one name, and none, are exit code 9 with what to write."""
    server.replies["GET /status/check/web/up"] = (200, CHECK | {"kind": "check"})
    assert run(capsys, "explain", "web/up", "--url", server.url)[0] == 0
    code, _, err = run(capsys, "explain", "web", "--url", server.url)
    assert (code, err.splitlines()[1]) == (9, "  Write one of: service/web, output/web.")
    code, _, err = run(capsys, "explain", "wep/up", "--url", server.url)
    assert (code, err.splitlines()[0]) == (
        9,
        """watchkeeper: there is nothing called 'wep/up'; did you mean "web/up"?""",
    )


def test_kinds_are_those_of_the_agent() -> None:
    """asking.KINDS is a copy."""
    assert set(asking.KINDS) == {kind.value for kind in Kind}


def test_events(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines for people, objects for programs; the key is passed on."""
    server.replies["GET /events"] = (200, {"events": [EVENT]})
    assert run(capsys, "events", "--url", server.url)[1] == (
        "2026-01-01T00:00:00.000Z  service/web  backoff: signal SIGKILL\n"
    )
    _, out, _ = run(capsys, "events", "service/web", "-n", "5", "--json", "--url", server.url)
    assert json.loads(out) == EVENT
    assert server.asked[-1][0] == "GET /events?limit=5&key=service%2Fweb"


def test_events_as_they_come(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told once: the next question begins behind the last that was told."""
    monkeypatch.setattr(asking, "POLL", 0.01)
    server.replies["GET /events"] = lambda count: (
        200,
        {"events": [EVENT | {"number": count}] if count != 2 else []},
    )
    found = asking.events(find(url=server.url), None, follow=True, count=10)
    assert [next(found)["number"] for _ in range(3)] == [1, 3, 4]
    asked = [each.partition("?")[2] for each, _ in server.asked]
    assert asked == ["limit=10", "limit=1000&after=1", "limit=1000&after=1", "limit=1000&after=3"]


def test_logs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of the agent, one of a service, one with a traceback, and one that is no JSON."""
    line = {
        "timestamp": "T",
        "level": "INFO",
        "service": "web",
        "logger": "watchkeeper.service",
        "message": "started",
    }
    lines = [
        line | {"pid": 7, "note": ""},
        line | {"logger": "watchkeeper.output.web", "message": "hello", "stream": "stdout"},
        line | {"level": "ERROR", "traceback": "Traceback\n  here"},
    ]
    server.replies["GET /logs"] = (200, "\n".join([*map(json.dumps, lines), "garbage\x80"]).encode("latin-1"))
    _, out, _ = run(capsys, "logs", "web", "-n", "3", "--url", server.url)
    assert out.splitlines() == [
        "T  INFO     service: started  pid=7",
        "T  INFO     web: hello  stream=stdout",
        "T  ERROR    service: started",
        "Traceback",
        "  here",
        "garbage\ufffd",
    ]
    assert server.asked[-1][0] == "GET /logs?limit=3&service=web"


def test_orders(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for, and with --wait seen through."""
    server.replies["POST /control/restart/web"] = (202, {})
    states = iter([(1, "running"), (1, "stopping"), (2, "starting"), (2, "running")])

    def service(_count: int) -> Reply:
        instance, state = next(states)
        return 200, SERVICE | {"instance": instance, "state": state, "pid": 100 + instance}

    server.replies["GET /status/service/web"] = service
    assert run(capsys, "restart", "service/web", "--wait", "5", "--url", server.url)[:2] == (
        0,
        "web: running, pid 102\n",
    )
    code, out, _ = run(capsys, "restart", "web", "--url", server.url)
    assert (code, out.split(";")[0]) == (0, "restart of web is asked for")
    assert server.asked[-1] == ("POST /control/restart/web", None)


def test_an_order_that_comes_to_nothing(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 10 after the wait; 9 for what is no service."""
    server.replies["POST /control/start/web"] = (202, {})
    server.replies["GET /status/service/web"] = (200, SERVICE)
    code, _, err = run(capsys, "start", "web", "--wait", "10ms", "--url", server.url)
    assert (code, "was not done within 0.01 s; it is backoff: signal SIGKILL" in err) == (10, True)
    assert run(capsys, "stop", "check/web", "--url", server.url)[0] == 9
    server.replies["POST /control/stop/nope"] = (
        404,
        {"error": "there is no service 'nope'", "services": ["web"]},
    )
    code, _, err = run(capsys, "stop", "nope", "--url", server.url)
    assert (code, err) == (9, "watchkeeper: there is no service 'nope'\n  There are: web.\n")


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({"loaded_at": "later", "generation": 4}, 0, "in force: generation 4"),
        ({"loaded_at": "later"}, 0, "unchanged: generation 3"),
        (
            {
                "last_reload_error": "f.yaml has 1 problem:",
                "problems": ["f.yaml:1:1: x"],
                "refused_at": "now",
            },
            3,
            "f.yaml:1:1: x",
        ),
        ({}, 10, "has not looked at its configuration within"),
    ],
)
def test_reload(
    server: Server, capsys: pytest.CaptureFixture[str], config: dict[str, Any], code: int, said: str
) -> None:
    """What became of it: in force, unchanged, refused with every problem, or nothing heard."""
    server.replies["POST /control/reload"] = (202, {})

    def status(count: int) -> Reply:
        return 200, STATUS | {"config": STATUS["config"] | (config if count > 2 else {})}  # type: ignore[operator]

    server.replies["GET /status"] = status
    ended, out, err = run(capsys, "reload", "--wait", "300ms", "--url", server.url)
    assert ended == code
    assert said in out + err
    assert run(capsys, "reload", "--no-wait", "--url", server.url)[0] == 0


def test_a_reload_is_not_judged_by_what_was_wrong_before(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """The agent says the old refusal until it has looked at what somebody has corrected."""
    server.replies["POST /control/reload"] = (202, {})
    wrong = {
        "last_reload_error": "f.yaml has 1 problem:",
        "problems": ["f.yaml:1:1: x"],
        "refused_at": "then",
    }
    right = {"loaded_at": "later", "generation": 4, "refused_at": "then"}
    config = STATUS["config"]
    server.replies["GET /status"] = lambda count: (
        200,
        STATUS | {"config": config | (wrong if count < 5 else right)},  # type: ignore[operator]
    )
    assert run(capsys, "reload", "--url", server.url)[:2] == (0, "in force: generation 4\n")


def test_a_draining_agent_takes_no_orders(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Its 503 is a refusal, and not an order that was accepted."""
    server.replies["POST /control/stop/web"] = (503, {"error": "the agent is draining"})
    assert run(capsys, "stop", "web", "--url", server.url) == (10, "", "watchkeeper: the agent is draining\n")


def test_waiting_for_work_that_ends(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """A job that has finished before anybody looked has been started all the same; the last run does not count."""
    server.replies["POST /control/start/web"] = (202, {})
    runs = iter([(1, "finished"), (1, "finished"), (2, "finished")])

    def service(_count: int) -> Reply:
        instance, state = next(runs)
        return 200, SERVICE | {"instance": instance, "state": state, "pid": None}

    server.replies["GET /status/service/web"] = service
    assert run(capsys, "start", "web", "--wait", "5", "--url", server.url)[:2] == (0, "web: finished\n")


def test_log_level(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.replies["PUT /control/log-level"] = (200, {"level": "debug"})
    assert run(capsys, "log-level", "debug", "--url", server.url)[:2] == (0, "the log level is debug now\n")
    assert server.asked[-1] == ("PUT /control/log-level", {"level": "debug"})


def test_a_token(server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is read from its file, and never from the command line; a file that cannot be read is a sentence."""
    token = tmp_path / "token"
    token.write_text("open sesame\n")
    assert run(capsys, "status", "--url", server.url, "--token-file", str(token))[0] == 0
    assert server.headers["Authorization"] == "Bearer open sesame"
    code, _, err = run(capsys, "status", "--url", server.url, "--token-file", str(tmp_path / "none"))
    assert (code, "the token in" in err) == (10, True)


def test_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that goes away is waited for; one that was never there is an error."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    answers: list[str | Exception] = ["a", AgentUnreachableError("gone"), "b"]

    def look() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    screen = again(look, 1, clear=True)
    assert [next(screen) for _ in range(3)] == [CLEAR + "a", CLEAR + "watchkeeper: gone", CLEAR + "b"]
    answers.append(AgentUnreachableError("never there"))
    with pytest.raises(AgentUnreachableError):
        next(again(look, 1, clear=False))


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["staus"], "did you mean status?"),
        (["status", "--jsn"], "did you mean --json?"),
        (["run", "--confg=x", "--config", "y"], "did you mean --config?"),
        (["log-level", "debgu"], "did you mean debug?"),
        (["completions", "zhs"], "did you mean zsh?"),
    ],
)
def test_a_typo_is_answered(
    capsys: pytest.CaptureFixture[str], arguments: list[str], suggestion: str
) -> None:
    """Exit code 2, and the nearest word."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.rstrip().endswith(suggestion)


@pytest.mark.parametrize("word", ["0", "-1s", "soon", "0s"])
def test_a_time_that_is_none(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert run(capsys, "restart", "web", f"--wait={word}")[0] == 2


def test_a_reader_that_has_enough(server: Server) -> None:
    """`watchkeeper names | head -n 0` ends without a word."""
    import subprocess
    import sys

    root = Path(__file__).resolve().parents[3]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "watchkeeper", "names", "--url", server.url],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root / "agent_src")},
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_plain_text_stays_plain() -> None:
    """A palette that is off changes nothing, whatever it is given."""
    off = Palette()
    assert off.state("failed") == "failed"
    assert off.level("INFO") == "INFO   "
    assert Palette(on=True).state("no such state") == "no such state"
