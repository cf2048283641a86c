"""From spans to a collector: what is sent, what happens when it is not taken, and what the OTEL_* variables say."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from support.collector import attributes, collector, parse
from watchkeeper import redact, tracing
from watchkeeper.config.load import parse as parse_config
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.config.schema.tracing import Exporter, SamplerName, TracingSettings
from watchkeeper.errors import ConfigInvalidError
from watchkeeper.outbound.client import Answer, Client, Limits, RequestError
from watchkeeper.tracing import SpanKind, otlp
from watchkeeper.tracing.batch import Batch
from watchkeeper.tracing.environment import Effective, Environment, effective
from watchkeeper.tracing.exporters import Console, ExportError, Otlp
from watchkeeper.tracing.sampling import always
from watchkeeper.tracing.spans import BASE_SIZE, OwnTracer, Span


def settings(environ: dict[str, str] | None = None, **fields: Any) -> Effective:
    return effective(TracingSettings(enabled=True, **fields), Environment(environ or {}))


def spans(count: int = 1) -> list[Span]:
    made: list[Span] = []
    tracer = OwnTracer(always, made.append, seed=1)
    for number in range(count):
        with tracer.start(f"s{number}", SpanKind.INTERNAL, None) as span:
            span.set("n", number)
    return made


def test_encoding() -> None:
    """The proto's own parser reads every kind of value, the ids, the event and the failure as they were."""
    made: list[Span] = []
    tracer = OwnTracer(always, made.append, seed=1)
    with tracer.start("outer", SpanKind.SERVER, None), tracer.start("inner", SpanKind.CLIENT, None) as span:
        values = {
            "t": "text \u00e4 \x00",
            "b": True,
            "i": -(2**53) - 1,
            "f": 0.5,
            "inf": -math.inf,
            "huge": 2**70,
        }
        for key, value in values.items():
            span.set(key, value)
        span.event("half way")
        span.fail("timeout", "no answer")
    request = parse(otlp.encode(made, {"service.name": "w"}))
    scope = request.resource_spans[0].scope_spans[0]
    inner, outer = scope.spans
    assert scope.scope.name == "watchkeeper"
    assert inner.trace_id == outer.trace_id == made[0].context.trace_id.to_bytes(16)
    assert inner.parent_span_id == outer.span_id
    assert outer.parent_span_id == b""
    assert (outer.kind, inner.kind) == (2, 3)
    assert attributes(inner) == values | {"huge": float(2**70), "error.type": "timeout"}
    assert (inner.status.code, inner.status.message) == (2, "no answer")
    assert outer.status.code == 0
    assert [event.name for event in inner.events] == ["half way"]
    assert inner.start_time_unix_nano <= inner.events[0].time_unix_nano <= inner.end_time_unix_nano


def test_not_a_number() -> None:
    """JSON has no NaN; protobuf's JSON has it as text."""
    (span,) = spans()
    span.attributes["x"] = math.nan
    (found,) = parse(otlp.encode([span], {})).resource_spans[0].scope_spans[0].spans
    assert math.isnan(attributes(found)["x"])


@pytest.mark.parametrize(
    ("body", "rejected", "message"),
    [
        (b"", 0, ""),
        (b"{}", 0, ""),
        (b'{"partialSuccess": {}}', 0, ""),
        (b'{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "no"}}', 3, "no"),
        (b'{"partialSuccess": {"rejectedSpans": 3}}', 3, ""),
        (b'{"partialSuccess": {"errorMessage": "a warning"}}', 0, "a warning"),
        (b"[" * 100_000, 0, ""),
        (b'{"partialSuccess": 7}', 0, ""),
        (b"\xff\xfe", 0, ""),
    ],
)
def test_answers(body: bytes, rejected: int, message: str) -> None:
    """A number is a number or text; what is no answer at all is a whole success."""
    found = otlp.decode(body)
    assert (found.rejected_spans, found.error_message) == (rejected, message)


