"""What series do over time, and the rules that look at them: for the agent's own engine and for Prometheus's alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from watchkeeper.alerts.expressions import Expression
from watchkeeper.alerts.series import Labels, Selector
from watchkeeper.alerts.states import Alert, AlertStates, State
from watchkeeper.config.load import parse
from watchkeeper.config.schema.alerts import AlertSpec

INTERVAL = 15.0
NAME = "Rule"
Values = Sequence[float | None]


def spec(text: str) -> AlertSpec:
    """A rule as it stands in a configuration, in YAML's short form."""
    config = parse(f"alerts: {{{NAME}: {{{text}}}}}".encode(), file="f.yaml").config
    return config.alerts[NAME]


@dataclass(frozen=True)
class Scenario:
    """One rule and what its series are at 0 s, 15 s, 30 s and so on; None: the series is not there."""

    name: str
    rule: str
    series: dict[str, Values]

    @property
    def spec(self) -> AlertSpec:
        return spec(self.rule)

    @property
    def steps(self) -> int:
        return max(map(len, self.series.values()))


@dataclass
class Look:
    """What was so after one look; `pending` and `firing` are alerts as they were then."""

    at: float
    pending: list[Labels] = field(default_factory=list)
    firing: list[tuple[Labels, dict[str, str]]] = field(default_factory=list)


def parsed(series: str) -> tuple[str, Labels]:
    """NAME{a="b"}."""
    name, _, rest = series.partition("{")
    return name, tuple(sorted(re.findall(r'(\w+)="([^"]*)"', rest)))


def samples(scenario: Scenario, selector: Selector, step: int) -> list[tuple[Labels, float]]:
    found = []
    for text, values in scenario.series.items():
        name, labels = parsed(text)
        value = values[step] if step < len(values) else None
        if name == selector.name and selector.takes(dict(labels)) and value is not None:
            found.append((labels, value))
    return found


def play(scenario: Scenario, *, left_open: bool = True) -> list[Look]:
    """What the agent's engine says at every step."""
    rule = scenario.spec
    expression = Expression(rule, 1000, name=NAME, left_open=left_open)
    states = AlertStates(NAME, rule)
    looks = []
    for step in range(scenario.steps):
        now = step * INTERVAL
        expression.remember(now, [samples(scenario, each, step) for each in expression.selectors])
        states.evaluate(now, expression.beyond(expression.values(now)))
        looks.append(_look(now, states.active))
    return looks


def _look(now: float, active: list[Alert]) -> Look:
    return Look(
        now,
        [alert.labels for alert in active if alert.state is State.PENDING],
        [(alert.labels, dict(alert.annotations)) for alert in active if alert.state is State.FIRING],
    )


def counter(*rates: tuple[int, float], start: float = 0.0) -> list[float]:
    """A counter that grows by so much per step, for so many steps each."""
    values = [start]
    for steps, growth in rates:
        for _ in range(steps):
            values.append(values[-1] + growth)
    return values


def repeated(*parts: tuple[int, float | None]) -> list[float | None]:
    return [value for count, value in parts for _ in range(count)]


def expected(looks: list[Look]) -> list[tuple[float, str, list[dict[str, Any]]]]:
    """What promtool is to find at every step."""
    return [
        (
            look.at,
            NAME,
            [
                {
                    "exp_labels": {name: value for name, value in labels if name != "alertname"},
                    "exp_annotations": annotations,
                }
                for labels, annotations in look.firing
            ],
        )
        for look in looks
    ]


SLOW = {
    'http_seconds_bucket{le="0.1"}': counter((20, 10), (40, 2)),
    'http_seconds_bucket{le="0.5"}': counter((20, 14), (40, 5)),
    'http_seconds_bucket{le="1"}': counter((20, 15), (40, 11)),
    'http_seconds_bucket{le="+Inf"}': counter((20, 15), (40, 15)),
    "http_seconds_sum": counter((20, 2), (40, 14)),
    "http_seconds_count": counter((20, 15), (40, 15)),
}

