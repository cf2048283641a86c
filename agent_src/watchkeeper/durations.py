"""Lengths of time as people write them: a number of seconds, or "500ms", "5s", "2m", "1h30m"."""

from __future__ import annotations

import math
import re

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_duration(value: object) -> float:
    """Seconds.

    Raises:
        ValueError: it is neither a finite number nor parts of a number and a unit.
    """
    if isinstance(value, bool):
        raise ValueError("a duration is a number of seconds or text such as 500ms, 5s or 2m")
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise ValueError("a duration is a finite number of seconds")
        return float(value)
    if not isinstance(value, str):
        raise ValueError(
            f"a duration is a number of seconds or text such as 500ms, 5s or 2m, not {kind_of(value)}"
        )
    text = value.strip()
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{value!r} is no duration; write seconds as a number, or 500ms, 5s, 2m, 1h30m")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """The shortest usual spelling, for messages: 0.5 is "500ms", 90 is "1m30s"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def kind_of(value: object) -> str:
    """What people call the type of a decoded value."""
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
