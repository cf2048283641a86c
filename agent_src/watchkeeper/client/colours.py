"""Colours, for terminals alone: never in a pipe or a file, nor with $NO_COLOR (no-color.org) or TERM=dumb."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

GOOD, BAD, BUSY, FAINT = "32", "31", "33", "2"
_STATES = {
    **dict.fromkeys(
        ("running", "success", "ready", "up", "ok", "active", "started", "registered", "inactive"), GOOD
    ),
    **dict.fromkeys(
        ("failed", "failure", "backoff", "down", "failing", "degraded", "firing", "refused", "lost"), BAD
    ),
    **dict.fromkeys(("starting", "stopping", "waiting", "unknown", "pending", "draining", "new"), BUSY),
}
_LEVELS = {"ERROR": BAD, "FATAL": BAD, "CRITICAL": BAD, "WARNING": BUSY, "DEBUG": FAINT, "TRACE": FAINT}


@dataclass(frozen=True)
class Palette:
    """What paints; with `on` false it changes nothing."""

    on: bool = False

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and code and text else text

    def state(self, word: str) -> str:
        """A state, by whether it is good."""
        return self.paint(word, _STATES.get(word.split(" ", maxsplit=1)[0].rstrip(":"), ""))

    def level(self, word: str) -> str:
        """A log level, padded."""
        return self.paint(f"{word:<7}", _LEVELS.get(word, ""))

    def faint(self, text: str) -> str:
        return self.paint(text, FAINT)


def palette(
    choice: str = "auto", stream: TextIO | None = None, environment: Mapping[str, str] = os.environ
) -> Palette:
    """For `--colour auto|always|never`."""
    if choice != "auto":
        return Palette(choice == "always")
    target = stream or sys.stdout
    plain = environment.get("NO_COLOR") or environment.get("TERM") == "dumb"
    old_console = os.name == "nt" and "WT_SESSION" not in environment
    return Palette(not plain and not old_console and target.isatty())
