"""Which paths there are, what each takes, and the least role that it wants."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import unquote

from watchkeeper.config.schema.listeners import Access
from watchkeeper.endpoints import control, page, reading, scrape, tailing, web
from watchkeeper.endpoints.answers import Refusal
from watchkeeper.endpoints.site import Call

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Route:
    """One path. `more` says how many parts may follow it; `name` stands for it in metrics."""

    method: str
    path: str
    needs: Access
    handler: Handler
    more: int = 0
    probe: bool = False
    """Asked by machines that act on it: it is neither limited nor broken on purpose."""
    endless: bool = False
    """Its answer may take as long as the client wants."""

    @property
    def name(self) -> str:
        return self.path


def _debug(name: str) -> Handler:
    """A page of debug.py, which is imported when the first of them is asked for."""

    async def handler(call: Call) -> web.StreamResponse:
        from watchkeeper.endpoints import debug

        answer: web.StreamResponse = await getattr(debug, name)(call)
        return answer

    return handler


READS = (
    Route("GET", "/livez", Access.UNTRUSTED, reading.livez, probe=True),
    Route("GET", "/readyz", Access.UNTRUSTED, reading.readyz, probe=True),
    Route("GET", "/health", Access.UNTRUSTED, reading.health, probe=True),
    Route("GET", "/metrics", Access.METRICS, scrape.metrics, probe=True),
    Route("GET", "/status", Access.READ, reading.status, more=3),
    Route("GET", "/events", Access.READ, reading.events),
    Route("GET", "/logs", Access.READ, tailing.logs, endless=True),
    Route("GET", "/", Access.READ, page.page),
    Route("GET", "/debug/pprof", Access.CONTROL, _debug("index")),
    Route("GET", "/debug/pprof/profile", Access.CONTROL, _debug("profile"), endless=True),
    Route("GET", "/debug/pprof/heap", Access.CONTROL, _debug("heap")),
    Route("GET", "/debug/pprof/tasks", Access.CONTROL, _debug("tasks")),
    Route("GET", "/debug/pprof/threads", Access.CONTROL, _debug("threads")),
    Route("GET", "/debug/pprof/gc", Access.CONTROL, _debug("gc")),
)
ORDERS = (
    Route("POST", "/control/start", Access.CONTROL, control.order, more=1),
    Route("POST", "/control/stop", Access.CONTROL, control.order, more=1),
    Route("POST", "/control/restart", Access.CONTROL, control.order, more=1),
    Route("POST", "/control/reload", Access.CONTROL, control.reload),
    Route("PUT", "/control/log-level", Access.CONTROL, control.log_level),
    Route("PUT", "/control/faults", Access.CONTROL, control.faults),
    Route("POST", "/debug/pprof/heap/start", Access.CONTROL, _debug("heap_start")),
    Route("POST", "/debug/pprof/heap/stop", Access.CONTROL, _debug("heap_stop")),
)
ROUTES = {route.path: route for route in (*READS, *ORDERS)}
LONGEST = max(len(path.split("/")) for path in ROUTES)


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """The route of a path and the parts behind it.

    Raises:
        Refusal: there is no such path (404), or it does not take this method (405).
    """
    plain = path.rstrip("/") or "/"
    parts = plain.split("/")
    for length in range(min(len(parts), LONGEST), 0, -1):
        route = ROUTES.get("/".join(parts[:length]) or "/")
        rest = parts[length:]
        if route is None or len(rest) > route.more:
            continue
        if plain != "/" and route.path == "/":
            break
        _check(method, route)
        return route, tuple(unquote(each) for each in rest)
    raise _unknown(plain)


def _check(method: str, route: Route) -> None:
    allowed = ("GET", "HEAD") if route.method == "GET" else (route.method,)
    if method not in allowed:
        raise Refusal(
            405,
            f"{route.path} does not take {method}",
            f"Use {' or '.join(allowed)}.",
            headers={"Allow": ", ".join(allowed)},
        )


def _unknown(path: str) -> Refusal:
    near = difflib.get_close_matches(path[:200], ROUTES, n=1, cutoff=0.6)
    advice = f"Did you mean {near[0]}?" if near else "The paths are listed under `paths`."
    return Refusal(404, "there is nothing at this path", advice, paths=[route.path for route in READS])
