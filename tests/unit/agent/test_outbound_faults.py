"""Faults in the agent's own requests: what the rules mean, what is never touched, and that breakers and retries see them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from support.outbound_server import serve
from watchkeeper.config.schema.faults import FaultRule, FaultSettings, Side
from watchkeeper.config.schema.outbound import Destination, OutboundSettings
from watchkeeper.faults.state import Faults
from watchkeeper.metrics import Metrics
from watchkeeper.outbound.client import Client, Failure, RequestError
from watchkeeper.registry.instances import Static

pytestmark = pytest.mark.asyncio


async def good(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="fine")


def broken(
    *rules: FaultRule, settings: OutboundSettings | None = None, **fields: Any
) -> tuple[Client, Faults]:
    metrics, client = Metrics(), Client(chance=lambda: 0.0)
    faults = Faults(metrics)
    faults.arm(FaultSettings(enabled=True, rules=rules, **fields))
    wanted = settings or OutboundSettings()
    client.attach(lambda: wanted, metrics, lambda _name: Static(), faults)
    return client, faults


def rule(**fields: Any) -> FaultRule:
    return FaultRule(side=Side.CLIENT, **fields)


async def test_an_abort() -> None:
    """An answer with that status and no body, marked as what it is; the server is not asked, streams likewise."""
    async with serve(good) as server:
        client, faults = broken(rule(abort=503))
        answer = await client.request("GET", server.url)
        assert (answer.status, answer.body) == (503, b"")
        assert answer.headers["X-Chaos-Injected"] == "abort=503"
        async with client.stream("GET", server.url) as stream:
            assert stream.status == 503
            assert await stream.read(10) == b""
        assert server.asked == []
        faults.switch(on=False)
        assert (await client.request("GET", server.url)).body == b"fine"
        await client.close()


async def test_a_reset() -> None:
    """A connection that broke, of the kind fault."""
    client, _ = broken(rule(reset=True))
    with pytest.raises(RequestError, match="a fault that was put in") as caught:
        await client.request("GET", "http://127.0.0.1:1/")
    assert caught.value.kind is Failure.FAULT
    await client.close()


async def test_a_delay_is_part_of_the_limits() -> None:
    """A delay that is longer than the limit of everything is no answer in time; a short one is only late."""
    async with serve(good) as server:
        client, _ = broken(rule(delay=5.0), settings=OutboundSettings(total_timeout=0.1))
        with pytest.raises(RequestError, match="no answer in time"):
            await client.request("GET", server.url)
        assert server.asked == []
        await client.close()
        client, _ = broken(rule(delay=0.05))
        before = asyncio.get_running_loop().time()
        assert (await client.request("GET", server.url)).status == 200
        assert asyncio.get_running_loop().time() - before >= 0.05
        await client.close()


async def test_registrations_are_left_alone() -> None:
    """A rule for everything means no essential request; one that names the host was asked for."""
    async with serve(good) as server:
        client, _ = broken(rule(abort=503))
        assert (await client.request("GET", server.url, essential=True)).status == 200
        async with client.stream("GET", server.url, essential=True) as stream:
            assert stream.status == 200
        await client.close()
        for host in ("127.0.0.1", f"127.0.0.1:{server.port}"):
            client, _ = broken(rule(abort=503, hosts=(host,)))
            assert (await client.request("GET", server.url, essential=True)).status == 503
            await client.close()
        client, _ = broken(rule(abort=503), rule(abort=500, hosts=("127.0.0.1",)))
        assert (await client.request("GET", server.url, essential=True)).status == 200
        await client.close()


async def test_only_what_is_meant() -> None:
    """Rules of the server's side, other hosts, other paths and health paths of others stay out of it."""
    async with serve(good) as server:
        for one in (
            FaultRule(side=Side.SERVER, abort=503),
            rule(abort=503, hosts=("elsewhere.test",)),
            rule(abort=503, paths=("/other*",)),
            rule(abort=503, methods=("POST",)),
            rule(abort=503, percent=0),
        ):
            client, _ = broken(one)
            assert (await client.request("GET", f"{server.url}/a")).status == 200
            await client.close()
        client, _ = broken(rule(abort=503))
        assert (await client.request("GET", f"{server.url}/health")).status == 200
        await client.close()


async def test_breakers_and_retries_see_them() -> None:
    """What is put in counts as a failure: it is tried again, and the breaker opens."""
    async with serve(good) as server:
        settings = OutboundSettings(destinations={"d": Destination(hosts=("127.0.0.1",))})
        client, faults = broken(rule(abort=503), settings=settings)
        assert (await client.request("GET", server.url)).status == 503
        with pytest.raises(RequestError, match="breaker is open"):
            await client.request("GET", server.url)
        assert server.asked == []
        assert faults.active == 0
        await client.close()


async def test_off_it_costs_nothing() -> None:
    """Without faults nothing of it is imported or asked."""
    async with serve(good) as server:
        client = Client()
        client.attach(OutboundSettings, Metrics(), lambda _name: Static(), Faults())
        assert (await client.request("GET", server.url)).status == 200
        await client.close()
