"""The endpoints over real connections on loopback: paths, roles, limits, orders, and what clients do to them."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.endpoints_world import (
    Answer,
    ask,
    connect,
    empty_status,
    endpoints,
    exchange,
    listener,
    read_answer,
)
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.endpoints.listening import _accepted
from watchkeeper.logs import get_logger
from watchkeeper.orders import Order
from watchkeeper.status import rfc3339

pytestmark = pytest.mark.asyncio


async def test_probes() -> None:
    """/livez says that the loop turns; /readyz has a reason per line; /health the worst state, and details for readers."""
    async with endpoints() as rig:
        assert (await rig.get("/livez")).body == b"ok\n"
        assert (await rig.get("/readyz")).body == b"ok\n"
        rig.reasons = ["one", "two"]
        found = await rig.get("/readyz")
        assert (found.status, found.body) == (503, b"one\ntwo\n")
        assert (await rig.get("/livez")).status == 200
        found = await rig.get("/health")
        assert (found.status, found.json) == (200, {"status": "ok"})
        rig.status = empty_status(ready=False, not_ready_because=["it starts"])
        found = await rig.get("/health?verbose=1")
        assert found.status == 503
        assert found.json["status"] == "failing"
        assert found.json["components"][0] == {
            "name": "agent",
            "status": "failing",
            "since": rfc3339(0),
            "why": "it starts",
            "last_error": None,
        }
        assert "components" not in (await rig.get("/health?verbose=0")).json


async def test_status_of_a_key_and_its_events() -> None:
    """/status/KIND/NAME is one key with what happened to it; /events all of them, by number; neighbours are offered."""
    async with endpoints() as rig:
        key = Key(Kind.OUTPUT, "disk")
        rig.context.show(key, "failed", "it is full", last_error="ENOSPC", path="/x")
        rig.context.show(key, "running", "room again")
        from watchkeeper.report import object_statuses

        rig.status = empty_status(objects=object_statuses(rig.context.observed))
        found = (await rig.get("/status/output/disk")).json
        assert (found["state"], found["why"], found["last_error"], found["kind"]) == (
            "running",
            "room again",
            "ENOSPC",
            "output",
        )
        assert [event["what"] for event in found["events"]] == ["failed", "running"]
        everything = (await rig.get("/events")).json["events"]
        assert [(event["number"], event["key"]) for event in everything] == [(1, str(key)), (2, str(key))]
        assert [event["number"] for event in (await rig.get("/events?after=1")).json["events"]] == [2]
        assert (await rig.get("/events?after=1000001")).json["events"] == []  # numbers outlive the process
        assert (await rig.get("/events?key=output/none")).json["events"] == []
        assert [each["number"] for each in (await rig.get("/events?limit=1")).json["events"]] == [2]
        assert (await rig.get("/events?limit=x")).status == 400
        missing = await rig.get("/status/output/dusk")
        assert missing.status == 404
        assert missing.json["error"] == "there is no output 'dusk'; did you mean \"disk\"?"
        assert missing.json["names"] == ["disk"]
        assert 'did you mean "output"?' in (await rig.get("/status/outptu/disk")).json["error"]


async def test_entity_tags() -> None:
    """Who has the status already gets 304 and nothing else; a time that passes is no change, a state is."""
    async with endpoints() as rig:
        rig.status = empty_status(started_at=rfc3339(1))
        first = await rig.get("/status")
        tag = first.headers["etag"]
        again = await rig.get("/status", headers={"If-None-Match": f'"x", {tag}'})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert (await rig.get("/status", headers={"If-None-Match": '"x"'})).status == 200
        rig.status = empty_status(state="draining")
        assert (await rig.get("/status", headers={"If-None-Match": tag})).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/livez/deeper", 404),
        ("GET", "/livez/", 200),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "//livez", 404),
        ("GET", "/favicon.ico", 404),
        ("HEAD", "/livez", 200),
        ("HEAD", "/metrics", 200),
        ("POST", "/livez", 405),
        ("DELETE", "/status", 405),
        ("GET", "/control/reload", 405),
        ("OPTIONS", "*", 404),
        ("GET", "/" + "x" * 7000, 404),
    ],
)
async def test_paths(method: str, path: str, status: int) -> None:
    """Each path takes what it takes; a wrong one is told what there is."""
    async with endpoints() as rig:
        found = await ask(method, path, port=rig.port)
        assert found.status == status
        if status == 405:
            assert found.headers["allow"] in ("GET, HEAD", "POST")
        if method == "HEAD":
            assert int(found.headers["content-length"]) > 0
        if path == "/nothing":
            assert "/status" in found.json["paths"]


async def test_a_near_path_is_offered() -> None:
    async with endpoints() as rig:
        assert (await rig.get("/metric")).json["advice"] == "Did you mean /metrics?"


async def test_every_answer_has_its_headers() -> None:
    """Also a refusal: no type is guessed, nothing is kept, nobody learns the library."""
    async with endpoints() as rig:
        for path in ("/livez", "/nothing", "/status"):
            headers = (await rig.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["server"] == "watchkeeper"
            assert headers["cache-control"] in ("no-store", "no-cache")


SERVICES = {"services": {"app": {"command": ["x"]}, "web": {"command": ["x"]}}}


async def test_orders(tmp_path: Path) -> None:
    """POST /control/ORDER/SERVICE through the control socket is noted, queued and told; nothing else is."""
    async with endpoints(tmp_path) as rig:
        rig.load(SERVICES)
        socket = str(tmp_path / "control.sock")

        async def order(
            method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
        ) -> Answer:
            return await ask(method, path, unix=socket, body=body, headers=headers)

        found = await order("POST", "/control/restart/app")
        assert (found.status, found.json) == (202, {"service": "app", "order": "restart", "state": "new"})
        key = Key(Kind.SERVICE, "app")
        assert rig.context.orders.of(key) is Order.RESTART
        assert await rig.context.queue.get() == key
        [event] = rig.context.events.of(key)
        assert (event.what, event.why) == ("order: restart", f"asked for by uid {os.getuid()}")
        missing = await order("POST", "/control/stop/ap")
        assert (missing.status, missing.json["services"]) == (404, ["app", "web"])
        assert "did you mean" in missing.json["error"]
        assert (await order("POST", "/control/stop")).status == 404
        rig.context.observed.draining = True
        assert (await order("POST", "/control/start/app")).status == 503

        assert (await order("POST", "/control/reload")).status == 202
        assert len(rig.reloads) == 1
        assert (await order("PUT", "/control/log-level", b'{"level": "trace"}')).json == {"level": "trace"}
        assert rig.levels == ["trace"]
        for body in (b"", b"[]", b"{", b'{"level": "loud"}', b'{"levle": "info"}', b'{"level": 1}'):
            assert (await order("PUT", "/control/log-level", body)).status == 400
        assert rig.levels == ["trace"]


@pytest.mark.parametrize(
    "body", [b'{"level": ["debug"]}', b'{"level": {}}', b'{"level": null}', b'{"level": ' + b"[" * 50_000]
)
async def test_orders_that_mean_nothing(body: bytes, tmp_path: Path) -> None:
    """Whatever JSON it is, it is its sender's mistake, and no defect of the agent."""
    async with endpoints(tmp_path) as rig:
        found = await ask("PUT", "/control/log-level", unix=str(tmp_path / "control.sock"), body=body)
        assert found.status == 400
        assert rig.levels == []


