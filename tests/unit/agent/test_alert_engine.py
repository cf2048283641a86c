"""Alert rules without a server: arithmetic, states and detectors.

The same scenarios meet promtool in tests/integration/test_agent_promtool.py: what is stated here is what Prometheus does.
"""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.alert_scenarios import INTERVAL, NAME, SCENARIOS, Look, play, spec
from watchkeeper.alerts import payloads, promrules
from watchkeeper.alerts.anomaly import HIGHEST, Detectors, EwmaDetector, MadDetector
from watchkeeper.alerts.expressions import Expression, prometheus_duration
from watchkeeper.alerts.functions import divide, quantile, rate
from watchkeeper.alerts.payloads import Notice
from watchkeeper.alerts.series import History, Selector, read
from watchkeeper.alerts.states import RESOLVED_RETENTION, AlertStates, SameLabelsError, State
from watchkeeper.alerts.templates import expand, go_float
from watchkeeper.config.load import parse
from watchkeeper.config.schema.alerts import AnomalyAlert
from watchkeeper.errors import ConfigInvalidError
from watchkeeper.metrics import Metrics

ONE = (("a", "1"),)


def words(looks: list[Look]) -> str:
    """One letter for each look: i, p or f."""
    return "".join("f" if look.firing else "p" if look.pending else "i" for look in looks)


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("at once without for", "iiffif"),
        ("pending until for has passed", "pppffippipppff"),
        ("one look without it begins anew", "ppippffippf"),
        ("it goes on firing for a while", "fffiifffffiii"),
        ("for and keep_firing_for", "ppippffffiippf"),
        ("gone and come back", "pfiipfipf"),
        ("a value that is none", "if"),
    ],
)
def test_states_over_time(name: str, states: str) -> None:
    """Every look of a scenario: inactive, pending or firing."""
    scenario = next(each for each in SCENARIOS if each.name == name)
    assert words(play(scenario))[: len(states)] == states


def test_the_seed_s_rule() -> None:
    """An average latency above 0.5 s for 3 minutes fires: pending first, and exactly 3 minutes after that."""
    looks = play(next(each for each in SCENARIOS if each.name == "HighRequestLatency"))
    pending = next(look.at for look in looks if look.pending)
    firing = next(look.at for look in looks if look.firing)
    assert firing - pending == 180
    [(labels, annotations)] = next(look.firing for look in looks if look.firing)
    assert dict(labels) == {"alertname": NAME, "severity": "warning"}
    assert annotations["summary"].endswith(" s")


def test_a_missed_look_changes_nothing() -> None:
    """A pending alert whose look was missed fires at the next one, as if there had been one between."""
    rule = spec("type: threshold, metric: m, threshold: 0, for: 30s")
    states = AlertStates(NAME, rule)
    states.evaluate(0, {ONE: 1.0})
    [change] = states.evaluate(30, {ONE: 1.0})
    assert (change.before, change.after) == (State.PENDING, State.FIRING)
    assert change.alert.active_at == 0
    assert change.alert.fired_at == 30


def test_resolved_alerts_are_remembered_for_a_while() -> None:
    """Then they are forgotten; one that comes back meanwhile is a new one."""
    states = AlertStates(NAME, spec("type: threshold, metric: m, threshold: 0"))
    states.evaluate(0, {ONE: 1.0})
    [change] = states.evaluate(15, {})
    assert (change.before, change.after, change.alert.resolved_at) == (State.FIRING, State.INACTIVE, 15)
    assert states.state is State.INACTIVE
    first = change.alert
    states.evaluate(30, {ONE: 1.0})
    assert states.alerts[first.labels] is not first
    states.evaluate(45, {})
    states.evaluate(45 + RESOLVED_RETENTION, {})
    assert states.alerts
    states.evaluate(45 + RESOLVED_RETENTION + 1, {})
    assert not states.alerts


