"""The one way in which the agent asks others over HTTP: one pool, separate limits, answers of bounded size.

Rules:
    O1  Every request has limits for its connection, each piece of what is sent and received, and everything together; the
        last is never longer than the deadline of whoever asks (outbound/deadline.py).
    O2  However a request ends, its connection is kept for the next one or closed, and nothing else is left of it.
    O3  What a destination's configuration asks for happens in this order: bucket, instance, breaker, request, repetition.
    O4  An answer is an answer, whatever its status. Redirects are not followed.

URLs are http://, https://, or http+unix://%2Frun%2Fsome.sock/path for a Unix socket. aiohttp and ssl are imported when the
first request, or the first one that needs them, is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from watchkeeper import tracing
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.config.schema.outbound import BreakerSettings, Destination, OutboundSettings
from watchkeeper.outbound import deadline, retry
from watchkeeper.outbound.answers import Answer, Stream
from watchkeeper.outbound.balance import name_of
from watchkeeper.outbound.breaker import RefusedError
from watchkeeper.outbound.calls import Call, Limits, parse_target, shown, what
from watchkeeper.outbound.errors import OUR_OWN, Failure, RequestError
from watchkeeper.outbound.measures import Measures
from watchkeeper.outbound.outcome import Outcome, telling
from watchkeeper.outbound.routes import Discover, Route, Routes, Times
from watchkeeper.registry.instances import Instance, Static

if TYPE_CHECKING:
    import aiohttp

    from watchkeeper.faults.state import Faults
    from watchkeeper.metrics import Metrics
    from watchkeeper.outbound.breaking import Injected
    from watchkeeper.outbound.connections import Pool
    from watchkeeper.outbound.tls import Contexts

__all__ = ["Answer", "Client", "Failure", "Limits", "RequestError", "Stream", "TlsClient"]

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes of one answer that are taken."""
FINAL = OUR_OWN | {Failure.TLS, Failure.TOO_LARGE}
"""Trying again would not help."""


def nobody(_name: str) -> Static:
    """Knows no instance of anything."""
    return Static()


