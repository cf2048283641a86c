"""What `watchkeeper status` does: ask a running agent, and lay out its answer. Neither asyncio nor aiohttp is needed."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence

import msgspec

from watchkeeper.durations import format_duration
from watchkeeper.errors import AgentUnreachableError
from watchkeeper.status import AgentStatus

TIMEOUT = 5.0
ADVICE = "Start it with `watchkeeper run --config FILE`, or name its address with --url http://HOST:PORT."


def fetch(url: str) -> bytes:
    """The agent's /status.

    Raises:
        AgentUnreachableError: nobody answers, or somebody else does.
    """
    base = url.rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise AgentUnreachableError(f"{url!r} is not an http address", "Write --url http://HOST:PORT.")
    # A proxy from the environment has no business between this program and an agent.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{base}/status", timeout=TIMEOUT) as response:
            answer: bytes = response.read()
    except urllib.error.HTTPError as error:
        error.close()
        raise AgentUnreachableError(
            f"{base} answers with status {error.code}: not an agent", ADVICE
        ) from None
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise AgentUnreachableError(f"no agent answers at {base}: {reason}", ADVICE) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise AgentUnreachableError(
            f"no agent answers at {base}: {str(error) or type(error).__name__}", ADVICE
        ) from None
    decode(answer, base)
    return answer


def decode(answer: bytes, url: str) -> AgentStatus:
    """The answer as structs.

    Raises:
        AgentUnreachableError: it is something else.
    """
    try:
        return msgspec.json.decode(answer, type=AgentStatus)
    except msgspec.MsgspecError:
        raise AgentUnreachableError(
            f"what answers at {url} is not an agent of this version", ADVICE
        ) from None


def table(answer: bytes) -> str:
    """For people: one line for the agent, one per service, one per check."""
    status = decode(answer, "this address")
    lines = [f"watchkeeper {status.version}  pid {status.pid}  {status.state}  {_readiness(status)}"]
    if status.config.last_reload_error:
        lines.append(
            f"configuration: the newest was refused, generation {status.config.generation} is in force"
        )
        lines += [f"  {problem}" for problem in status.config.problems or [status.config.last_reload_error]]
    services = [
        (
            service.name,
            service.state,
            "yes" if service.ready else "no",
            str(service.pid or "-"),
            str(service.restarts),
            _next(service.next_try_in),
            service.why,
        )
        for service in status.services
    ]
    checks = [
        (
            check.name,
            check.role,
            check.state,
            _next(check.next_try_in),
            check.why.splitlines()[0] if check.why else "",
        )
        for check in status.checks
    ]
    if services:
        lines += [
            "",
            *_columns(("SERVICE", "STATE", "READY", "PID", "RESTARTS", "NEXT TRY", "WHY"), services),
        ]
    if checks:
        lines += ["", *_columns(("CHECK", "ROLE", "STATE", "NEXT LOOK", "WHY"), checks)]
    return "\n".join(lines)


def _readiness(status: AgentStatus) -> str:
    return "ready" if status.ready else f"not ready: {'; '.join(status.not_ready_because)}"


def _next(seconds: float | None) -> str:
    return "-" if seconds is None else f"in {format_duration(seconds)}"


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
