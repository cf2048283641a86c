"""`watchkeeper load`: what is asked for, whether it may be, and the requests themselves."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from watchkeeper.config.schema.common import TlsClient
from watchkeeper.config.schema.outbound import OutboundSettings
from watchkeeper.errors import AgentError, ErrorClass, ExitCode
from watchkeeper.load.core import Load, Plan, Result, Send, Sent
from watchkeeper.outbound.calls import parse_target
from watchkeeper.outbound.client import Client, Limits, RequestError

MOST_QPS = 100_000.0
MOST_SENDERS = 1000
BODY_LIMIT = 64 * 1024 * 1024


class LoadError(AgentError):
    """What was asked for cannot be done, or is not allowed."""

    exit_code = ExitCode.USAGE
    error_class = ErrorClass.CONFIG_INVALID


@dataclass(frozen=True)
class Request:
    """What is sent each time."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    tls: TlsClient = field(default_factory=TlsClient)


def make_plan(qps: float, duration: float, concurrency: int | None, timeout: float) -> Plan:
    """The plan; without a number of senders there are enough for a second without an answer.

    Raises:
        LoadError: a number is none that can be done.
    """
    if not 0 < qps <= MOST_QPS:
        raise LoadError(f"--qps is more than 0 and at most {MOST_QPS:g}", "Ask for another rate.")
    if concurrency is not None and not 1 <= concurrency <= 100_000:
        raise LoadError("--concurrency is a number from 1 to 100000", "Ask for another number.")
    senders = concurrency or max(10, min(MOST_SENDERS, round(qps)))
    return Plan(qps, duration, senders, timeout)


def make_request(
    method: str,
    url: str,
    headers: Sequence[str],
    body: str | None,
    *,
    insecure: bool = False,
    ca_file: str | None = None,
    allow_remote: bool = False,
) -> Request:
    """The request.

    Args:
        headers: each NAME: VALUE.
        body: text, or @FILE.

    Raises:
        LoadError: it cannot be sent, or must not be.
    """
    try:
        target = parse_target(method, url)
    except RequestError as error:
        raise LoadError(str(error), "Write http://127.0.0.1:8080/path.") from None
    if target.socket is None and not allow_remote and not is_loopback(target.host):
        raise LoadError(
            f"{target.host} is not this machine",
            "A load is an attack on whoever did not ask for it; --allow-remote says that he has.",
        )
    pairs = [header.partition(":") for header in headers]
    if any(not separator or not name.strip() for name, separator, _ in pairs):
        raise LoadError("a header is written NAME: VALUE", "For example --header 'Accept: text/plain'.")
    found = {name.strip(): value.strip() for name, _, value in pairs}
    tls = TlsClient(verify=not insecure, ca_file=ca_file)
    return Request(method.upper(), url, found, _body(body), tls)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for certain; a name could be anybody's by the time that it is used."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def _body(text: str | None) -> bytes | None:
    if text is None or not text.startswith("@"):
        return None if text is None else text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise LoadError(
            f"{text[1:]} cannot be read: {error.strerror}", "--body takes a text, or @FILE."
        ) from None


def run(plan: Plan, request: Request) -> Result:
    """Do it. Ctrl-C ends it early, and what was measured until then is the result."""
    return asyncio.run(_run(plan, request))


async def _run(plan: Plan, request: Request) -> Result:
    settings = OutboundSettings(idle_connections=min(1000, plan.concurrency), idle_timeout=60.0)
    client = Client(settings)
    try:
        await client.prepare(request.url, request.tls)
        load = Load(plan, sender(client, request, plan.timeout))
        with _interrupting(load):
            return await load.run()
    except RequestError as error:
        raise LoadError(str(error), "Look at the certificates.") from None
    finally:
        await client.close()


def sender(client: Client, request: Request, timeout: float) -> Send:
    """What makes one request."""
    limits = Limits(connect=timeout, read=timeout, total=timeout, write=timeout)

    async def send() -> Sent:
        try:
            answer = await client.request(
                request.method,
                request.url,
                headers=request.headers,
                body=request.body,
                limits=limits,
                tls=request.tls,
                body_limit=BODY_LIMIT,
            )
        except RequestError as error:
            return Sent(error=error.kind.value)
        return Sent(answer.status, f"status_{answer.status // 100}xx" if answer.status >= 400 else None)

    return send


@contextlib.contextmanager
def _interrupting(load: Load) -> Iterator[None]:
    """The first Ctrl-C stops the load; a second one the program. signal.signal works on Windows as well."""
    loop = asyncio.get_running_loop()

    def stop(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        loop.call_soon_threadsafe(load.stop)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
