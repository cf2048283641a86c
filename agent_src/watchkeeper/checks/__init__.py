"""Checks: what each kind does (one module each), and what follows from it (gate.py).

A probe looks once and says what it saw. It knows nothing of thresholds and services; `look` gives it a deadline that
holds even when the probe does not end after being cancelled.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from watchkeeper.config.schema.checks import (
    AnyCheck,
    CertificateCheck,
    DiskCheck,
    DnsCheck,
    ExecCheck,
    FileCheck,
    GrpcCheck,
    HttpCheck,
    IcmpCheck,
    MemoryCheck,
    ProcessCheck,
    TcpCheck,
)
from watchkeeper.durations import format_duration
from watchkeeper.errors import ErrorClass

RETRIES = 3
"""Looks that are made before an internal error counts as the outcome (kubernetes prober.go, maxProbeRetries)."""


class Word(enum.StrEnum):
    """What a look came to: the `outcome` of log lines and metrics, a closed list."""

    OK = "ok"
    WARNING = "warning"
    """It is as it should be, and something about it will soon not be."""
    BAD_STATUS = "bad_status"
    """It answered, or ended, with a status that says no."""
    UNREACHABLE = "unreachable"
    """There was no answer, or not a whole one: refused, no such name, silent until the deadline, torn, not understood."""
    FAILED = "failed"
    """It is there, and not as it should be."""
    ERROR = "error"
    """The look itself failed, which says nothing of the target."""


class Level(enum.IntEnum):
    """How bad it is; the numbers are those of Nagios and Datadog."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


LEVELS = {Word.OK: Level.OK, Word.WARNING: Level.WARNING, Word.ERROR: Level.UNKNOWN}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look showed. `success` is None when the probe itself was at fault, which says nothing of the target."""

    success: bool | None
    detail: str
    error_class: ErrorClass | None = None
    seconds: float = 0.0
    word: Word = Word.ERROR

    def __post_init__(self) -> None:
        if not self.detail.isascii():
            # JSON may hold half of a character ("\\ud800"). What cannot be written would silence the log and /status.
            object.__setattr__(self, "detail", self.detail.encode("utf-8", "backslashreplace").decode())
        if self.word is Word.ERROR and self.success is not None:
            object.__setattr__(self, "word", Word.OK if self.success else Word.FAILED)

    @property
    def level(self) -> Level:
        return LEVELS.get(self.word, Level.CRITICAL)


def passed(detail: str) -> Outcome:
    """The target is as it should be."""
    return Outcome(True, detail, word=Word.OK)


def warned(detail: str) -> Outcome:
    """The target is as it should be, and somebody should look at it all the same. For the verdict it has passed."""
    return Outcome(True, detail, word=Word.WARNING)


def failed(detail: str, word: Word = Word.FAILED) -> Outcome:
    """The target is not as it should be."""
    return Outcome(False, detail, ErrorClass.CHECK_FAILED, word=word)


def unreachable(detail: str) -> Outcome:
    """There was no answer, or not a whole one."""
    return failed(detail, Word.UNREACHABLE)


def unknown(detail: str) -> Outcome:
    """Nothing can be said of the target."""
    return Outcome(None, detail, ErrorClass.CHECK_INTERNAL, word=Word.ERROR)


class ProbeError(Exception):
    """The probe cannot do its work: the agent has run out of something, or may not do it. Says nothing of the target."""


class HangsError(Exception):
    """An earlier look has not come back from the system yet, so another would hang as well."""


EXHAUSTED = frozenset(
    getattr(errno, name)
    for name in ("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "WSAEMFILE", "WSAENOBUFS")
    if hasattr(errno, name)
)
"""What the system answers when this machine, and not the target, has nothing left."""


def own_fault(error: BaseException) -> bool:
    """Whether a failure is that of this machine, and says nothing of the target."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in EXHAUSTED)


def reason(error: BaseException) -> str:
    """Why a connection failed, in the operating system's words where asyncio has put others in their place."""
    if isinstance(error, OSError) and error.errno and error.errno > 0 and "SSL" not in type(error).__name__:
        return os.strerror(error.errno)
    text = (getattr(error, "strerror", None) or str(error)).strip()
    return text or type(error).__name__