@pytest.mark.asyncio
@pytest.mark.parametrize("compress", [False, True])
async def test_sent(compress: bool) -> None:
    """One POST to /v1/traces with the configured headers; the collector's parser reads it, packed or not."""
    async with collector() as found:
        client = Client()
        wanted = settings(
            endpoint=found.url, headers={"X-Key": "secret"}, resource={"team": "a"}, compress=compress
        )
        assert await Otlp(client, wanted).export(spans(3)) == 0
        assert found.paths == ["/v1/traces"]
        assert [span.name for span in found.spans] == ["s0", "s1", "s2"]
        assert found.headers[0]["X-Key"] == "secret"
        assert found.headers[0].get("Content-Encoding") == ("gzip" if compress else None)
        assert "traceparent" not in found.headers[0]
        assert found.resource() == {
            "service.name": "watchkeeper",
            "service.version": found.resource()["service.version"],
            "telemetry.sdk.name": "watchkeeper",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": found.resource()["telemetry.sdk.version"],
            "team": "a",
        }
        await client.close()


@pytest.mark.asyncio
async def test_tried_again() -> None:
    """X1, X2: 503 and 429 with Retry-After are tried again, after no answer as well; then all spans are there once."""
    async with collector() as found:
        found.script = [(503, {"Retry-After": "0"}, b""), (429, {"Retry-After": "0"}, b""), None]
        client = Client()
        wanted = settings(endpoint=found.url, timeout=0.2)
        exporter = Otlp(client, wanted, chance=lambda: -1.0)  # a wait of nothing
        assert await exporter.export(spans(2)) == 0
        assert len(found.paths) == 4
        assert len(found.spans) == 2
        await client.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "headers", "limit", "text"),
    [
        (400, {}, 30.0, "answers 400: bad  span".replace("  ", " ")),
        (401, {}, 30.0, "answers 401"),
        (500, {}, 30.0, "answers 500"),
        (503, {"Retry-After": "3600"}, 30.0, "answers 503"),
        (429, {}, 0.2, "answers 429"),
    ],
)
async def test_given_up(status: int, headers: dict[str, str], limit: float, text: str) -> None:
    """X1, X3: other statuses are final, and so is a wait that would outlast export_timeout."""
    async with collector() as found:
        found.script = [(status, headers, b"bad\nspan")] * 20
        client = Client()
        with pytest.raises(ExportError, match=text):
            await Otlp(client, settings(endpoint=found.url, export_timeout=limit)).export(spans())
        assert len(found.paths) == 1
        await client.close()


@pytest.mark.asyncio
async def test_the_password_of_a_collector() -> None:
    """What becomes of a batch is logged and stands in /status."""
    async with collector() as found:
        found.script = [(401, {}, b"no")]
        client = Client()
        wanted = settings(endpoint=found.url.replace("http://", "http://me:hidden@"))
        with pytest.raises(ExportError, match="answers 401") as caught:
            await Otlp(client, wanted).export(spans())
        assert "hidden" not in str(caught.value)
        await client.close()


