"""The http check: a request is answered as it should be.

As the kubelet does (kubernetes pkg/probe/http/http.go): every look opens its own connection, and a redirect to the same
host is followed. The request is written and the answer read here and not by a library, which docs/adr/0020 gives the
reasons and the numbers for.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import re
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from watchkeeper._version import __version__
from watchkeeper.checks import Memory, Outcome, Word, failed, own_fault, passed, reason, unreachable, warned
from watchkeeper.checks.answer import Expectations
from watchkeeper.checks.connect import RESOLVER, Connection, Tls, UnreachableError, connect, connect_to
from watchkeeper.checks.expiry import judge_days
from watchkeeper.checks.wire import MalformedError, Reader
from watchkeeper.config.schema.checks import HttpCheck, Redirects

PLAIN_BODY_LIMIT = 10 * 1024
"""Bytes that are read of a body that nobody asks anything of."""
REDIRECT_LIMIT = 10
PORTS = {"http": 80, "https": 443}
_UNSAFE = re.compile(r"[^!-~]")


@dataclass(frozen=True)
class Answer:
    """What came, and how the connection was."""

    reader: Reader
    certificate: bytes | None


class Plan:
    """What follows from the configuration alone; made once."""

    __slots__ = ("accepted", "body_limit", "expectations", "request", "spec", "url")

    def __init__(self, spec: HttpCheck) -> None:
        self.spec = spec
        self.url = urlsplit(spec.url)
        self.expectations = Expectations(spec)
        self.body_limit = spec.body_limit if self.expectations.of_body else PLAIN_BODY_LIMIT
        self.request = request(spec, self.url, credentials=True)
        self.accepted = accepted(spec.status)


@functools.lru_cache(maxsize=256)
def accepted(items: tuple[int | str, ...]) -> frozenset[int]:
    """The statuses that are a success. Checks share them: a set of two hundred takes 8 KB."""
    if not items:
        return frozenset(range(200, 400))
    ends = [str(item).partition("-") for item in items]
    return frozenset(status for low, _, high in ends for status in range(int(low), int(high or low) + 1))


def request(spec: HttpCheck, url: SplitResult, *, credentials: bool) -> bytes:
    """The request; without credentials it has neither ours nor headers that usually carry some."""
    headers = {
        "Host": _authority(url),
        "User-Agent": f"watchkeeper/{__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if spec.method in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = "0"
    if spec.basic_auth is not None:
        pair = f"{spec.basic_auth.username}:{spec.basic_auth.password}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    if spec.bearer_token is not None:
        headers["Authorization"] = f"Bearer {spec.bearer_token}"
    known = {name.lower(): name for name in headers}
    for name, value in spec.headers.items():
        headers[known.get(name.lower(), name)] = value
    if not credentials:
        kept_back = ("authorization", "cookie", "proxy-authorization", "host")
        headers = {name: value for name, value in headers.items() if name.lower() not in kept_back} | {
            "Host": _authority(url)
        }
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    target = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), target)
    lines = [f"{spec.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def _authority(url: SplitResult) -> str:
    """Host and port as the network has them: a name in other letters is xn--... there."""
    return url.netloc if url.netloc.isascii() else url.netloc.encode("idna").decode()


async def probe(spec: HttpCheck, memory: Memory) -> Outcome:
    """Ask once; the deadline is the caller's."""
    plan: Plan | None = memory.get("plan")
    if plan is None:
        plan = memory["plan"] = Plan(spec)
    started = time.monotonic()
    try:
        return await _follow(plan, started)
    except UnreachableError as error:
        return unreachable(f"{spec.url}: {error}")
    except MalformedError as error:
        return unreachable(f"{spec.url}: {error}")
    except OSError as error:
        if own_fault(error):
            raise
        return unreachable(f"{spec.url}: {reason(error)}")


