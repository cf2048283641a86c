"""The reconciler of alert rules: looks at the series, lets the states change, and tells whoever is to know.

Rules:
    L1  A rule looks every alerting.interval. A look that comes late is one look: the slots that it missed are left out,
        as Prometheus's missed iterations are.
    L2  A changed definition begins anew; its alerts end without a message, as with a changed rule of Prometheus.
    L3  A rule that cannot be evaluated keeps its alerts as they are, and says why.
    L4  Firing alerts are said to a webhook at once, again every repeat interval, and their end once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from watchkeeper.alerts.expressions import SCORE, Expression, text_of
from watchkeeper.alerts.notify import Notifier
from watchkeeper.alerts.payloads import Notice
from watchkeeper.alerts.states import Alert, AlertStates, Change, SameLabelsError, State
from watchkeeper.alerts.triage import Triage
from watchkeeper.config.schema.alerts import AlertSpec, AnomalyAlert, Webhook
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.observed import wall_clock
from watchkeeper.reconcile import Result
from watchkeeper.supervise.lifecycle import EARLY

journal = get_logger("alert")

VALID_FOR = 4
"""An alert that an Alertmanager hears no more of ends after so many intervals (Prometheus: 4 times the resend delay)."""


@dataclass
class Rule:
    """What is known of one rule. Times are the loop's."""

    spec: AlertSpec
    expression: Expression
    states: AlertStates
    next_due: float
    dropped: int = 0
    problem: str | None = None


