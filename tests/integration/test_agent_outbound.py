"""The agent's own requests through a destination of its configuration: balanced, broken on purpose, counted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import Agent
from support.collector import collector
from support.outbound_server import until

pytestmark = pytest.mark.asyncio


@contextlib.asynccontextmanager
async def agent(folder: Path, config: dict[str, Any]) -> AsyncIterator[Agent]:
    running = await asyncio.to_thread(Agent, folder, config)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            await asyncio.to_thread(running.end, signal.SIGKILL)


def config(*ports: int) -> dict[str, Any]:
    """Traces go to a name that only the destination knows; whatever the agent sends is balanced over the ports."""
    instances = [{"host": "127.0.0.1", "port": port} for port in ports]
    return {
        "agent": {"reload_interval": 0.1},
        "discovery": {"collectors": {"type": "static", "instances": instances}},
        "outbound": {
            "destinations": {
                "traces": {
                    "hosts": ["collector.test"],
                    "balance": {"discovery": "collectors"},
                    "reach": "internal",
                }
            }
        },
        "tracing": {
            "enabled": True,
            "endpoint": "http://collector.test",
            "interval": 0.05,
            "export_timeout": 0.3,
        },
        "checks": {"c": {"type": "tcp", "address": f"127.0.0.1:{ports[0]}", "period": 0.1}},
    }


def port(url: str) -> int:
    return int(url.rpartition(":")[2])


def series(running: Agent, name: str, **labels: str) -> float:
    found = ",".join(f'{key}="{value}"' for key, value in labels.items())
    wanted = f"watchkeeper_{name}{{{found}}} "
    text = running.get("/metrics")[1]
    return next((float(row.split()[-1]) for row in text.splitlines() if row.startswith(wanted)), 0.0)


async def test_balanced_over_what_discovery_knows(tmp_path: Path) -> None:
    """Requests reach both instances in turn under the name of the URL; one that a reload takes away is asked no more."""
    async with (
        collector() as one,
        collector() as two,
        agent(tmp_path, config(port(one.url), port(two.url))) as running,
    ):
        await until(lambda: len(one.requests) > 2 and len(two.requests) > 2)
        assert {each["Host"] for each in one.headers + two.headers} == {"collector.test"}
        running.write(config(port(two.url)))
        await asyncio.to_thread(running.message, "configuration in force")
        await until(lambda: any(span.name == "reload" for span in one.spans + two.spans))
        count = len(two.requests)
        await until(lambda: len(two.requests) > count + 2)
        still = len(one.requests)
        await until(lambda: len(two.requests) > count + 6)
        assert len(one.requests) == still
        sent = await asyncio.to_thread(
            series, running, "outbound_requests_total", destination="traces", outcome="2xx"
        )
        assert sent >= 10
        assert await asyncio.to_thread(running.end) == 0


async def test_an_outlier_and_its_return(tmp_path: Path) -> None:
    """An instance that answers 500 is left out while its breaker is open, and asked again after that."""
    async with collector() as bad, collector() as good:
        bad.script = [(500, {}, b"")] * 4
        setting = config(port(bad.url), port(good.url))
        breaker = {"timeout": 1, "max_requests": 1}
        setting["outbound"]["destinations"]["traces"]["breaker"] = breaker
        async with agent(tmp_path, setting) as running:
            line = await asyncio.to_thread(running.message, "is now open")
            assert line["destination"] == "traces"
            assert str(port(bad.url)) in line["message"]
            seen = len(bad.paths)
            assert seen == 4
            await until(lambda: len(good.requests) > 6)
            await asyncio.to_thread(running.message, "is now closed")
            await until(lambda: len(bad.requests) > 1)
            changes = {
                to: await asyncio.to_thread(
                    series, running, "outbound_breaker_changes_total", destination="traces", to=to
                )
                for to in ("open", "half-open", "closed")
            }
            assert changes == {"open": 1, "half-open": 1, "closed": 1}
            assert await asyncio.to_thread(running.end) == 0


async def test_broken_on_purpose(tmp_path: Path) -> None:
    """Client-side faults of the section reach the agent's own requests, are counted, and end with the switch."""
    async with collector() as found:
        setting = config(port(found.url))
        setting["outbound"]["destinations"]["traces"]["breaker"] = None
        rule = {"side": "client", "abort": 503, "hosts": ["collector.test"]}
        setting["faults"] = {"enabled": True, "rules": [rule]}
        async with agent(tmp_path, setting) as running:
            line = await asyncio.to_thread(running.message, "spans are lost")
            assert "answers 503" in line["message"]
            assert found.paths == []
            del setting["faults"]
            running.write(setting)
            await until(lambda: len(found.requests) > 1)
            await asyncio.to_thread(running.message, "spans are sent again")
            assert await asyncio.to_thread(running.end) == 0