SCENARIOS = (
    Scenario("at once without for", "type: threshold, metric: m, threshold: 5", {"m": [4, 5, 6, 6, 5, 7]}),
    Scenario(
        "pending until for has passed",
        "type: threshold, metric: m, threshold: 5, for: 45s",
        {"m": [6, 6, 6, 6, 6, 1, 6, 6, 1, 6, 6, 6, 6, 6]},
    ),
    Scenario(
        "one look without it begins anew",
        "type: threshold, metric: m, threshold: 5, for: 30s",
        {"m": [6, 6, 5, 6, 6, 6, 6, None, 6, 6, 6]},
    ),
    Scenario(
        "it goes on firing for a while",
        "type: threshold, metric: m, threshold: 5, keep_firing_for: 30s",
        {"m": [6, 1, 1, 1, 1, 6, 1, 6, 1, 1, 1, 1, 1]},
    ),
    Scenario(
        "for and keep_firing_for",
        "type: threshold, metric: m, threshold: 5, for: 30s, keep_firing_for: 45s",
        {"m": [6, 6, 1, 6, 6, 6, 1, 1, 1, 1, 1, 6, 6, 6]},
    ),
    Scenario(
        "each series on its own, with its labels",
        "type: threshold, metric: m, threshold: 5, for: 15s, labels: {team: ops}, "
        'annotations: {summary: "{{ $labels.disk }} is at {{ $value }}, {{ $labels.none }}"}',
        {
            'm{disk="a"}': [6, 6.5, 1234567.25, 6],
            'm{disk="b"}': [1, 6, 6, 0.00002],
            'm{disk="c"}': [1, 1, 1, 1],
        },
    ),
    Scenario(
        "only series with a label",
        'type: threshold, metric: m, match: {disk: "a"}, op: "<=", threshold: 0.5',
        {'m{disk="a"}': [1, 0.5, 0.25], 'm{disk="b"}': [0, 0, 0]},
    ),
    Scenario(
        "added up by a label",
        "type: threshold, metric: m, by: [host], threshold: 10",
        {
            'm{host="x",disk="a"}': [4, 6, 6],
            'm{host="x",disk="b"}': [4, 6, None],
            'm{host="y",disk="a"}': [1, 11, 2],
        },
    ),
    Scenario(
        "added up altogether",
        "type: threshold, metric: m, by: [], op: '==', threshold: 3",
        {
            'm{a="1"}': [1, 1, 1],
            'm{a="2"}': [1, 2, 3],
        },
    ),
    Scenario(
        "gone and come back",
        "type: threshold, metric: m, op: '!=', threshold: 0, for: 15s",
        {"m": [1, 1, None, None, 1, 1, 0, 1, 1]},
    ),
    Scenario(
        "a value that is none", "type: threshold, metric: m, op: '<', threshold: 1", {"m": [float("nan"), 0]}
    ),
    Scenario(
        "a rate",
        "type: rate, metric: c_total, window: 1m, threshold: 0.5, for: 30s",
        {"c_total": counter((6, 1), (10, 15), (10, 0))},
    ),
    Scenario(
        "a rate over the restart of a counter",
        "type: rate, metric: c_total, window: 2m, threshold: 0.3",
        {"c_total": [*counter((8, 5)), *counter((8, 3), start=2), *counter((10, 1), start=0)]},
    ),
    Scenario(
        "a rate of a counter that begins",
        "type: rate, metric: c_total, window: 5m, threshold: 0.01",
        {"c_total": [None, None, None, 1, 1, 2, 4, 9, 9, 9, 9]},
    ),
    Scenario(
        "a rate across a gap",
        "type: rate, metric: c_total, window: 2m, threshold: 0.2",
        {"c_total": [*counter((6, 6)), None, None, None, *counter((8, 6), start=60)]},
    ),
    Scenario(
        "a rate added up",
        "type: rate, metric: c_total, by: [kind], window: 1m, threshold: 0.9",
        {
            'c_total{kind="a",x="1"}': counter((12, 7)),
            'c_total{kind="a",x="2"}': counter((6, 1), (6, 9)),
            'c_total{kind="b",x="1"}': counter((12, 13)),
        },
    ),
    Scenario(
        "HighRequestLatency",
        "type: average, metric: http_seconds, window: 5m, threshold: 0.5, for: 3m, severity: warning, "
        'annotations: {summary: "{{ $value }} s"}',
        SLOW,
    ),
    Scenario(
        "an average of nothing",
        "type: average, metric: http_seconds, window: 1m, threshold: 0",
        {"http_seconds_sum": [0.0] * 8 + [1.0, 2.0], "http_seconds_count": [0.0] * 8 + [1.0, 2.0]},
    ),
    Scenario(
        "a quantile",
        "type: quantile, metric: http_seconds, quantile: 0.9, window: 5m, threshold: 0.6, for: 30s",
        SLOW,
    ),
    Scenario(
        "a quantile beyond the last bound",
        "type: quantile, metric: http_seconds, quantile: 0.99, window: 1m, op: '>=', threshold: 1",
        SLOW,
    ),
    Scenario(
        "a quantile added up",
        "type: quantile, metric: h, by: [path], quantile: 0.5, window: 1m, threshold: 1.2, "
        'annotations: {value: "{{ $value }}"}',
        {
            'h_bucket{path="/",x="1",le="1"}': counter((10, 4)),
            'h_bucket{path="/",x="1",le="2"}': counter((10, 8)),
            'h_bucket{path="/",x="1",le="+Inf"}': counter((10, 8)),
            'h_bucket{path="/",x="2",le="1"}': counter((10, 1)),
            'h_bucket{path="/",x="2",le="2"}': counter((10, 8)),
            'h_bucket{path="/",x="2",le="+Inf"}': counter((10, 9)),
        },
    ),
    Scenario(
        "resolved for long and fired again",
        "type: threshold, metric: m, threshold: 5",
        {"m": [6, 1, *repeated((70, 1)), 6, 1]},
    ),
)
