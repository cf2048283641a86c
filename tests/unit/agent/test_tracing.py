"""Spans: what they cost while they are off, what they say when they are on, and what travels between programs."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper import logs, tracing
from watchkeeper.tracing import SpanKind
from watchkeeper.tracing.context import SpanContext, from_headers, to_headers
from watchkeeper.tracing.sampling import SAMPLERS, always, never, ratio
from watchkeeper.tracing.spans import LONGEST_VALUE, MOST_ATTRIBUTES, OwnTracer, Span

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def ended() -> Iterator[list[Span]]:
    """Tracing is on; the spans that have ended."""
    spans: list[Span] = []
    tracing.use(OwnTracer(always, spans.append, seed=1))
    yield spans
    tracing.use(None)


def test_off_makes_nothing() -> None:
    """A span that nobody wants leaves no object behind, not even for a moment: a thousand of them allocate nothing."""

    def work() -> None:
        with tracing.span("reconcile") as span:
            if span.recording:
                span.set("key", "value")
            span.event("e")
            span.fail("x")

    numbers = range(1000)
    for _ in numbers:
        work()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in numbers:
            work()
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert now - before < 1000  # less than a byte each
    assert peak - before <= 1024  # frames; a span alone would have a kilobyte
    assert tracing.span("a") is tracing.span("b") is tracing.NOTHING
    assert tracing.served("a", {"traceparent": PARENT}.get) is tracing.NOTHING


def test_off_imports_nothing() -> None:
    """Neither OpenTelemetry nor the agent's own spans, random or secrets."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from watchkeeper import tracing\n"
        "with tracing.span('x') as span: span.inject({})\n"
        "print(sorted(m for m in set(sys.modules) - before if m.startswith(('watchkeeper.', 'opentelemetry', 'random'))))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "['watchkeeper._version', 'watchkeeper.tracing']"


def test_spans_are_nested(ended: list[Span]) -> None:
    """S1: the one that is entered is the parent; behind it the one outside is again."""
    with tracing.span("outer") as outer:
        with tracing.span("inner"):
            assert tracing.trace_id() == outer.trace_id
        with tracing.span("second", SpanKind.CLIENT):
            pass
    inner, second, last = ended
    assert last.parent_id == 0
    assert inner.parent_id == second.parent_id == last.context.span_id
    assert len({span.context.trace_id for span in ended}) == 1
    assert len({span.context.span_id for span in ended}) == 3
    assert second.kind is SpanKind.CLIENT
    assert last.start_ns <= inner.start_ns <= inner.end_ns <= second.end_ns <= last.end_ns
    assert tracing.trace_id() == ""


@pytest.mark.asyncio
async def test_tasks_belong_to_their_maker(ended: list[Span]) -> None:
    """S1: a task that is started within is a child, also when it ends later; tasks side by side do not mix."""

    async def work(name: str) -> None:
        with tracing.span(name):
            await asyncio.sleep(0)
            with tracing.span(f"{name}-inner"):
                await asyncio.sleep(0)

    with tracing.span("maker"):
        tasks = [asyncio.create_task(work(name)) for name in "ab"]
    await asyncio.gather(*tasks)
    by_name = {span.name: span for span in ended}
    for name in "ab":
        assert by_name[name].parent_id == by_name["maker"].context.span_id
        assert by_name[f"{name}-inner"].parent_id == by_name[name].context.span_id


def fail(span: tracing.AnySpan) -> Exception:
    span.fail("timeout", "no answer")
    return ValueError("text")


def test_failures(ended: list[Span]) -> None:
    """S2: an exception fails the span and goes on; what was said of the failure before stays; a cancellation is none."""
    with pytest.raises(ZeroDivisionError), tracing.span("a"):
        _ = 1 / 0
    with pytest.raises(ValueError, match="text"), tracing.span("b") as span:
        raise fail(span)
    with pytest.raises(asyncio.CancelledError), tracing.span("c"):
        raise asyncio.CancelledError
    assert [(span.status, span.message) for span in ended] == [
        ("ZeroDivisionError", "division by zero"),
        ("timeout", "no answer"),
        (None, ""),
    ]