async def test_nobody_orders_over_plain_tcp() -> None:
    """The role of a program of this machine over TCP is read: 403, with what would help."""
    async with endpoints() as rig:
        rig.load(SERVICES)
        found = await ask("POST", "/control/stop/app", port=rig.port)
        assert found.status == 403
        assert "wants the role control; 127.0.0.1 has read" in found.json["error"]
        assert rig.context.orders.of(Key(Kind.SERVICE, "app")) is None
        assert (await rig.get("/debug/pprof/gc")).status == 403


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("untrusted", {"/livez", "/readyz", "/health"}),
        ("metrics", {"/livez", "/readyz", "/health", "/metrics"}),
        ("read", {"/livez", "/readyz", "/health", "/metrics", "/status", "/events", "/"}),
    ],
)
async def test_roles(role: str, allowed: set[str]) -> None:
    """Each role includes those before it, and no more."""
    async with endpoints() as rig:
        await rig.exposition.open("x", listener(role=role))
        found = {
            path
            for path in (
                "/livez",
                "/readyz",
                "/health",
                "/metrics",
                "/status",
                "/events",
                "/",
                "/debug/pprof/gc",
            )
            if (await rig.get(path, port=rig.port_of("x"))).status == 200
        }
        assert found == allowed
        verbose = await rig.get("/health?verbose", port=rig.port_of("x"))
        assert (verbose.status == 200) is (role == "read")