Memory = dict[str, Any]
"""What a probe keeps from one look at a target to the next."""


class Probe(Protocol):
    """One kind of check."""

    async def __call__(self, spec: Any, memory: Memory, /) -> Outcome:
        """Look once. A target that refuses or cannot be reached is a failure; an exception is the probe's own fault."""


def _http() -> Probe:
    from watchkeeper.checks.http import probe

    return probe


def _tcp() -> Probe:
    from watchkeeper.checks.tcp import probe

    return probe


def _command() -> Probe:
    from watchkeeper.checks.command import probe

    return probe


def _process() -> Probe:
    from watchkeeper.checks.process import probe

    return probe


def _file() -> Probe:
    from watchkeeper.checks.file import probe

    return probe


def _disk() -> Probe:
    from watchkeeper.checks.disk import probe

    return probe


def _memory() -> Probe:
    from watchkeeper.checks.memory import probe

    return probe


def _certificate() -> Probe:
    from watchkeeper.checks.certificate import probe

    return probe


def _dns() -> Probe:
    from watchkeeper.checks.dns import probe

    return probe


def _icmp() -> Probe:
    from watchkeeper.checks.icmp import probe

    return probe


def _grpc() -> Probe:
    from watchkeeper.checks.grpc import probe

    return probe


PROBES: dict[type, Callable[[], Probe]] = {
    HttpCheck: _http,
    TcpCheck: _tcp,
    ExecCheck: _command,
    ProcessCheck: _process,
    FileCheck: _file,
    DiskCheck: _disk,
    MemoryCheck: _memory,
    CertificateCheck: _certificate,
    DnsCheck: _dns,
    IcmpCheck: _icmp,
    GrpcCheck: _grpc,
}
"""Imported when the first check of a kind is made. The imports are written out so that whatever gathers the modules of a
program sees them."""

Looker = Callable[[AnyCheck, Memory], Awaitable[Outcome]]


async def look(spec: AnyCheck, memory: Memory | None = None) -> Outcome:
    """One look, at most `spec.timeout` seconds long; never raises but for its own cancellation.

    Not asyncio.timeout: that waits for a cancelled probe to end, and a probe may hang there as well.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    over: asyncio.Future[None] = loop.create_future()

    def wake(_why: object = None) -> None:
        if not over.done():
            over.set_result(None)

    task = loop.create_task(_tries(spec, {} if memory is None else memory, started + spec.timeout))
    task.add_done_callback(wake)
    alarm = loop.call_at(started + spec.timeout, wake)
    try:
        await over
    finally:
        alarm.cancel()
        if not task.done():
            task.cancel()
    seconds = loop.time() - started
    if not task.done():
        task.add_done_callback(_retrieve)
        text = f"no answer within {format_duration(spec.timeout)}"
        return Outcome(False, text, ErrorClass.CHECK_TIMEOUT, seconds, Word.UNREACHABLE)
    if task.cancelled():
        return replace(unknown("the check itself failed: it was cancelled"), seconds=seconds)
    return replace(task.result(), seconds=seconds)


async def _tries(spec: AnyCheck, memory: Memory, deadline: float) -> Outcome:
    """Looks until one does not break off, three times at most; all of them share the deadline (the loop's clock).

    What a probe answers is the outcome, also when that is "not known": only what it raises is tried again.
    """
    clock = asyncio.get_running_loop().time
    tries = 1
    while True:
        try:
            # The first look imports the probe, and an import may lack descriptors or memory as well.
            return await PROBES[type(spec)]()(spec, memory)
        except HangsError as error:
            return Outcome(False, str(error), ErrorClass.CHECK_TIMEOUT, word=Word.UNREACHABLE)
        except ProbeError as error:
            outcome = unknown(str(error))
        except Exception as error:  # noqa: BLE001 - a defect of a probe says nothing of its target
            outcome = unknown(reason(error) if own_fault(error) else f"the check itself failed: {error!r}")
        if tries == RETRIES or clock() >= deadline:
            return outcome
        tries += 1


def _retrieve(task: asyncio.Future[Outcome]) -> None:
    """What a late probe still says is not wanted; asking for it keeps asyncio from complaining."""
    if not task.cancelled():
        task.exception()
