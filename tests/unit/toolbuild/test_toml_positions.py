"""Positions in TOML: every key and element is found where it is written."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman_build.toml_positions import KeyPath, format_key, index

if TYPE_CHECKING:
    from collections.abc import Iterator

TRICKY = '''\
# a comment with [brackets] and = signs
title = "a \\" quoted # string"  # and a comment
'literal key' = 'C:\\temp'
"esc\\u0061pe" = 1
date = 1979-05-27 07:32:00  # holds a blank
multi = """
[not.a.table]
key = 1 ""
"""""
raw = \'\'\'
a = [ \'\'\'
a.b . "c d" = { x = 1, y.z = [ 1, { w = "]" } ] }

[table]
kinds = [
  "archive", # first
  "exe",
  [ 1, 2 ], ]

[table.sub."quo.ted"]
key = true
[[row]]
n = 1
[row.inner]
deep = 1
[[row]]
n = 2
[[row.many]]
x = 1
[[row.many]]
x = 2
'''


def paths(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    if path:
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def at(text: str, path: KeyPath) -> str:
    position = index(text).find(path)
    return text.split("\n")[position.line - 1][position.column - 1 :]


def test_everything_that_tomllib_reads_has_a_position() -> None:
    """No key, element or row of a document with every form of TOML is missing from the index."""
    positions = index(TRICKY)
    assert [path for path, _ in paths(tomllib.loads(TRICKY)) if path not in positions] == []


@pytest.mark.parametrize(
    ("path", "begins"),
    [
        (("title",), "title ="),
        (("literal key",), "'literal key'"),
        (("escape",), '"esc'),
        (("raw",), "raw = "),
        (("a", "b"), "b . "),
        (("a", "b", "c d"), '"c d" ='),
        (("a", "b", "c d", "y", "z", 1, "w"), 'w = "]"'),
        (("table",), "table]"),
        (("table", "kinds", 1), '"exe",'),
        (("table", "kinds", 2, 1), "2 ],"),
        (("table", "sub", "quo.ted"), '"quo.ted"]'),
        (("row", 1, "n"), "n = 2"),
        (("row", 0, "inner", "deep"), "deep"),
        (("row", 1, "many", 1, "x"), "x = 2"),
    ],
)
def test_a_position_is_that_of_the_key_or_element(path: KeyPath, begins: str) -> None:
    """The text at the position begins with the key, or with the element's value."""
    assert at(TRICKY, path).startswith(begins)


@pytest.mark.parametrize(
    ("path", "begins"),
    [
        (("table", "missing"), "table]"),
        (("table", "kinds", 9), "kinds ="),
        (("row", 1, "many", 1, "y", "z"), "many]]"),
        (("nothing",), "# a comment"),
    ],
)
def test_what_is_missing_is_at_its_nearest_parent(path: KeyPath, begins: str) -> None:
    """A key that is not written answers its table, an element its array, and all else the beginning."""
    assert at(TRICKY, path).startswith(begins)


def test_lines_and_columns_count_from_one_in_characters() -> None:
    """Columns count characters and not bytes, and the first of each is 1."""
    positions = index('a = 1\n"ä" = { "ö" = 1, "b" = 2 }\n')
    assert positions.find(("a",)) == (1, 1)
    assert positions.find(("ä", "b")) == (2, 18)


_KEYS = st.text(alphabet="ab-_.\"'\\ä [#=", min_size=1, max_size=4)
_VALUES = st.recursive(
    st.sampled_from(['"x"', "'''a]\n'''", '"""b"""""', "1", "1979-05-27", "true", '"\\"#"']),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[ # c ]\n" + ",\n".join(items) + "\n]"),
        st.lists(inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"k{number}.x = {item}" for number, item in enumerate(items)) + "}"
        ),
    ),
    max_leaves=6,
)


def quoted(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.dictionaries(_KEYS, _VALUES, max_size=4), st.lists(_KEYS, min_size=1, max_size=3))
def test_generated_documents_are_indexed_whole(pairs: dict[str, str], header: list[str]) -> None:
    """Whatever keys and values are combined, all that tomllib reads has a position of its own."""
    lines = [
        f"[[{'.'.join(map(quoted, header))}]]",
        *(f"{quoted(key)} = {item}" for key, item in pairs.items()),
    ]
    text = "\n".join(lines)
    positions = index(text)
    assert [path for path, _ in paths(tomllib.loads(text)) if path not in positions] == []


@given(st.integers(0, len(TRICKY)), st.text(max_size=3))
def test_an_oddity_never_raises(cut: int, noise: str) -> None:
    """Text that is not TOML is indexed as far as it goes: the first key is still found."""
    positions = index("first = 1\n" + TRICKY[:cut] + noise)
    assert positions.find(("first",)) == (1, 1)
    assert ("first",) in positions


def test_endless_nesting_never_raises() -> None:
    """Brackets deeper than the interpreter's stack leave the rest unindexed."""
    assert ("a",) in index("a = " + "[" * 100_000)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("tool", "ferryman", "kinds", 1), "tool.ferryman.kinds[1]"),
        (("target", "linux/arm64", "python"), 'target."linux/arm64".python'),
        (("a", 0, "b"), "a[0].b"),
        ((), ""),
    ],
)
def test_paths_are_written_as_in_toml(path: KeyPath, text: str) -> None:
    """Keys that need quotes have them, and indexes stand in brackets."""
    assert format_key(path) == text
