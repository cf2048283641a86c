"""Consul's HTTP API, as far as the agent uses it, written from Consul's public API documents; it can also misbehave.

What is kept: a KV store, services with their checks, one index for everything. Blocking queries, TTL checks that turn
critical by themselves, HTTP and TCP checks that are really made, deregister_critical_service_after. What it is not:
a cluster. It runs in a thread with a loop of its own, so that tests of any kind can use it; its methods may be called from
any thread.

Time goes `speed` times as fast: with 20 a TTL of 15 s runs out after 750 ms. Waits of blocking queries do not.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

import aiohttp
from aiohttp import web

T = TypeVar("T")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
TICK = 0.02


def go_seconds(text: str) -> float:
    """A duration as Go writes it: 10s, 1500ms, 1h30m."""
    parts = re.findall(r"([\d.]+)(ms|s|m|h)", text)
    assert "".join(number + unit for number, unit in parts) == text, f"{text!r} is no duration of Go"
    return sum(float(number) * UNITS[unit] for number, unit in parts)


@dataclass
class Check:
    """One check of a service."""

    definition: dict[str, Any]
    status: str
    output: str = ""
    updated: float = 0.0
    critical_since: float | None = None

    @property
    def id(self) -> str:
        return str(self.definition["CheckID"])

    def set(self, status: str, output: str, now: float) -> bool:
        changed = self.status != status
        self.status, self.output, self.updated = status, output, now
        if status != "critical":
            self.critical_since = None
        elif self.critical_since is None:
            self.critical_since = now
        return changed


@dataclass
class Service:
    """One registered service."""

    definition: dict[str, Any]
    checks: dict[str, Check] = field(default_factory=dict)


@dataclass
class Faults:
    """What goes wrong, for every request unless it says otherwise."""

    status: int | None = None
    """Answered instead of anything else, with `text`."""
    text: str = "rpc error: No cluster leader"
    only: str = ""
    """Only for paths that contain this."""
    times: int | None = None
    """How many requests it hits; None: all."""
    delay: float = 0.0
    torn_after: int | None = None
    """Bytes of the body after which the connection is cut."""
    index: str | None = None
    """Sent as X-Consul-Index instead of the true one; "": the header is left out."""
    body: bytes | None = None
    """Sent instead of the true body, with status 200."""


class ConsulServer:
    """One Consul agent. `url` is where it is."""

    def __init__(self, *, speed: float = 1.0, token: str | None = None, port: int = 0) -> None:
        self.speed = speed
        self.token = token
        self.faults = Faults()
        self.index = 10
        self.kv: dict[str, tuple[bytes, int]] = {}
        self.services: dict[str, Service] = {}
        self.requests: list[tuple[str, str]] = []
        self.history: list[str] = []
        """What happened, in words: `register web-1`, `web-1:ready critical`, `deregister web-1`."""
        self._epoch = 0
        """Grows when the index goes backwards: held-back answers go out, as Consul's do when its state is replaced."""
        self._port = port
        self._changed = asyncio.Event()
        self._ready = threading.Event()

    # -- what a test does ---------------------------------------------------------------------------------------------

    def put(self, key: str, value: str | bytes) -> None:
        """Write a key."""

        def write() -> None:
            self.kv[key] = (value.encode() if isinstance(value, str) else value, self._bump())

        self._call(write)

    def delete(self, key: str) -> None:
        """Remove a key."""

        def remove() -> None:
            self.kv.pop(key, None)
            self._bump()

        self._call(remove)

    def touch(self) -> None:
        """A change that changes nothing: the index grows, and every blocking query returns."""
        self._call(lambda: self._bump() and None)

    def go_back(self, index: int = 5) -> None:
        """The index goes backwards, as after a snapshot was restored."""

        def back() -> None:
            self.index = index
            self._epoch += 1
            self._wake()

        self._call(back)

    def forget(self) -> None:
        """The agent has been started anew without its data folder: no service is known any more."""

        def clear() -> None:
            self.services.clear()
            self._bump()
            self.history.append("forget")

        self._call(clear)

    def break_down(self, **faults: Any) -> None:
        """From now on, this goes wrong; without arguments nothing does."""
        self._call(lambda: setattr(self, "faults", Faults(**faults)))

    def hurry(self, speed: float) -> None:
        """Let time go faster; what has been waiting has been waiting longer."""
        self._call(lambda: setattr(self, "speed", speed))

    def service(self, identity: str) -> dict[str, Any] | None:
        """A service as it was registered; None: there is none."""
        found = self._call(lambda: self.services.get(identity))
        return found.definition if found else None

    def status(self, identity: str) -> dict[str, str]:
        """The statuses of the checks of a service, by their IDs."""

        def read() -> dict[str, str]:
            found = self.services.get(identity)
            return {} if found is None else {check.id: check.status for check in found.checks.values()}

        return self._call(read)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # -- running ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="consul", daemon=True)
        self._thread.start()
        assert self._ready.wait(10), "the Consul of the tests did not start"

    def stop(self) -> None:
        """End it; connections are cut, and the port refuses."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        self._ready.clear()

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._changed = asyncio.Event()
        app = web.Application(middlewares=[self._misbehave])
        app.add_routes(
            [
                web.get("/v1/kv/{key:.*}", self._get_kv),
                web.put("/v1/agent/service/register", self._register),
                web.put("/v1/agent/service/deregister/{id}", self._deregister),
                web.get("/v1/agent/service/{id}", self._get_service),
                web.put("/v1/agent/check/update/{id}", self._update),
                web.get("/v1/health/service/{name}", self._health),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = runner.addresses[0][1]
        ticking = asyncio.create_task(self._tick())
        self._ready.set()
        await self._end.wait()
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
        await runner.cleanup()

    def _call(self, function: Callable[[], T]) -> T:
        """Run something in the server's loop."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    # -- state --------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return time.monotonic() * self.speed

    def _bump(self) -> int:
        self.index += 1
        self._wake()
        return self.index

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _tick(self) -> None:
        """TTLs that run out, checks that Consul makes itself, services that are taken out."""
        async with aiohttp.ClientSession() as session:
            while True:
                await asyncio.sleep(TICK)
                for identity, service in list(self.services.items()):
                    for check in list(service.checks.values()):
                        await self._look(session, check)
                        self._reap(identity, check)

    async def _look(self, session: aiohttp.ClientSession, check: Check) -> None:
        definition, now = check.definition, self._now()
        if "TTL" in definition:
            if now - check.updated > go_seconds(definition["TTL"]):
                self._set(check, "critical", "TTL expired")
        elif now - check.updated >= go_seconds(definition["Interval"]):
            status, output = await self._probe(session, definition)
            self._set(check, status, output)

    @staticmethod
    async def _probe(session: aiohttp.ClientSession, definition: dict[str, Any]) -> tuple[str, str]:
        try:
            async with asyncio.timeout(go_seconds(definition.get("Timeout", "10s"))):
                if "TCP" in definition:
                    host, _, port = definition["TCP"].rpartition(":")
                    _reader, writer = await asyncio.open_connection(host, int(port))
                    writer.close()
                    return "passing", "connected"
                async with session.get(definition["HTTP"]) as answer:
                    word = "passing" if answer.status // 100 == 2 else "critical"
                    return ("warning" if answer.status == 429 else word), f"HTTP {answer.status}"
        except (OSError, aiohttp.ClientError) as error:
            return "critical", str(error)

    def _set(self, check: Check, status: str, output: str) -> None:
        if check.set(status, output, self._now()):
            self.history.append(f"{check.id} {status}")
            self._bump()

    def _reap(self, identity: str, check: Check) -> None:
        after = check.definition.get("DeregisterCriticalServiceAfter")
        if not after or check.critical_since is None:
            return
        late = self._now() - check.critical_since > go_seconds(after)
        if late and self.services.pop(identity, None) is not None:
            self.history.append(f"reap {identity}")
            self._bump()

    # -- requests -----------------------------------------------------------------------------------------------------

    @web.middleware
    async def _misbehave(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        if self.token is not None and request.headers.get("X-Consul-Token") != self.token:
            return web.Response(status=403, text="Permission denied: token lacks permission")
        faults = self.faults
        hit = faults.only in request.path and faults.times != 0
        if not hit:
            return await handler(request)
        if faults.times is not None:
            faults.times -= 1
        await asyncio.sleep(faults.delay)
        if faults.status is not None:
            return web.Response(status=faults.status, text=faults.text)
        answer = await handler(request)
        assert isinstance(answer, web.Response)
        if faults.body is not None:
            answer = web.Response(body=faults.body, headers={"X-Consul-Index": str(self.index)})
        if faults.index is not None:
            answer.headers.popall("X-Consul-Index", None)
            if faults.index:
                answer.headers["X-Consul-Index"] = faults.index
        if faults.torn_after is not None:
            return await self._torn(request, answer, faults.torn_after)
        return answer

    @staticmethod
    async def _torn(request: web.Request, answer: web.Response, after: int) -> web.StreamResponse:
        """The head promises the whole body; then the line is cut."""
        body = answer.body
        assert isinstance(body, bytes)
        cut = web.StreamResponse(status=answer.status, headers={"Content-Length": str(len(body) + 1)})
        await cut.prepare(request)
        await cut.write(body[:after])
        assert request.transport is not None
        request.transport.abort()
        return cut

    async def _blocked(self, request: web.Request) -> None:
        """Hold the answer back until the index is beyond the one asked with, or the wait is over."""
        index = int(request.query.get("index", "0"))
        wait = min(go_seconds(request.query.get("wait", "5m")), 600)
        epoch = self._epoch
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while index and self.index <= index and self._epoch == epoch:
                    await self._changed.wait()

    def _answer(self, content: Any, status: int = 200) -> web.Response:
        return web.Response(
            status=status,
            text="" if content is None else json.dumps(content),
            headers={"X-Consul-Index": str(self.index)},
            content_type="application/json",
        )

    async def _get_kv(self, request: web.Request) -> web.Response:
        await self._blocked(request)
        key, recurse = unquote(request.match_info["key"]), "recurse" in request.query
        found = [
            {"Key": name, "Value": base64.b64encode(value).decode(), "ModifyIndex": index, "Flags": 0}
            for name, (value, index) in sorted(self.kv.items())
            if name == key or (recurse and name.startswith(key))
        ]
        return self._answer(found) if found else self._answer(None, 404)

    async def _register(self, request: web.Request) -> web.Response:
        definition = await request.json()
        identity = definition.get("ID") or definition["Name"]
        before = self.services.get(identity)
        service = Service(definition)
        for number, each in enumerate(definition.get("Checks") or ()):
            each.setdefault("CheckID", f"service:{identity}:{number + 1}")
            check = Check(each, "", updated=self._now())
            known = before.checks.get(each["CheckID"]) if before else None
            check.set(each.get("Status") or (known.status if known else "critical"), "", self._now())
            service.checks[check.id] = check
        self.services[identity] = service
        self.history.append(f"register {identity}")
        self._bump()
        return self._answer(None)

    async def _deregister(self, request: web.Request) -> web.Response:
        identity = request.match_info["id"]
        if self.services.pop(identity, None) is None:
            return web.Response(status=404, text=f'Unknown service ID "{identity}"')
        self.history.append(f"deregister {identity}")
        self._bump()
        return self._answer(None)

    async def _get_service(self, request: web.Request) -> web.Response:
        found = self.services.get(request.match_info["id"])
        if found is None:
            return web.Response(status=404, text=f"unknown service ID: {request.match_info['id']}")
        return self._answer(found.definition)

    async def _update(self, request: web.Request) -> web.Response:
        identity, update = request.match_info["id"], await request.json()
        for service in self.services.values():
            if identity in service.checks:
                assert update["Status"] in ("passing", "warning", "critical")
                self._set(service.checks[identity], update["Status"], update.get("Output", ""))
                return self._answer(None)
        return web.Response(status=404, text=f'Unknown check ID "{identity}"')

    async def _health(self, request: web.Request) -> web.Response:
        await self._blocked(request)
        tags = set(request.query.getall("tag", []))
        entries = []
        for identity, service in sorted(self.services.items()):
            definition, checks = service.definition, service.checks.values()
            passing = all(check.status == "passing" for check in checks)
            if definition["Name"] != request.match_info["name"] or not tags <= set(
                definition.get("Tags") or ()
            ):
                continue
            if "passing" in request.query and not passing:
                continue
            entries.append(
                {
                    "Node": {"Node": "n1", "Address": "10.0.0.1"},
                    "Service": {**definition, "ID": identity, "Service": definition["Name"]},
                    "Checks": [{"CheckID": check.id, "Status": check.status} for check in checks],
                }
            )
        return self._answer(entries)


@contextlib.contextmanager
def consul_server(**options: Any) -> Iterator[ConsulServer]:
    """A Consul for one test."""
    server = ConsulServer(**options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
