"""`watchkeeper load` against servers on loopback: one that stands still, one that refuses, one that is not there."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from support.certificates import Authority
from support.outbound_server import serve, until
from watchkeeper.errors import ExitCode
from watchkeeper.load import command, report
from watchkeeper.load.command import LoadError, make_plan, make_request
from watchkeeper.load.core import Plan, Result

ROOT = Path(__file__).resolve().parents[3]


async def good(request: web.Request) -> web.StreamResponse:
    return web.Response(body=await request.read())


def stalling(after: int, seconds: float) -> Callable[[web.Request], Any]:
    """Answers at once, but for once: then nobody is answered for a while."""
    seen, free = [0], asyncio.Event()
    free.set()

    async def answer(_request: web.Request) -> web.StreamResponse:
        seen[0] += 1
        if seen[0] == after:
            free.clear()
            asyncio.get_running_loop().call_later(seconds, free.set)
        await free.wait()
        return web.Response()

    return answer


@pytest.mark.asyncio
async def test_a_stall_is_seen() -> None:
    """A second without answers, at 100 a second over three: the 99th percentile is most of it.

    Also with one connection, where a tool that waits for its answers sees one slow request of three hundred.
    """
    for concurrency in (200, 1):
        async with serve(stalling(100, 1.0)) as server:
            plan = Plan(qps=100, duration=3, concurrency=concurrency, timeout=10)
            result = await command._run(plan, make_request("GET", server.url, [], None))
            assert (result.count, result.answered, len(server.asked)) == (300, 300, 300)
            assert result.latency.percentile(99) > 0.8
            assert result.latency.percentile(90) > 0.5
            if concurrency == 1:
                assert result.service.max > 0.8
                assert result.service.percentile(99) < result.latency.percentile(99) / 2


@pytest.mark.asyncio
async def test_what_is_sent() -> None:
    """Method, headers and body are those that were asked for."""
    async with serve(good) as server:
        request = make_request("post", f"{server.url}/p", ["X-A: b", "Accept:text/plain"], "hello")
        result = await command._run(Plan(50, 0.1, 2, 5), request)
        assert result.statuses == {200: 5}
        method, path, headers = server.asked[0]
        assert (method, path, headers["X-A"], headers["Accept"]) == ("POST", "/p", "b", "text/plain")
        assert headers["Content-Length"] == "5"


@pytest.mark.asyncio
async def test_classes_of_errors() -> None:
    """What is no success has a class: the answer's status, or why there is none."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        if request.path == "/slow":
            await asyncio.Event().wait()
        return web.Response(status=int(request.path[1:]))

    async with serve(refuse) as server:
        for path, errors in {
            "404": {"status_4xx": 5},
            "503": {"status_5xx": 5},
            "301": {},
            "slow": {"timeout": 5},
        }.items():
            plan = Plan(50, 0.1, 10, 0.3)
            result = await command._run(plan, make_request("GET", f"{server.url}/{path}", [], None))
            assert result.errors == errors, path
            assert result.count == 5
    result = await command._run(Plan(50, 0.1, 10, 1), make_request("GET", "http://127.0.0.1:1/", [], None))
    assert result.errors == {"connect": 5}
    assert result.answered == 0


@pytest.mark.asyncio
async def test_https(tmp_path: Path) -> None:
    """A certificate is believed by its authority, or not looked at; a wrong file is a sentence before the first request."""
    import ssl

    authority = Authority(tmp_path)
    pair = authority.issue("server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.cert, pair.key)
    async with serve(good, tls=tls) as server:
        url = f"https://127.0.0.1:{server.port}/"
        for options in ({"ca_file": str(authority.ca)}, {"insecure": True}):
            result = await command._run(Plan(50, 0.1, 2, 5), make_request("GET", url, [], None, **options))
            assert result.statuses == {200: 5}
        result = await command._run(Plan(50, 0.1, 2, 5), make_request("GET", url, [], None))
        assert result.errors == {"tls": 5}
        gone = make_request("GET", url, [], None, ca_file=str(tmp_path / "gone.pem"))
        with pytest.raises(LoadError, match=r"gone\.pem"):
            await command._run(Plan(50, 0.1, 2, 5), gone)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:80/",
        "http://127.8.8.8/",
        "http://[::1]:80/",
        "http://localhost:1/",
        "http+unix://%2Fs/",
    ],
)
def test_this_machine(url: str) -> None:
    """Loopback addresses, localhost and Unix sockets need no permission."""
    assert make_request("GET", url, [], None).url == url


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1/", "http://example.test/", "http://localhost.example.test/", "http://0.0.0.0/"]
)
def test_other_machines(url: str) -> None:
    """Everything else does, and is not even looked up before."""
    with pytest.raises(LoadError, match="is not this machine") as caught:
        make_request("GET", url, [], None)
    assert "--allow-remote" in caught.value.advice
    assert caught.value.exit_code is ExitCode.USAGE
    assert make_request("GET", url, [], None, allow_remote=True).url == url