def test_two_series_that_would_be_one_alert() -> None:
    """A rule whose labels hide the difference is refused, and what there was stays."""
    states = AlertStates(NAME, spec("type: threshold, metric: m, threshold: 0, labels: {a: same}"))
    states.evaluate(0, {ONE: 1.0})
    with pytest.raises(SameLabelsError, match="same alert"):
        states.evaluate(15, {ONE: 1.0, (("a", "2"),): 1.0})
    assert states.state is State.FIRING


@given(st.lists(st.tuples(st.floats(1, 60), st.floats(0, 100)), min_size=2, max_size=20), st.floats(0.01, 50))
def test_a_steady_rate_is_found(steps: list[tuple[float, float]], growth: float) -> None:
    """A counter that grows evenly from far above 0 has just that rate, wherever the points are."""
    times = [sum(gap for gap, _ in steps[: at + 1]) for at in range(len(steps))]
    points = [(at, 1e4 + growth * at) for at in times]
    assert rate(points, times[0], times[-1]) == pytest.approx(growth, rel=1e-6)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], None),
        ([(50.0, 1.0)], None),
        ([(50.0, 1.0), (50.0, 2.0)], None),
        ([(0.0, 0.0), (60.0, 60.0)], 1.0),
        ([(0.0, 100.0), (20.0, 110.0), (40.0, 5.0), (60.0, 15.0)], 25 / 60),
        ([(0.0, 5.0), (30.0, 5.0), (60.0, 5.0)], 0.0),
    ],
)
def test_rates(points: list[tuple[float, float]], expected: float | None) -> None:
    """Nothing from fewer than two points; a fall is a restart; what stands still has a rate of 0."""
    found = rate(points, 0, 60)
    assert found == expected if expected is None else found == pytest.approx(expected)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=40), st.floats(0, 1))
def test_quantiles_stay_in_their_bucket(amounts: list[float], wanted: float) -> None:
    """The result lies in the bucket in which the true quantile is, whatever was observed."""
    bounds = [0.5, 1.0, 2.0, 4.0, math.inf]
    buckets = [(bound, float(sum(amount <= bound for amount in amounts))) for bound in bounds]
    found = quantile(wanted, buckets)
    if wanted * len(amounts) > 0:
        rank = max(1, math.ceil(wanted * len(amounts) - 1e-9))
        true = sorted(amounts)[rank - 1]
        high = next(bound for bound in bounds if true <= bound)
        low = max([0.0, *(bound for bound in bounds if bound < high)])
        assert low - 1e-9 <= found <= high + 1e-9


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ([], math.nan),
        ([(1.0, 5.0)], math.nan),
        ([(math.inf, 5.0)], math.nan),
        ([(1.0, 0.0), (math.inf, 0.0)], math.nan),
        ([(-1.0, 5.0), (math.inf, 5.0)], -1.0),
        ([(1.0, 5.0), (2.0, 4.0), (math.inf, 10.0)], 1.0),
        ([(1.0, 0.0), (2.0, 0.0), (math.inf, 10.0)], 2.0),
    ],
)
def test_odd_histograms(buckets: list[tuple[float, float]], expected: float) -> None:
    """Without an infinite bound or without observations there is none; falling counts are taken as not falling."""
    found = quantile(0.5, buckets)
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_division() -> None:
    """0/0 is no number, and nothing raises."""
    assert math.isnan(divide(0, 0))
    assert divide(1, 0) == math.inf
    assert divide(-1, 0) == -math.inf
    assert divide(1, 4) == 0.25


def test_history() -> None:
    """Windows end at their edge, series that are gone have no present, and further ones than the limit are counted."""
    history = History(30, 2)
    for now in (0, 15, 30):
        history.add(now, [(ONE, now)])
    assert dict(history.windows(30)) == {ONE: [(15, 15), (30, 30)]}
    closed = History(30, 2, left_open=False)
    for now in (0, 15, 30):
        closed.add(now, [(ONE, now)])
    assert len(dict(closed.windows(30))[ONE]) == 3
    history.add(45, [((("a", "2"),), 1), ((("a", "3"),), 1)])
    assert set(history.present()) == {(("a", "2"),)}
    assert history.dropped == 1
    history.add(200, [])
    assert len(history) == 0


