"""/: what the agent sees, for people. It is one document without a script; it changes nothing and loads nothing.

What is wrong comes first in every table; a table ends after ROWS rows and says where the rest is. The page asks for itself
again every REFRESH seconds; who reads with care stops that with the link at its top.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from watchkeeper import redact
from watchkeeper.durations import format_duration
from watchkeeper.endpoints import web
from watchkeeper.endpoints.health import BAD, GOOD, state_of
from watchkeeper.endpoints.site import Call
from watchkeeper.endpoints.style import POLICY, STYLE
from watchkeeper.events import Event
from watchkeeper.status import AgentStatus, ConfigStatus, rfc3339

REFRESH = 5
ROWS = 300
EVENTS = 25
LINKS = (("/status", "status (JSON)"), ("/metrics", "metrics"), ("/health?verbose=1", "health"), ("/events", "events"),
         ("/logs", "log"))  # fmt: skip
TITLES = {"collector": "Collectors", "alert": "Alerts", "output": "Outputs of the log", "source": "Sources",
          "registration": "Registrations", "listener": "Listeners", "job": "Jobs", "discovery": "Discovery",
          "faults": "Faults", "tracing": "Traces"}  # fmt: skip


async def page(call: Call) -> web.Response:
    """The document."""
    refresh = call.flag("refresh") or "refresh" not in call.request.query
    events = list(call.site.context.events)[-EVENTS:]
    body = redact.text(document(call.site.status(), events, refresh=refresh, now=time.time()))
    headers = {"Content-Security-Policy": POLICY, "X-Frame-Options": "DENY"}
    return web.Response(text=body, content_type="text/html", charset="utf-8", headers=headers)


def document(status: AgentStatus, events: Sequence[Event], *, refresh: bool, now: float) -> str:
    """The whole page. Everything that is not of this module goes through `escape`."""
    parts = [_head(status, refresh=refresh), _top(status, refresh=refresh, now=now), "<main>"]
    parts += [_reasons(status), _configuration(status.config, now)]
    parts.append(_table("Services", SERVICES, status.services, now, "No services are configured."))
    parts.append(_table("Checks", CHECKS, status.checks, now, "No checks are configured."))
    for kind in [*TITLES, *sorted({each.kind for each in status.objects} - TITLES.keys())]:
        found = [each for each in status.objects if each.kind == kind]
        if found:
            parts.append(_table(TITLES.get(kind, kind.capitalize()), OBJECTS, found, now))
    parts.append(_events(events, now))
    parts.append(f"</main><footer>Written {escape(rfc3339(now))}. This page reads; orders are given with "
                 "<code>watchkeeper restart</code> and its like.</footer></body></html>\n")  # fmt: skip
    return "".join(parts)


def _head(status: AgentStatus, *, refresh: bool) -> str:
    again = f'<meta http-equiv="refresh" content="{REFRESH}">' if refresh else ""
    mark = "ready" if status.ready else "not ready"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{again}'
        f'<link rel="icon" href="data:,"><title>Watchkeeper: {mark}</title><style>{STYLE}</style></head><body>'
    )


def _top(status: AgentStatus, *, refresh: bool, now: float) -> str:
    links = "".join(f'<li><a href="{href}">{name}</a></li>' for href, name in LINKS)
    other = (
        '<a href="/?refresh=0">Stop refreshing</a>'
        if refresh
        else f'<a href="/">Refresh every {REFRESH} s</a>'
    )
    ready = _badge("ready" if status.ready else "not ready", "good" if status.ready else "bad")
    return (
        f"<header><h1>Watchkeeper {ready}</h1>"
        f'<p class="soft">Version {escape(status.version)}, process {status.pid}, {escape(status.state)}, '
        f"up for {_ago(status.started_at, now)}.</p>"
        f'<nav aria-label="Machine-readable"><ul>{links}<li>{other}</li></ul></nav></header>'
    )


def _reasons(status: AgentStatus) -> str:
    if status.ready:
        return ""
    items = "".join(f"<li>{escape(each)}</li>" for each in status.not_ready_because)
    return f'<div class="box" role="status"><p>Not ready, because:</p><ul>{items}</ul></div>'


def _configuration(config: ConfigStatus, now: float) -> str:
    """Which one is in force, and what was wrong with a newer one."""
    words = [f"Generation {config.generation} of <code>{escape(config.file)}</code> is in force"]
    if config.loaded_at:
        words.append(f"for {_ago(config.loaded_at, now)}")
    text = f"<h2>Configuration</h2><p>{' '.join(words)}.</p>"
    if config.from_last_good:
        text += "<p>It is the last good copy: the agent could not start with the file.</p>"
    if config.needs_restart:
        text += f"<p>Waits for a new start of the agent: {escape(', '.join(config.needs_restart))}.</p>"
    if config.last_reload_error:
        items = "".join(f"<li>{escape(each)}</li>" for each in config.problems)
        error = escape(config.last_reload_error)
        text += f'<div class="box" role="status"><p>The newest was refused: {error}</p><ul>{items}</ul></div>'
    return text


@dataclass(frozen=True)
class Column:
    """One column: its heading, the cell's class, and the cell as HTML."""

    title: str
    kind: str
    html: Callable[[Any, float], str]