@pytest.mark.parametrize(
    ("url", "headers", "body", "text"),
    [
        ("ftp://127.0.0.1/", [], None, "not http://HOST"),
        ("127.0.0.1:80", [], None, "not http://HOST"),
        ("http://127.0.0.1/", ["no colon"], None, "NAME: VALUE"),
        ("http://127.0.0.1/", [": x"], None, "NAME: VALUE"),
        ("http://127.0.0.1/", [], "@/nowhere/at/all", "/nowhere/at/all cannot be read: No such file"),
    ],
)
def test_what_cannot_be_asked(url: str, headers: list[str], body: str | None, text: str) -> None:
    """A sentence for each."""
    with pytest.raises(LoadError, match=text):
        make_request("GET", url, headers, body)


@pytest.mark.parametrize(
    ("qps", "concurrency"), [(0, None), (-1, None), (1e9, None), (float("nan"), None), (1, 0)]
)
def test_impossible_numbers(qps: float, concurrency: int | None) -> None:
    """Rates and numbers of senders that cannot be."""
    with pytest.raises(LoadError):
        make_plan(qps, 1, concurrency, 1)


@pytest.mark.parametrize(("qps", "senders"), [(1, 10), (300, 300), (50_000, 1000)])
def test_senders(qps: float, senders: int) -> None:
    """Enough for a second without an answer, as far as that is reasonable."""
    assert make_plan(qps, 1, None, 1).concurrency == senders


def test_the_table() -> None:
    """Rate asked and answered, both rows of times, statuses, errors, and a word about a slow machine."""
    result = Result(Plan(10, 2, 5, 1))
    for number in range(20):
        result.latency.record(number / 10)
        result.service.record(0.0005)
    result.statuses.update({200: 15, 503: 3})
    result.errors.update({"timeout": 2, "status_5xx": 3})
    result.elapsed, result.lag = 2.5, 0.25
    assert report.text(result, "http://h/").splitlines() == [
        "http://h/: 20 of 20 requests in 2.50 s",
        "  rate      asked 10/s, answered 7.20/s",
        "  latency   p50 901.1ms  p90 1.70s  p95 1.80s  p99 1.90s  p99.9 1.90s  max 1.90s",
        "  sending   p50 500us  p90 500us  p95 500us  p99 500us  p99.9 500us  max 500us",
        "  statuses  200: 15, 503: 3",
        "  errors    status_5xx: 3, timeout: 2",
        "  latency counts from when a request was due, sending from when it was sent",
        "  this machine was up to 250.0ms late by itself; ask for less, or from a quieter one",
    ]
    found = report.plain(result, "http://h/")
    assert found["errors"] == {"status_5xx": 3, "timeout": 2}
    assert found["latency"]["count"] == found["requests"] == 20
    assert found["achieved_qps"] == 7.2


@pytest.mark.asyncio
async def test_as_a_program(tmp_path: Path) -> None:
    """The whole command: JSON when it has run, and with Ctrl-C what there is until then, as a table and exit code 130."""
    async with serve(good) as server:
        arguments = [sys.executable, "-W", "error", "-m", "watchkeeper", "load", "--qps", "50"]
        environment = {"PYTHONPATH": str(ROOT / "agent_src"), "PATH": ""}
        done = await asyncio.to_thread(
            subprocess.run,
            [*arguments, "--duration", "200ms", "--json", server.url],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        found = json.loads(done.stdout)
        assert (found["requests"], found["statuses"], found["interrupted"]) == (10, {"200": 10}, False)
        process = await asyncio.create_subprocess_exec(
            *arguments, "--duration", "1h", server.url, stdout=subprocess.PIPE, env=environment
        )
        await until(lambda: len(server.asked) > 12)
        process.send_signal(signal.SIGINT)
        printed = (await process.communicate())[0].decode()
        assert process.returncode == ExitCode.ABORTED
        assert "stopped early" in printed
        assert "200:" in printed


def test_refused_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, one cure, exit code 2, and no request."""
    from watchkeeper.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["load", "http://192.0.2.1/"])
    assert caught.value.code == ExitCode.USAGE
    said = capsys.readouterr().err
    assert said.startswith("watchkeeper: 192.0.2.1 is not this machine\n  A load is")