def test_series_are_read_from_the_registry() -> None:
    """The parts of a histogram, a counter by its whole name, somebody else's collector, and only what matches."""
    metrics = Metrics()
    metrics.check_duration.labels("a").observe(0.05)
    metrics.check_runs.labels("a", "success").inc(3)
    metrics.check_runs.labels("b", "success").inc(4)
    found = dict(read(metrics, Selector("watchkeeper_check_runs_total", {"check": "a"})))
    assert found == {(("check", "a"), ("outcome", "success")): 3}
    buckets = dict(read(metrics, Selector("watchkeeper_check_duration_seconds_bucket")))
    assert buckets[(("le", "0.05"), ("type", "a"))] == 1
    assert len(buckets) == 10
    assert dict(read(metrics, Selector("watchkeeper_check_duration_seconds_sum"))) == {(("type", "a"),): 0.05}
    assert not dict(read(metrics, Selector("watchkeeper_check_duration_seconds")))
    [(labels, threads)] = read(metrics, Selector("process_threads"))
    assert labels == ()
    assert threads >= 1
    assert not list(read(metrics, Selector("nobody_has_this")))
    assert not list(read(metrics, Selector("watchkeeper_nobody_has_this")))


# -- detectors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [MadDetector, EwmaDetector])
def test_detectors_tell_the_unusual(make: type[MadDetector | EwmaDetector]) -> None:
    """Noise scores like noise, a jump of ten deviations stands out, and one wild value does not hide the next."""
    chance = random.Random(7)
    detector = make(60, 20, 0.0)
    scores = [detector.score(chance.gauss(100, 5)) for _ in range(400)]
    assert scores[:20] == [0.0] * 20
    later = scores[100:]
    assert sum(score > 4 for score in later) <= 6
    assert statistics.median(later) < 1.2
    assert detector.score(150) > 6
    assert detector.score(150) > 6
    assert detector.score(101) < 2


@pytest.mark.parametrize("make", [MadDetector, EwmaDetector])
def test_a_new_level_becomes_usual(make: type[MadDetector | EwmaDetector]) -> None:
    """What stays is no anomaly for ever."""
    chance = random.Random(7)
    detector = make(30, 10, 0.0)
    for _ in range(60):
        detector.score(chance.gauss(10, 1))
    assert detector.score(30) > 6
    assert [detector.score(chance.gauss(30, 1)) for _ in range(400)][-1] < 4


def test_a_series_that_never_moved() -> None:
    """The slightest move is far away, but not infinitely; min_deviation keeps it quiet."""
    detector = MadDetector(10, 5, 0.0)
    for _ in range(20):
        assert detector.score(7.0) == 0.0
    assert detector.score(7.1) == HIGHEST
    calm = MadDetector(10, 5, 0.5)
    for _ in range(20):
        calm.score(7.0)
    assert calm.score(7.1) == pytest.approx(0.2)
    ewma = EwmaDetector(10, 5, 0.5)
    for _ in range(20):
        ewma.score(7.0)
    assert ewma.score(9.0) == pytest.approx(4.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=60))
def test_the_median_s_detector_is_what_it_says(values: list[float]) -> None:
    """Against the definition, with a plain sort at every step."""
    detector = MadDetector(10, 5, 0.0)
    for at, value in enumerate(values):
        score = detector.score(value)
        seen = values[max(0, at - 10) : at]
        if len(seen) >= 5:
            usual = statistics.median(seen)
            deviation = 1.4826 * statistics.median([abs(each - usual) for each in seen])
            if deviation > abs(value - usual) / HIGHEST:
                assert score == pytest.approx(abs(value - usual) / deviation)


