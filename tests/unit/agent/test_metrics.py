"""The registry: what a metric may be called, how many series it may have, and how it is written."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.utils import floatToGoString

from watchkeeper.errors import ErrorClass
from watchkeeper.metrics import Metrics, render, sources
from watchkeeper.metrics.families import Counter, Family, Gauge, Histogram, Limits, Summary
from watchkeeper.metrics.render import Registry
from watchkeeper.metrics.values import HORIZON, SummaryValue, number

NAMES = st.sampled_from(["check", "alpha", "zone", "mode", "path"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
NUMBERS = st.floats() | st.integers(-(2**60), 2**60).map(float)


@st.composite
def families(draw: st.DrawFn) -> Family[object]:  # type: ignore[type-var]
    """A family of any type, with any labels, texts and numbers."""
    labels = tuple(draw(st.lists(NAMES, max_size=3, unique=True)))
    text = draw(TEXTS)
    kind = draw(st.sampled_from([Counter, Gauge, Histogram, Summary]))
    options = {"buckets": (-1.0, 0.5, 2e7)} if kind is Histogram and draw(st.booleans()) else {}
    family = kind("watchkeeper_a_b" + ("_total" if kind is Counter else ""), text, labels, **options)
    for _ in range(draw(st.integers(0, 4))):
        series = family.labels(*(draw(TEXTS) for _ in labels))
        value = draw(NUMBERS)
        if kind is Counter:
            series.inc(abs(value))
        elif kind is Gauge:
            series.set(value)
        else:
            series.observe(value)
    return family  # type: ignore[return-value]


@settings(max_examples=400, deadline=None)
@given(families())
def test_written_as_prometheus_client_writes_it(family: Family[object]) -> None:  # type: ignore[type-var]
    """Byte for byte, in the text format and in OpenMetrics, with any text in labels and help."""
    registry = Registry()
    registry.register(family)
    assert render(registry) == generate_latest(registry)
    assert render(registry, openmetrics=True) == generate_openmetrics(registry)


@given(NUMBERS)
def test_numbers_as_go_writes_them(value: float) -> None:
    """The same text as prometheus_client's, also where Go takes an exponent and Python does not."""
    assert number(value) == floatToGoString(value)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_histograms_count_as_prometheus_client_does(amounts: list[float]) -> None:
    """On the bound as well as between two."""
    ours = Histogram("watchkeeper_a_b", "t", buckets=(0.0, 0.5, 5.0))
    theirs = TheirHistogram("watchkeeper_a_b", "t", registry=None, buckets=(0.0, 0.5, 5.0))
    for amount in [*amounts, 0.5, 5.0]:
        ours.observe(amount)
        theirs.observe(amount)
    names = {"_bucket", "_count", "_sum"}
    [mine], [other] = ours.collect(), theirs.collect()
    expected = [one for one in other.samples if any(one.name.endswith(name) for name in names)]
    assert mine.samples == expected


class Foreign:
    """Somebody else's collector."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("their", 'of "theirs"', value={"a": "b"})
        if self.broken:
            raise OSError("gone")


def test_other_collectors_are_written_too() -> None:
    """By prometheus_client itself; # EOF stands once, at the end."""
    registry, theirs = Registry(), CollectorRegistry()
    for collector in (Foreign(), Counter("watchkeeper_a_b_total", "t"), Foreign()):
        registry.register(collector)
        theirs.register(collector)
    assert render(registry) == generate_latest(theirs)
    assert render(registry, openmetrics=True) == generate_openmetrics(theirs)


def test_a_collector_that_fails_takes_nobody_along() -> None:
    """What it has begun is left out, and the failure is counted."""
    metrics = Metrics()
    metrics.registry.register(Foreign(broken=True))
    metrics.gauge("a_b", "t").set(3)
    text = render(metrics.registry).decode()
    assert "their" not in text
    assert "watchkeeper_a_b 3.0\n" in text
    assert metrics.errors.labels(ErrorClass.INTERNAL.value).value == 1


def test_a_function_that_fails() -> None:
    """Its series is NaN; it would else take the whole page with it."""
    metrics = Metrics()
    metrics.gauge("a_b", "t").set_function(lambda: 1 / 0)
    assert b"watchkeeper_a_b NaN\n" in render(metrics.registry)


