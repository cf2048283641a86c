"""The walk over types finds what msgspec would refuse, all of it, and says it in words."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from ferryman_build.artifacts import Kind
from ferryman_build.settings import Settings, WorkspaceSettings
from ferryman_build.validate import Mistake, check, prune
from ferryman_build.words import PATTERN_WORDS, suggest

_TEXT = st.sampled_from(
    ["", "x", "archive", "3.12", "/usr/bin/python3", "a.b", "a..b", "pyinstaller", "host", "a\n"]
)
_SCALARS = st.one_of(
    _TEXT,
    st.integers(-3, 4000),
    st.sampled_from([0.0, 0.5, 1.0, 3600.0, 3601.0, float("inf"), float("nan"), datetime.date(1979, 5, 27)]),
    st.booleans(),
)
_KEYS = [
    *(field.encode_name for field in msgspec.structs.fields(Settings)),
    *(
        "source",
        "into",
        "args",
        "ready",
        "get",
        "expect",
        "exit-codes",
        "timeout",
        "commands",
        "service",
        "nope",
    ),
]
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=3))
def test_clean_means_convertible(data: dict[str, Any]) -> None:
    """The walk finds a mistake exactly when msgspec.convert refuses the value."""
    found = check(data, Settings)
    try:
        msgspec.convert(data, Settings)
    except msgspec.ValidationError:
        assert found
    else:
        assert found == []


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=3))
def test_pruning_takes_out_every_mistake(data: dict[str, Any]) -> None:
    """What is left after pruning, repeated while it lays mistakes open, is convertible; what had none is as it was."""
    found = check(data, Settings)
    wrong = {mistake.path[0] for mistake in found}
    rest = data
    while mistakes := check(rest, Settings):
        rest = prune(rest, mistakes)
    msgspec.convert(rest, Settings)
    assert all(
        key in wrong or rest[key] is value or rest[key] == value or key == "smoke"
        for key, value in data.items()
        if key not in wrong
    )


class Inner(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    needed: str
    maybe_unset: int | UnsetType = UNSET


class Open(msgspec.Struct):
    dependencies: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("value", "kind", "lines"),
    [
        ("exe", Kind, [((), "unknown kind 'exe' — did you mean 'executable'?")]),
        ("tape", Kind, [((), "unknown kind 'tape' — expected 'archive', 'executable' or 'pyz'")]),
        (3, Kind, [((), "expected 'archive', 'executable' or 'pyz', found the number 3")]),
        (True, int, [((), "expected a whole number, found true")]),
        (1.5, int, [((), "expected a whole number, found the number 1.5")]),
        ("1", float, [((), "expected a number, found text '1'")]),
        (datetime.date(1979, 5, 27), str, [((), "expected text, found the date or time 1979-05-27")]),
        ("x", tuple[str, ...], [((), "expected an array of text, found text 'x' — write [\"x\"]")]),
        ({}, tuple[str, ...], [((), "expected an array of text, found a table")]),
        (["a", 1, []], tuple[str, ...], [((1,), "expected text, found the number 1"), ((2,), "expected text, found an array")]),
        ([["a"], "b"], tuple[tuple[str, ...], ...], [((1,), "expected an array of text, found text 'b' — write [\"b\"]")]),
        (5, tuple[Inner, ...], [((), "expected an array of tables, found the number 5 — write [5]")]),
        (9, Annotated[int, Meta(ge=0, le=2)], [((), "9 is out of range — expected 0 to 2")]),
        (0, Annotated[float, Meta(gt=0, description="seconds")], [((), "0 is out of range — expected more than 0 seconds")]),
        ("9", Annotated[str, Meta(pattern="^[a-z]$", description="a letter")], [((), "'9' is not a letter")]),
        ("", Annotated[str, Meta(min_length=1)], [((), "too short — expected at least 1 characters")]),
        ([1, 2], Annotated[tuple[int, ...], Meta(max_length=1)], [((), "too long — expected at most 1 elements")]),
        ({}, Inner, [(("needed",), "missing — expected text")]),
        ({"needed": "x", "maybe-unset": "y"}, Inner, [(("maybe-unset",), "expected a whole number, found text 'y'")]),
        ({"needed": "x", "maybe_unset": 1}, Inner, [(("maybe_unset",), "unknown key — did you mean 'maybe-unset'?")]),
        ({"needed": "x", "qq": 1}, Inner, [(("qq",), "unknown key — the keys here are maybe-unset, needed")]),
        ({"a": {"needed": 1}, "b": 2}, dict[str, Inner], [(("a", "needed"), "expected text, found the number 1"), (("b",), "expected a table, found the number 2")]),
        (1, Inner | None, [((), "expected a table, found the number 1")]),
        (None, Inner | None, []),
        ({"dependancies": [], "future": 1}, Open, [(("dependancies",), "unknown key — did you mean 'dependencies'?")]),
    ],
)  # fmt: skip
def test_each_kind_of_mistake_has_its_words(value: object, kind: Any, lines: list[tuple[Any, str]]) -> None:
    """Path, what is wrong, what is expected and what was perhaps meant."""
    assert check(value, kind) == [Mistake(*line) for line in lines]


def test_an_unknown_type_is_a_defect_of_the_settings() -> None:
    """A type without a checker raises instead of letting everything through."""
    with pytest.raises(TypeError, match="SetType"):
        check([], set[str])


def test_patterns_have_words() -> None:
    """No message about the settings shows a regular expression: each pattern has a description or a row, and no row is idle."""
    schema = str(msgspec.json.schema(Settings)) + str(msgspec.json.schema(WorkspaceSettings))
    for pattern in PATTERN_WORDS:
        assert repr(pattern) in schema
    for value in ({"python": "4"}, {"hidden-imports": ["1"]}):
        assert all("match" not in mistake.message for mistake in check(value, Settings))


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("hidden_import", ["hidden-imports", "x"], "hidden-imports"),
        ("NAME", ["name"], "name"),
        ("exe", ["pyz", "executable"], "executable"),
        ("zzz", ["name"], ""),
        ("e", ["executable"], ""),
    ],
)
def test_suggestions(word: str, known: list[str], near: str) -> None:
    """The nearest spelling, however it is cased or hyphened; or a word that begins so; or nothing."""
    assert suggest(word, known) == (f" — did you mean {near!r}?" if near else "")
