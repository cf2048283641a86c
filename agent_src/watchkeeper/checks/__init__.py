"""Checks: what each kind does (http.py, tcp.py, command.py) and what follows from it (gate.py).

A probe looks once and says what it saw. It knows nothing of deadlines, thresholds and services; `look` gives it a
deadline that holds even when the probe does not end after being cancelled.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from watchkeeper.config.model import AnyCheck, ExecCheck, HttpCheck, TcpCheck
from watchkeeper.durations import format_duration
from watchkeeper.errors import ErrorClass


@dataclass(frozen=True)
class Outcome:
    """What one look showed. `success` is None when the probe itself was at fault, which says nothing of the target."""

    success: bool | None
    detail: str
    error_class: ErrorClass | None = None
    seconds: float = 0.0

    @property
    def word(self) -> str:
        """For metrics: success, failure or error."""
        return {True: "success", False: "failure", None: "error"}[self.success]


def passed(detail: str) -> Outcome:
    """The target is as it should be."""
    return Outcome(True, detail)


def failed(detail: str, error_class: ErrorClass = ErrorClass.CHECK_FAILED) -> Outcome:
    """The target is not as it should be, or cannot be reached."""
    return Outcome(False, detail, error_class)


def reason(error: BaseException) -> str:
    """Why a connection failed, in the operating system's words where asyncio has put others in their place."""
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    text = (getattr(error, "strerror", None) or str(error)).strip()
    return text or type(error).__name__


class Probe(Protocol):
    """One kind of check."""

    async def __call__(self, spec: Any) -> Outcome:
        """Look once. A target that refuses or cannot be reached is a failure; an exception is the probe's own fault."""


def _http() -> Probe:
    from watchkeeper.checks.http import probe_http

    return probe_http


def _tcp() -> Probe:
    from watchkeeper.checks.tcp import probe_tcp

    return probe_tcp


def _exec() -> Probe:
    from watchkeeper.checks.command import probe_command

    return probe_command


PROBES: dict[type, Callable[[], Probe]] = {HttpCheck: _http, TcpCheck: _tcp, ExecCheck: _exec}
"""Imported when the first check of a kind is made: the client for http alone takes longer than all the rest."""

Looker = Callable[[AnyCheck], Awaitable[Outcome]]


async def look(spec: AnyCheck) -> Outcome:
    """One look, at most `spec.timeout` seconds long; never raises but for its own cancellation."""
    clock = asyncio.get_running_loop().time
    started = clock()
    task = asyncio.ensure_future(PROBES[type(spec)]()(spec))
    try:
        # Not asyncio.timeout: that waits for a cancelled probe to end, and a probe may hang there as well.
        done, _ = await asyncio.wait({task}, timeout=spec.timeout)
    finally:
        task.cancel()
    seconds = clock() - started
    if not done:
        task.add_done_callback(_retrieve)
        return Outcome(
            False, f"no answer within {format_duration(spec.timeout)}", ErrorClass.CHECK_TIMEOUT, seconds
        )
    error = None if task.cancelled() else task.exception()
    if task.cancelled() or error is not None:
        return Outcome(None, f"the check itself failed: {error!r}", ErrorClass.CHECK_INTERNAL, seconds)
    outcome = task.result()
    return Outcome(outcome.success, outcome.detail, outcome.error_class, seconds)


def _retrieve(task: asyncio.Future[Outcome]) -> None:
    """What a late probe still says is not wanted; asking for it keeps asyncio from complaining."""
    if not task.cancelled():
        task.exception()
