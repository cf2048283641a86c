"""The rules as a file that Prometheus reads, and tests of them that promtool runs.

What is written means the same as what the agent evaluates: the same expression, `for`, labels and annotations. One thing
differs in form: the detector of an anomaly rule is no expression, so Prometheus gets the score that the agent publishes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from watchkeeper.alerts.expressions import Expression, prometheus_duration
from watchkeeper.alerts.series import Labels, Selector
from watchkeeper.config.schema.alerts import AlertSpec

GROUP = "watchkeeper"


def rule(name: str, spec: AlertSpec) -> dict[str, Any]:
    """One alerting rule."""
    made: dict[str, Any] = {"alert": name, "expr": Expression(spec, 1, name=name).promql()}
    if spec.hold:
        made["for"] = prometheus_duration(spec.hold)
    if spec.keep_firing_for:
        made["keep_firing_for"] = prometheus_duration(spec.keep_firing_for)
    made["labels"] = {**spec.labels, "severity": spec.severity.value}
    if spec.annotations:
        made["annotations"] = dict(spec.annotations)
    return made


def rule_file(rules: Mapping[str, AlertSpec], interval: float) -> dict[str, Any]:
    """All of them in one group, evaluated as often as the agent does."""
    group = {
        "name": GROUP,
        "interval": prometheus_duration(interval),
        "rules": [rule(name, spec) for name, spec in rules.items()],
    }
    return {"groups": [group]}


def series_text(selector: Selector, labels: Labels) -> str:
    """A series as promtool's tests write it."""
    pairs = ", ".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in labels
    )
    return f"{selector.name}{{{pairs}}}"


def test_case(
    interval: float,
    series: Sequence[tuple[str, Sequence[float | None]]],
    expected: Sequence[tuple[float, str, Sequence[Mapping[str, Any]]]],
) -> dict[str, Any]:
    """One test: what the series are at each interval, and which alerts fire at some times.

    Args:
        series: name with labels, and values; None: there is none, as after a series has gone.
        expected: seconds, the rule, and {"exp_labels": ..., "exp_annotations": ...} for each alert that fires.
    """
    return {
        "interval": prometheus_duration(interval),
        "input_series": [
            {
                "series": name,
                "values": " ".join("stale" if value is None else repr(value) for value in values),
            }
            for name, values in series
        ],
        "alert_rule_test": [
            {
                "eval_time": prometheus_duration(at),
                "alertname": name,
                "exp_alerts": [dict(one) for one in alerts],
            }
            for at, name, alerts in expected
        ],
    }


def text_of_file(path: str) -> str:
    """The rules of a configuration, as text.

    Raises:
        AgentError: the configuration cannot be read, or is wrong.
    """
    from watchkeeper.config.load import load_file
    from watchkeeper.config.references import References

    config = load_file(path, References(resolve=False)).config
    rules = {name: spec for name, spec in config.alerts.items() if spec.enabled}
    return yaml(rule_file(rules, config.alerting.interval)).rstrip("\n")


def yaml(document: Any) -> str:
    """As text, in the order in which it was made."""
    import yaml as pyyaml

    text: str = pyyaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)
    return text
