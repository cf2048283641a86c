"""What `explain` adds to a state: what is wanted, what it needs, what needs it, an order that holds."""

from __future__ import annotations

import pytest

from watchkeeper import redact
from watchkeeper.config.load import parse
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.explanation import explain
from watchkeeper.metrics import Metrics
from watchkeeper.orders import Order

CONFIG = b"""
services:
  db: {command: [db], environment: {PASSWORD: hunter2hunter2}}
  cache: {command: [cache]}
  web:
    command: [web]
    after: [cache]
    requires: [db, cache]
    checks: {up: {type: tcp, address: "127.0.0.1:1"}}
checks: {alone: {type: tcp, address: "127.0.0.1:2"}}
"""


@pytest.fixture
def context() -> Context:
    made = Context(Store(), Metrics())
    made.store.apply(parse(CONFIG, file="f.yaml"))
    return made


def names(found: list[dict[str, str]]) -> list[str]:
    return [each["key"] for each in found]


@pytest.mark.asyncio
async def test_what_a_service_needs_and_what_needs_it(context: Context) -> None:
    """Each once, its checks among them; none has been looked at yet."""
    found = explain(context, Key(Kind.SERVICE, "web"))
    assert names(found["needs"]) == ["service/cache", "service/db", "check/web/up"]
    assert {each["state"] for each in found["needs"]} == {"not there"}
    assert found["needed_by"] == []
    assert names(explain(context, Key(Kind.SERVICE, "db"))["needed_by"]) == ["service/web"]
    assert names(explain(context, Key(Kind.CHECK, "web/up"))["needs"]) == ["service/web"]
    assert explain(context, Key(Kind.CHECK, "alone"))["needs"] == []


@pytest.mark.asyncio
async def test_what_is_wanted_has_no_secrets(context: Context) -> None:
    """As plain data with its defaults; what is not configured is None."""
    redact.add("hunter2hunter2")
    try:
        wanted = explain(context, Key(Kind.SERVICE, "db"))["desired"]
    finally:
        redact.forget()
    assert (wanted["command"], wanted["environment"]) == (["db"], {"PASSWORD": "[redacted]"})
    assert wanted["stop_grace"] == 10.0
    assert explain(context, Key(Kind.SERVICE, "gone"))["desired"] is None
    assert explain(context, Key(Kind.CHECK, "alone"))["desired"]["address"] == "127.0.0.1:2"


@pytest.mark.asyncio
async def test_an_order_that_holds_is_told(context: Context) -> None:
    key = Key(Kind.SERVICE, "web")
    assert explain(context, key)["order"] is None
    context.orders.give(key, Order.STOP)
    assert explain(context, key)["order"] == "stop"
