"""Where all tasks and all threads are now, for people and as data."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import Counter
from types import FrameType
from typing import Any

DEPTH = 100


def tasks() -> list[dict[str, Any]]:
    """Every task of the running loop: its name, what it is, and where it waits, outermost first."""
    current = asyncio.current_task()
    return [
        {
            "name": task.get_name(),
            "what": _name(task.get_coro()),
            "state": "running" if task is current else "done" if task.done() else "waiting",
            "stack": chain(task.get_coro()),
        }
        for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    ]


def chain(coroutine: Any) -> list[str]:
    """From a coroutine to what it awaits, to what that awaits ... as FILE:LINE FUNCTION; the task's own stack has only one."""
    found: list[str] = []
    while coroutine is not None and len(found) < DEPTH:
        frame = _first(coroutine, "cr_frame", "gi_frame", "ag_frame")
        if isinstance(frame, FrameType):
            found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
        elif found or not hasattr(coroutine, "cr_frame"):
            found.append(_describe(coroutine))
        coroutine = _first(coroutine, "cr_await", "gi_yieldfrom", "ag_await")
    return found


def threads() -> list[dict[str, Any]]:
    """Every thread: its name, whether it keeps the program alive, and its stack, outermost first."""
    known = {thread.ident: thread for thread in threading.enumerate()}
    found = []
    for ident, frame in sys._current_frames().items():
        thread = known.get(ident)
        stack = traceback.extract_stack(frame, limit=DEPTH)
        found.append(
            {
                "name": thread.name if thread else f"thread {ident}",
                "daemon": thread.daemon if thread else None,
                "native": thread.native_id if thread else None,
                "stack": [f"{each.filename}:{each.lineno} {each.name}" for each in stack],
            }
        )
    return sorted(found, key=lambda each: str(each["name"]))


def as_text(found: list[dict[str, Any]]) -> str:
    """Those with the same stack together, the most frequent first."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for each in found:
        groups.setdefault(tuple(each["stack"]), []).append(each)
    parts = []
    for stack, members in sorted(groups.items(), key=lambda item: -len(item[1])):
        names = Counter(str(each["name"]) for each in members)
        title = ", ".join(name if count == 1 else f"{name} x{count}" for name, count in names.most_common(20))
        more = f", and {len(names) - 20} more names" if len(names) > 20 else ""
        lines = "".join(f"    {line}\n" for line in stack)
        parts.append(f"{len(members)}: {title}{more}\n{lines}")
    return "\n".join(parts)


def _first(thing: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(thing, name, None)) is not None), None)


def _name(coroutine: Any) -> str:
    return getattr(coroutine, "__qualname__", None) or type(coroutine).__name__


def _describe(awaited: Any) -> str:
    """What is awaited at the end: a future, mostly."""
    if isinstance(awaited, asyncio.Task):
        return f"task {awaited.get_name()}"
    return type(awaited).__qualname__
