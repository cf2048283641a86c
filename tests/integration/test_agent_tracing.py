"""The agent's own traces, from the process that makes them to a collector."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import Agent
from support.collector import attributes, collector
from support.outbound_server import until

pytestmark = pytest.mark.asyncio
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextlib.asynccontextmanager
async def agent(folder: Path, config: dict[str, Any], *options: str) -> AsyncIterator[Agent]:
    running = await asyncio.to_thread(Agent, folder, config, *options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            await asyncio.to_thread(running.end, signal.SIGKILL)


def ask_twice(url: str) -> None:
    """A request with two headers tracestate, and one with two headers traceparent."""
    for headers in (
        (("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")),
        (("traceparent", PARENT),) * 2,
    ):
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        connection.putrequest("GET", "/livez")
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status == 200
        connection.close()


async def test_traces_of_an_agent(tmp_path: Path) -> None:
    """Reconciling, looking and requests of others arrive at the collector, each in its trace; the end sends the rest."""
    async with collector() as found:
        check = {"type": "tcp", "address": found.url.removeprefix("http://"), "period": 0.2}
        config = {
            "tracing": {"enabled": True, "endpoint": found.url, "interval": 0.1, "service_name": "box"},
            "checks": {"c": check},
        }
        async with agent(tmp_path, config) as running:
            await until(lambda: bool(found.named("check")) and bool(found.named("reconcile")))
            look = found.named("check")[0]
            assert attributes(look) == {"watchkeeper.key": "check/c", "watchkeeper.outcome": "ok"}
            starter = next(each for each in found.named("reconcile") if each.span_id == look.parent_span_id)
            assert attributes(starter)["watchkeeper.key"] == "check/c"
            assert look.trace_id == starter.trace_id
            assert found.resource()["service.name"] == "box"

            url = await asyncio.to_thread(lambda: running.url)
            request = urllib.request.Request(f"{url}/status", headers={"traceparent": PARENT})
            status = await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=10).read())
            assert b'"kind":"tracing"' in status
            await until(
                lambda: any(attributes(each).get("url.path") == "/status" for each in found.named("GET"))
            )
            served = next(
                each for each in found.named("GET") if attributes(each).get("url.path") == "/status"
            )
            assert served.trace_id.hex() == PARENT[3:35]
            assert served.parent_span_id.hex() == PARENT[36:52]
            assert attributes(served)["http.response.status_code"] == 200

            await asyncio.to_thread(ask_twice, url)
            await until(
                lambda: sum(attributes(each).get("url.path") == "/livez" for each in found.named("GET")) == 2
            )
            joined, own = (
                each for each in found.named("GET") if attributes(each).get("url.path") == "/livez"
            )
            assert (joined.trace_id.hex(), joined.trace_state) == (PARENT[3:35], "a=1,b=2")
            assert own.trace_id.hex() != PARENT[3:35]

            config["agent"] = {"reload_interval": 0.1}
            running.write(config)
            await until(lambda: bool(found.named("reload")))
            before = len(found.spans)
            assert await asyncio.to_thread(running.end) == 0
            assert len(found.spans) > before  # what the drain reconciled


async def test_a_collector_that_is_not_there(tmp_path: Path) -> None:
    """The agent says so once, goes on, and ends in order; /status has the reason and /metrics the number."""
    config = {
        "tracing": {
            "enabled": True,
            "endpoint": "http://127.0.0.1:1",
            "interval": 0.1,
            "export_timeout": 0.2,
        },
        "checks": {"c": {"type": "tcp", "address": "127.0.0.1:1", "period": 0.1}},
    }
    async with agent(tmp_path, config) as running:
        line = await asyncio.to_thread(running.message, "spans are lost")
        assert line["error_class"] == "NETWORK_FAILURE"

        def lost() -> float:
            text = running.get("/metrics")[1]
            return sum(
                float(row.split()[1]) for row in text.splitlines() if 'spans_total{outcome="lost"}' in row
            )

        await asyncio.to_thread(running.wait, lambda: lost() > 3, "lost spans")
        assert await asyncio.to_thread(running.end) == 0
    assert sum("spans are lost" in message for message in running.messages()) == 1


async def test_switched_on_and_off(tmp_path: Path) -> None:
    """A reload switches traces on, and off again; with OpenTelemetry's SDK they are protobuf."""
    pytest.importorskip("opentelemetry.sdk")
    async with collector() as found:
        config: dict[str, Any] = {
            "agent": {"reload_interval": 0.1},
            "checks": {"c": {"type": "tcp", "address": found.url.removeprefix("http://"), "period": 0.1}},
        }
        async with agent(tmp_path, config) as running:
            await asyncio.to_thread(running.message, "listening")
            tracing = {"enabled": True, "endpoint": found.url, "interval": 0.1, "sdk": True}
            running.write(config | {"tracing": tracing})
            await until(lambda: len(found.named("check")) > 3)
            assert found.headers[0]["Content-Type"] == "application/x-protobuf"
            running.write(config)
            await asyncio.to_thread(
                running.wait,
                lambda: not [each for each in running.status()["objects"] if each["kind"] == "tracing"],
                "the end of tracing",
            )
            assert await asyncio.to_thread(running.end) == 0
            text = running.log.read_text()
            assert "Traceback" not in text
