"""status, explain, events, logs: what a running agent sees, as tables and lines for people or as JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from watchkeeper.client import transport
from watchkeeper.client.colours import Palette
from watchkeeper.client.transport import Address
from watchkeeper.errors import AgentUnreachableError, NotThereError

KINDS = (
    "service",
    "servicecheck",
    "check",
    "source",
    "output",
    "tracing",
    "listener",
    "faults",
    "collector",
    "registration",
    "discovery",
    "alert",
    "job",
    "servicecheck",
)
"""config.snapshot.Kind, without what importing it costs; a test compares the two."""
FIRST = ("state", "why", "since", "ready", "pid", "next_try_in", "last_error", "last_exit")
"""What people want to know first, in this order."""
POLL = 1.0


def status(address: Address) -> bytes:
    """The agent's /status, as it comes.

    Raises:
        AgentUnreachableError: nobody answers, or somebody else does.
    """
    from watchkeeper.status_client import decode

    body = transport.request(address, "GET", "/status").body
    decode(body, str(address))
    return body


def key_of(address: Address, word: str) -> str:
    """KIND/NAME for what somebody has written: that, or a name alone.

    Raises:
        NotThereError: there is nothing of that name, or there are several things.
    """
    if word.partition("/")[0] in KINDS and "/" in word:
        return word
    found = [key for key in keys(address) if key.partition("/")[2] == word]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotThereError(f"{word!r} is the name of several things", f"Write one of: {', '.join(found)}.")
    raise NotThereError(
        f"there is nothing called {word!r}{_near(word, keys(address))}", "`watchkeeper status` lists all."
    )


def keys(address: Address) -> list[str]:
    """Everything that the agent looks after, as KIND/NAME."""
    found = json.loads(status(address))
    return (
        [f"service/{each['name']}" for each in found["services"]]
        + [f"check/{each['name']}" for each in found["checks"]]
        + [f"{each['kind']}/{each['name']}" for each in found["objects"]]
    )


def details(address: Address, word: str) -> dict[str, Any]:
    """Everything that is known of one key."""
    key = key_of(address, word)
    answer = transport.request(address, "GET", f"/status/{quote(key)}").json()
    if not isinstance(answer, dict):
        raise AgentUnreachableError(
            f"what answers at {address} is not an agent of this version", transport.ADVICE
        )
    return answer


def explain(found: dict[str, Any], palette: Palette) -> str:
    """For people: the state and why, what is wanted, what it waits for, and what has happened."""
    lines = [f"{found['kind']} {found['name']}: {palette.state(str(found.get('state', '')))}"]
    lines += _fields({name: found[name] for name in FIRST[1:] if found.get(name) not in (None, "", [])})
    known = {"kind", "name", "events", "desired", "needs", "needed_by", "order", *FIRST}
    rest = {
        name: value for name, value in found.items() if name not in known and value not in (None, "", [], {})
    }
    if found.get("order"):
        lines += _fields({"order": f"{found['order']} (an operator's)"})
    lines += ["", *_fields(rest)] if rest else []
    for title, name in (("needs", "needs"), ("needed by", "needed_by")):
        if found.get(name):
            lines += ["", f"{title}:"]
            lines += [f"  {each['key']}: {palette.state(each['state'])}" for each in found[name]]
    lines += ["", "wanted:", *_desired(found.get("desired"))]
    if found.get("events"):
        lines += [
            "",
            "events, the newest last:",
            *(f"  {event_line(each, palette)}" for each in found["events"][-20:]),
        ]
    return "\n".join(lines)


def _fields(values: dict[str, Any]) -> list[str]:
    width = max((len(name) for name in values), default=0)
    return [f"  {name.replace('_', ' '):<{width}}  {_text(value)}" for name, value in values.items()]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _desired(wanted: Any) -> list[str]:
    if wanted is None:
        return ["  nothing: it is not configured any more"]
    if not isinstance(wanted, dict):
        return [f"  {wanted}"]
    return _fields({name: value for name, value in wanted.items() if value not in (None, "", [], {})})


def events(address: Address, word: str | None, *, follow: bool, count: int) -> Iterator[dict[str, Any]]:
    """The newest events; with `follow`, those that come as well, for ever."""
    query: dict[str, Any] = {"limit": count}
    if word:
        query["key"] = key_of(address, word)
    while True:
        answer = transport.request(address, "GET", f"/events?{urlencode(query)}").json()
        for event in (answer or {}).get("events", ()):
            query["after"] = event["number"]
            yield event
        if not follow:
            return
        query["limit"] = 1000
        query.setdefault("after", 0)
        time.sleep(POLL)


def event_line(event: dict[str, Any], palette: Palette) -> str:
    """One event for people."""
    why = f": {event['why']}" if event["why"] else ""
    return f"{event['at']}  {event['key']}  {palette.state(event['what'])}{why}"


def logs(address: Address, service: str | None, *, follow: bool, count: int) -> Iterator[bytes]:
    """Log lines as the agent has written them, JSON each; with `follow`, those that come as well."""
    query = (
        {"limit": str(count)}
        | ({"service": service} if service else {})
        | ({"follow": "1"} if follow else {})
    )
    yield from transport.stream(
        address, f"/logs?{urlencode(query)}", timeout=None if follow else transport.TIMEOUT
    )


def log_line(raw: bytes, palette: Palette) -> str:
    """One log line for people; what is none is shown as it is."""
    try:
        line = json.loads(raw)
        stamp, level = line.pop("timestamp"), line.pop("level")
        message, logger = line.pop("message"), line.pop("logger", "")
    except (ValueError, KeyError, AttributeError, TypeError):
        return raw.decode("utf-8", "replace").rstrip("\n")
    service = line.pop("service", "")
    trace = line.pop("traceback", "")
    who = service if logger.startswith("watchkeeper.output.") else logger.removeprefix("watchkeeper.")
    fields = "".join(f"  {name}={_text(value)}" for name, value in line.items() if value not in ("", None))
    return f"{stamp}  {palette.level(level)}  {who}: {message}{palette.faint(fields)}" + (
        f"\n{trace}" if trace else ""
    )


def _near(word: str, names: list[str]) -> str:
    import difflib

    plain = {name.partition("/")[2]: name for name in names}
    near = difflib.get_close_matches(word, [*plain, *names], n=1)
    return f'; did you mean "{near[0]}"?' if near else ""