class Busy:
    """A client whose server answers 503 and "at once", after a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.limits = seconds, list[float]()

    async def request(self, _method: str, _url: str, *, limits: Limits, **_rest: Any) -> Answer:
        assert limits.total is not None
        self.limits.append(limits.total)
        if limits.total <= self.seconds:
            await asyncio.sleep(limits.total)
            raise RequestError("no answer in time")
        await asyncio.sleep(self.seconds)
        return Answer(503, {"Retry-After": "0"}, b"")


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize(("seconds", "attempts"), [(0.0, 33), (8.0, 4)])
async def test_again_at_once(seconds: float, attempts: int) -> None:
    """X2, X3: a collector that is always ready for more is not asked without a pause, and not beyond export_timeout."""
    loop = asyncio.get_running_loop()
    begun, client = loop.time(), Busy(seconds)
    exporter = Otlp(cast("Client", client), settings(), chance=lambda: 1.0)
    with pytest.raises(ExportError):
        await exporter.export(spans())
    assert loop.time() - begun <= 30.0
    assert len(client.limits) == attempts


@pytest.mark.asyncio
async def test_partly_taken() -> None:
    """X4: what the collector did not want is counted, its sentence is told, and it is not sent again."""
    async with collector() as found:
        body = b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}'
        found.script = [(200, {}, body)]
        client, told = Client(), []
        assert await Otlp(client, settings(endpoint=found.url), told.append).export(spans(3)) == 1
        assert told == ["1 spans were not taken: too old"]
        assert len(found.paths) == 1
        await client.close()


@pytest.mark.asyncio
async def test_console(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """One line of JSON per span."""
    await Console().export(spans(2))
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == ["s0", "s1"]


class Sink:
    """Takes spans, or not."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate: asyncio.Event | None = None
        self.error: str | None = None
        self.defect: Exception | None = None

    @property
    def names(self) -> list[str]:
        return [name for batch in self.batches for name in batch]

    async def export(self, batch: Sequence[Span]) -> int:
        if self.gate is not None:
            await self.gate.wait()
        if self.defect is not None:
            raise self.defect
        if self.error is not None:
            raise ExportError(self.error)
        self.batches.append([span.name for span in batch])
        return 0


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_batches() -> None:
    """B3: five go together at once, the others when the interval is over."""
    sink = Sink()
    batch = Batch(sink, settings(max_batch=5, interval=3))
    task = asyncio.create_task(batch.run())
    for span in spans(12):
        batch.ended(span)
    await asyncio.sleep(0.1)
    assert [len(each) for each in sink.batches] == [5, 5]
    await asyncio.sleep(3)
    assert [len(each) for each in sink.batches] == [5, 5, 2]
    assert sink.names == [f"s{number}" for number in range(12)]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (batch.tally.exported, batch.bytes) == (12, 0)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_no_room() -> None:
    """B2: while a collector is stuck the queue fills up; then what is new is dropped and counted, and memory stays bounded."""
    sink = Sink()
    sink.gate = asyncio.Event()
    batch = Batch(sink, settings(max_batch=10, max_queue=20, interval=1))
    task = asyncio.create_task(batch.run())
    made = spans(100)
    for span in made[:10]:
        batch.ended(span)
    await asyncio.sleep(2)
    for span in made[10:]:
        batch.ended(span)
    assert (len(batch), batch.tally.dropped) == (20, 70)
    sink.gate.set()
    await asyncio.sleep(5)
    assert sink.names == [f"s{number}" for number in range(30)]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_no_memory() -> None:
    """B2: many attributes count as what they weigh."""
    small = settings(max_memory=BASE_SIZE * 10)
    batch = Batch(Sink(), small)
    for span in spans(100):
        batch.ended(span)
    assert 5 < len(batch) < 10
    assert batch.bytes <= small.max_memory
    assert batch.tally.dropped == 100 - len(batch)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_lost_batch() -> None:
    """B4: it is counted and told, and the next one goes out; that is told as well."""
    sink, told = Sink(), []
    sink.error = "down"
    batch = Batch(sink, settings(max_batch=5, interval=1), told.append)
    task = asyncio.create_task(batch.run())
    made = spans(10)
    for span in made[:5]:
        batch.ended(span)
    await asyncio.sleep(0.5)
    sink.error = None
    for span in made[5:]:
        batch.ended(span)
    await asyncio.sleep(0.5)
    assert told == ["down", None]
    assert (batch.tally.lost, batch.tally.exported) == (5, 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_batch_that_cannot_be_sent() -> None:
    """B4: a defect of ours loses the batch that shows it, and not all that come after it."""
    sink = Sink()
    batch = Batch(sink, settings(max_batch=5))
    made = spans(10)
    for span in made[:5]:
        batch.ended(span)
    sink.defect = ValueError("cannot be written")
    with pytest.raises(ValueError, match="cannot be written"):
        await batch.flush()
    sink.defect = None
    for span in made[5:]:
        batch.ended(span)
    await batch.flush()
    assert (batch.tally.lost, batch.tally.exported, batch.bytes) == (5, 5, 0)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_the_last_flush() -> None:
    """B5: a batch whose sending was cancelled goes out with the flush, before what came after it."""
    sink = Sink()
    sink.gate = asyncio.Event()
    batch = Batch(sink, settings(max_batch=3, interval=1))
    task = asyncio.create_task(batch.run())
    for span in spans(7):
        batch.ended(span)
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(batch) == 7
    sink.gate.set()
    await batch.flush()
    assert sink.names == [f"s{number}" for number in range(7)]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_flush_while_a_batch_is_being_cancelled() -> None:
    """B5: a reload cancels and flushes in one breath; what was on its way comes back first, however long that takes."""

    class Slow(Sink):
        async def export(self, batch: Sequence[Span]) -> int:
            try:
                return await super().export(batch)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
                raise

    sink = Slow()
    sink.gate = asyncio.Event()
    batch = Batch(sink, settings(max_batch=3))
    task = asyncio.create_task(batch.run())
    for span in spans(3):
        batch.ended(span)
    await asyncio.sleep(0.5)
    task.cancel()
    sink.gate.set()
    await batch.flush()
    await asyncio.gather(task, return_exceptions=True)
    assert sink.names == ["s0", "s1", "s2"]


def test_defaults() -> None:
    """Without a word from anybody: OpenTelemetry's own numbers."""
    found = settings()
    assert dataclasses.replace(found, resource={}) == Effective(
        enabled=True,
        exporter=Exporter.OTLP,
        endpoint="http://localhost:4318/v1/traces",
        headers={},
        tls=TlsClient(),
        timeout=10,
        compress=False,
        protocol="http/json",
        resource={},
        sampler=SamplerName.PARENT_ALWAYS_ON,
        ratio=1,
        max_queue=2048,
        max_batch=512,
        max_memory=8 * 1024 * 1024,
        interval=5,
        export_timeout=30,
    )


OTLP = "OTEL_EXPORTER_OTLP_"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OTEL_SDK_DISABLED": "TRUE"}, {"enabled": False}),
        ({"OTEL_SDK_DISABLED": "1"}, {"enabled": True}),
        ({OTLP + "ENDPOINT": "http://c:4318/"}, {"endpoint": "http://c:4318/v1/traces"}),
        ({OTLP + "ENDPOINT": "http://c/base"}, {"endpoint": "http://c/base/v1/traces"}),
        (
            {OTLP + "TRACES_ENDPOINT": "https://t/x", OTLP + "ENDPOINT": "http://c"},
            {"endpoint": "https://t/x"},
        ),
        ({OTLP + "HEADERS": "a=1, b=x%20y"}, {"headers": {"a": "1", "b": "x y"}}),
        ({OTLP + "HEADERS": "a=1", OTLP + "TRACES_HEADERS": "c=3"}, {"headers": {"c": "3"}}),
        ({OTLP + "TIMEOUT": "1500"}, {"timeout": 1.5}),
        ({OTLP + "TRACES_TIMEOUT": "500", OTLP + "TIMEOUT": "9000"}, {"timeout": 0.5}),
        ({OTLP + "COMPRESSION": "gzip"}, {"compress": True}),
        ({OTLP + "PROTOCOL": "http/json"}, {"protocol": "http/json"}),
        ({OTLP + "CERTIFICATE": "/ca.pem"}, {"tls": TlsClient(ca_file="/ca.pem")}),
        ({"OTEL_TRACES_EXPORTER": "console"}, {"exporter": Exporter.CONSOLE}),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"},
            {"sampler": SamplerName.RATIO, "ratio": 0.25},
        ),
        ({"OTEL_BSP_SCHEDULE_DELAY": "200"}, {"interval": 0.2}),
        ({"OTEL_BSP_EXPORT_TIMEOUT": "2000"}, {"export_timeout": 2}),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "7"},
            {"max_queue": 100, "max_batch": 7},
        ),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, {"max_queue": 100, "max_batch": 100}),
        ({OTLP + "ENDPOINT": "  "}, {"endpoint": "http://localhost:4318/v1/traces"}),
    ],
)
def test_variables(environ: dict[str, str], expected: dict[str, Any]) -> None:
    """Each variable, with its own unit and precedence, and without a warning."""
    environment = Environment(environ)
    found = effective(TracingSettings(enabled=True), environment)
    assert {name: getattr(found, name) for name in expected} == expected
    assert environment.warnings == []


