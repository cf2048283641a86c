"""Alerts in an agent: looks on a virtual clock, metrics, log, webhooks that answer as a test says, triage bundles."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from watchkeeper.alerts import triage
from watchkeeper.config.load import parse
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.life.hooks import Rank
from watchkeeper.metrics import Metrics
from watchkeeper.outbound.client import Answer, RequestError
from watchkeeper.reconcile import work
from watchkeeper.reconcilers.alerts import AlertReconciler

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

KEY = Key(Kind.ALERT, "A")
RULE = "alerts: {A: {type: threshold, metric: watchkeeper_a_b, threshold: 5, %s}}"
HOOK = ", alerting: {webhooks: {w: {url: 'http://x/', %s}}}"


class Http:
    """What is asked of others; each answer is a status, or an exception."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str, Any, dict[str, str]]] = []
        self.answers: list[int | Exception] = []
        self.seconds = 0.0

    async def request(self, method: str, url: str, **rest: Any) -> Answer:
        self.asked.append((asyncio.get_running_loop().time(), url, json.loads(rest["body"]), rest["headers"]))
        await asyncio.sleep(self.seconds)
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer, {}, b"")

    def attach(self, *_ignored: Any) -> None:
        """Nothing to be attached to."""


class World:
    """A reconciler of alerts with a queue, a configuration, and one gauge to look at."""

    def __init__(self, state_dir: Path | None = None) -> None:
        self.http = Http()
        store = Store(None if state_dir is None else str(state_dir))
        self.context = Context(store, Metrics(), http=self.http)  # type: ignore[arg-type]
        self.gauge = self.context.metrics.gauge("a_b", "t", "l")
        self.reconciler = AlertReconciler(self.context)
        self.worker = asyncio.create_task(
            work(
                self.context.queue,
                {Kind.ALERT: self.reconciler},
                self.context.metrics,
                lambda _key: None,
            )
        )

    def load(self, text: str) -> None:
        for key in self.context.store.apply(parse(f"{{{text}}}".encode(), file="f.yaml")):
            self.context.add(key)

    def series(self, name: str, **labels: str) -> float | None:
        return self.context.metrics.registry.get_sample_value(f"watchkeeper_{name}", labels)

    @property
    def state(self) -> str:
        return self.context.observed.objects[KEY].state

    def statuses(self) -> list[tuple[float, str]]:
        return [(round(when, 3), body["status"]) for when, _url, body, _headers in self.http.asked]


def active(world: World, state: str) -> float | None:
    return world.series("alerts_state", alertname="A", alertstate=state, severity="warning", series="l=x")


async def test_the_life_of_an_alert() -> None:
    """Pending, firing, resolved: in /status, as events, as series that come and go."""
    world = World()
    world.load(RULE % "for: 30s")
    world.gauge.labels("x").set(1)
    await asyncio.sleep(16)
    assert world.state == "inactive"
    world.gauge.labels("x").set(9)
    await asyncio.sleep(15)
    assert world.state == "pending"
    assert active(world, "pending") == 1
    await asyncio.sleep(30)
    assert world.state == "firing"
    assert active(world, "firing") == 1
    assert active(world, "pending") is None
    assert world.series("alerts_for_state_timestamp_seconds", alertname="A", severity="warning", series="l=x")
    details = world.context.observed.objects[KEY].details
    assert details["alerts"] == [{"series": "l=x", "state": "firing", "value": 9.0}]
    world.gauge.remove("x")
    await asyncio.sleep(15)
    assert world.state == "inactive"
    assert active(world, "firing") is None
    assert [event.what for event in world.context.events.of(KEY)] == [
        "inactive",
        "pending",
        "firing",
        "inactive",
    ]
    assert world.series("alerts_evaluations_total", alertname="A", outcome="ok") == 6


async def test_what_is_removed_leaves_nothing() -> None:
    """A rule that goes takes its series along; a changed one begins anew."""
    world = World()
    world.load(RULE % "")
    world.gauge.labels("x").set(9)
    await asyncio.sleep(1)
    assert active(world, "firing") == 1
    world.load(RULE % "for: 1m")
    await asyncio.sleep(1)
    assert active(world, "firing") is None
    assert world.state == "pending"
    world.load("alerts: {}")
    await asyncio.sleep(1)
    assert active(world, "pending") is None
    assert world.series("alerts_evaluations_total", alertname="A", outcome="ok") is None
    assert KEY not in world.context.observed.objects
    world.load(RULE % "enabled: false")
    await asyncio.sleep(20)
    assert KEY not in world.context.observed.objects


