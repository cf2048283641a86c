"""A small part of JSONPath (RFC 9535): which values of a document are meant.

status              the member `status` of the object; `$.status` is the same
checks.db.up        a member of a member
nodes[0].name       an item of a list, counted from 0; [-1] is the last
nodes[*].state      all items of a list, or all members of an object
["odd.name"]        a member whose name has other characters, quoted as in JSON
"""

from __future__ import annotations

import json
import re
from typing import Any

Step = str | int | None
"""The name of a member, the number of an item, or None for all of them."""

_STEP = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_-]*)|\[(?:(?P<item>-?\d{1,9})|(?P<all>\*)|(?P<quoted>"(?:[^"\\]|\\.)*"))\]"""
)


def parse_path(text: str) -> tuple[Step, ...]:
    """The steps of a path.

    Raises:
        ValueError: it is none; the text says where.
    """
    steps: list[Step] = []
    at = 1 if text.startswith("$") else 0
    while at < len(text):
        dotted = text[at] == "."
        if dotted:
            at += 1
        found = _STEP.match(text, at)
        named = found is not None and found["name"] is not None
        # A name follows a dot, or begins the path; brackets follow anything but a dot.
        if found is None or (named and not dotted and at > 0) or (dotted and not named):
            raise ValueError(
                f"{text!r} is no path at its character {at + 1}; write status, a.b[0].c, or a[*].b"
            )
        steps.append(_step(found))
        at = found.end()
    if not steps and text != "$":
        raise ValueError("the path is empty; write status, a.b[0].c, or a[*].b")
    return tuple(steps)


def _step(found: re.Match[str]) -> Step:
    if found["item"] is not None:
        return int(found["item"])
    if found["quoted"] is not None:
        return str(json.loads(found["quoted"]))
    return found["name"]  # None for [*]


def values_at(document: Any, steps: tuple[Step, ...]) -> list[Any]:
    """Every value that the path leads to; none when it leads nowhere."""
    values = [document]
    for step in steps:
        values = [inner for value in values for inner in _inside(value, step)]
    return values


def _inside(value: Any, step: Step) -> list[Any]:
    if step is None:
        return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if isinstance(step, str):
        return [value[step]] if isinstance(value, dict) and step in value else []
    return [value[step]] if isinstance(value, list) and -len(value) <= step < len(value) else []
