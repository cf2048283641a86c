"""Where a task stands: asyncio's own get_stack() shows the outermost frame alone, and people need the innermost."""

from __future__ import annotations

import asyncio
import os
from types import FrameType
from typing import Any

DEPTH = 50


def where(task: asyncio.Task[Any]) -> list[str]:
    """What a task waits in, outermost first: `file.py:12 in function`. Empty: it has ended.

    An asynchronous generator does not say what it waits for; the list ends there.
    """
    steps: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(steps) < DEPTH:
        frame: FrameType | None = _attribute(waiting, "frame")
        if frame is not None:
            code = frame.f_code
            steps.append(f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_qualname}")  # noqa: PTH119 - a name in a trace, not a file
        waiting = _attribute(waiting, "await")
    return steps


def _attribute(waiting: Any, name: str) -> Any:
    """cr_frame of a coroutine, gi_frame of a generator, ag_frame of an asynchronous one; likewise what each awaits."""
    found = (getattr(waiting, f"{prefix}_{name}", None) for prefix in ("cr", "gi", "ag"))
    first = next((each for each in found if each is not None), None)
    return getattr(waiting, "gi_yieldfrom", None) if first is None and name == "await" else first