def _name(each: Any, _now: float) -> str:
    return escape(each.name)


def _state(each: Any, _now: float) -> str:
    return _badge(each.state, tone(each.state))


def _why(each: Any, _now: float) -> str:
    error = each.last_error
    text = escape(each.why)
    if error and error != each.why:
        text += f'<div class="error">Last error: {escape(error)}</div>'
    return text


def _since(each: Any, now: float) -> str:
    return f'<time datetime="{escape(each.since)}">{_ago(each.since, now)}</time>'


def _next(each: Any, _now: float) -> str:
    return "" if each.next_try_in is None else f"in {format_duration(round(each.next_try_in, 1))}"


SERVICES = (
    Column("Service", "", _name),
    Column("State", "", _state),
    Column("Ready", "", lambda each, _now: "yes" if each.ready else "no"),
    Column("Process", "number", lambda each, _now: "" if each.pid is None else str(each.pid)),
    Column("Restarts", "number", lambda each, _now: str(each.restarts)),
    Column("For", "time", _since),
    Column("Next try", "time", _next),
    Column("Why", "text", _why),
)
CHECKS = (
    Column("Check", "", _name),
    Column("State", "", _state),
    Column("Role", "", lambda each, _now: escape(each.role)),
    Column("For", "time", _since),
    Column("Next look", "time", _next),
    Column("Why", "text", _why),
)
OBJECTS = (
    Column("Name", "", _name),
    Column("State", "", _state),
    Column("For", "time", _since),
    Column("Why", "text", _why),
)


def _table(title: str, columns: tuple[Column, ...], rows: Sequence[Any], now: float, none: str = "") -> str:
    """A section with a table; what is wrong comes first."""
    if not rows:
        return f'<h2>{title}</h2><p class="soft">{none}</p>'
    wrong = sum(each.state in BAD for each in rows)
    count = f"{len(rows)}, {wrong} not well" if wrong else str(len(rows))
    ordered = sorted(rows, key=lambda each: (each.state not in BAD, each.state in GOOD, each.name))
    head = "".join(f'<th scope="col" class="{column.kind}">{column.title}</th>' for column in columns)
    body = "".join(_row(columns, each, now) for each in ordered[:ROWS])
    more = (
        "" if len(rows) <= ROWS else f"<p>{len(rows) - ROWS} more are in <a href='/status'>/status</a>.</p>"
    )
    heading = f"h-{title.split(maxsplit=1)[0].lower()}"
    return (
        f'<h2 id="{heading}">{escape(title)} <small>({count})</small></h2><div class="wide" role="region" '
        f'aria-labelledby="{heading}" tabindex="0"><table aria-labelledby="{heading}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{more}"
    )


def _row(columns: Iterable[Column], each: Any, now: float) -> str:
    first, *others = columns
    cells = "".join(
        f'<td class="{column.kind}">{column.html(each, now)}</td>'
        if column.kind
        else f"<td>{column.html(each, now)}</td>"
        for column in others
    )
    return f'<tr><th scope="row">{first.html(each, now)}</th>{cells}</tr>'


def _events(events: Sequence[Event], now: float) -> str:
    if not events:
        return ""
    rows = "".join(
        f'<tr><td class="time"><time datetime="{rfc3339(each.at)}">{_ago(rfc3339(each.at), now)} ago</time></td><th scope="row">{escape(str(each.key))}</th>'
        f'<td>{_badge(each.what, tone(each.what))}</td><td class="text">{escape(each.why)}</td></tr>'
        for each in reversed(events)
    )
    return (
        '<h2 id="h-events">Events <small>(newest first)</small></h2><div class="wide" role="region" '
        'aria-labelledby="h-events" tabindex="0"><table aria-labelledby="h-events"><thead><tr><th scope="col">When</th>'
        '<th scope="col">What</th><th scope="col">Is now</th><th scope="col">Why</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def tone(state: str) -> str:
    """The colour of a word; the word itself says the same."""
    return {"ok": "good", "degraded": "bad"}.get(state_of(state), "wait")


def _badge(word: str, tone: str) -> str:
    return f'<span class="badge {tone}">{escape(word)}</span>'


def _ago(when: str, now: float) -> str:
    """How long ago a time was, in its two largest units."""
    try:
        seconds = max(0, int(now - datetime.fromisoformat(when).timestamp()))
    except ValueError:
        return escape(when)
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = [
        f"{value} {unit}"
        for value, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
        if value
    ]
    return " ".join(parts[:2]) or "0 s"