def test_series_that_go_are_forgotten() -> None:
    """One that comes back begins with its warm-up; NaN is left out."""
    rule = spec("type: anomaly, metric: m, samples: 5, warmup: 3")
    assert isinstance(rule, AnomalyAlert)
    detectors = Detectors(rule)
    for _ in range(4):
        detectors.score({ONE: 1.0})
    assert detectors.score({ONE: 2.0})[ONE] > 1
    assert detectors.score({ONE: math.nan}) == {}
    detectors.score({})
    assert detectors.score({ONE: 50.0})[ONE] == 0.0


def test_an_anomaly_rule() -> None:
    """It fires when a series leaves its usual range, says which series that is, and looks once per look."""
    expression = Expression(spec("type: anomaly, metric: m, samples: 20, warmup: 10"), 10, name=NAME)
    for at in range(15):
        expression.remember(at, [[(ONE, 5.0 + at % 3)]])
        assert not expression.beyond(expression.values(at))
    expression.remember(15, [[(ONE, 80.0)]])
    found = expression.beyond(expression.values(15))
    assert expression.beyond(expression.values(15)) == found
    assert list(found) == [(("series", "a=1"),)]


# -- what is written and said ----------------------------------------------------------------------------------------------


def test_rules_in_promql() -> None:
    """As a person would write them."""
    written = {
        "type: threshold, metric: m, match: {b: 'x\"y', a: z}, threshold: 5": 'm{a="z",b="x\\"y"} > 5.0',
        "type: rate, metric: c, window: 90s, by: [], threshold: 0.5": "sum by () (rate(c[90s])) > 0.5",
        "type: average, metric: h, window: 5m, by: [x], op: '<', threshold: 1": (
            "sum by (x) (rate(h_sum[5m])) / sum by (x) (rate(h_count[5m])) < 1.0"
        ),
        "type: quantile, metric: h, window: 1h, by: [x], quantile: 0.5, threshold: 2": (
            "histogram_quantile(0.5, sum by (x, le) (rate(h_bucket[1h]))) > 2.0"
        ),
        "type: anomaly, metric: m": 'max by (series) (watchkeeper_alerts_anomaly_score{alertname="Rule"}) > 4.0',
    }
    for rule, expression in written.items():
        assert Expression(spec(rule), 1, name=NAME).promql() == expression


def test_a_rule_file() -> None:
    """One group with all rules; what is not set is not written."""
    rules = {
        "A": spec("type: threshold, metric: m, threshold: 5"),
        "B": spec(
            "type: rate, metric: c, threshold: 1, for: 3m, keep_firing_for: 1500ms, severity: critical, "
            "labels: {team: ops}, annotations: {summary: x}"
        ),
    }
    [group] = promrules.rule_file(rules, 15)["groups"]
    assert group["interval"] == "15s"
    assert group["rules"] == [
        {"alert": "A", "expr": "m > 5.0", "labels": {"severity": "warning"}},
        {
            "alert": "B",
            "expr": "rate(c[5m]) > 1.0",
            "for": "3m",
            "keep_firing_for": "1500ms",
            "labels": {"team": "ops", "severity": "critical"},
            "annotations": {"summary": "x"},
        },
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.5, "500ms"), (15, "15s"), (90, "90s"), (180, "3m"), (7200, "2h"), (86400, "1d")],
)
def test_durations_as_prometheus_has_them(seconds: float, text: str) -> None:
    assert prometheus_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (5.0, "5"), (0.5, "0.5"), (123456, "123456"), (1234567.25, "1.23456725e+06"), (1e6, "1e+06"),
     (0.0001, "0.0001"), (0.00002, "2e-05"), (-1e-7, "-1e-07"), (1e21, "1e+21"), (math.inf, "+Inf"), (math.nan, "NaN"),
     (100.25, "100.25"), (-3.0, "-3")],
)  # fmt: skip
def test_numbers_in_texts(value: float, text: str) -> None:
    """As Go prints them."""
    assert go_float(value) == text


def test_texts() -> None:
    """Values and labels are put in; what only Prometheus understands stays."""
    text = "{{ $labels.a }}/{{.Labels.b}} {{$value}} {{ .Value }} {{ $value | humanize }}"
    assert expand(text, {"a": "x"}, 0.5) == "x/ 0.5 0.5 {{ $value | humanize }}"