def test_an_end_is_one(ended: list[Span]) -> None:
    """The second end is none."""
    with tracing.span("a") as span:
        span.end()
    span.end()
    assert len(ended) == 1


def test_limits_of_a_span(ended: list[Span]) -> None:
    """128 attributes, 4096 characters each; what is over that is counted, and what a span weighs grows with it."""
    with tracing.span("a") as span:
        for number in range(MOST_ATTRIBUTES + 5):
            span.set(f"k{number}", "v" * 10_000)
        span.set("k0", "new")
        for _ in range(500):
            span.event("e")
    (found,) = ended
    assert len(found.attributes) == MOST_ATTRIBUTES
    assert found.dropped == 5
    assert found.attributes["k0"] == "new"
    assert len(str(found.attributes["k1"])) == LONGEST_VALUE
    assert len(found.events) == MOST_ATTRIBUTES
    assert found.size > MOST_ATTRIBUTES * LONGEST_VALUE


def test_log_lines_carry_the_trace(ended: list[Span], capsys: pytest.CaptureFixture[str]) -> None:
    """`trace_id` of a line is that of the span it was written in; without one there is none."""
    with tracing.span("a") as span:
        inside = logs._line(0.0, "INFO", "x", "m", {})
    outside = logs._line(0.0, "INFO", "x", "m", {})
    assert inside["trace_id"] == span.trace_id == f"{ended[0].context.trace_id:032x}"
    assert "trace_id" not in outside


def test_quiet(ended: list[Span]) -> None:
    """Within `quiet` nothing is recorded: sending spans makes no spans."""
    with tracing.quiet(), tracing.span("a"):
        pass
    assert ended == []


def test_a_request_of_others_is_the_parent(ended: list[Span]) -> None:
    """S3: the trace goes on, tracestate included, and what is sent from within names the new span."""
    headers = {"traceparent": PARENT, "tracestate": "a=1,b=2"}
    sent: dict[str, str] = {}
    with tracing.served("GET /", headers.get), tracing.span("GET", SpanKind.CLIENT) as client:
        client.inject(sent)
    inner, server = ended
    assert f"{server.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{server.parent_id:016x}" == "b7ad6b7169203331"
    assert sent == {
        "traceparent": f"00-0af7651916cd43dd8448eb211c80319c-{inner.context.span_id:016x}-01",
        "tracestate": "a=1,b=2",
    }


def test_what_is_not_sampled_is_said(ended: list[Span]) -> None:
    """A parent that is not recorded makes children that are not, and others are told."""
    tracing.use(OwnTracer(SAMPLERS["parentbased_always_on"](1), ended.append))
    sent: dict[str, str] = {}
    with tracing.served("GET /", {"traceparent": PARENT[:-1] + "0"}.get) as span:
        assert not span.recording
        span.set("k", "v")
        span.inject(sent)
    assert ended == []
    assert sent["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert sent["traceparent"].endswith("-00")


GOOD_PARENTS = [
    PARENT,
    PARENT[:-2] + "00",
    PARENT[:-2] + "ff",
    "01" + PARENT[2:],
    "cc" + PARENT[2:] + "-what-the-future-brings",
    f"  {PARENT} ",
]
BAD_PARENTS = [
    None,
    "",
    "nonsense",
    PARENT.upper(),
    "ff" + PARENT[2:],
    PARENT + "-00",
    "01" + PARENT[2:] + "x",
    PARENT[:-1],
    "00-" + "0" * 32 + PARENT[35:],
    PARENT[:36] + "0" * 16 + PARENT[52:],
    PARENT.replace("-", "_"),
    PARENT.replace("0af", "0\u0661f"),
]


@pytest.mark.parametrize("text", GOOD_PARENTS)
def test_good_parents(text: str) -> None:
    """W1, W2: version 00 exactly, later ones with whatever follows; only the lowest bit of the flags counts."""
    found = from_headers({"traceparent": text}.get)
    assert found is not None
    assert found.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert found.span_id == 0xB7AD6B7169203331
    assert found.sampled is not text.strip().endswith("-00")
    assert found.remote


@pytest.mark.parametrize("text", BAD_PARENTS)
def test_bad_parents(text: str | None) -> None:
    """W3: what cannot be read is no parent, and its tracestate is not looked at."""
    headers = {"tracestate": "a=1"} | ({} if text is None else {"traceparent": text})
    assert from_headers(headers.get) is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a=1", "a=1"),
        ("a=1, b=2 ,c=3", "a=1,b=2,c=3"),
        ("tenant@system=x,a_-*/=y z", "tenant@system=x,a_-*/=y z"),
        ("a=1,,b=2", "a=1,b=2"),
        ("a=1,a=2", ""),
        ("a", ""),
        ("A=1", ""),
        ("a=", ""),
        ("a=b=c", ""),
        ("a=\u00e4", ""),
        (",".join(f"k{n}=v" for n in range(32)), ",".join(f"k{n}=v" for n in range(32))),
        (",".join(f"k{n}=v" for n in range(33)), ""),
        (",".join(f"{'k' * 50}{n}={'v' * 50}" for n in range(6)), ""),
        (None, ""),
    ],
)
def test_tracestate(text: str | None, kept: str) -> None:
    """W4: handed on as it came, or left out; the parent is kept either way."""
    headers = {"traceparent": PARENT} | ({} if text is None else {"tracestate": text})
    found = from_headers(headers.get)
    assert found is not None
    assert found.state == kept


