"""From a rule's vector to alerts: inactive, pending, firing, resolved.

Rules (rules/alerting.go of Prometheus, which is the model for every one of them):
    S1  A series that is in the vector and has no alert gets one, which is pending since now.
    S2  A pending alert whose series is in the vector fires as soon as it has been active for `for`; with a `for` of 0 at
        once. One missing look makes no difference; one look without the series does.
    S3  A pending alert whose series is not in the vector is forgotten: it never was one.
    S4  A firing alert whose series is not in the vector goes on firing for `keep_firing_for` from the first such look on;
        when the series comes back meanwhile, that begins anew.
    S5  Then it is resolved. It is remembered for RESOLVED_RETENTION, so that everybody hears of it, and replaced by a new
        one when its series comes back.
    S6  An alert's labels are its series' (without the metric's name), the rule's over them, severity, and alertname. Two
        series with the same labels are a mistake in the rule: then nothing changes.
    S7  Time is the looks' own; it does not pass between them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from watchkeeper.alerts.series import Labels, Vector
from watchkeeper.alerts.templates import expand
from watchkeeper.config.schema.alerts import AlertSpec

RESOLVED_RETENTION = 15 * 60.0


class State(enum.StrEnum):
    """Of an alert, and of a rule: that of its worst alert."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


class SameLabelsError(Exception):
    """S6: the vector has two series that would be one alert."""


@dataclass
class Alert:
    """One series for which the condition holds, or has held. Times are those of the looks."""

    labels: Labels
    annotations: dict[str, str]
    value: float
    active_at: float
    state: State = State.PENDING
    fired_at: float | None = None
    resolved_at: float | None = None
    keep_firing_since: float | None = None
    sent: dict[str, float] = field(default_factory=dict)
    """When each webhook was last told."""


@dataclass(frozen=True)
class Change:
    """What an alert has become."""

    alert: Alert
    before: State
    after: State


class AlertStates:
    """The alerts of one rule."""

    def __init__(self, name: str, spec: AlertSpec) -> None:
        self._name, self._spec = name, spec
        self.alerts: dict[Labels, Alert] = {}

    def evaluate(self, now: float, vector: Vector) -> list[Change]:
        """One look; what has changed by it.

        Raises:
            SameLabelsError: S6.
        """
        present = self._alerts(vector)
        changes = []
        for labels, (series, value) in present.items():
            known = self.alerts.get(labels)
            if known is None or known.state is State.INACTIVE:
                alert = self.alerts[labels] = Alert(labels, {}, value, now)  # S1
                changes.append(Change(alert, State.INACTIVE, State.PENDING))
            alert = self.alerts[labels]
            alert.value, alert.annotations = value, self._annotations(series, value)
        for labels in list(self.alerts):
            changes += self._step(now, labels, labels in present)
        return changes

    def _step(self, now: float, labels: Labels, present: bool) -> list[Change]:
        alert = self.alerts[labels]
        before = alert.state
        if present:
            alert.keep_firing_since = None
            if before is State.PENDING and now - alert.active_at >= self._spec.hold:  # S2
                alert.state, alert.fired_at = State.FIRING, now
        elif before is State.PENDING:
            del self.alerts[labels]  # S3
            alert.state = State.INACTIVE
        elif before is State.FIRING and not self._kept(now, alert):
            alert.state, alert.resolved_at = State.INACTIVE, now  # S5
        elif before is State.INACTIVE and now - (alert.resolved_at or now) > RESOLVED_RETENTION:
            del self.alerts[labels]
        return [] if alert.state is before else [Change(alert, before, alert.state)]

    def _kept(self, now: float, alert: Alert) -> bool:
        """S4."""
        if self._spec.keep_firing_for <= 0:
            return False
        if alert.keep_firing_since is None:
            alert.keep_firing_since = now
        return now - alert.keep_firing_since < self._spec.keep_firing_for

    def _alerts(self, vector: Vector) -> dict[Labels, tuple[Labels, float]]:
        """The vector by the labels of alerts (S6)."""
        found: dict[Labels, tuple[Labels, float]] = {}
        for series, value in vector.items():
            labels = self.labels_of(series)
            if labels in found:
                raise SameLabelsError(f"two series of {self._spec.metric} would be the same alert")
            found[labels] = (series, value)
        return found

    def labels_of(self, series: Labels) -> Labels:
        """Those of the alert of a series; empty values are none."""
        own = {"severity": self._spec.severity.value, "alertname": self._name}
        merged = {**dict(series), **self._spec.labels, **own}
        return tuple(sorted((name, value) for name, value in merged.items() if value))

    def _annotations(self, series: Labels, value: float) -> dict[str, str]:
        return {name: expand(text, dict(series), value) for name, text in self._spec.annotations.items()}

    @property
    def active(self) -> list[Alert]:
        """Those that are pending or firing."""
        return [alert for alert in self.alerts.values() if alert.state is not State.INACTIVE]

    @property
    def state(self) -> State:
        states = {alert.state for alert in self.alerts.values()}
        return next((state for state in (State.FIRING, State.PENDING) if state in states), State.INACTIVE)
