"""/livez, /readyz, /health, /status, /events, /logs: they read, and change nothing."""

from __future__ import annotations

import msgspec

from watchkeeper.config.decode import nearest
from watchkeeper.config.schema.listeners import Access
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.endpoints import web
from watchkeeper.endpoints.answers import Refusal, json, json_with_tag, text
from watchkeeper.endpoints.health import components, worst
from watchkeeper.endpoints.site import Call
from watchkeeper.events import Event
from watchkeeper.explanation import explain
from watchkeeper.status import AgentStatus, rfc3339

EVENTS = 100
"""How many events are told unless ?limit= says otherwise."""


async def livez(_call: Call) -> web.Response:
    """The loop turns; that is all."""
    return text("ok\n")


async def readyz(call: Call) -> web.Response:
    """200 and `ok`, or 503 and a reason per line."""
    reasons = call.site.not_ready_because()
    return text("\n".join(reasons or ["ok"]) + "\n", status=503 if reasons else 200)


async def health(call: Call) -> web.Response:
    """JSON: the worst state of all components, 503 when it is `failing`; with ?verbose each of them."""
    found = components(call.site.status())
    state = worst(found)
    content: dict[str, object] = {"status": state}
    if call.flag("verbose"):
        if not call.peer.role.includes(Access.READ):
            raise Refusal(403, "details are for those who may read", "Leave ?verbose out.")
        content["components"] = found
    return json(content, status=503 if state == "failing" else 200)


async def status(call: Call) -> web.Response:
    """Everything, or one key of it."""
    found = call.site.status()
    if not call.rest:
        return json_with_tag(call.request, found)
    key = key_of("/".join(call.rest))
    one = _one(found, key)
    if one is None:
        names = [_name_of(each) for each in _all(found, key.kind)]
        raise Refusal(404, f"there is no {key.kind} {key.name!r}{nearest(key.name, names)}", names=names)
    events = [_event(each) for each in call.site.context.events.of(key)]
    more = {"kind": key.kind, "events": events} | explain(call.site.context, key)
    return json_with_tag(call.request, msgspec.to_builtins(one) | more)


async def events(call: Call) -> web.Response:
    """The newest events, oldest first; ?key=KIND/NAME, ?after=NUMBER, ?limit=COUNT."""
    log = call.site.context.events
    asked = call.request.query.get("key")
    found = list(log) if asked is None else log.of(key_of(asked))
    after, limit = number_of(call, "after", 0, 999_999_999), number_of(call, "limit", EVENTS)
    newest = [each for each in found if each.number > after][-limit:] if limit else []
    return json({"events": [_event(each) for each in newest]})


def key_of(text: str) -> Key:
    """The key in KIND/NAME.

    Raises:
        Refusal: there is no such kind (404).
    """
    kind, _, name = text.partition("/")
    kinds = [each.value for each in Kind]
    if kind not in kinds:
        raise Refusal(
            404, f"there is no kind {kind!r}{nearest(kind, kinds)}", "Write KIND/NAME.", kinds=kinds
        )
    return Key(Kind(kind), name)


def number_of(call: Call, name: str, default: int, highest: int = 1_000_000) -> int:
    """A whole number of the query.

    Raises:
        Refusal: it is none, or out of range (400).
    """
    word = call.request.query.get(name)
    if word is None:
        return default
    if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word) <= highest):
        raise Refusal(400, f"?{name}= is a whole number from 0 to {highest}")
    return int(word)


def _all(status: AgentStatus, kind: Kind) -> list[msgspec.Struct]:
    if kind is Kind.SERVICE:
        return list(status.services)
    if kind is Kind.CHECK:
        return list(status.checks)
    return [each for each in status.objects if each.kind == kind]


def _one(status: AgentStatus, key: Key) -> msgspec.Struct | None:
    return next((each for each in _all(status, key.kind) if _name_of(each) == key.name), None)


def _name_of(each: msgspec.Struct) -> str:
    name: str = getattr(each, "name")  # noqa: B009 - every struct of a status has one; their common type does not say so
    return name


def _event(event: Event) -> dict[str, object]:
    return {
        "number": event.number,
        "at": rfc3339(event.at),
        "key": str(event.key),
        "what": event.what,
        "why": event.why,
    }