def test_resource() -> None:
    """V5: OTEL_SERVICE_NAME beats the list, the configuration beats both."""
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=list,zone=a%2Cb", "OTEL_SERVICE_NAME": "own"}
    assert settings(environ).resource["service.name"] == "own"
    assert settings(environ).resource["zone"] == "a,b"
    named = settings(environ, service_name="mine", resource={"zone": "c"})
    assert (named.resource["service.name"], named.resource["zone"]) == ("mine", "c")
    del environ["OTEL_SERVICE_NAME"]
    assert settings(environ).resource["service.name"] == "list"


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_SAMPLER": "sometimes"},
        {"OTEL_TRACES_SAMPLER_ARG": "2"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
        {"OTEL_BSP_SCHEDULE_DELAY": "soon"},
        {"OTEL_BSP_SCHEDULE_DELAY": "nan"},
        {OTLP + "ENDPOINT": "localhost:4318"},
        {OTLP + "HEADERS": "no equals sign"},
        {OTLP + "TIMEOUT": "0"},
        {OTLP + "PROTOCOL": "carrier-pigeon"},
        {OTLP + "COMPRESSION": "zstd"},
        {"OTEL_RESOURCE_ATTRIBUTES": "=x"},
    ],
)
def test_nonsense_in_variables(environ: dict[str, str]) -> None:
    """V2: it is warned about by its name, and the default holds."""
    environment = Environment(environ)
    found = effective(TracingSettings(enabled=True), environment)
    (warning,) = environment.warnings
    assert warning.startswith(next(iter(environ)))
    assert found == settings()


