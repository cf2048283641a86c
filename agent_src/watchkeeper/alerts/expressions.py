"""What a rule makes of series: a vector of values beyond the threshold, and the same in PromQL.

Each kind of rule says which series it needs and how a vector comes out of them; `by` and the comparison are the same for
all. Two forms of one rule stand beside each other here, and the tests give both the same scenarios.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from watchkeeper.alerts.anomaly import Detectors
from watchkeeper.alerts.functions import divide, quantile, rate
from watchkeeper.alerts.series import History, Labels, Selector, Vector, read
from watchkeeper.config.schema.alerts import (
    AlertSpec,
    AnomalyAlert,
    AverageAlert,
    Operator,
    QuantileAlert,
    RateAlert,
    ThresholdAlert,
)
from watchkeeper.metrics import Metrics
from watchkeeper.metrics.values import number

COMPARE: dict[Operator, Callable[[float, float], bool]] = {
    Operator.ABOVE: operator.gt,
    Operator.AT_LEAST: operator.ge,
    Operator.BELOW: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.EQUAL: operator.eq,
    Operator.UNEQUAL: operator.ne,
}
SCORE = "watchkeeper_alerts_anomaly_score"


class Form(Protocol):
    """One kind of rule. `histories` are those of its selectors, in their order."""

    def selectors(self, spec: Any) -> list[Selector]:
        """The series that it needs."""

    def window(self, spec: Any) -> float:
        """Seconds of them that it needs; 0: the present."""

    def vector(self, spec: Any, histories: list[History], now: float) -> Vector:
        """What it makes of them, before the comparison."""

    def promql(self, spec: Any) -> str:
        """The same, for Prometheus."""


class Expression:
    """One rule and what it remembers."""

    def __init__(self, spec: AlertSpec, limit: int, *, name: str = "", left_open: bool = True) -> None:
        self.spec = spec
        form: Form = _Anomaly(spec, name) if isinstance(spec, AnomalyAlert) else FORMS[type(spec)]
        self._form = form
        self._selectors = form.selectors(spec)
        window = form.window(spec)
        self._histories = [History(window, limit, left_open=left_open) for _ in self._selectors]

    def look(self, metrics: Metrics, now: float) -> None:
        """Remember what the registry says now."""
        self.remember(now, [list(read(metrics, selector)) for selector in self._selectors])

    def remember(self, now: float, samples: Iterable[Iterable[tuple[Labels, float]]]) -> None:
        """Remember samples, one list for each selector."""
        for history, found in zip(self._histories, samples, strict=True):
            history.add(now, found)

    @property
    def selectors(self) -> list[Selector]:
        return self._selectors

    @property
    def dropped(self) -> int:
        """Looks at series beyond the limit."""
        return sum(history.dropped for history in self._histories)

    @property
    def remembered(self) -> int:
        """Series that are remembered."""
        return sum(map(len, self._histories))

    def values(self, now: float) -> Vector:
        """Every series of the rule with what it makes of it."""
        return self._form.vector(self.spec, self._histories, now)

    def beyond(self, values: Vector) -> Vector:
        """Those for which the condition holds."""
        compare, threshold = COMPARE[self.spec.op], self.spec.threshold
        return {labels: value for labels, value in values.items() if compare(value, threshold)}

    def promql(self) -> str:
        return f"{self._form.promql(self.spec)} {self.spec.op} {number(self.spec.threshold)}"


def grouped(vector: Vector, by: tuple[str, ...] | None, keep: tuple[str, ...] = ()) -> Vector:
    """The sum of what has these labels in common; a missing label is none."""
    if by is None:
        return vector
    wanted = {*by, *keep}
    found: Vector = {}
    for labels, value in vector.items():
        key = tuple((name, text) for name, text in labels if name in wanted and text)
        found[key] = found[key] + value if key in found else value
    return found


def rates(history: History, now: float) -> Vector:
    """The rate of every series in the window."""
    found = ((labels, rate(points, now - history.window, now)) for labels, points in history.windows(now))
    return {labels: value for labels, value in found if value is not None}


def _matchers(match: Mapping[str, str]) -> str:
    quoted = (f"{name}={_quoted(value)}" for name, value in sorted(match.items()))
    return f"{{{','.join(quoted)}}}" if match else ""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def prometheus_duration(seconds: float) -> str:
    """As PromQL has it: whole units, the largest that fits."""
    milliseconds = round(seconds * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def _sum(spec: AlertSpec, inner: str, keep: str = "") -> str:
    if spec.by is None:
        return inner
    labels = ", ".join(filter(None, (*sorted(spec.by), keep)))
    return f"sum by ({labels}) ({inner})"


def _rate(spec: Any, suffix: str = "") -> str:
    return f"rate({spec.metric}{suffix}{_matchers(spec.match)}[{prometheus_duration(spec.window)}])"


class _Threshold:
    def selectors(self, spec: ThresholdAlert) -> list[Selector]:
        return [Selector(spec.metric, spec.match)]

    def window(self, _spec: ThresholdAlert) -> float:
        return 0.0

    def vector(self, spec: ThresholdAlert, histories: list[History], _now: float) -> Vector:
        return grouped(histories[0].present(), spec.by)

    def promql(self, spec: ThresholdAlert) -> str:
        return _sum(spec, f"{spec.metric}{_matchers(spec.match)}")


class _Rate:
    def selectors(self, spec: RateAlert) -> list[Selector]:
        return [Selector(spec.metric, spec.match)]

    def window(self, spec: RateAlert) -> float:
        return spec.window

    def vector(self, spec: RateAlert, histories: list[History], now: float) -> Vector:
        return grouped(rates(histories[0], now), spec.by)

    def promql(self, spec: RateAlert) -> str:
        return _sum(spec, _rate(spec))


class _Average:
    def selectors(self, spec: AverageAlert) -> list[Selector]:
        return [Selector(f"{spec.metric}{suffix}", spec.match) for suffix in ("_sum", "_count")]

    def window(self, spec: AverageAlert) -> float:
        return spec.window

    def vector(self, spec: AverageAlert, histories: list[History], now: float) -> Vector:
        sums, counts = (grouped(rates(history, now), spec.by) for history in histories)
        return {labels: divide(sums[labels], counts[labels]) for labels in sums if labels in counts}

    def promql(self, spec: AverageAlert) -> str:
        return f"{_sum(spec, _rate(spec, '_sum'))} / {_sum(spec, _rate(spec, '_count'))}"


class _Quantile:
    def selectors(self, spec: QuantileAlert) -> list[Selector]:
        return [Selector(f"{spec.metric}_bucket", spec.match)]

    def window(self, spec: QuantileAlert) -> float:
        return spec.window

    def vector(self, spec: QuantileAlert, histories: list[History], now: float) -> Vector:
        buckets: dict[Labels, list[tuple[float, float]]] = {}
        for labels, value in grouped(rates(histories[0], now), spec.by, ("le",)).items():
            rest = tuple(pair for pair in labels if pair[0] != "le")
            buckets.setdefault(rest, []).append((float(dict(labels)["le"]), value))
        return {labels: quantile(spec.quantile, sorted(each)) for labels, each in buckets.items()}

    def promql(self, spec: QuantileAlert) -> str:
        return f"histogram_quantile({number(spec.quantile)}, {_sum(spec, _rate(spec, '_bucket'), 'le')})"


class _Anomaly:
    """The score of each series. Prometheus reads it from the agent: the detector is not an expression."""

    def __init__(self, spec: AnomalyAlert, name: str) -> None:
        self._detectors = Detectors(spec)
        self._name = name
        self._scored_at: float | None = None
        self._scores: Vector = {}

    def selectors(self, spec: AnomalyAlert) -> list[Selector]:
        return [Selector(spec.metric, spec.match)]

    def window(self, spec: AnomalyAlert) -> float:
        return 300.0 if spec.rate else 0.0

    def vector(self, spec: AnomalyAlert, histories: list[History], now: float) -> Vector:
        if self._scored_at != now:  # a value must not be taken for usual twice
            self._scored_at = now
            raw = rates(histories[0], now) if spec.rate else histories[0].present()
            scores = self._detectors.score(grouped(raw, spec.by))
            self._scores = {(("series", text_of(labels)),): score for labels, score in scores.items()}
        return self._scores

    def promql(self, _spec: AnomalyAlert) -> str:
        return f'max by (series) ({SCORE}{{alertname="{self._name}"}})'


def text_of(labels: Labels) -> str:
    """Labels in one word: check=web,role=readiness."""
    return ",".join(f"{name}={value}" for name, value in labels)


FORMS: dict[type[AlertSpec], Form] = {
    ThresholdAlert: _Threshold(),
    RateAlert: _Rate(),
    AverageAlert: _Average(),
    QuantileAlert: _Quantile(),
}
