"""/debug/pprof/*: what the process is doing, for who may control it and is on this machine.

One profile is made at a time. It ends when its client goes.
"""

from __future__ import annotations

import asyncio
import threading

from watchkeeper.endpoints import web
from watchkeeper.endpoints.answers import Refusal, json, text
from watchkeeper.endpoints.reading import number_of
from watchkeeper.endpoints.site import Call
from watchkeeper.logs import get_logger
from watchkeeper.profiling import garbage, stacks
from watchkeeper.profiling.formats import collapsed, speedscope
from watchkeeper.profiling.heap import FRAMES, TOP, Heap
from watchkeeper.profiling.sampler import Profile, Sampler

journal = get_logger("debug")

SECONDS, LONGEST = 30, 300
HZ, HIGHEST = 100, 1000
PAGES = {
    "profile": "?seconds=30 &hz=100 &format=collapsed|speedscope &idle=1: samples of all stacks",
    "heap": "?diff=1 &top=30: what holds memory; POST heap/start and heap/stop",
    "tasks": "?format=json: every task and where it waits",
    "threads": "?format=json: every thread and where it is",
    "gc": "the garbage collector: counts and pauses",
}

_heap = Heap()
_profiling: set[float] = set()
"""Until when the profile is made that is being made, on the loop's clock; one at most."""


async def index(_call: Call) -> web.Response:
    """What there is."""
    return text("".join(f"/debug/pprof/{name}  {what}\n" for name, what in PAGES.items()))


async def profile(call: Call) -> web.Response:
    """Collapsed stacks, or speedscope's format."""
    seconds, hz = number_of(call, "seconds", SECONDS, LONGEST), number_of(call, "hz", HZ, HIGHEST)
    form = call.request.query.get("format", "collapsed")
    if not seconds or not hz or form not in ("collapsed", "speedscope"):
        raise Refusal(400, "?seconds= and ?hz= are at least 1, ?format= is collapsed or speedscope")
    made = await _profile(seconds, hz, idle=call.flag("idle"))
    journal.info("a profile was made", seconds=round(made.seconds, 1), samples=made.samples, by=call.peer.who)
    if form == "speedscope":
        content = await asyncio.to_thread(speedscope, made, "watchkeeper")
        return json(
            content, headers={"Content-Disposition": 'attachment; filename="watchkeeper.speedscope.json"'}
        )
    return text(await asyncio.to_thread(collapsed, made))


async def _profile(seconds: int, hz: int, *, idle: bool) -> Profile:
    """In a thread of its own; who gives up ends it."""
    loop = asyncio.get_running_loop()
    if _profiling:
        left = max(1, round(next(iter(_profiling)) - loop.time()))
        raise Refusal(
            409,
            "a profile is being made already",
            f"It ends in {left} s.",
            headers={"Retry-After": str(left)},
        )
    until = loop.time() + seconds
    _profiling.add(until)
    stop = threading.Event()
    try:
        return await asyncio.to_thread(Sampler(idle=idle).run, seconds, hz, stop)
    finally:
        stop.set()
        _profiling.discard(until)


async def heap(call: Call) -> web.Response:
    """What holds memory."""
    return json(await _heap.report(diff=call.flag("diff"), top=number_of(call, "top", TOP, 1000)))


async def heap_start(call: Call) -> web.Response:
    """Begin to trace allocations."""
    frames = max(1, number_of(call, "frames", FRAMES, 100))
    journal.warning("allocations are traced", frames=frames, by=call.peer.who)
    return json(_heap.start(frames))


async def heap_stop(call: Call) -> web.Response:
    """Trace no more."""
    journal.info("allocations are not traced any more", by=call.peer.who)
    return json(_heap.stop())


async def tasks(call: Call) -> web.Response:
    """Every task."""
    found = stacks.tasks()
    return json({"tasks": found}) if _as_json(call) else text(stacks.as_text(found))


async def threads(call: Call) -> web.Response:
    """Every thread."""
    found = stacks.threads()
    return json({"threads": found}) if _as_json(call) else text(stacks.as_text(found))


async def gc(_call: Call) -> web.Response:
    """The garbage collector."""
    return json(garbage.report())


def _as_json(call: Call) -> bool:
    return call.request.query.get("format") == "json"
