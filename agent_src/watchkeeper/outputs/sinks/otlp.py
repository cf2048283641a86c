"""Lines to an OpenTelemetry collector: OTLP over HTTP, in JSON (opentelemetry-proto, docs/specification.md).

A line becomes a log record: its message is the body, `timestamp` and `level` have fields of their own, `trace_id` as well;
everything else is an attribute. Ids are hexadecimal and 64-bit numbers are text, as OTLP's JSON encoding wants them.
"""

from __future__ import annotations

import re
import socket
from datetime import datetime
from typing import Any

import msgspec

from watchkeeper._version import __version__
from watchkeeper.config.schema.outputs import OtlpOutput
from watchkeeper.outputs.http import Poster
from watchkeeper.outputs.writer import RefusedError

SEVERITIES = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "FATAL": 21}
"""opentelemetry-proto, logs.proto: SeverityNumber."""
SCOPE = {"name": "watchkeeper", "version": __version__}
_TRACE = re.compile(r"[0-9a-f]{32}")
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class OtlpSink:
    """One collector."""

    def __init__(self, spec: OtlpOutput) -> None:
        url = spec.url.rstrip("/")
        self._poster = Poster(
            url if url.endswith("/v1/logs") else f"{url}/v1/logs", spec.headers, spec.tls, spec.timeout
        )
        names = {
            "service.name": "watchkeeper",
            "service.version": __version__,
            "host.name": socket.gethostname(),
        }
        self._resource = {"attributes": attributes({**names, **spec.resource})}

    def write(self, lines: list[bytes]) -> None:
        scope = {"scope": SCOPE, "logRecords": [record(line) for line in lines]}
        body = {"resourceLogs": [{"resource": self._resource, "scopeLogs": [scope]}]}
        rejected, why = _rejected(self._poster.post(_encode(body), "application/json"))
        if rejected:
            raise RefusedError(f"{self._poster.url}: {rejected} lines were rejected: {why}", rejected)

    def close(self) -> None:
        self._poster.close()


def record(line: bytes) -> dict[str, Any]:
    """One line as a LogRecord."""
    try:
        fields = _decode(line)
    except msgspec.MsgspecError:
        return {"body": {"stringValue": line.decode("utf-8", "replace")}}
    level = str(fields.pop("level", ""))
    found: dict[str, Any] = {
        "timeUnixNano": str(nanoseconds(fields.pop("timestamp", None))),
        "severityNumber": SEVERITIES.get(level, 0),
        "severityText": level,
        "body": value(fields.pop("message", "")),
    }
    trace = fields.get("trace_id")
    if isinstance(trace, str) and _TRACE.fullmatch(trace):
        found["traceId"] = fields.pop("trace_id")
    found["attributes"] = attributes(fields)
    return found


def attributes(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """A mapping as a list of KeyValue."""
    return [{"key": key, "value": value(item)} for key, item in fields.items()]


def value(item: Any) -> dict[str, Any]:
    """Plain data as an AnyValue."""
    if isinstance(item, bool):
        return {"boolValue": item}
    if isinstance(item, int):
        return {"intValue": str(item)} if -(1 << 63) <= item < 1 << 63 else {"stringValue": str(item)}
    if isinstance(item, float):
        return {"doubleValue": item}
    if isinstance(item, list):
        return {"arrayValue": {"values": [value(each) for each in item]}}
    if isinstance(item, dict):
        return {"kvlistValue": {"values": attributes(item)}}
    return {"stringValue": "" if item is None else str(item)}


def nanoseconds(timestamp: object) -> int:
    """Since the epoch; 0: unknown."""
    try:
        moment = datetime.fromisoformat(str(timestamp))
    except ValueError:
        return 0
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def _rejected(answer: bytes) -> tuple[int, str]:
    """A success may be a partial one (ExportLogsPartialSuccess)."""
    try:
        partial = _decode(answer or b"{}").get("partialSuccess") or {}
        return int(partial.get("rejectedLogRecords", 0)), str(partial.get("errorMessage", ""))
    except (msgspec.MsgspecError, ValueError, AttributeError, TypeError, RecursionError):
        return 0, ""
