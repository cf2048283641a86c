"""A real etcd 3.4 as a source of configuration, as a registry and for discovery; the real agent, loopback only."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.error
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support.agent_process import Agent, Start
from support.etcd_server import Etcd, text
from watchkeeper.config.schema.registrations import EtcdRegistration
from watchkeeper.config.schema.registries import EtcdServer
from watchkeeper.config.schema.sources import EtcdSource
from watchkeeper.config.sources import Fetched
from watchkeeper.config.sources.etcd import EtcdKeys
from watchkeeper.outbound.client import Client
from watchkeeper.registry.answers import ForgottenError, RegistryError
from watchkeeper.registry.etcd import PAGE, EtcdClient
from watchkeeper.registry.etcd_registrar import EtcdRegistrar

pytestmark = pytest.mark.integration

KEY = "/services/user/1"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    server = Etcd(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    made = Client()
    yield made
    await made.close()


def check(name: str) -> str:
    return f"checks: {{{name}: {{type: tcp, address: '127.0.0.1:1', period: 60}}}}"


def checks(agent: Agent) -> list[str]:
    return sorted(each["name"] for each in agent.status()["checks"])


def source(etcd: Etcd, **more: Any) -> dict[str, Any]:
    server = {"urls": [etcd.url], "timeout": "500ms"}
    return {"type": "etcd", "prefix": "w/", "server": server, "churn_interval": "10ms", **more}


SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]


def registration(etcd: Etcd, **more: Any) -> dict[str, Any]:
    return {
        "type": "etcd",
        "service": "app",
        "name": "user",
        "id": "1",
        "address": "127.0.0.1",
        "port": 8080,
        "ttl": "3s",
        "server": {"urls": [etcd.url], "timeout": "500ms"},
        **more,
    }


# -- configuration ----------------------------------------------------------------------------------------------------


def test_configuration_from_etcd(etcd: Etcd, start: Start) -> None:
    """Keys come, change and go while the agent runs, at once; what is nonsense is refused and the rest stays."""
    etcd.put("w/a.yaml", check("a"))
    etcd.put("w/readme", "not a document")
    etcd.put("x/other.yaml", check("other"))
    agent = start({"sources": {"s": source(etcd)}})
    agent.wait(lambda: checks(agent) == ["a"], "a check")
    etcd.put("w/b.toml", "[checks.b]\ntype = 'tcp'\naddress = '127.0.0.1:1'\n")
    agent.wait(lambda: checks(agent) == ["a", "b"], "two checks", limit=5)
    generation = agent.status()["config"]["generation"]
    etcd.put("w/a.yaml", check("a"))
    etcd.put("w/a.yaml", "checks: {a: {type: nonsense}}")
    agent.wait(lambda: agent.shown("source", "s")["state"] == "refused", "a refusal", limit=5)
    assert "etcd:w/a.yaml" in agent.shown("source", "s")["last_error"]
    assert agent.status()["config"]["generation"] == generation
    etcd.delete("w/a.yaml")
    agent.wait(lambda: checks(agent) == ["b"], "one check", limit=5)
    assert agent.shown("source", "s")["state"] == "active"


def test_compaction_and_a_restart(etcd: Etcd, start: Start) -> None:
    """What changes while etcd is down and compacted away is seen when it is back; the agent goes on meanwhile."""
    etcd.put("w/a.yaml", check("a"))
    agent = start({"sources": {"s": source(etcd)}})
    agent.wait(lambda: checks(agent) == ["a"], "a check")
    etcd.stop()
    agent.wait(lambda: agent.shown("source", "s")["state"] == "failing", "a failing source")
    assert checks(agent) == ["a"]
    os.kill(agent.process.pid, signal.SIGSTOP)  # so that it cannot watch while everything changes
    etcd.start()
    etcd.put("w/b.yaml", check("b"))
    etcd.delete("w/a.yaml")
    revision = etcd.put("x", "")
    etcd.call("kv/compaction", revision=str(revision), physical=True)
    os.kill(agent.process.pid, signal.SIGCONT)
    agent.wait(lambda: checks(agent) == ["b"], "what is there now")


def test_etcd_is_down_at_the_start(tmp_path: Path, etcd: Etcd, start: Start) -> None:
    """The copy of what it said last is in force until it answers again."""
    etcd.put("w/a.yaml", check("a"))
    state = ("--state-dir", str(tmp_path / "state"))
    agent = start({"sources": {"s": source(etcd)}}, *state)
    agent.wait(lambda: checks(agent) == ["a"], "a check")
    assert agent.end() == 0
    etcd.stop()
    agent = start({"sources": {"s": source(etcd)}}, *state)
    agent.wait(lambda: checks(agent) == ["a"], "the check of before")
    assert agent.shown("source", "s")["state"] in ("starting", "failing")
    etcd.start()
    etcd.put("w/b.yaml", check("b"))
    agent.wait(lambda: checks(agent) == ["a", "b"], "what etcd says now")


def names(fetched: Fetched) -> list[str]:
    return [each.name for each in fetched.fragments]


@pytest.mark.asyncio
async def test_a_watch_that_begins_in_what_is_compacted(etcd: Etcd, client: Client) -> None:
    """compact_revision: everything is read anew, within the same call."""
    etcd.put("w/a.yaml", "")
    source = EtcdKeys(EtcdSource(prefix="w/", server=EtcdServer(urls=(etcd.url,)), wait=60), client)
    assert names(await source.fetch()) == ["etcd:w/a.yaml"]
    await asyncio.to_thread(etcd.put, "w/b.yaml", "")
    revision = await asyncio.to_thread(etcd.put, "w/c.yaml", "")
    await asyncio.to_thread(etcd.call, "kv/compaction", revision=str(revision), physical=True)
    assert names(await asyncio.wait_for(source.watch(), 10)) == [
        "etcd:w/a.yaml",
        "etcd:w/b.yaml",
        "etcd:w/c.yaml",
    ]


@pytest.mark.asyncio
async def test_an_etcd_that_was_set_back(tmp_path: Path, etcd: Etcd, client: Client) -> None:
    """A new cluster with lower revisions is read at once: a watch from a revision of the old one would never say a word."""
    for _number in range(20):
        etcd.put("w/a.yaml", "old")
    source = EtcdKeys(
        EtcdSource(prefix="w/", server=EtcdServer(urls=(etcd.url,)), wait=60, churn_interval=0.001), client
    )
    await source.fetch()

    def replace() -> None:
        etcd.stop()
        (tmp_path / "etcd").rename(tmp_path / "before")
        etcd.start()
        etcd.put("w/b.yaml", "new")

    await asyncio.to_thread(replace)
    assert names(await asyncio.wait_for(source.watch(), 10)) == ["etcd:w/b.yaml"]


@pytest.mark.asyncio
async def test_more_keys_than_one_page(etcd: Etcd, client: Client) -> None:
    """All pages are one state, in order, each key once."""
    count = 2 * PAGE + 7
    operations = [
        {"request_put": {"key": text(f"w/{number:05}"), "value": text(str(number))}}
        for number in range(count)
    ]
    for begin in range(0, count, 100):
        await asyncio.to_thread(etcd.call, "kv/txn", success=operations[begin : begin + 100])
    found, _revision = await EtcdClient(EtcdServer(urls=(etcd.url,)), client).prefix(b"w/")
    assert [each.key.decode() for each in found] == [f"w/{number:05}" for number in range(count)]


@pytest.mark.asyncio
async def test_authentication(etcd: Etcd, client: Client) -> None:
    """A user and a password become a token; without or with wrong ones etcd's own words are the error."""

    def enable() -> None:
        etcd.put("w/a.yaml", "")
        etcd.call("auth/user/add", name="root", password="hush")
        etcd.call("auth/role/add", name="root")
        etcd.call("auth/user/grant", user="root", role="root")
        etcd.call("auth/enable")

    await asyncio.to_thread(enable)

    async def fetch(**server: Any) -> list[str]:
        found, _revision = await EtcdClient(EtcdServer(urls=(etcd.url,), **server), client).prefix(b"w/")
        return [each.key.decode() for each in found]

    assert await fetch(user="root", password="hush") == ["w/a.yaml"]
    with pytest.raises(RegistryError, match="invalid user ID or password"):
        await fetch(user="root", password="wrong")
    with pytest.raises(RegistryError, match="user name is empty"):
        await fetch()


