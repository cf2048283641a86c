"""An OTLP/HTTP collector on loopback that believes nothing: what it is sent must be what opentelemetry-proto's JSON says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from aiohttp import web
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.outbound_server import serve

IDS = ("traceId", "spanId", "parentSpanId")


def parse(body: bytes) -> ExportTraceServiceRequest:
    """The message; unknown fields and wrong types raise. Ids are hex digits here, where protobuf itself has base64."""
    request = ExportTraceServiceRequest()
    json_format.ParseDict(_ids(json.loads(body)), request, ignore_unknown_fields=False)
    return request


def _ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_ids(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: base64.b64encode(bytes.fromhex(each)).decode() if name in IDS else _ids(each)
        for name, each in value.items()
    }


class Collector:
    """What it has been sent, and how it answers: `script` holds what comes first, then everything is taken."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], bytes] | None] = []
        """A status, headers and a body; None: the answer never comes."""
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        if self.script:
            answer = self.script.pop(0)
            if answer is None:
                await asyncio.Event().wait()
                raise AssertionError
            status, headers, text = answer
            if status != 200:
                return web.Response(status=status, headers=headers, body=text)
        else:
            headers, text = {}, b"{}"
        if request.headers["Content-Type"] == "application/x-protobuf":
            self.requests.append(ExportTraceServiceRequest.FromString(_plain(request, body)))
            return web.Response(content_type="application/x-protobuf")
        assert request.headers["Content-Type"] == "application/json"
        self.requests.append(parse(_plain(request, body)))
        return web.Response(body=text, headers=headers, content_type="application/json")

    @property
    def spans(self) -> list[Any]:
        return list(self._spans())

    def _spans(self) -> Iterator[Any]:
        for request in self.requests:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    yield from scope.spans

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def resource(self) -> dict[str, str]:
        found = self.requests[0].resource_spans[0].resource.attributes
        return {each.key: each.value.string_value for each in found}


def attributes(span: Any) -> dict[str, Any]:
    """Of a span, as plain values."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def _plain(request: web.Request, body: bytes) -> bytes:
    # aiohttp's server has unpacked what said that it is gzip; a client that lies about it is found out here.
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Until the end of the block."""
    found = Collector()
    async with serve(found.handle) as server:
        found.url = server.url
        yield found