def test_a_protocol_of_the_sdk() -> None:
    """grpc and http/protobuf are said to need the SDK; spans are sent all the same."""
    environment = Environment({OTLP + "PROTOCOL": "grpc"})
    effective(TracingSettings(enabled=True), environment)
    assert environment.warnings == ["the protocol grpc needs tracing.sdk; spans are sent as http/json"]


def test_the_configuration_beats_the_environment() -> None:
    """What is written down holds, whatever the variables say."""
    environ = {OTLP + "ENDPOINT": "http://c", OTLP + "TIMEOUT": "1", "OTEL_TRACES_SAMPLER": "always_off"}
    found = settings(environ, endpoint="http://mine:1", timeout=7.0, sampler=SamplerName.ALWAYS_ON)
    assert (found.endpoint, found.timeout, found.sampler) == (
        "http://mine:1/v1/traces",
        7.0,
        SamplerName.ALWAYS_ON,
    )


def test_secrets_stay_secret() -> None:
    """Headers are not part of what is printed."""
    assert "hidden" not in repr(settings(headers={"Authorization": "hidden"}))


def test_secrets_in_variables_that_mean_nothing() -> None:
    """V2: the warning goes to the log."""
    environment = Environment(
        {
            OTLP + "HEADERS": "Authorization: Bearer hidden",
            OTLP + "TRACES_HEADERS": "Bearer hidden",
            OTLP + "ENDPOINT": "me:hidden@collector:4318/?key=hidden",
        }
    )
    effective(TracingSettings(enabled=True), environment)
    assert len(environment.warnings) == 2
    assert "hidden" not in str(environment.warnings)


@pytest.fixture
def secret() -> Iterator[str]:
    redact.add("hunter-2")
    yield "hunter-2"
    redact.forget()