# -- registration -----------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_lease_that_nobody_keeps_runs_out(etcd: Etcd, client: Client) -> None:
    """Announced with a lease; without keepalives the key goes by itself; renewing says so, and announcing brings it back."""
    spec = EtcdRegistration(
        service="app", name="user", id="1", address="h", port=1, ttl=2, server=EtcdServer(urls=(etcd.url,))
    )
    registrar = EtcdRegistrar(spec, client)
    await registrar.announce(True, "")
    assert await asyncio.to_thread(etcd.get, KEY)
    await registrar.renew(True, "")
    async with asyncio.timeout(20):
        while await asyncio.to_thread(etcd.get, KEY):  # noqa: ASYNC110 - etcd tells nobody when a lease runs out
            await asyncio.sleep(0.05)
    with pytest.raises(ForgottenError, match="lease"):
        await registrar.renew(True, "")
    await registrar.announce(True, "")
    assert await asyncio.to_thread(etcd.get, KEY)
    await registrar.withdraw()
    assert await asyncio.to_thread(etcd.get, KEY) is None


def lease_of(etcd: Etcd) -> str | None:
    found = etcd.get(KEY)
    return str(found["lease"]) if found else None


def test_registration_in_etcd(etcd: Etcd, start: Start) -> None:
    """A key with a lease; a revoked lease, a deleted key, a stopped etcd: each time it is there again; gone on drain."""
    config = {
        "services": {"app": {"command": SLEEP}},
        "registrations": {"app": registration(etcd)},
        "discovery": {
            "users": {
                "type": "etcd",
                "prefix": "/services/user/",
                "server": {"urls": [etcd.url], "timeout": "500ms"},
                "churn_interval": "10ms",
            }
        },
    }
    agent = start(config)
    first = agent.wait(lambda: lease_of(etcd), "a registration")
    found = etcd.get(KEY)
    assert found is not None
    assert json.loads(found["value"])["port"] == 8080

    def instances() -> list[str]:
        return list(agent.shown("discovery", "users")["details"].get("instances", []))

    agent.wait(lambda: instances() == ["127.0.0.1:8080"], "an instance")
    etcd.call("lease/revoke", ID=first)
    assert etcd.get(KEY) is None
    second = agent.wait(lambda: lease_of(etcd), "a new lease")
    assert second != first
    etcd.delete(KEY)
    agent.wait(lambda: lease_of(etcd) == second, "the key again, with the same lease")
    assert agent.message("registration app was lost and is made again")
    agent.wait(lambda: instances() == ["127.0.0.1:8080"], "the instance again")
    etcd.stop()
    agent.wait(
        lambda: agent.shown("registration", "app")["state"] == "retrying",
        "a registration that is tried again",
    )
    assert instances() == ["127.0.0.1:8080"]
    assert agent.shown("discovery", "users")["state"] == "stale"
    etcd.start()
    agent.wait(lambda: agent.shown("registration", "app")["state"] == "registered", "a registration again")
    assert lease_of(etcd)
    assert agent.end() == 0
    assert etcd.get(KEY) is None


def test_an_agent_that_stands_still_loses_its_lease(etcd: Etcd, start: Start) -> None:
    """Nobody keeps the lease alive while the agent is stopped: the key goes; when it runs again, the key is back."""
    config = {"services": {"app": {"command": SLEEP}}, "registrations": {"app": registration(etcd, ttl="2s")}}
    agent = start(config)
    first = agent.wait(lambda: lease_of(etcd), "a registration")
    os.kill(agent.process.pid, signal.SIGSTOP)
    agent.wait(lambda: lease_of(etcd) is None, "a key that is gone")
    os.kill(agent.process.pid, signal.SIGCONT)
    second = agent.wait(lambda: lease_of(etcd), "a new lease")
    assert second != first
    with pytest.raises(urllib.error.HTTPError):
        etcd.call("lease/revoke", ID=first)
