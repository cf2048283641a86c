"""Spans as OTLP's JSON, for OTLP/HTTP (opentelemetry-proto, "JSON Protobuf Encoding").

Names are in lowerCamelCase, ids in hex digits and not in base64, numbers of 64 bits text, enumerations numbers. Secrets are
left out here, as everywhere where text leaves the agent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from watchkeeper import redact
from watchkeeper._version import __version__
from watchkeeper.tracing import Value
from watchkeeper.tracing.spans import Span

ERROR = 2
"""STATUS_CODE_ERROR."""


class PartialSuccess(msgspec.Struct, rename="camel"):
    """What a collector took of what it was sent."""

    rejected_spans: int = 0
    error_message: str = ""


class Response(msgspec.Struct, rename="camel"):
    """ExportTraceServiceResponse."""

    partial_success: PartialSuccess | None = None


def encode(spans: Iterable[Span], resource: Mapping[str, str]) -> bytes:
    """An ExportTraceServiceRequest."""
    scope = {"name": "watchkeeper", "version": __version__}
    found = {
        "resource": {"attributes": _attributes(resource)},
        "scopeSpans": [{"scope": scope, "spans": [as_json(span) for span in spans]}],
    }
    return msgspec.json.encode({"resourceSpans": [found]})


def as_json(span: Span) -> dict[str, Any]:
    """One span."""
    context = span.context
    found: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "name": span.name,
        "kind": int(span.kind),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
    }
    if span.parent_id:
        found["parentSpanId"] = f"{span.parent_id:016x}"
    if context.state:
        found["traceState"] = context.state
    if span.events:
        found["events"] = [{"timeUnixNano": str(at), "name": text(name)} for at, name in span.events]
    if span.dropped:
        found["droppedAttributesCount"] = span.dropped
    if span.status is not None:
        found["status"] = {"code": ERROR, "message": text(span.message or span.status)}
    return found


def decode(body: bytes) -> PartialSuccess:
    """What a collector answered; nothing, or something else, is a whole success.

    That is the specification's word: a client must not fail because of what stands in the body of a good answer.
    """
    try:
        response = msgspec.json.decode(body, type=Response, strict=False) if body.strip() else Response()
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return PartialSuccess()
    return response.partial_success or PartialSuccess()


def _attributes(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        fits = -(1 << 63) <= value < 1 << 63
        return {"intValue": str(value)} if fits else {"doubleValue": float(value)}
    if isinstance(value, float):
        if math.isfinite(value):
            return {"doubleValue": value}
        return {"doubleValue": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return {"stringValue": text(value)}


def text(value: str) -> str:
    """Without secrets, and without the halves of characters that no UTF-8 has: one of them would keep a whole batch back."""
    value = redact.text(value)
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