async def test_a_token_gives_control(tmp_path: Path) -> None:
    """It is made for its owner alone; a wrong one is as good as none."""
    file = tmp_path / "token"
    async with endpoints() as rig:
        rig.load(SERVICES)
        await rig.exposition.open("x", listener(token_file=str(file)))
        port = rig.port_of("x")
        assert file.stat().st_mode & 0o777 == 0o600
        word = file.read_text().strip()
        for header in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": word},
            {"Authorization": "Basic " + word},
        ):
            found = await ask("POST", "/control/reload", port=port, headers=header)
            assert (found.status, found.headers["www-authenticate"]) == (401, 'Bearer realm="watchkeeper"')
        right = {"Authorization": f"bearer {word}"}
        assert (await ask("POST", "/control/reload", port=port, headers=right)).status == 202
        assert len(rig.reloads) == 1
        await rig.exposition.open("x", listener(token_file=str(file)))
        assert file.read_text().strip() == word


async def test_pages_of_others_give_no_orders(tmp_path: Path) -> None:
    """A browser says where an order comes from; another site's is refused, also with the right to it."""
    async with endpoints() as rig:
        file = tmp_path / "token"
        await rig.exposition.open("x", listener(token_file=str(file)))
        headers = {"Authorization": f"Bearer {file.read_text().strip()}", "Origin": "http://evil.example"}
        found = await ask("POST", "/control/reload", port=rig.port_of("x"), headers=headers)
        assert (found.status, rig.reloads) == (403, [])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9470", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:9470", 200),
        ("wk.localhost", 200),
        ("evil.example", 421),
        ("evil.example:9470", 421),
        ("127.0.0.1.evil.example", 421),
    ],
)
async def test_a_name_that_was_pointed_here(host: str, status: int) -> None:
    """DNS rebinding: what a page of another name asks in its reader's browser is not answered."""
    async with endpoints() as rig:
        assert (await rig.get("/status", headers={"Host": host})).status == status


async def test_rate_limit() -> None:
    """10 per second, 50 at once: then 429 and when to come back; probes are never held up."""
    async with endpoints() as rig:
        await rig.exposition.open("x", listener(limits={"limit_local": True}))
        port = rig.port_of("x")
        reader, writer = await connect(port=port)
        found = [(await exchange(reader, writer, "GET", "/events")) for _ in range(60)]
        good = [answer.status for answer in found].index(429)
        assert 50 <= good <= 55  # the bucket fills while it is emptied
        assert int(found[good].headers["retry-after"]) >= 1
        for _ in range(60):
            assert (await exchange(reader, writer, "GET", "/livez")).status == 200
        writer.close()
        # On another listener, and for programs of this machine where nothing says otherwise, there is no limit.
        assert {(await rig.get("/events")).status for _ in range(60)} == {200}


async def test_orders_are_limited_for_everybody(tmp_path: Path) -> None:
    """A loop that restarts a service without end is stopped."""
    async with endpoints(tmp_path):
        reader, writer = await connect(unix=str(tmp_path / "control.sock"))
        found = [(await exchange(reader, writer, "POST", "/control/reload")).status for _ in range(60)]
        assert 50 <= found.index(429) <= 55
        writer.close()


SLOW = {"limits": {"header_timeout": 0.3, "connections": 5, "idle_timeout": 60, "request_timeout": 0.3}}