@dataclass
class Client:
    """One per agent. `settings` may be replaced at any time and hold for the next request."""

    settings: OutboundSettings = field(default_factory=OutboundSettings)
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    """A number from 0 to 1: jitter."""

    def __post_init__(self) -> None:
        self._pool: Pool | None = None
        self._contexts: Contexts | None = None
        self._current: Callable[[], OutboundSettings] | None = None
        self._discover: Discover = nobody
        self._faults: Faults | None = None
        self._measures = Measures(None)
        self._routes = Routes(self._route)

    def attach(
        self,
        settings: Callable[[], OutboundSettings],
        metrics: Metrics,
        discover: Discover,
        faults: Faults | None = None,
    ) -> None:
        """Become part of an agent: its settings from now on, its metrics, what its discovery finds, and its faults."""
        self._current, self._discover, self._faults = settings, discover, faults
        self._measures = Measures(metrics)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        tls: TlsClient = TlsClient(),  # noqa: B008 - frozen
        body_limit: int = BODY_LIMIT,
        repeatable: bool = False,
        key: str | None = None,
        essential: bool = False,
    ) -> Answer:
        """One request and its whole answer, of whatever status. Redirects are not followed.

        Args:
            repeatable: the caller vouches that it does no harm to make it twice, whatever its method.
            key: what a balancer of the kind hash goes by; None: as configured.
            essential: registrations and whatever else others act on: a fault that is put in on purpose has to name the host.

        Raises:
            RequestError: no connection, no answer in time, a torn or a too large one.
        """
        route, call = self._prepare(method, url, headers, body, limits, tls, essential=essential)
        chosen_by = self._key(route, call, key)
        may_repeat = repeatable or (route.retry is not None and method in route.retry.methods)
        if route.budget is not None:
            route.budget.earn()
        repetition = 0
        while True:
            answer: Answer | None = None
            error: RequestError | None = None
            try:
                answer = await self._once(route, call, chosen_by, body_limit, repetition)
            except RequestError as caught:
                error = caught
            wait = self._repeat_after(route, call, repetition, answer, error) if may_repeat else None
            if wait is None:
                if answer is None:
                    assert error is not None
                    raise error
                return answer
            self._measures.retry(route.name)
            await asyncio.sleep(wait)
            repetition += 1

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        tls: TlsClient = TlsClient(),  # noqa: B008 - frozen
        key: str | None = None,
        essential: bool = False,
    ) -> AsyncIterator[Stream]:
        """A request whose answer is read piece by piece. It is made once; a breaker judges it by its first line.

        Raises:
            RequestError: as for `request`, while it is read as well.
        """
        route, call = self._prepare(method, url, headers, body, limits, tls, essential=essential)
        instance, outcome = await self._begin(route, call, self._key(route, call, key), 0)
        with telling(outcome, call):
            left = _left(call.until)
            # 0 is no limit to aiohttp, and here it means that the time is up.
            response = await self._send(
                call, instance, outcome, total=None if left is None else max(left, 0.001)
            )
            outcome.answered(response.status)
        async with response:
            yield Stream(response, call)

    async def prepare(self, url: str, tls: TlsClient = TlsClient()) -> None:  # noqa: B008 - frozen
        """Import and make now what the first request to that URL would else be late for.

        Raises:
            RequestError: it is no URL, or its certificates cannot be used.
        """
        target = parse_target("GET", url)
        self._session(target.socket)
        if target.scheme == "https":
            await self._context(tls, None)

    async def close(self) -> None:
        """Let go of all connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def _prepare(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        limits: Limits,
        tls: TlsClient,
        *,
        essential: bool = False,
    ) -> tuple[Route, Call]:
        if self._current is not None:
            self.settings = self._current()
        target = parse_target(method, url)
        route = self._routes.find(self.settings, target.host, target.port)
        usual = route.times(self.settings)
        times = Times(
            _chosen(limits.connect, usual.connect),
            _chosen(limits.read, usual.read),
            _chosen(limits.write, usual.write),
            _chosen(limits.total, usual.total),
        )
        until = deadline.until()
        if times.total is not None:
            ends = asyncio.get_running_loop().time() + times.total
            until = ends if until is None else min(ends, until)
        if tls == TlsClient() and route.spec is not None and route.spec.tls is not None:
            tls = route.spec.tls
        return route, Call(method, target, dict(headers or {}), body, times, tls, until, essential)

    def _key(self, route: Route, call: Call, key: str | None) -> str:
        """What a ring is asked for."""
        balance = route.spec.balance if route.spec is not None else None
        if key is None and balance is not None and balance.hash_header is not None:
            wanted = balance.hash_header.lower()
            key = next((value for name, value in call.headers.items() if name.lower() == wanted), None)
        return key if key is not None else urlsplit(call.target.url).path

    async def _once(self, route: Route, call: Call, key: str, body_limit: int, repetition: int) -> Answer:
        """Make it, and read all of the answer."""
        instance, outcome = await self._begin(route, call, key, repetition)
        with telling(outcome, call):
            async with asyncio.timeout_at(call.until):
                response = await self._send(call, instance, outcome, total=None)
                async with response:
                    body = await Stream(response, call).read(body_limit)
            outcome.answered(response.status)
        return Answer(response.status, response.headers, body)

    async def _begin(
        self, route: Route, call: Call, key: str, repetition: int
    ) -> tuple[Instance | None, Outcome]:
        """Everything before the request itself (O3).

        Raises:
            RequestError: it is not made.
        """
        begun = self.clock()
        try:
            await self._wait_for_turn(route, call)
            instance = route.choose(key)
            name = name_of(instance) if instance else call.target.authority
            breaker = route.breaker(name)
            try:
                generation = breaker.allow() if breaker is not None else 0
            except RefusedError as refused:
                raise RequestError(f"{what(call)}: {refused}", Failure.REFUSED) from None
        except RequestError as error:
            self._measures.request(route.name, error.kind, self.clock() - begun)
            raise
        span = tracing.span(call.method, tracing.SpanKind.CLIENT)
        if span.recording:
            span.set("http.request.method", call.method)
            span.set("server.address", instance.host if instance else call.target.host)
            span.set("url.full", shown(call.target.url))
            if repetition:
                span.set("http.request.resend_count", repetition)
        return instance, Outcome(route, breaker, generation, begun, span)

    async def _wait_for_turn(self, route: Route, call: Call) -> None:
        left = _left(call.until)
        if left is not None and left <= 0:
            raise RequestError(f"{what(call)}: the deadline has passed", Failure.DEADLINE)
        if route.limit is not None and not await route.limit.wait(limit=left):
            raise RequestError(f"{what(call)}: over the limit of {route.name}", Failure.LIMITED)
        if route.flow is None:
            return
        turn = route.flow.reserve(_left(call.until))
        if turn is None:
            raise RequestError(f"{what(call)}: too many wait for {route.name}", Failure.LIMITED)
        await asyncio.sleep(turn)

    async def _send(
        self, call: Call, instance: Instance | None, outcome: Outcome, *, total: float | None
    ) -> aiohttp.ClientResponse | Injected:
        """The answer, once its headers are there; with a fault, there may be another one."""
        if self._faults is not None and self._faults.on:
            from watchkeeper.outbound.breaking import break_it

            injected = await break_it(self._faults, call, outcome.span)
            if injected is not None:
                return injected
        return await self._really_send(call, instance, outcome, total)

    async def _really_send(
        self, call: Call, instance: Instance | None, outcome: Outcome, total: float | None
    ) -> aiohttp.ClientResponse:
        from watchkeeper.outbound.connections import NEVER, Body  # isort: skip - it imports aiohttp without the certificates
        import aiohttp
        from yarl import URL

        headers, url = dict(call.headers), URL(call.target.url)
        options: dict[str, Any] = {}
        if instance is not None:
            headers.setdefault("Host", url.raw_authority.rpartition("@")[2])
            options["server_hostname"] = url.host
            url = url.with_host(instance.host).with_port(instance.port)
        if call.target.scheme == "https":
            options["ssl"] = await self._context(call.tls, options.get("server_hostname"))
            options["server_hostname"] = call.tls.server_name or options.get("server_hostname")
        else:
            options.pop("server_hostname", None)
        self._say_who_asks(headers, outcome)
        return await self._session(call.target.socket).request(
            call.method,
            url,
            headers=headers,
            data=None if call.body is None else Body(call.body, call.times.write),
            timeout=aiohttp.ClientTimeout(
                total=total, connect=call.times.connect, sock_read=call.times.read, ceil_threshold=NEVER
            ),
            allow_redirects=False,
            **options,
        )

    def _say_who_asks(self, headers: dict[str, str], outcome: Outcome) -> None:
        """The deadline and the trace, for the other side."""
        name, left = self.settings.deadline_header, deadline.remaining()
        if name is not None and left is not None:
            headers.setdefault(name, deadline.to_header(left))
        outcome.span.inject(headers)

    async def _context(self, tls: TlsClient, server_name: str | None) -> Any:
        if self._contexts is None:
            from watchkeeper.outbound.tls import Contexts

            self._contexts = Contexts()
        # Connections are kept by context: two names at one address must not share one.
        own = replace_name(tls, tls.server_name or server_name)
        return await self._contexts.get(own)

    def _session(self, socket: str | None) -> aiohttp.ClientSession:
        if self._pool is None:
            from watchkeeper.outbound.connections import Pool

            self._pool = Pool(lambda: (self.settings.idle_connections, self.settings.idle_timeout))
        return self._pool.session(socket)

    def _repeat_after(
        self,
        route: Route,
        call: Call,
        repetition: int,
        answer: Answer | None,
        error: RequestError | None,
    ) -> float | None:
        """Seconds before it is made again; None: it is not (rules in retry.py)."""
        settings, budget = route.retry, route.budget
        if settings is None or budget is None or repetition + 1 >= settings.attempts:
            return None
        wait = retry.delay(settings, repetition, self.chance)
        if answer is not None:
            if answer.status not in settings.statuses:
                return None
            asked = retry.retry_after(answer.headers, time.time()) or 0.0
            if asked > settings.max_retry_after:
                return None  # R3
            wait = max(wait, asked)
        elif error is None or error.kind in FINAL:
            return None
        left = _left(call.until)
        if left is not None and wait >= left:
            return None  # R4
        return wait if budget.spend() else None  # R5

    def _route(self, name: str, spec: Destination | None, breaker: BreakerSettings | None) -> Route:
        return Route(name, spec, breaker, self._measures, self._discover, self.clock, self.chance)


def replace_name(tls: TlsClient, name: str | None) -> TlsClient:
    """The same, with that server_name."""
    if tls.server_name == name:
        return tls
    import msgspec

    return msgspec.structs.replace(tls, server_name=name)


def _chosen(own: float | None, usual: float | None) -> float | None:
    return (usual if own is None else own) or None


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - asyncio.get_running_loop().time())