def notice(labels: dict[str, str], ends_at: float | None = None) -> Notice:
    return Notice(tuple(sorted(labels.items())), (("summary", "s"),), 1.5, 0.0, ends_at, 240.0)


def test_what_an_alertmanager_gets() -> None:
    """Times in UTC; one that fires ends when nothing more is heard of it."""
    [firing, ended] = payloads.alertmanager(
        [notice({"alertname": "A"}), notice({"alertname": "B"}, 60)], "http://x"
    )
    assert firing["startsAt"] == "1970-01-01T00:00:00.000Z"
    assert firing["endsAt"] == "1970-01-01T00:04:00.000Z"
    assert ended["endsAt"] == "1970-01-01T00:01:00.000Z"
    assert firing["labels"] == {"alertname": "A"}
    assert firing["generatorURL"] == "http://x"


def test_what_a_webhook_gets() -> None:
    """Version 4: firing as long as one of them fires, what they have in common, and each on its own."""
    one, two = (
        notice({"alertname": "A", "x": "1", "y": "z"}),
        notice({"alertname": "A", "x": "2", "y": "z"}, 60),
    )
    body = payloads.webhook([one, two], "http://x", "people")
    assert body["version"] == "4"
    assert body["status"] == "firing"
    assert body["receiver"] == "people"
    assert body["commonLabels"] == {"alertname": "A", "y": "z"}
    assert body["commonAnnotations"] == {"summary": "s"}
    assert [each["status"] for each in body["alerts"]] == ["firing", "resolved"]
    assert body["alerts"][0]["endsAt"] == payloads.NOWHERE
    assert payloads.webhook([two], "", "p")["status"] == "resolved"
    assert len({each["fingerprint"] for each in body["alerts"]}) == 2


def test_fingerprints() -> None:
    """Alertmanager's own: of no labels it is FNV-1a's first value, and with labels the one that client_golang computes."""
    assert payloads.fingerprint(()) == "cbf29ce484222325"
    assert (
        payloads.fingerprint((("name", "garland, briggs"), ("fear", "love is not enough")))
        != "cbf29ce484222325"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("alerts: {A: {type: threshold, threshold: 1}}", '"metric" is missing'),
        ("alerts: {A: {type: rat, metric: m, threshold: 1}}", "not one of.*did you mean"),
        ("alerts: {A: {type: threshold, metric: 'a-b', threshold: 1}}", "form"),
        ("alerts: {A: {type: threshold, metric: m, threshold: 1, op: '=>'}}", "not one of"),
        ("alerts: {A: {type: threshold, metric: m, threshold: 1, labels: {severity: x}}}", "alert's own"),
        ("alerts: {A: {type: threshold, metric: m, threshold: 1, annotations: {a: '{{ $value'}}}", "no }}"),
        ("alerts: {A: {type: quantile, metric: m_bucket, threshold: 1}}", "without _bucket"),
        ("alerts: {A: {type: quantile, metric: m, threshold: 1, by: [le]}}", "le is what"),
        ("alerts: {A: {type: anomaly, metric: m, samples: 10}}", "never come together"),
        ("alerts: {A: {type: threshold, metric: m, threshold: 1, webhooks: [x]}}", "no webhook 'x'"),
        ("alerting: {webhooks: {x: {url: 'ftp://x/'}}}", "expected http://"),
        ("alerting: {webhooks: {x: {url: 'http://x:99999/'}}}", "no URL"),
    ],
)
def test_wrong_rules(text: str, problem: str) -> None:
    """Said with their place, before anything runs."""
    with pytest.raises(ConfigInvalidError, match=problem):
        parse(text.encode(), file="f.yaml")


def test_the_interval_of_the_scenarios_is_the_default() -> None:
    """What is shown here holds for an agent that was told nothing else."""
    assert parse(b"{}", file="f.yaml").config.alerting.interval == INTERVAL