@pytest.mark.parametrize(
    ("kind", "name", "labels", "why"),
    [
        ("gauge", "Bytes_used", (), "lower-case"),
        ("gauge", "load", (), "SUBSYSTEM"),
        ("gauge", "disk__used", (), "lower-case"),
        ("gauge", "disk_used-bytes", (), "lower-case"),
        ("counter", "disk_reads", (), "_total"),
        ("gauge", "disk_reads_total", (), "_total"),
        ("gauge", "disk_wait_milliseconds", (), "milliseconds is no base unit"),
        ("gauge", "cpu_used_percent", (), "percent is no base unit"),
        ("gauge", "disk_reads_count", (), "kept for"),
        ("gauge", "disk_gauge_bytes", (), "TYPE"),
        ("gauge", "disk_used_bytes", ("a", "b", "c", "d", "e", "f"), "more than 5"),
        ("gauge", "disk_used_bytes", ("a", "a"), "twice"),
        ("gauge", "disk_used_bytes", ("le",), "'le' cannot"),
        ("gauge", "disk_used_bytes", ("a-b",), "'a-b' cannot"),
    ],
)
def test_names_that_are_refused(kind: str, name: str, labels: tuple[str, ...], why: str) -> None:
    """Nothing is made, and the text says what is wrong."""
    metrics = Metrics()
    with pytest.raises(ValueError, match=why):
        getattr(metrics, kind)(name, "t", *labels)
    assert b"disk" not in render(metrics.registry)


def test_five_labels_are_allowed() -> None:
    """The limit itself is within it."""
    Metrics().gauge("disk_used_bytes", "t", "a", "b", "c", "d", "e").labels(*"12345").set(1)


def test_asked_for_again() -> None:
    """The same family; under the same name nothing else can be had."""
    metrics = Metrics()
    assert metrics.counter("a_b_total", "t", "x") is metrics.counter("a_b_total", "other", "x")
    with pytest.raises(ValueError, match="already a counter"):
        metrics.counter("a_b_total", "t", "y")
    metrics.discard("a_b_total")
    assert b"watchkeeper_a_b" not in render(metrics.registry)
    metrics.counter("a_b_total", "t", "y").labels("v").inc()


def test_overflow() -> None:
    """Over the limit counters are added up in one series, each such write is counted, and who was there stays."""
    metrics = Metrics()
    metrics.limits.series = 2
    family = metrics.counter("a_b_total", "t", "x", "y")
    for name in ("1", "2", "3", "4", "1"):
        family.labels(name, "z").inc(2)
    value = metrics.registry.get_sample_value
    assert value("watchkeeper_a_b_total", {"x": "1", "y": "z"}) == 4
    assert value("watchkeeper_a_b_total", {"x": "overflow", "y": "overflow"}) == 4
    assert len(family) == 3
    assert value("watchkeeper_metrics_overflow_total", {"metric": "watchkeeper_a_b_total"}) == 2
    metrics.drop("a_b_total", "x", "1")
    family.labels("5", "z").inc()
    assert value("watchkeeper_a_b_total", {"x": "5", "y": "z"}) == 1


def test_replaced() -> None:
    """What is no longer there goes, what stays keeps its series, and the limit holds."""
    family = Gauge("watchkeeper_a_b", "t", ("x",), limits=Limits(series=3))
    family.replace({("1",): 1, ("2",): 2})
    kept = family.labels("2")
    family.replace({("2",): 5, ("3",): 3, ("4",): 4, ("5",): 5, ("6",): 6})
    assert family.labels("2") is kept
    found = {key[0]: one.value for key, one in family.items()}
    assert found == {"2": 5, "3": 3, "4": 4, "overflow": 11}
    family.replace({("1",): 1})
    assert {key[0] for key, _ in family.items()} == {"1"}


