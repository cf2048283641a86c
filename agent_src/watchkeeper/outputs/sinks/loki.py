"""Lines to Loki's push API (POST /loki/api/v1/push), in JSON.

A stream is named by few labels: those of the configuration, `level`, and `service`, which is a name of the configuration
as well. Loki wants the times of one stream in order; lines come in order.
"""

from __future__ import annotations

from typing import Any

import msgspec

from watchkeeper.config.schema.outputs import LokiOutput
from watchkeeper.outputs.http import Poster
from watchkeeper.outputs.sinks.otlp import nanoseconds

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class LokiSink:
    """One Loki."""

    def __init__(self, spec: LokiOutput) -> None:
        headers = dict(spec.headers)
        if spec.tenant:
            headers["X-Scope-OrgID"] = spec.tenant
        self._labels = dict(spec.labels)
        self._poster = Poster(f"{spec.url.rstrip('/')}/loki/api/v1/push", headers, spec.tls, spec.timeout)

    def write(self, lines: list[bytes]) -> None:
        streams: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for line in lines:
            service, level, at = _keys(line)
            streams.setdefault((service, level), []).append((str(at), line.decode("utf-8", "replace")))
        body = [
            {"stream": self._labels | {"service": service, "level": level}, "values": values}
            for (service, level), values in streams.items()
        ]
        self._poster.post(_encode({"streams": body}), "application/json")

    def close(self) -> None:
        self._poster.close()


def _keys(line: bytes) -> tuple[str, str, int]:
    try:
        fields = _decode(line)
    except msgspec.MsgspecError:
        fields = {}
    return str(fields.get("service", "")), str(fields.get("level", "")), nanoseconds(fields.get("timestamp"))