async def _follow(plan: Plan, started: float) -> Outcome:
    """The answer, behind as many redirects as may be followed."""
    spec, url, data = plan.spec, plan.url, plan.request
    for _ in range(REDIRECT_LIMIT):
        answer = await _ask(plan, url, data)
        status = answer.reader.status
        location = answer.reader.headers.get("location")
        if not 300 <= status < 400 or location is None or (spec.status and status in plan.accepted):
            return _judge(plan, answer, started)
        target = _target(url, location)
        same = target is not None and target.hostname == plan.url.hostname
        if spec.redirects is Redirects.NONE or (spec.redirects is Redirects.SAME_HOST and not same):
            return _judge(plan, answer, started, elsewhere=not same and spec.redirects is not Redirects.NONE)
        if target is None:
            return failed(
                f"{spec.url}: it redirects to {location[:200]!r}, which is no address", Word.BAD_STATUS
            )
        url = target
        data = request(spec, url, credentials=_trusted(plan.url, url))
    return failed(f"{spec.url}: more than {REDIRECT_LIMIT} redirects", Word.BAD_STATUS)


def _trusted(first: SplitResult, target: SplitResult) -> bool:
    """Whether credentials go along: to the same server, and never from https to http. Another port is somebody else."""
    if first.hostname != target.hostname:
        return False
    ports = [each.port or PORTS[each.scheme] for each in (first, target)]
    upgrade = (first.scheme, target.scheme, *ports) == ("http", "https", 80, 443)
    return upgrade or (first.scheme == target.scheme and ports[0] == ports[1])


def _target(url: SplitResult, location: str) -> SplitResult | None:
    try:
        target = urlsplit(urljoin(url.geturl(), location))
        known = target.scheme in PORTS and target.hostname and (target.port is None or target.port > 0)
    except ValueError:
        return None
    return target if known and "@" not in target.netloc and target.netloc.isascii() else None


async def _ask(plan: Plan, url: SplitResult, data: bytes) -> Answer:
    """One request and its answer, over a connection of its own."""
    spec = plan.spec
    host, port = url.hostname or "", url.port or PORTS[url.scheme]
    tls = Tls(spec.tls, host, ("http/1.1",)) if url.scheme == "https" else None
    if spec.unix_socket is not None:
        connection = await connect(f"unix:{spec.unix_socket}", tls, spec.timeout)
    else:
        connection = await connect_to(await RESOLVER.addresses(host, port), tls, spec.timeout)
    try:
        return await _exchange(
            connection, data, Reader(head_only=spec.method == "HEAD", limit=plan.body_limit)
        )
    finally:
        connection.close()


async def _exchange(connection: Connection, data: bytes, reader: Reader) -> Answer:
    await connection.send(data)
    while not reader.done:
        received = await connection.receive()
        if received:
            reader.feed(received)
            # A server that sends faster than is read never lets the loop go.
            if not reader.done:
                await asyncio.sleep(0)
        else:
            reader.end()
    return Answer(reader, connection.certificate)


def _judge(plan: Plan, answer: Answer, started: float, *, elsewhere: bool = False) -> Outcome:
    spec, reader = plan.spec, answer.reader
    said = f"status {reader.status}"
    if reader.status not in plan.accepted:
        return failed(f"{spec.url}: {said}", Word.BAD_STATUS)
    wrong = plan.expectations.wrong(reader)
    if wrong is not None:
        return failed(f"{spec.url}: {said}, but {wrong}")
    if answer.certificate is not None and (spec.certificate_days, spec.certificate_warn_days) != (None, None):
        outcome = judge_days(
            answer.certificate, spec.certificate_days or 0.0, spec.certificate_warn_days or 0.0
        )
        if outcome.word is not Word.OK:
            return Outcome(
                outcome.success, f"{spec.url}: {outcome.detail}", outcome.error_class, word=outcome.word
            )
        said = f"{said}, {outcome.detail}"
    seconds = time.monotonic() - started
    if spec.max_seconds is not None and seconds > spec.max_seconds:
        return warned(f"{spec.url}: {said} after {seconds:.3f} s")
    if elsewhere and not spec.status:
        # The kubelet calls this a warning, and a success.
        return warned(f"{spec.url}: {said}, a redirect to another host, which is not followed")
    return passed(said)