async def test_a_webhook_is_told() -> None:
    """Of the beginning at once, again after the repeat interval, and of the end once."""
    world = World()
    world.load(RULE % "annotations: {summary: 'at {{ $value }}'}" + HOOK % "repeat_interval: 60s, authorization: 'Bearer abcdefgh'")  # fmt: skip
    world.gauge.labels("x").set(9)
    await asyncio.sleep(100)
    world.gauge.labels("x").set(1)
    await asyncio.sleep(200)
    assert world.statuses() == [(0, "firing"), (60, "firing"), (105, "resolved")]
    _when, url, body, headers = world.http.asked[0]
    assert url == "http://x/"
    assert headers["Authorization"] == "Bearer abcdefgh"
    [alert] = body["alerts"]
    assert alert["labels"] == {"alertname": "A", "severity": "warning", "l": "x"}
    assert alert["annotations"] == {"summary": "at 9"}
    assert world.series("alerts_notifications_total", webhook="w", result="sent") == 3


async def test_an_alertmanager_is_told() -> None:
    """Every minute, because it forgets what it does not hear of; pending alerts are nobody's business."""
    world = World()
    world.load(RULE % "for: 30s" + HOOK % "format: alertmanager")
    world.gauge.labels("x").set(9)
    await asyncio.sleep(100)
    assert [round(when) for when, *_ in world.http.asked] == [30, 90]
    [[alert], _] = [body for _when, _url, body, _headers in world.http.asked]
    assert alert["labels"]["alertname"] == "A"
    assert alert["startsAt"] < alert["endsAt"]


async def test_who_does_not_want_to_hear_of_the_end() -> None:
    """And a rule that tells nobody."""
    world = World()
    world.load(RULE % "webhooks: [w]" + HOOK % "send_resolved: false")
    world.gauge.labels("x").set(9)
    await asyncio.sleep(10)
    world.gauge.labels("x").set(1)
    await asyncio.sleep(30)
    assert world.statuses() == [(0, "firing")]
    world.load(RULE % "webhooks: []" + HOOK % "")
    world.gauge.labels("x").set(9)
    await asyncio.sleep(30)
    assert len(world.http.asked) == 1


async def test_a_webhook_that_is_down() -> None:
    """It is tried again, ever later; what it says is wrong with us is not; nothing holds up the looks."""
    world = World()
    world.http.answers = [RequestError("gone"), 503, 429, 200]
    world.load(RULE % "" + HOOK % "retry_for: 1m")
    world.gauge.labels("x").set(9)
    await asyncio.sleep(30)
    assert [round(when) for when, *_ in world.http.asked] == [0, 1, 3, 7]
    assert world.series("alerts_notifications_total", webhook="w", result="sent") == 1
    world.gauge.labels("x").set(1)
    world.http.answers = [400]
    await asyncio.sleep(30)
    assert len(world.http.asked) == 5
    assert world.series("alerts_notifications_total", webhook="w", result="failed") == 1
    assert world.series("errors_total", error_class="ALERT_FAILED") == 4


async def test_what_is_never_taken_is_dropped() -> None:
    """After retry_for; the queue is bounded, and what is pushed out is counted."""
    world = World()
    world.http.answers = [RequestError("gone")] * 100
    world.load(RULE % "" + HOOK % "retry_for: 10s, queue: 2")
    for name in "abcdef":
        world.gauge.labels(name).set(9)
    await asyncio.sleep(14)
    # Six at once: four were pushed out before the first message was made, and the two others could not be told.
    assert world.series("alerts_notifications_total", webhook="w", result="dropped") == 4
    assert world.series("alerts_notifications_total", webhook="w", result="failed") == 2
    assert world.series("alerts_notifications_queued") == 0


async def test_a_webhook_that_is_removed() -> None:
    """Its task ends, and what waited for it is gone."""
    world = World()
    world.http.answers = [RequestError("gone")] * 100
    world.load(RULE % "" + HOOK % "")
    world.gauge.labels("x").set(9)
    await asyncio.sleep(5)
    assert world.context.tasks.alive == 1
    world.load(RULE % "")
    await asyncio.sleep(60)
    assert len(world.http.asked) <= 4
    assert world.series("alerts_notifications_total", webhook="w", result="failed") == 1