async def test_slowloris() -> None:
    """Heads that drip take their places for header_timeout and no longer; meanwhile others are answered."""
    async with endpoints() as rig:
        await rig.exposition.open("x", listener(**SLOW))
        port = rig.port_of("x")
        dripping = [await connect(port=port) for _ in range(20)]
        for drop in (b"GET /livez HTTP/1.1\r\n", b"X-A: 1\r\n", b"X-B: 1\r\n"):
            for _reader, writer in dripping:
                writer.write(drop)
            assert (await rig.get("/livez", port=port)).status == 200
        for reader, writer in dripping:  # each is ended, by the limit or to make room
            assert await asyncio.wait_for(rest_of(reader), 5) == b""
            writer.close()
        reasons = ("header timeout", "made room")
        dropped = [rig.series("http_connections_dropped_total", reason=reason) or 0 for reason in reasons]
        assert sum(dropped) == 20
        assert dropped[0] >= 1


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, however it ends."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_an_answer_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """C3: a client that asks for much and reads nothing is given up; what waited for him is let go."""
    from watchkeeper.endpoints import scrape

    async def much(_registry: object, _openmetrics: bool) -> bytes:
        return bytes(50_000_000)

    monkeypatch.setattr(scrape, "_written", much)
    async with endpoints() as rig:
        await rig.exposition.open("x", listener(**SLOW))
        _reader, writer = await connect(port=rig.port_of("x"))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(500):
            if rig.series("http_connections_dropped_total", reason="not read"):
                break
            await asyncio.sleep(0.02)
        writer.transport.abort()
        assert rig.series("http_connections_dropped_total", reason="not read") == 1
        listening = rig.exposition.listening("x")
        assert listening is not None
        assert not listening.places.taken


async def test_the_longest_idle_makes_room() -> None:
    """At the limit of connections a new one is answered, and of those that are idle the oldest goes."""
    async with endpoints() as rig:
        await rig.exposition.open("x", listener(limits={"connections": 3}))
        port = rig.port_of("x")
        idle = [await connect(port=port) for _ in range(3)]
        for reader, writer in idle:
            assert (await exchange(reader, writer, "GET", "/livez")).status == 200
        assert (
            await exchange(*idle[0], "GET", "/livez")
        ).status == 200  # used again: now the second is the oldest
        assert (await rig.get("/livez", port=port)).status == 200
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await exchange(*idle[1], "GET", "/livez")
        assert (await exchange(*idle[0], "GET", "/livez")).status == 200
        assert (await exchange(*idle[2], "GET", "/livez")).status == 200
        for _reader, writer in idle:
            writer.close()


async def test_a_body_that_does_not_come(tmp_path: Path) -> None:
    """A request's limit holds for its body as well; one that is too long is refused."""
    async with endpoints() as rig:
        file = tmp_path / "token"
        await rig.exposition.open("x", listener(token_file=str(file), limits=SLOW["limits"] | {"body": 100}))
        headers = {"Authorization": f"Bearer {file.read_text().strip()}"}
        port = rig.port_of("x")
        found = await ask(
            "PUT", "/control/log-level", port=port, headers=headers | {"Content-Length": "50"}, body=b""
        )
        assert found.status == 503
        found = await ask("PUT", "/control/log-level", port=port, headers=headers, body=b"x" * 101)
        assert found.status == 413
        assert rig.levels == []


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"X: " + b"y" * 10_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(500)) + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost : a\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ],
)
async def test_what_is_no_request(raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """400 and the end of the connection; it is counted, not logged, and the next one is served."""
    async with endpoints() as rig:
        reader, writer = await connect(port=rig.port)
        writer.write(raw)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
        writer.close()
        assert rig.series("http_connections_dropped_total", reason="malformed") == 1
        assert (await rig.get("/livez")).status == 200
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_a_defect_is_answered_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 without the reason for the client, the reason with its traceback in the log; the others go on."""
    async with endpoints() as rig:

        def broken() -> list[str]:
            raise ZeroDivisionError("secret detail")

        monkeypatch.setattr(rig.exposition.site, "not_ready_because", broken)
        found = await rig.get("/readyz")
        assert found.status == 500
        assert b"secret" not in found.body
        assert (await rig.get("/livez")).status == 200
        assert "secret detail" in caplog.text
        assert rig.series("http_requests_total", path="/readyz", method="GET", status="500") == 1


async def test_requests_are_counted_without_inventing_series() -> None:
    """Path and method come from the table; what a client makes up is one series."""
    async with endpoints() as rig:
        for path in ("/a", "/b", "/c", "/livez", "/status/check/x"):
            await rig.get(path)
        await ask("PURGE", "/livez", port=rig.port)
        found = {
            (sample.labels["path"], sample.labels["method"], sample.labels["status"])
            for family in rig.context.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "watchkeeper_http_requests_total"
        }
        assert found == {
            ("other", "other", "404"),
            ("other", "other", "405"),
            ("/livez", "GET", "200"),
            ("/status", "GET", "404"),
        }


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with endpoints() as rig:
        reader, writer = await connect(port=rig.port)
        writer.write(
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5
        )
        assert [(await read_answer(reader)).status for _ in range(10)] == [200, 404] * 5
        writer.close()


async def test_the_end_waits_for_requests_in_flight(tmp_path: Path) -> None:
    """A stop lets a request that has begun end, takes no new one, and removes the socket."""
    release = asyncio.Event()
    async with endpoints(tmp_path) as rig:
        from dataclasses import replace

        from watchkeeper.endpoints import routes
        from watchkeeper.endpoints.answers import text
        from watchkeeper.endpoints.site import Call

        async def slow(_call: Call) -> object:
            await release.wait()
            return text("late\n")

        port = rig.port
        usual = routes.ROUTES["/events"]
        routes.ROUTES["/events"] = replace(usual, handler=slow)  # type: ignore[arg-type]
        try:
            asking = asyncio.create_task(rig.get("/events"))
            await asyncio.sleep(0.05)
            stopping = asyncio.create_task(rig.exposition.stop(3.0))
            await asyncio.sleep(0.05)
            with pytest.raises(ConnectionRefusedError):
                await ask("GET", "/livez", port=port)
            release.set()
            assert (await asking).body == b"late\n"
            assert await stopping
        finally:
            routes.ROUTES["/events"] = usual
        assert not (tmp_path / "control.sock").exists()


async def test_json_for_people_ends_with_a_line_break() -> None:
    async with endpoints() as rig:
        body = (await rig.get("/status")).body
        assert body.endswith(b"}\n")
        assert json.loads(body)["pid"] == 7


async def test_names_that_are_said_to_be_ours() -> None:
    """A proxy on this machine keeps the name that it was asked by: a listener may know it."""
    async with endpoints() as rig:
        await rig.exposition.open("x", listener(hosts=["wk.example.org"]))
        await rig.exposition.open("y", listener(hosts=["*"]))
        for name, host, status in (
            ("x", "wk.example.org", 200),
            ("x", "WK.example.org:80", 200),
            ("x", "evil.example", 421),
            ("y", "evil.example", 200),
        ):
            found = await rig.get("/status", port=rig.port_of(name), headers={"Host": host})
            assert found.status == status


@pytest.fixture
def information() -> Iterator[None]:
    """The agent's lines from INFO on."""
    own = logging.getLogger("watchkeeper")
    before = own.level
    own.setLevel(logging.INFO)
    yield
    own.setLevel(before)


async def lines_of(answer: Answer) -> list[str]:
    return [json.loads(line)["message"] for line in answer.body.splitlines()]


@pytest.mark.usefixtures("information")
async def test_the_newest_log_lines() -> None:
    """/logs has them as they were written; by service, by number, and no more than asked for."""
    async with endpoints() as rig:
        journal = get_logger("test")
        for number in range(5):
            journal.info(f"line {number}", service="ab"[number % 2])
        found = await rig.get("/logs")
        assert found.headers["content-type"] == "application/x-ndjson"
        assert (await lines_of(found))[-5:] == [f"line {number}" for number in range(5)]
        assert await lines_of(await rig.get("/logs?service=b")) == ["line 1", "line 3"]
        assert await lines_of(await rig.get("/logs?limit=2")) == ["line 3", "line 4"]
        last = int(found.headers["x-log-last"])
        assert await lines_of(await rig.get(f"/logs?after={last - 1}")) == ["line 4"]
        journal.info("more")
        assert await lines_of(await rig.get(f"/logs?after={last}")) == ["more"]
        assert (await rig.get("/logs?limit=-1")).status == 400


@pytest.mark.usefixtures("information")
async def test_following_the_log() -> None:
    """?follow gives what is there and then what comes, until the client goes or the agent ends; that ends at once."""
    async with endpoints() as rig:
        journal = get_logger("test")
        journal.info("before", service="a")
        reader, writer = await connect(port=rig.port)
        writer.write(b"GET /logs?follow=1&service=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        await reader.readuntil(b'"before"')
        for number in range(3):
            journal.info("other", service="b")
            journal.info(f"live {number}", service="a")
            text = await reader.readuntil(b'"live %d"' % number)
            assert b"other" not in text
        assert rig.exposition.site.followers == 1
        writer.close()
        gone, still = await connect(port=rig.port), await connect(port=rig.port)
        for _reader, each in (gone, still):
            each.write(b"GET /logs?follow&limit=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await _reader.readuntil(b"\r\n\r\n")
        gone[1].close()
        for _ in range(200):  # its handler ends without a line having to come
            if rig.exposition.site.followers == 1:
                break
            await asyncio.sleep(0.01)
        assert rig.exposition.site.followers == 1
        begun = asyncio.get_running_loop().time()
        assert await rig.exposition.stop(3.0)
        assert (
            asyncio.get_running_loop().time() - begun < 0.9
        )  # and not the second that requests in flight would get
        assert (await still[0].read()).endswith(b"0\r\n\r\n")
        still[1].close()


@pytest.mark.usefixtures("information")
async def test_following_from_now_on() -> None:
    """?limit=0: nothing of what there is, not in the first answer and not afterwards."""
    async with endpoints() as rig:
        journal = get_logger("test")
        journal.info("before")
        reader, writer = await connect(port=rig.port)
        writer.write(b"GET /logs?follow&limit=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        journal.info("after")
        assert b"before" not in await reader.readuntil(b'"after"')
        writer.close()


async def test_no_more_followers_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from watchkeeper.endpoints import tailing

    monkeypatch.setattr(tailing, "FOLLOWERS", 0)
    async with endpoints() as rig:
        assert (await rig.get("/logs?follow=1")).status == 503
        assert (await rig.get("/logs?follow=0")).status == 200


OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/html", "text/plain"),
        (OPENMETRICS, "application/openmetrics-text"),
        ("application/openmetrics-text", "application/openmetrics-text"),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.1", "text/plain"),
        ("application/openmetrics-text;q=0", "text/plain"),
        ("application/openmetrics-text;q=x", "text/plain"),
    ],
)
async def test_the_format_of_metrics(accept: str, kind: str) -> None:
    """By what a client accepts; prometheus_client's own parsers read both."""
    from prometheus_client.openmetrics import parser as openmetrics
    from prometheus_client.parser import text_string_to_metric_families

    async with endpoints() as rig:
        found = await rig.get("/metrics", headers={"Accept": accept} if accept else {})
        assert found.headers["content-type"].startswith(kind)
        text = found.body.decode()
        if kind == "text/plain":
            families = {family.name for family in text_string_to_metric_families(text)}
        else:
            families = {family.name for family in openmetrics.text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
        assert "watchkeeper_build_info" in {*families, *(f"{name}_info" for name in families)}


async def test_compressed_metrics() -> None:
    """gzip where it is accepted; it unpacks to what is sent without."""
    async with endpoints() as rig:
        found = await rig.get("/metrics", headers={"Accept-Encoding": "deflate, gzip;q=0.5"})
        assert found.headers["content-encoding"] == "gzip"
        assert b"watchkeeper_build_info" in gzip.decompress(found.body)
        assert (
            "content-encoding"
            not in (await rig.get("/metrics", headers={"Accept-Encoding": "gzip;q=0"})).headers
        )


async def test_a_crowd_of_scrapes_costs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """M2: who comes while a scrape is being written gets that one; who comes later a newer one."""
    from watchkeeper.endpoints import scrape

    count = 0
    began, go = asyncio.Event(), asyncio.Event()

    async def slow(_registry: object, _openmetrics: bool) -> bytes:
        nonlocal count
        count += 1
        began.set()
        await go.wait()
        return b"x %d\n" % count

    monkeypatch.setattr(scrape, "_write", slow)
    async with endpoints() as rig:
        asking = [asyncio.create_task(rig.get("/metrics")) for _ in range(10)]
        await began.wait()
        reader, writer = await connect(port=rig.port)  # the client that goes does not take it from the others
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.close()
        go.set()
        assert {(await one).body for one in asking} == {b"x 1\n"}
        assert (await rig.get("/metrics")).body == b"x 2\n"
        del reader


async def test_a_large_registry_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """M1: while 20,000 series are written, the loop gets its turn between families."""
    from watchkeeper.endpoints import scrape

    monkeypatch.setattr(scrape, "TURN", 0.0)
    async with endpoints() as rig:
        for family in range(40):
            gauge = rig.context.metrics.gauge(f"big_{family}", "One of many.", "number")
            for number in range(500):
                gauge.labels(str(number)).set(number)
        turns = 0
        done = asyncio.Event()

        async def turn() -> None:
            nonlocal turns
            while not done.is_set():
                turns += 1
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        body = await scrape._written(rig.context.metrics.registry, False)
        done.set()
        await turning
        assert body.count(b"\n") > 20_000
        assert turns >= 40


@pytest.mark.skipif(os.name != "posix", reason="another loop")
async def test_a_connection_that_comes_when_its_listener_closes() -> None:
    """In the same turn of the loop: nobody takes it and loses it, and nothing is said."""
    loop = asyncio.get_running_loop()
    said: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _loop, what: said.append(what))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        task = loop.create_task(_accepted(server))
        await asyncio.sleep(0.01)
        with socket.create_connection(server.getsockname()):
            loop.call_soon(task.cancel)  # the loop looks at its sockets after that, and then calls both
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.01)
            assert task.cancelled()
            assert said == []
            server.accept()[0].close()