class AlertReconciler:
    """Level-triggered: every call works out anew what there is to say."""

    def __init__(self, context: Context) -> None:
        self._context, self._metrics = context, context.metrics
        self._rules: dict[str, Rule] = {}
        self._notifier, self.triage = Notifier(context), Triage(context)
        metrics = self._metrics
        self._alerts = metrics.gauge(
            "alerts_state", "1 for every alert that is pending or firing.",
            "alertname", "alertstate", "severity", "series",
        )  # fmt: skip
        self._for_state = metrics.gauge(
            "alerts_for_state_timestamp_seconds", "Since when an alert has been active, since the epoch.",
            "alertname", "severity", "series",
        )  # fmt: skip
        self._looks = metrics.counter(
            "alerts_evaluations_total", "Looks at a rule, by outcome.", "alertname", "outcome"
        )
        self._remembered = metrics.gauge("alerts_series", "Series that a rule remembers.", "alertname")
        self._overflow = metrics.counter(
            "alerts_series_dropped_total", "Looks at series beyond alerting.series_limit.", "alertname"
        )
        self._score = metrics.gauge(
            SCORE.removeprefix("watchkeeper_"),
            "How unusual a series is, in deviations.",
            "alertname",
            "series",
        )

    async def reconcile(self, key: Key) -> Result:
        spec = self._context.snapshot.of(Kind.ALERT).get(key.name)
        known = self._rules.get(key.name)
        if known is not None and known.spec != spec:
            self._forget(key)  # L2
            known = None
        if spec is None:
            self._context.forget(key)
            return Result()
        settings, now = self._context.snapshot.config.alerting, asyncio.get_running_loop().time()
        if known is None:
            expression = Expression(spec, settings.series_limit, name=key.name)
            known = self._rules[key.name] = Rule(spec, expression, AlertStates(key.name, spec), now)
        if self._context.observed.draining:
            return Result()
        if now + EARLY >= known.next_due:
            on_time = now - known.next_due < settings.interval
            known.next_due = (known.next_due if on_time else now) + settings.interval  # L1
            self._look(key, known, now)
        return Result(max(0.0, known.next_due - now))

    def _look(self, key: Key, rule: Rule, now: float) -> None:
        try:
            rule.expression.look(self._metrics, now)
            values = rule.expression.values(now)
            changes = rule.states.evaluate(now, rule.expression.beyond(values))
        except Exception as error:  # noqa: BLE001 - L3; a collector that is read may fail in any way
            self._failed(key, rule, error)
            return
        rule.problem = None
        self._looks.labels(key.name, "ok").inc()
        self._remembered.labels(key.name).set(rule.expression.remembered)
        self._overflow.labels(key.name).inc(rule.expression.dropped - rule.dropped)
        rule.dropped = rule.expression.dropped
        if isinstance(rule.spec, AnomalyAlert):
            self._publish_scores(key.name, values)
        for change in changes:
            self._say(key.name, rule, change)
        self._publish(key.name, rule, now)
        self._tell(key.name, rule, now)
        self._show(key, rule)

    def _failed(self, key: Key, rule: Rule, error: Exception) -> None:
        self._looks.labels(key.name, "error").inc()
        self._metrics.error(ErrorClass.ALERT_FAILED)
        problem = str(error) if isinstance(error, SameLabelsError) else repr(error)
        if rule.problem != problem:
            journal.error(
                f"alert {key.name} cannot be evaluated: {problem}",
                alertname=key.name,
                error_class=ErrorClass.ALERT_FAILED,
            )
        rule.problem = problem
        self._context.show(key, "failing", problem, last_error=problem)

    def _say(self, name: str, rule: Rule, change: Change) -> None:
        """In the log: what fires and what ends; what is pending is nobody's business yet."""
        alert = change.alert
        fields = {
            "alertname": name,
            "severity": rule.spec.severity.value,
            "labels": dict(alert.labels),
            "annotations": alert.annotations,
            "value": alert.value,
        }
        if change.after is State.FIRING:
            journal.warning(f"alert {name} fires", **fields)
            if rule.spec.triage:
                self.triage.begin(name, alert)
        elif change.before is State.FIRING:
            journal.info(f"alert {name} is resolved", **fields)
        else:
            journal.debug(f"alert {name} is {change.after}", **fields)

    def _publish(self, name: str, rule: Rule, now: float) -> None:
        """What Prometheus calls ALERTS and ALERTS_FOR_STATE, of this rule and no other."""
        self._alerts.drop("alertname", name)
        self._for_state.drop("alertname", name)
        severity, wall = rule.spec.severity.value, wall_clock()
        for alert in rule.states.active:
            series = _series(alert)
            self._alerts.labels(name, alert.state.value, severity, series).set(1)
            self._for_state.labels(name, severity, series).set(wall - (now - alert.active_at))

    def _publish_scores(self, name: str, values: dict[tuple[tuple[str, str], ...], float]) -> None:
        self._score.drop("alertname", name)
        for labels, value in values.items():
            self._score.labels(name, dict(labels)["series"]).set(value)

    def _tell(self, name: str, rule: Rule, now: float) -> None:
        """L4."""
        webhooks = self._notifier.webhooks
        for webhook_name in webhooks if rule.spec.webhooks is None else rule.spec.webhooks:
            webhook = webhooks.get(webhook_name)
            if webhook is None:
                continue
            repeat = self._notifier.repeat_interval(webhook)
            for alert in rule.states.alerts.values():
                if _needs_sending(alert, webhook_name, webhook, now, repeat):
                    alert.sent[webhook_name] = now
                    self._notifier.tell(webhook_name, name, self._notice(alert, now, repeat))

    def _notice(self, alert: Alert, now: float, repeat: float) -> Notice:
        wall = wall_clock()
        interval = self._context.snapshot.config.alerting.interval
        return Notice(
            labels=alert.labels,
            annotations=tuple(sorted(alert.annotations.items())),
            value=alert.value,
            starts_at=wall - (now - (alert.fired_at if alert.fired_at is not None else now)),
            ends_at=None if alert.resolved_at is None else wall - (now - alert.resolved_at),
            valid_until=wall + VALID_FOR * max(interval, repeat),
        )

    def _show(self, key: Key, rule: Rule) -> None:
        active = rule.states.active
        firing = sum(alert.state is State.FIRING for alert in active)
        why = f"{firing} firing, {len(active) - firing} pending" if active else ""
        alerts = [
            {"series": _series(alert), "state": alert.state.value, "value": alert.value}
            for alert in active[:20]
        ]
        self._context.show(
            key, rule.states.state.value, why, alerts=alerts, series=rule.expression.remembered
        )

    def _forget(self, key: Key) -> None:
        del self._rules[key.name]
        for family in (
            self._alerts,
            self._for_state,
            self._looks,
            self._remembered,
            self._overflow,
            self._score,
        ):
            family.drop("alertname", key.name)


def _series(alert: Alert) -> str:
    """The labels of an alert that are not said otherwise."""
    return text_of(tuple(pair for pair in alert.labels if pair[0] not in {"alertname", "severity"}))


def _needs_sending(alert: Alert, name: str, webhook: Webhook, now: float, repeat: float) -> bool:
    """As needsSending in rules/alerting.go."""
    last = alert.sent.get(name)
    if alert.state is State.PENDING:
        return False
    if alert.resolved_at is not None:
        return webhook.send_resolved and last is not None and alert.resolved_at > last
    return last is None or last + repeat <= now