async def test_the_end_of_the_agent() -> None:
    """What waits is sent first, as long as the hook may take; draining, no rule looks."""
    world = World()
    world.http.seconds = 1.5
    world.load(RULE % "" + HOOK % "")
    world.gauge.labels("x").set(9)
    await asyncio.sleep(0.1)
    world.context.observed.draining = True
    began = asyncio.get_running_loop().time()
    late = await world.context.hooks.run(began + 10, frozenset({Rank.WORK}))
    assert late == []
    assert world.series("alerts_notifications_total", webhook="w", result="sent") == 1
    await asyncio.sleep(60)
    assert world.series("alerts_evaluations_total", alertname="A", outcome="ok") == 1


async def test_the_end_of_the_agent_with_a_webhook_that_is_down() -> None:
    """It is waited for a moment, and is nobody's lateness."""
    world = World()
    world.http.answers = [RequestError("gone")] * 100
    world.load(RULE % "" + HOOK % "")
    world.gauge.labels("x").set(9)
    await asyncio.sleep(0.1)
    began = asyncio.get_running_loop().time()
    assert await world.context.hooks.run(began + 10) == []
    assert asyncio.get_running_loop().time() - began <= 3


async def test_a_rule_that_cannot_be_evaluated() -> None:
    """Its alerts stay as they are; the reason is in /status, and in the log once."""
    world = World()
    world.load(RULE % "labels: {l: same}")
    world.gauge.labels("x").set(9)
    await asyncio.sleep(1)
    world.gauge.labels("y").set(9)
    await asyncio.sleep(40)
    assert world.state == "failing"
    assert "same alert" in world.context.observed.objects[KEY].why
    assert world.series("alerts_state", alertname="A", alertstate="firing", severity="warning", series="l=same") == 1  # fmt: skip
    world.gauge.remove("y")
    await asyncio.sleep(15)
    assert world.state == "firing"


async def test_more_series_than_a_rule_remembers() -> None:
    """The limit holds, and looks at the others are counted."""
    world = World()
    world.load(RULE % "" + ", alerting: {series_limit: 2}")
    for name in "abcd":
        world.gauge.labels(name).set(9)
    await asyncio.sleep(16)
    assert world.series("alerts_series", alertname="A") == 2
    assert world.series("alerts_series_dropped_total", alertname="A") == 4


async def test_an_anomaly_s_score_is_published() -> None:
    """So that a dashboard, and Prometheus with the rule that is written for it, can see it."""
    world = World()
    world.load(
        "alerts: {A: {type: anomaly, metric: watchkeeper_a_b, samples: 5, warmup: 3, min_deviation: 1}}"
    )
    world.gauge.labels("x").set(5)
    await asyncio.sleep(50)
    world.gauge.labels("x").set(15)
    await asyncio.sleep(15)
    assert world.series("alerts_anomaly_score", alertname="A", series="l=x") == 10
    assert world.state == "firing"


async def test_a_triage_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firing alert leaves one in the state directory, for the agent's user alone; one a minute, and only so many."""
    monkeypatch.setattr(triage, "PROFILE_SECONDS", 0.05)
    world = World(tmp_path)
    world.load(RULE % "triage: true" + ", alerting: {triage_bundles: 2, interval: 1s, triage_interval: 10s}")
    for step in range(40):
        world.gauge.labels("x").set(9 if step % 2 else 1)
        await asyncio.sleep(1)
        await asyncio.to_thread(lambda: None)  # let the thread that writes have its turn
    await asyncio.gather(*world.reconciler.triage.writing)
    files = sorted((tmp_path / triage.FOLDER).glob("*.json"))
    assert len(files) == 2
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    bundle = json.loads(files[0].read_text())
    assert bundle["rule"] == "A"
    assert bundle["labels"]["l"] == "x"
    assert any("reconcile" in frame for task in bundle["tasks"] for frame in task["stack"])
    assert any(thread["name"] == "MainThread" for thread in bundle["threads"])
    assert "watchkeeper_alerts_state" in bundle["metrics"]
    assert isinstance(bundle["profile"], list)
    assert bundle["garbage"]["generations"]


async def test_a_triage_bundle_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Costs a line in the log and nothing else."""
    monkeypatch.setattr(triage, "PROFILE_SECONDS", 0.05)
    (tmp_path / triage.FOLDER).write_text("in the way")
    world = World(tmp_path)
    world.load(RULE % "triage: true")
    world.gauge.labels("x").set(9)
    await asyncio.sleep(1)
    await asyncio.gather(*world.reconciler.triage.writing)
    assert world.series("errors_total", error_class="STATE_UNUSABLE") == 1
    assert world.state == "firing"
