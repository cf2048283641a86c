"""Paths into JSON."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.jsonpath import parse_path, values_at

DOCUMENT: Any = {
    "status": "ok",
    "checks": {"db": {"up": True}, "odd.name": 1},
    "nodes": [{"state": "a"}, {"state": "b"}, {"other": 1}],
    "matrix": [[1, 2], [3]],
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("$", [DOCUMENT]),
        ("status", ["ok"]),
        ("$.status", ["ok"]),
        ("checks.db.up", [True]),
        ('checks["odd.name"]', [1]),
        ('$["checks"].db["up"]', [True]),
        ("nodes[0].state", ["a"]),
        ("nodes[-1].other", [1]),
        ("nodes[*].state", ["a", "b"]),
        ("matrix[*][0]", [1, 3]),
        ("checks[*].up", [True]),
        # Nothing there, or something else than the path says: no values.
        ("none", []),
        ("status.inner", []),
        ("status[0]", []),
        ("nodes.state", []),
        ("nodes[3]", []),
        ("nodes[-4]", []),
        ("checks[0]", []),
        ("status[*]", []),
    ],
)
def test_paths(path: str, values: list[Any]) -> None:
    assert values_at(DOCUMENT, parse_path(path)) == values


@pytest.mark.parametrize(
    "path", ["", "a.", "a..b", "a[x]", "$a", "a b", "a[0]b", "a.[0]", "a[", 'a["x]', "a[0", ".", "ä"]
)
def test_what_is_no_path(path: str) -> None:
    """It is refused, and the message has an example."""
    with pytest.raises(ValueError, match="write status"):
        parse_path(path)


@given(st.lists(st.one_of(st.text(min_size=1), st.integers(-3, 3)), min_size=1, max_size=4))
def test_every_place_has_a_path(steps: list[str | int]) -> None:
    """Any name can be written in quotes, and leads to the value that is there."""
    import json

    document: Any = "here"
    for step in reversed(steps):
        document = {step: document} if isinstance(step, str) else [document] * 4
    path = "$" + "".join(f"[{json.dumps(step)}]" for step in steps)
    assert values_at(document, parse_path(path)) == ["here"]


@given(st.text(max_size=30))
def test_any_text(text: str) -> None:
    """It is a path, or a ValueError."""
    try:
        steps = parse_path(text)
    except ValueError:
        return
    assert isinstance(values_at(DOCUMENT, steps), list)
