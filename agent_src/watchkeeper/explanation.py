"""Why a key is in the state that it is in, beyond that state: what is wanted, what it waits for, what waits for it."""

from __future__ import annotations

from typing import Any

import msgspec

from watchkeeper import redact
from watchkeeper.config.snapshot import BoundCheck, Key, Kind
from watchkeeper.context import Context


def explain(context: Context, key: Key) -> dict[str, Any]:
    """Plain data for `/status/KIND/NAME` and `watchkeeper explain`.

    Keys: `desired` (the definition with its defaults and without secrets; None: it is not wanted any more), `order` (an
    operator's, that holds or is being carried out), `needs` and `needed_by` (name and state of each).
    """
    wanted = context.snapshot.of(key.kind).get(key.name)
    order = context.orders.of(key)
    return {
        "desired": _plain(wanted.spec if isinstance(wanted, BoundCheck) else wanted),
        "order": order.value if order else None,
        "needs": [_state(context, each) for each in _needs(context, key)],
        "needed_by": [_state(context, each) for each in _needed_by(context, key)],
    }


def _plain(wanted: Any) -> Any:
    if wanted is None:
        return None
    return redact.data(msgspec.to_builtins(wanted, enc_hook=str))


def _needs(context: Context, key: Key) -> list[Key]:
    """What has to be there for it: the services a service names, the service of a check, the checks of a service."""
    wanted = context.snapshot.of(key.kind).get(key.name)
    if isinstance(wanted, BoundCheck):
        return [Key(Kind.SERVICE, wanted.service)] if wanted.service else []
    if key.kind is not Kind.SERVICE or wanted is None:
        return []
    checks = [Key(Kind.CHECK, name) for name in context.snapshot.checks_of(key.name)]
    return [Key(Kind.SERVICE, name) for name in _services(wanted)] + checks


def _needed_by(context: Context, key: Key) -> list[Key]:
    if key.kind is Kind.CHECK:
        return _needs(context, key)
    if key.kind is not Kind.SERVICE:
        return []
    services = context.snapshot.services.items()
    return [Key(Kind.SERVICE, name) for name, each in services if key.name in _services(each)]


def _services(wanted: Any) -> list[str]:
    names = (*getattr(wanted, "after", ()), *getattr(wanted, "requires", ()))
    return list(dict.fromkeys(names))


def _state(context: Context, key: Key) -> dict[str, Any]:
    return {"key": str(key), "state": _word(context, key)}


def _word(context: Context, key: Key) -> str:
    if key.kind is Kind.SERVICE:
        service = context.observed.services.get(key.name)
        return service.state.value if service else "not there"
    if key.kind is Kind.CHECK:
        check = context.observed.checks.get(key.name)
        return check.gate.verdict.value if check else "not there"
    record = context.observed.objects.get(key)
    return record.state if record else "not there"