def test_labels_by_name_and_wrong_ones() -> None:
    """As prometheus_client has it."""
    family = Counter("watchkeeper_a_b_total", "t", ("x", "y"))
    assert family.labels(y=2, x="1") is family.labels("1", "2")
    for values, named in ((("1",), {}), (("1", "2", "3"), {}), ((), {"x": 1}), (("1",), {"y": 1})):
        with pytest.raises(ValueError, match="labels"):
            family.labels(*values, **named)
    with pytest.raises(ValueError, match="has labels"):
        family.inc()
    with pytest.raises(ValueError, match="does not fall"):
        family.labels("1", "2").inc(-1)
    family.remove("1", "2")
    assert len(family) == 0


def test_names_of_files_that_are_no_text() -> None:
    """A mount point may have any bytes; the page stays readable."""
    metrics = Metrics()
    metrics.gauge("a_b", "t", "mount").labels("/mnt/\udcff").set(1)
    assert b'watchkeeper_a_b{mount="/mnt/?"} 1.0' in render(metrics.registry)


def test_quantiles() -> None:
    """By nearest rank over what is young enough; without any there is no number."""
    now = [0.0]
    value = SummaryValue("", "", lambda: now[0])
    for amount in range(100):
        value.observe(amount)
    value.observe(float("nan"))
    assert value.quantiles((0.5, 0.9, 0.99, 1)) == [50, 90, 99, 99]
    now[0] = HORIZON + 1
    value.observe(7)
    assert value.quantiles((0.5,)) == [7]
    assert value.count == 101
    now[0] = 3 * HORIZON
    assert value.quantiles((0.5,))[0] != value.quantiles((0.5,))[0]


def test_time_spent_in_a_block() -> None:
    """An exception does not lose the observation."""
    family = Histogram("watchkeeper_a_b", "t")
    with pytest.raises(OSError, match="x"), family.time():
        raise OSError("x")
    assert family.only.count == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_agent_s_own_process_beside_psutil() -> None:
    """What /proc says of the agent is what psutil says: equal where it stands still, between two readings where it grows."""
    before, found, after = (
        sources._usage_from_psutil(),
        sources._usage_from_proc(),
        sources._usage_from_psutil(),
    )
    assert before.cpu_seconds - 0.1 <= found.cpu_seconds <= after.cpu_seconds + 0.1
    assert found.started == pytest.approx(before.started, abs=1.0)
    assert found.threads == before.threads
    assert found.files in {
        before.files,
        before.files - 1,
    }  # psutil counts the descriptor that it lists them with
    assert found.resident == pytest.approx(after.resident, rel=0.1)
    assert found.virtual == pytest.approx(after.virtual, rel=0.1)


PIECES = """
import gc
from watchkeeper.metrics import Metrics
found = Metrics().find("watchkeeper_python_blocks")

def pieces():
    gc.collect()
    [(_, _, _, value)] = found.samples()
    return value

pieces()
before = pieces()
held = [object() for _ in range(10_000)]
print(int(pieces() - before))
held.clear()
print(int(pieces() - before))
"""


def test_pieces_of_memory() -> None:
    """What is held counts, what was let go does not; in a process without other tests' garbage."""
    ended = subprocess.run([sys.executable, "-c", PIECES], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    held, let_go = map(int, ended.stdout.split())
    assert 10_000 <= held < 10_100
    assert abs(let_go) < 100


def test_rendering_is_fast_enough_for_the_loop() -> None:
    """3,000 lines take less processor time than prometheus_client needs for the same, by a factor of three at least."""
    metrics = Metrics()
    for number_ in range(100):
        for outcome in ("success", "failure", "error"):
            metrics.check_runs.labels(f"check-{number_}", outcome).inc()
        metrics.check_success.labels(f"check-{number_}", "readiness").set(1)
        for _ in range(3):
            metrics.check_duration.labels(f"check-{number_}").observe(0.2)
    for number_ in range(1600):
        metrics.histogram("a_b_seconds", "t", "x").labels(number_ % 125).observe(number_)
    assert len(render(metrics.registry).splitlines()) >= 3000

    def cost(run: object) -> float:
        best = 1e9
        for _ in range(5):
            started = time.process_time()
            run(metrics.registry)  # type: ignore[operator]
            best = min(best, time.process_time() - started)
        return best

    assert 3 * cost(render) < cost(generate_latest)
