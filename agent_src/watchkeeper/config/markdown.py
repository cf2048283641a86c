"""The whole configuration as a page for people: one table per struct, in the order of the sections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import inspect

from watchkeeper.config.json_schema import default_of, described
from watchkeeper.config.model import Config
from watchkeeper.config.schema.common import DURATION, NAME_PATTERN, SECRET, SIZE
from watchkeeper.durations import format_duration
from watchkeeper.sizes import format_size

HEAD = """\
# Configuration: every section and every key

This page is made from the schema (`watchkeeper schema --markdown`); [sources.md](sources.md) says how files, folders, secrets
and sources work together. A duration is a number of seconds or text such as `500ms`, `5s`, `2m`, `1h30m`. A size is a number
of bytes or text such as `64KiB`, `10MiB`, `1GB`. A secret is text, and usually a reference: `${env:NAME}` or `${file:PATH}`.
A name is 1 to 63 letters, digits, dots, dashes and underscores.
"""


def markdown() -> str:
    """The page."""
    return "\n".join(_Page().lines()) + "\n"


class _Page:
    """One walk; each struct is described where it is met first."""

    def __init__(self) -> None:
        self._seen: set[type] = set()

    def lines(self) -> Iterator[str]:
        yield HEAD.rstrip()
        top = inspect.type_info(Config)
        assert isinstance(top, inspect.StructType)
        for field in top.fields:
            yield from ("", f"## `{field.encode_name}`")
            text = described(Config, field.name)
            named = isinstance(field.type, inspect.DictType)
            if named:
                yield from ("", "A mapping from names to:")
            if text:
                yield from ("", text)
            for kind in _structs(field.type):
                yield from self.struct(kind)

    def struct(self, kind: inspect.StructType) -> Iterator[str]:
        """A table, and then the structs that it names."""
        if kind.cls in self._seen:
            return
        self._seen.add(kind.cls)
        yield from ("", f"### {_title(kind)}", "")
        text = described(kind.cls)
        if text:
            yield from (_flat(text), "")
        yield from ("| key | what | default | meaning |", "|---|---|---|---|")
        if kind.tag_field:
            usual = f"`{kind.tag}`" if getattr(kind.cls, "DEFAULT_TAG", False) else "required"
            yield f"| `{kind.tag_field}` | `{kind.tag}` | {usual} | |"
        for field in kind.fields:
            yield self.row(kind.cls, field)
        for field in kind.fields:
            for inner in _structs(field.type):
                yield from self.struct(inner)

    def row(self, cls: type, field: inspect.Field) -> str:
        default = default_of(field)
        shown = "required" if default is msgspec.NODEFAULT else _default(default)
        return f"| `{field.encode_name}` | {_cell(what(field.type))} | {shown} | {_cell(described(cls, field.name))} |"


def what(kind: inspect.Type) -> str:
    """What may be written, in a few words."""
    if isinstance(kind, inspect.Metadata):
        for mark, say in MARKED:
            if kind.extra == mark:
                return say(kind.type)
        return what(kind.type)
    return WORDS[type(kind)](kind)


def _structs(kind: inspect.Type) -> list[inspect.StructType]:
    """The structs that a type names."""
    if isinstance(kind, inspect.StructType):
        return [kind]
    inner: list[Any] = list(getattr(kind, "types", ()) or getattr(kind, "item_types", ()))
    inner += [getattr(kind, name) for name in ("item_type", "value_type", "type") if hasattr(kind, name)]
    return [found for each in inner for found in _structs(each)]


def _title(kind: inspect.StructType) -> str:
    return f"`{kind.tag_field}: {kind.tag}`: {kind.cls.__name__}" if kind.tag_field else kind.cls.__name__


def _span(kind: Any, show: Callable[[Any], str]) -> str:
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    if low is None and high is None:
        return ""
    if high is None:
        return f", {'at least' if kind.ge is not None else 'more than'} {show(low)}"
    return f", at most {show(high)}" if low is None else f", {show(low)} to {show(high)}"


def _union(kind: inspect.UnionType) -> str:
    types = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
    return " or ".join(
        [*(what(each) for each in types), *(["nothing"] if len(types) < len(kind.types) else [])]
    )


def _mapping(kind: inspect.DictType) -> str:
    key = kind.key_type.type if isinstance(kind.key_type, inspect.Metadata) else kind.key_type
    names = "names" if getattr(key, "pattern", None) == NAME_PATTERN else what(kind.key_type)
    return f"mapping from {names} to {what(kind.value_type)}"


def _struct(kind: inspect.StructType) -> str:
    return f"[{kind.cls.__name__}](#{_anchor(_title(kind))})"


def _anchor(title: str) -> str:
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _choices(words: list[Any]) -> str:
    return "one of " + ", ".join(f"`{word}`" for word in words)


def _default(value: Any) -> str:
    if value is None:
        return "nothing"
    if value in ({}, [], (), ""):
        return "empty"
    return f"`{msgspec.json.encode(value).decode()}`" if not isinstance(value, str) else f"`{value}`"


def _flat(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _flat(text).replace("|", "\\|")


MARKED: tuple[tuple[dict[str, Any], Callable[[Any], str]], ...] = (
    (
        DURATION,
        lambda kind: "duration" + _span(kind, lambda seconds: format_duration(seconds) if seconds else "0"),
    ),
    (SIZE, lambda kind: "size" + _span(kind, format_size)),
    (SECRET, lambda _kind: "secret"),
)
WORDS: dict[type, Callable[[Any], str]] = {
    inspect.StructType: _struct,
    inspect.UnionType: _union,
    inspect.DictType: _mapping,
    inspect.VarTupleType: lambda kind: f"list of {what(kind.item_type)}",
    inspect.ListType: lambda kind: f"list of {what(kind.item_type)}",
    inspect.SetType: lambda kind: f"list of {what(kind.item_type)}",
    inspect.FrozenSetType: lambda kind: f"list of {what(kind.item_type)}",
    inspect.TupleType: lambda kind: "list of " + ", ".join(what(each) for each in kind.item_types),
    inspect.StrType: lambda kind: f"text of the form `{kind.pattern}`" if kind.pattern else "text",
    inspect.IntType: lambda kind: "whole number" + _span(kind, str),
    inspect.FloatType: lambda kind: "number" + _span(kind, lambda number: f"{number:g}"),
    inspect.BoolType: lambda _kind: "`true` or `false`",
    inspect.EnumType: lambda kind: _choices([member.value for member in kind.cls]),
    inspect.LiteralType: lambda kind: _choices(list(kind.values)),
    inspect.AnyType: lambda _kind: "anything",
    inspect.NoneType: lambda _kind: "nothing",
}