@given(
    trace=st.integers(1, (1 << 128) - 1),
    span=st.integers(1, (1 << 64) - 1),
    sampled=st.booleans(),
    state=st.sampled_from(["", "a=1", "a=1,b@c=2"]),
)
def test_there_and_back(trace: int, span: int, sampled: bool, state: str) -> None:
    """What is written is read again as it was."""
    headers: dict[str, str] = {}
    to_headers(SpanContext(trace, span, sampled, state), headers)
    assert from_headers(headers.get) == SpanContext(trace, span, sampled, state, remote=True)


@given(st.text(max_size=80), st.text(max_size=600))
def test_headers_of_anybody(parent: str, state: str) -> None:
    """Whatever comes, the answer is a span or none."""
    found = from_headers({"traceparent": parent, "tracestate": state}.get)
    assert found is None or (found.trace_id and found.span_id)


def test_ratio() -> None:
    """A share of the traces, the same ones for everybody who uses the same share; more of them with a larger share."""
    ids = [(number * 0x9E3779B97F4A7C15) % (1 << 64) | 1 << 100 for number in range(1, 4001)]
    tenth, half = ratio(0.1), ratio(0.5)
    chosen = [each for each in ids if tenth(None, each)]
    assert 300 < len(chosen) < 500
    assert all(half(None, each) for each in chosen)
    assert not any(ratio(0)(None, each) for each in ids)
    assert all(ratio(1)(None, each) for each in ids)


@pytest.mark.parametrize(
    ("name", "alone", "above", "below"),
    [
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("traceidratio", True, True, True),
        ("parentbased_always_on", True, True, False),
        ("parentbased_always_off", False, True, False),
        ("parentbased_traceidratio", True, True, False),
    ],
)
def test_samplers(name: str, alone: bool, above: bool, below: bool) -> None:
    """Without a parent, with one that is recorded, and with one that is not."""
    sampler = SAMPLERS[name](1.0)
    assert sampler(None, 7) is alone
    assert sampler(SpanContext(7, 1, True), 7) is above
    assert sampler(SpanContext(7, 1, False), 7) is below
    assert not never(None, 7)


@pytest.mark.asyncio
async def test_long_lived_tasks_have_no_parent(ended: list[Span]) -> None:
    """What `Tasks` starts from within a span begins traces of its own: a task that runs for weeks is no part of one."""
    from watchkeeper.metrics import Metrics
    from watchkeeper.tasks import Tasks

    done = asyncio.Event()

    async def run() -> None:
        with tracing.span("later"):
            done.set()

    tasks = Tasks(Metrics())
    with tracing.span("starter"):
        tasks.start("long", run)
    await done.wait()
    await tasks.stop(1)
    by_name = {span.name: span for span in ended}
    assert by_name["later"].parent_id == 0
    assert by_name["later"].context.trace_id != by_name["starter"].context.trace_id
