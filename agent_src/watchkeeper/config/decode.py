"""From plain data to the structs of model.py, with every problem at once.

msgspec's own decoder stops at the first error. Here the same types are walked over (msgspec.inspect), so that the
schema is written once, every wrong value is reported with its position, and an unknown key is answered with the nearest
one that exists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from watchkeeper.config.document import Document, Path, Problem
from watchkeeper.config.model import DURATION
from watchkeeper.config.rules import RULES, no_rules
from watchkeeper.durations import format_duration, kind_of, parse_duration

T = TypeVar("T")
INVALID: Any = object()
"""Stands for a value that could not be made; the reason is already among the problems."""


def decode(document: Document, target: type[T]) -> T | None:
    """The struct, or None when something is wrong; what is wrong is added to the document's problems."""
    decoder = Decoder(document)
    value = decoder.value(inspect.type_info(target), document.data or {}, ())
    return None if value is INVALID or document.problems else cast("T", value)


def nearest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean "x"?`, or nothing when no choice is near."""
    import difflib

    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else ""


class Decoder:
    """One walk over one document."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def problem(self, path: Path, message: str, *, key: bool = False) -> Any:
        """Note what is wrong at a path."""
        self.document.problems.append(Problem(self.document.position(path, key=key), path, message))
        return INVALID

    def value(self, kind: inspect.Type, data: Any, path: Path) -> Any:
        """The value as the type wants it, or INVALID."""
        if isinstance(kind, inspect.Metadata):
            return (
                self.duration(kind.type, data, path)
                if kind.extra == DURATION
                else self.value(kind.type, data, path)
            )
        return READERS[type(kind)](self, kind, data, path)

    def struct(self, kind: inspect.StructType, data: Any, path: Path) -> Any:
        if not isinstance(data, dict):
            return self.problem(path, f"expected a mapping, found {kind_of(data)}")
        fields = {field.encode_name: field for field in kind.fields}
        known = [*fields, kind.tag_field] if kind.tag_field else list(fields)
        for name in data:
            if name not in known:
                self.problem((*path, name), f"unknown key{nearest(name, known)}", key=True)
        values = {}
        for name, field in fields.items():
            if name in data:
                values[field.name] = self.value(field.type, data[name], (*path, name))
            elif field.required:
                values[field.name] = self.problem(path, f'the key "{name}" is missing', key=True)
        return INVALID if INVALID in values.values() else self.ruled(kind.cls(**values), path)

    def ruled(self, value: Any, path: Path) -> Any:
        """The struct itself; what its rules find is noted, and the rest of the document is still looked at."""
        for at, message in RULES.get(type(value), no_rules)(path, value):
            self.problem(at, message)
        return value

    def union(self, kind: inspect.UnionType, data: Any, path: Path) -> Any:
        """Either one struct of several, chosen by its tag, or a value that may be left out."""
        structs = [each for each in kind.types if isinstance(each, inspect.StructType)]
        if structs:
            return self.tagged(structs, data, path)
        if data is None:
            return None
        return self.value(
            next(each for each in kind.types if not isinstance(each, inspect.NoneType)), data, path
        )

    def tagged(self, structs: list[inspect.StructType], data: Any, path: Path) -> Any:
        if not isinstance(data, dict):
            return self.problem(path, f"expected a mapping, found {kind_of(data)}")
        by_tag = {str(each.tag): each for each in structs}
        field = str(structs[0].tag_field)
        choices = ", ".join(sorted(by_tag))
        if field not in data:
            return self.problem(path, f'the key "{field}" is missing; it is one of {choices}', key=True)
        chosen = by_tag.get(data[field]) if isinstance(data[field], str) else None
        if chosen is None:
            hint = nearest(str(data[field]), by_tag)
            return self.problem((*path, field), f"{data[field]!r} is not one of {choices}{hint}")
        return self.struct(chosen, data, path)

    def mapping(self, kind: inspect.DictType, data: Any, path: Path) -> Any:
        if data is None:
            return {}
        if not isinstance(data, dict):
            return self.problem(path, f"expected a mapping, found {kind_of(data)}")
        values = {}
        for name, item in data.items():
            at = (*path, name)
            pattern = getattr(kind.key_type, "pattern", None)
            if pattern and not re.fullmatch(pattern, name):
                self.problem(at, "a name is 1 to 63 letters, digits, dots, dashes and underscores", key=True)
            values[name] = self.value(kind.value_type, item, at)
        return INVALID if INVALID in values.values() else values

    def sequence(self, kind: inspect.VarTupleType, data: Any, path: Path) -> Any:
        if not isinstance(data, list):
            return self.problem(path, f"expected a list, found {kind_of(data)}")
        if len(data) < (kind.min_length or 0):
            return self.problem(path, "expected a list with at least one item")
        values = [self.value(kind.item_type, item, (*path, index)) for index, item in enumerate(data)]
        return INVALID if INVALID in values else tuple(values)

    def text(self, kind: inspect.StrType, data: Any, path: Path) -> Any:
        if not isinstance(data, str):
            hint = " (put it in quotes)" if isinstance(data, (bool, int, float)) else ""
            return self.problem(path, f"expected text, found {kind_of(data)}{hint}")
        if not (kind.min_length or 0) <= len(data) <= (kind.max_length or len(data)):
            return self.problem(
                path, "the text is empty" if not data else f"longer than {kind.max_length} characters"
            )
        if "\0" in data:
            return self.problem(path, "text with a NUL character cannot be given to a program")
        if kind.pattern and not re.fullmatch(kind.pattern, data):
            return self.problem(path, f"{data!r} does not have the form {kind.pattern}")
        return data

    def number(self, kind: inspect.IntType | inspect.FloatType, data: Any, path: Path) -> Any:
        whole = isinstance(kind, inspect.IntType)
        if isinstance(data, bool) or not isinstance(data, int if whole else (int, float)):
            return self.problem(path, f"expected a {'whole ' if whole else ''}number, found {describe(data)}")
        return self.bounded(kind, data if whole else float(data), path, str)

    def duration(self, kind: Any, data: Any, path: Path) -> Any:
        try:
            seconds = parse_duration(data)
        except (ValueError, OverflowError) as error:
            return self.problem(path, str(error))
        return self.bounded(kind, seconds, path, format_duration)

    def bounded(self, kind: Any, number: float, path: Path, show: Callable[[Any], str]) -> Any:
        low = -float("inf") if kind.ge is None else kind.ge
        high = float("inf") if kind.le is None else kind.le
        if low <= number <= high:
            return number
        return self.problem(path, f"{show(number)} is out of range; it is {show(low)} to {show(high)}")

    def boolean(self, _kind: inspect.BoolType, data: Any, path: Path) -> Any:
        return (
            data
            if isinstance(data, bool)
            else self.problem(path, f"expected true or false, found {describe(data)}")
        )

    def choice(self, kind: inspect.EnumType, data: Any, path: Path) -> Any:
        # YAML 1.1 reads a bare `no` as false; for a policy it is the word that was meant.
        word = {False: "no", True: "yes"}[data] if isinstance(data, bool) else data
        choices = [str(member.value) for member in kind.cls]
        if word in choices:
            return kind.cls(word)
        hint = nearest(word, choices) if isinstance(word, str) else ""
        return self.problem(path, f"{data!r} is not one of {', '.join(choices)}{hint}")


def describe(data: Any) -> str:
    """The value itself where it is short text, else what it is."""
    return f"the text {data!r}" if isinstance(data, str) and len(data) <= 40 else kind_of(data)


READERS: dict[type, Callable[[Decoder, Any, Any, Path], Any]] = {
    inspect.StructType: Decoder.struct,
    inspect.UnionType: Decoder.union,
    inspect.DictType: Decoder.mapping,
    inspect.VarTupleType: Decoder.sequence,
    inspect.StrType: Decoder.text,
    inspect.IntType: Decoder.number,
    inspect.FloatType: Decoder.number,
    inspect.BoolType: Decoder.boolean,
    inspect.EnumType: Decoder.choice,
}


def to_json(value: Any) -> bytes:
    """Any struct as JSON, for digests and for --json."""
    return msgspec.json.encode(value, order="deterministic")