def test_secrets_in_spans(secret: str) -> None:
    """What a command printed, an address or an error may hold one; and half a character keeps no batch back."""
    made: list[Span] = []
    with OwnTracer(always, made.append, seed=1).start("s", SpanKind.INTERNAL, None) as span:
        span.set("a", f"x {secret}")
        span.event(f"y {secret}")
        span.fail("check_failed", f"z {secret} \ud800")
    sent = otlp.encode(made, {"r": secret})
    assert secret.encode() not in sent
    (found,) = parse(sent).resource_spans[0].scope_spans[0].spans
    assert (attributes(found)["a"], found.events[0].name) == ("x [redacted]", "y [redacted]")
    assert found.status.message == r"z [redacted] \ud800"


@pytest.mark.asyncio
async def test_secrets_in_spans_of_the_sdk(secret: str) -> None:
    """The SDK has a way out of its own."""
    sdk = pytest.importorskip("watchkeeper.tracing.sdk")
    async with collector() as found:
        tracer = sdk.SdkTracer(settings(endpoint=found.url))
        with tracer.start("s", SpanKind.INTERNAL, None) as span:
            span.set("a", f"x {secret}")
            span.event(f"y {secret}")
            span.fail("check_failed", f"z {secret}")
        await asyncio.to_thread(tracer.shut_down)
        (sent,) = found.named("s")
        assert (attributes(sent)["a"], sent.events[0].name) == ("x [redacted]", "y [redacted]")
        assert sent.status.message == "z [redacted]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("endpoint: 'localhost:4318'", "tracing.endpoint: 'localhost:4318' is not http://HOST:PORT"),
        ("endpoint: 'http://[::1'", "tracing.endpoint"),
        ("{sampler: always_on, ratio: 0.5}", "tracing.ratio: has no meaning with the sampler always_on"),
        ("{max_queue: 10, max_batch: 20}", "tracing.max_batch: is more than max_queue"),
        ("{sampler: sometimes}", "tracing.sampler"),
        ("{ratio: 2}", "tracing.ratio"),
    ],
)
def test_rules(text: str, problem: str) -> None:
    """A wrong section is refused with the place and a sentence."""
    body = text if text.startswith("{") else "{" + text + "}"
    with pytest.raises(ConfigInvalidError, match=problem):
        parse_config(f"tracing: {body}".encode(), file="f.yaml")


@pytest.mark.asyncio
async def test_the_sdk() -> None:
    """With the SDK behind the same face: nested spans, a failure and a parent from elsewhere reach the collector as protobuf."""
    sdk = pytest.importorskip("watchkeeper.tracing.sdk")
    async with collector() as found:
        tracer = sdk.SdkTracer(settings(endpoint=found.url, headers={"X-Key": "k"}, service_name="via-sdk"))
        tracing.use(tracer)
        try:
            parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            sent: dict[str, str] = {}
            with tracing.served("GET /", {"traceparent": parent, "tracestate": "a=1"}.get) as outer:
                outer.set("k", "v")
                with pytest.raises(ZeroDivisionError), tracing.span("inner") as inner:
                    _ = len(sent) / (inner.inject(sent) or 0)
            assert sent["tracestate"] == "a=1"
        finally:
            tracing.use(None)
            await asyncio.to_thread(tracer.shut_down)
        (server,), (child,) = found.named("GET /"), found.named("inner")
        assert server.trace_id.hex() == child.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
        assert server.parent_span_id.hex() == "b7ad6b7169203331"
        assert child.parent_span_id == server.span_id
        assert sent["traceparent"] == f"00-{child.trace_id.hex()}-{child.span_id.hex()}-01"
        assert child.status.code == 2
        assert attributes(child)["error.type"] == "ZeroDivisionError"
        assert found.resource()["service.name"] == "via-sdk"
        assert {name.lower(): value for name, value in found.headers[0].items()}["x-key"] == "k"
