"""The one server behind all listeners: from a request to an answer, in the order in which this module says it.

    route → is the name one of ours? → role → rate → body → fault → handler within its limit → headers, counted

Everything a client did wrong is a Refusal; everything else that fails is a defect, logged with its traceback and answered
with 500 and nothing of the reason.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from typing import cast

from watchkeeper import tracing
from watchkeeper.config.schema.listeners import Access, ListenerLimits
from watchkeeper.endpoints import answers, web
from watchkeeper.endpoints.answers import Refusal
from watchkeeper.endpoints.connection import Connection, Places
from watchkeeper.endpoints.peers import Peer
from watchkeeper.endpoints.routes import Route, find
from watchkeeper.endpoints.site import Call, Site
from watchkeeper.errors import ErrorClass
from watchkeeper.limits import TokenBucket
from watchkeeper.logs import get_logger
from watchkeeper.outbound.deadline import of_request

journal = get_logger("endpoints")

BUCKETS = 1024
"""Clients whose rate is remembered; of more the one that was quiet for longest is forgotten, and starts anew."""
UNKNOWN = "other"


class Endpoints:
    """The server. Listeners make its connections."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._server: web.Server | None = None
        self._buckets: OrderedDict[tuple[str, str], TokenBucket] = OrderedDict()
        metrics = site.context.metrics
        self._requests = metrics.counter(
            "http_requests_total",
            "Requests that were answered, by path, method and status.",
            *("path", "method", "status"),
        )
        self._duration = metrics.histogram(
            "http_request_duration_seconds", "From the head of a request to its answer.", "path"
        )
        self._dropped = metrics.counter(
            "http_connections_dropped_total", "Connections that were ended by the agent.", "reason"
        )

    def places(self, limits: ListenerLimits) -> Places:
        """For the connections of one listener."""
        return Places(limits, lambda reason: self._dropped.labels(reason).inc())

    def connection(self, places: Places, peer: Peer, listener: str) -> Connection:
        """The protocol of one connection."""
        if self._server is None:
            # Who has gone does not want his answer: what is done for him ends.
            self._server = web.Server(self._handle, handler_cancellation=True)
        return Connection(self._server, places, peer, listener)

    async def close(self, limit: float) -> None:
        """Let requests in flight end within `limit` seconds; what is left then is cut."""
        if self._server is not None:
            self._server.pre_shutdown()
            await self._server.shutdown(limit)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # tracestate may come in several headers, which are one list; a second traceparent makes the first one worthless.
        def whole(name: str) -> str:
            return ",".join(request.headers.getall(name, ()))

        with tracing.served(request.method, whole) as span:
            answer = await self._handle_in_trace(request)
            if span.recording:
                span.set("http.request.method", request.method)
                span.set("url.path", request.path)
                span.set("http.response.status_code", answer.status)
                if answer.status >= 500:  # semantic conventions for HTTP: a server's span fails of 5xx alone
                    span.fail(str(answer.status))
            return answer

    async def _handle_in_trace(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast("Connection", request.protocol)
        connection.begin()
        started = time.perf_counter()
        route: Route | None = None
        try:
            route, rest = find(request.method, request.rel_url.raw_path)
            answer = await self._answer(request, connection, route, rest)
        except Refusal as refusal:
            answer = refusal.answer()
        except TimeoutError:
            answer = Refusal(503, "the answer took too long", "Try again.").answer()
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect in one page must not end the others
            self.site.context.metrics.error(ErrorClass.INTERNAL)
            journal.crash(f"{request.method} {request.path} failed: {error}", error_class=ErrorClass.INTERNAL)
            answer = Refusal(500, "a defect in the agent; its log says more").answer()
        finally:
            connection.end()
        if not answer.prepared:
            if connection.outdated():
                answer.force_close()
            for name, value in answers.COMMON.items():
                answer.headers.setdefault(name, value)
        path = route.name if route else UNKNOWN
        method = request.method if route else UNKNOWN  # a client could else make series without end
        self._requests.labels(path, method, str(answer.status)).inc()
        self._duration.labels(path).observe(time.perf_counter() - started)
        return answer

    async def _answer(
        self, request: web.BaseRequest, connection: Connection, route: Route, rest: tuple[str, ...]
    ) -> web.StreamResponse:
        limits = connection.places.limits
        peer = connection.peer.with_authorization(request.headers.get("Authorization"))
        _check_host(request, peer)
        _check_certificate(peer, route)
        _check_role(peer, route)
        self._check_rate(connection, peer, route, limits)
        if route.method != "GET":
            _check_origin(request)
        async with (
            asyncio.timeout(None if route.endless else limits.request_timeout),
            of_request(request.headers.get),
        ):
            body = await _body(request, limits.body) if route.method != "GET" else b""
            if self.site.context.faults.on:
                from watchkeeper.endpoints.breaking import break_it

                await break_it(self.site.context.faults, request, peer)
            return await route.handler(Call(self.site, request, peer, rest, body))

    def _check_rate(self, connection: Connection, peer: Peer, route: Route, limits: ListenerLimits) -> None:
        """429 with Retry-After; programs of this machine only where they change something, probes never."""
        changes = route.method != "GET"
        if route.probe and route.needs is Access.UNTRUSTED:
            return
        if peer.local and not changes and not limits.limit_local:
            return
        key = connection.listener, peer.who
        bucket = self._buckets.pop(key, None)
        if bucket is None or (bucket.rate, bucket.burst) != (limits.rate, limits.burst):
            bucket = TokenBucket(limits.rate, limits.burst, asyncio.get_running_loop().time)
        self._buckets[key] = bucket
        while len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        if not bucket.allow():
            wait = max(1, round(bucket.delay() + 0.5))
            raise Refusal(
                429,
                f"more than {limits.rate:g} requests per second",
                f"Come back in {wait} s.",
                headers={"Retry-After": str(wait)},
            )


def _check_certificate(peer: Peer, route: Route) -> None:
    """A listener that wants certificates gives nothing to who has none, but for the paths that it makes an exception of."""
    if peer.exempt is not None and route.path not in peer.exempt:
        raise Refusal(
            403,
            "this listener wants a certificate, of somebody who may come here",
            "Show one that tls.ca_file vouches for and that tls.spiffe names.",
        )
    if peer.identity is not None and peer.identity.expires < time.time():
        raise Refusal(
            403,
            "the certificate of this connection has ended",
            "Connect again with a newer one.",
            close=True,
        )


def _check_role(peer: Peer, route: Route) -> None:
    if route.path.startswith("/debug/"):
        if not peer.local:
            raise Refusal(403, f"{route.path} is for programs of this machine")
        if peer.debug:
            return
    if peer.role.includes(route.needs):
        return
    anonymous = peer.identity is None and peer.token is not None
    raise Refusal(
        401 if anonymous else 403,
        f"{route.path} wants the role {route.needs}; {peer.who} has {peer.role}",
        "Use the Unix socket of the agent, or a listener whose `peers` or `role` give you that.",
        headers={"WWW-Authenticate": 'Bearer realm="watchkeeper"'} if anonymous else None,
    )


def _check_host(request: web.BaseRequest, peer: Peer) -> None:
    """A page of somebody else whose name was pointed here (DNS rebinding) asks under that name; people do not."""
    if peer.hosts is None or "*" in peer.hosts:
        return
    host = request.headers.get("Host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").rstrip(".").lower()
    if name in ("", "localhost", *peer.hosts) or name.endswith(".localhost"):
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise Refusal(
            421,
            f"this agent is not called {name[:100]!r}",
            "Use localhost or its address, or a listener with `hosts`.",
        ) from None


def _check_origin(request: web.BaseRequest) -> None:
    """A page of somebody else must not use what its reader's browser may do here."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
        raise Refusal(403, "orders do not come from the page of another site", "Send no Origin.")


async def _body(request: web.BaseRequest, limit: int) -> bytes:
    """The body, whole.

    Raises:
        Refusal: it is longer than `limit` bytes (413).
    """
    parts, size = [], 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > limit:
            raise Refusal(413, f"the body is longer than {limit} bytes")
        parts.append(part)
    return b"".join(parts)
