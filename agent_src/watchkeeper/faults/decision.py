"""Which fault a request gets. Pure: the same request, settings and number between 0 and 1 give the same answer.

Rules:
    F1  What is never broken: /livez, /readyz, /health, /metrics, /control and what is below it.
    F2  paths, methods and trace_ids are lists of what may be broken; an empty one allows everything.
    F3  With `X-Chaos-Enabled: true`, and where headers count, the headers decide and no rule does: X-Chaos-Delay
        (milliseconds), X-Chaos-Abort (a status), X-Chaos-Reset (true), X-Chaos-CPU (milliseconds), X-Chaos-Percent. A header
        that means nothing is an error of its sender, who is told.
    F4  Otherwise the first rule that means the request decides.
    F5  Whatever asks, max_delay, max_cpu and max_percent cap it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from watchkeeper.config.schema.faults import FaultRule, FaultSettings, Side

ENABLED, DELAY, ABORT = "X-Chaos-Enabled", "X-Chaos-Delay", "X-Chaos-Abort"
RESET, CPU, PERCENT = "X-Chaos-Reset", "X-Chaos-CPU", "X-Chaos-Percent"
INJECTED = "X-Chaos-Injected"
"""The header of an answer that says what was done to it."""
NEVER = ("/livez", "/readyz", "/health", "/metrics", "/control")


class ChaosHeaderError(ValueError):
    """A header asks for something that there is not: one sentence."""


@dataclass(frozen=True)
class Subject:
    """One request. `header` looks a name up without regard to case."""

    side: Side
    method: str
    path: str
    host: str = ""
    """HOST:PORT of a request that the agent makes."""
    trace_id: str = ""
    header: Callable[[str], str | None] = field(default=lambda _name: None)
    trusted: bool = True
    """Whether who sent the headers may ask for a fault."""


@dataclass(frozen=True)
class Fault:
    """What is done to it; delay and cpu are seconds."""

    delay: float = 0.0
    abort: int | None = None
    reset: bool = False
    cpu: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.delay or self.abort or self.reset or self.cpu)

    def __str__(self) -> str:
        parts = {
            "delay": f"{self.delay * 1000:.0f}" if self.delay else "",
            "cpu": f"{self.cpu * 1000:.0f}" if self.cpu else "",
            "abort": str(self.abort or ""),
            "reset": "true" if self.reset else "",
        }
        return ", ".join(f"{name}={value}" for name, value in parts.items() if value)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The words of metrics."""
        found = {"delay": self.delay, "cpu": self.cpu, "abort": self.abort, "reset": self.reset}
        return tuple(name for name, value in found.items() if value)


NOTHING = Fault()


def decide(settings: FaultSettings, subject: Subject, chance: float) -> Fault:
    """The fault of a request, NOTHING for most.

    Args:
        settings: those of a section that is in force.
        subject: the request.
        chance: from 0 up to, but not including, 1.

    Raises:
        ChaosHeaderError: its headers ask for nonsense.
    """
    if not settings.enabled or never(subject.path) or not _in_scope(settings, subject):
        return NOTHING
    if settings.headers and subject.trusted and _is_true(subject.header(ENABLED)):
        fault, percent = _of_headers(subject.header)
    else:
        rule = next((rule for rule in settings.rules if _means(rule, subject)), None)
        if rule is None:
            return NOTHING
        fault, percent = Fault(rule.delay, rule.abort, rule.reset, rule.cpu), rule.percent
    if chance * 100 >= min(percent, settings.max_percent):
        return NOTHING
    delay, cpu = min(fault.delay, settings.max_delay), min(fault.cpu, settings.max_cpu)
    return Fault(delay, fault.abort, fault.reset, cpu)  # F5


def by_name(settings: FaultSettings, subject: Subject) -> bool:
    """Whether the rule that decides about a request of the agent names its host: nothing less breaks a registration."""
    rule = next((rule for rule in settings.rules if _means(rule, subject)), None)
    return rule is not None and bool(rule.hosts)


def never(path: str) -> bool:
    """F1."""
    return any(path == each or path.startswith(each + "/") for each in NEVER)


def _in_scope(settings: FaultSettings, subject: Subject) -> bool:
    """F2."""
    return (
        _among(subject.path, settings.paths)
        and (not settings.methods or subject.method in settings.methods)
        and (not settings.trace_ids or subject.trace_id in settings.trace_ids)
    )


def _means(rule: FaultRule, subject: Subject) -> bool:
    return (
        rule.side is subject.side
        and _among(subject.path, rule.paths)
        and (not rule.methods or subject.method in rule.methods)
        and (not rule.hosts or subject.host in rule.hosts or subject.host.rpartition(":")[0] in rule.hosts)
    )


def _among(path: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(path, pattern) for pattern in patterns)


def _of_headers(header: Callable[[str], str | None]) -> tuple[Fault, float]:
    """F3."""
    abort = _number(header, ABORT, 400, 599)
    reset = _is_true(header(RESET))
    if abort is not None and reset:
        raise ChaosHeaderError(f"{ABORT} and {RESET} do not go together: a torn connection has no status")
    delay, cpu = _number(header, DELAY, 0, 3_600_000), _number(header, CPU, 0, 60_000)
    percent = _number(header, PERCENT, 0, 100)
    fault = Fault((delay or 0) / 1000, abort, reset, (cpu or 0) / 1000)
    return fault, 100.0 if percent is None else float(percent)


def _number(header: Callable[[str], str | None], name: str, low: int, high: int) -> int | None:
    word = header(name)
    if word is None:
        return None
    word = word.strip()
    if not (word.isascii() and word.isdigit() and len(word) < 9 and low <= int(word) <= high):
        raise ChaosHeaderError(f"{name} is a whole number from {low} to {high}, not {word[:40]!r}")
    return int(word)


def _is_true(word: str | None) -> bool:
    return word is not None and word.strip().lower() == "true"


def trace_id_of(traceparent: str | None) -> str:
    """The trace id of a `traceparent` header (W3C Trace Context, 3.2.2); "" without one."""
    parts = (traceparent or "").strip().split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else ""


def lookup(headers: Mapping[str, str]) -> Callable[[str], str | None]:
    """A function for `Subject.header` from headers whose names have any case."""
    lower = {name.lower(): value for name, value in headers.items()}
    return lambda name: lower.get(name.lower())
