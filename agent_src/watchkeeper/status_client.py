"""What an agent answers at /status, as a table for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from watchkeeper.client.colours import Palette
from watchkeeper.client.transport import ADVICE
from watchkeeper.durations import format_duration
from watchkeeper.errors import AgentUnreachableError
from watchkeeper.status import AgentStatus

Row = tuple[str, ...]


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


def table(answer: bytes, palette: Palette | None = None) -> str:
    """For people: one line for the agent, then a table for each kind."""
    paint = palette or Palette()
    status = decode(answer, "this address")
    lines = [
        f"watchkeeper {status.version}  pid {status.pid}  {paint.state(status.state)}  {_readiness(status)}"
    ]
    if status.config.last_reload_error:
        lines.append(
            f"configuration: the newest was refused, generation {status.config.generation} is in force"
        )
        lines += [f"  {problem}" for problem in status.config.problems or [status.config.last_reload_error]]
    if status.config.needs_restart:
        lines.append(f"changed, and in force after a restart: {', '.join(status.config.needs_restart)}")
    for head, rows in _tables(status, paint):
        lines += ["", *_columns(head, rows)] if rows else []
    return "\n".join(lines)


def _tables(status: AgentStatus, paint: Palette) -> list[tuple[Row, list[Row]]]:
    services: list[Row] = [
        (
            service.name,
            paint.state(service.state),
            "yes" if service.ready else "no",
            str(service.pid or "-"),
            str(service.restarts),
            _next(service.next_try_in),
            _first_line(service.why),
        )
        for service in status.services
    ]
    checks: list[Row] = [
        (check.name, check.role, paint.state(check.state), _next(check.next_try_in), _first_line(check.why))
        for check in status.checks
    ]
    objects: list[Row] = [
        (each.kind, each.name, paint.state(each.state), _first_line(each.why)) for each in status.objects
    ]
    return [
        (("SERVICE", "STATE", "READY", "PID", "RESTARTS", "NEXT TRY", "WHY"), services),
        (("CHECK", "ROLE", "STATE", "NEXT LOOK", "WHY"), checks),
        (("KIND", "NAME", "STATE", "WHY"), objects),
    ]


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def _readiness(status: AgentStatus) -> str:
    return "ready" if status.ready else f"not ready: {'; '.join(status.not_ready_because)}"


def _next(seconds: float | None) -> str:
    return "-" if seconds is None else f"in {format_duration(seconds)}"


_PAINT = re.compile(r"\x1b\[[0-9]*m")


def _width(cell: str) -> int:
    return len(_PAINT.sub("", cell))


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(_width(row[index]) for row in (head, *rows)) for index in range(len(head))]
    return [
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in (head, *rows)
    ]
