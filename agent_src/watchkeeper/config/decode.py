"""From plain data to the structs of model.py, with every problem at once.

msgspec's own decoder stops at the first error. Here the same types are walked over (msgspec.inspect), so that the
schema is written once, every wrong value is reported with its position, and an unknown key is answered with the nearest
one that exists.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from watchkeeper.config.document import Document, Path, Problem
from watchkeeper.config.references import References
from watchkeeper.config.rules import RULES, no_rules
from watchkeeper.config.schema.common import DURATION, NAME_PATTERN, SECRET, SIZE
from watchkeeper.durations import format_duration, kind_of, parse_duration
from watchkeeper.sizes import format_size, parse_size

T = TypeVar("T")
NAME_RULE = "a name is 1 to 63 letters, digits, dots, dashes and underscores"
INVALID: Any = object()
"""Stands for a value that could not be made; the reason is already among the problems."""


def decode(document: Document, target: type[T], references: References | None = None) -> T | None:
    """The struct, or None when something is wrong; what is wrong is added to the document's problems."""
    decoder = Decoder(document, references or References())
    data = {} if document.data is None else document.data
    value = decoder.struct(_Sections(target), data, ())
    return None if value is INVALID or document.problems else cast("T", value)


def nearest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean "x"?`, or nothing when no choice is near."""
    import difflib

    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else ""


class _Sections:
    """A struct whose fields are looked into when the document has them, and then once for all documents.

    To look into the whole schema takes longer than to read a usual file; most of it is about sections that are not there.
    """

    tag_field = tag = None

    def __init__(self, target: type) -> None:
        self.cls = target
        self.fields = [_Section(target, field) for field in msgspec.structs.fields(target)]


class _Section:
    """One field, as msgspec.inspect describes it."""

    def __init__(self, target: type, field: Any) -> None:
        self.name, self.encode_name, self.required = field.name, field.encode_name, field.required
        self._target, self._field = target, field

    @property
    def type(self) -> inspect.Type:
        """What the field takes."""
        known = _looked_into.get((self._target, self.name))
        if known is None:
            known = _looked_into[self._target, self.name] = inspect.type_info(self._field.type)
        return known


_looked_into: dict[tuple[type, str], inspect.Type] = {}


class Decoder:
    """One walk over one document."""

    def __init__(self, document: Document, references: References) -> None:
        self.document = document
        self.references = references

    def problem(self, path: Path, message: str, *, key: bool = False) -> Any:
        """Note what is wrong at a path."""
        self.document.problems.append(Problem(self.document.position(path, key=key), path, message))
        return INVALID

    def value(self, kind: inspect.Type, data: Any, path: Path) -> Any:
        """The value as the type wants it, or INVALID."""
        if isinstance(kind, inspect.Metadata):
            for mark, read in MARKED:
                if kind.extra == mark:
                    return read(self, kind.type, data, path)
            return self.value(kind.type, data, path)
        return READERS[type(kind)](self, kind, data, path)

    def struct(self, kind: inspect.StructType | _Sections, data: Any, path: Path) -> Any:
        if not isinstance(data, dict):
            return self.problem(path, f"expected a mapping, found {kind_of(data)}")
        fields = {field.encode_name: field for field in kind.fields}
        known = [*fields, kind.tag_field] if kind.tag_field else list(fields)
        for name in data:
            if name not in known:
                self.problem((*path, name), f"unknown key{nearest(name, known)}", key=True)
        if kind.tag_field and data.get(kind.tag_field, kind.tag) != kind.tag:
            self.problem((*path, kind.tag_field), f"{data[kind.tag_field]!r} is not {kind.tag}")
        values = {}
        for name, field in fields.items():
            if name in data:
                values[field.name] = self.value(field.type, data[name], (*path, name))
            elif field.required:
                values[field.name] = self.problem(path, f'the key "{name}" is missing', key=True)
        return INVALID if has_invalid(values.values()) else self.ruled(kind.cls(**values), path)

    def ruled(self, value: Any, path: Path) -> Any:
        """The struct itself; what its rules find is noted, and the rest of the document is still looked at."""
        for at, message in RULES.get(type(value), no_rules)(path, value):
            self.problem(at, message)
        return value

    def union(self, kind: inspect.UnionType, data: Any, path: Path) -> Any:
        """One of several types: nothing; one struct of several, chosen by its tag; the first that fits the data's kind."""
        choices = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
        if data is None and len(choices) < len(kind.types):
            return None
        structs = [each for each in choices if isinstance(each, inspect.StructType)]
        if len(structs) > 1 and (isinstance(data, dict) or len(structs) == len(choices)):
            return self.tagged(structs, data, path)
        fitting = next((each for each in choices if fits(each, data)), choices[0])
        return self.value(fitting, data, path)

    def tagged(self, structs: list[inspect.StructType], data: Any, path: Path) -> Any:
        if not isinstance(data, dict):
            return self.problem(path, f"expected a mapping, found {kind_of(data)}")
        by_tag = {str(each.tag): each for each in structs}
        field = str(structs[0].tag_field)
        choices = ", ".join(sorted(by_tag))
        if field not in data:
            usual = next((each for each in structs if getattr(each.cls, "DEFAULT_TAG", False)), None)
            if usual is not None:
                return self.struct(usual, data, path)
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
            values[self.key(kind.key_type, name, at)] = self.value(kind.value_type, item, at)
        if (
            not (kind.min_length or 0)
            <= len(data)
            <= (len(data) if kind.max_length is None else kind.max_length)
        ):
            return self.problem(path, counted(kind, len(data)))
        return INVALID if INVALID in values or has_invalid(values.values()) else values

    def key(self, kind: inspect.Type, name: str, path: Path) -> Any:
        """A key of a mapping: a name, any text, or a word of an enumeration."""
        kind = kind.type if isinstance(kind, inspect.Metadata) else kind
        if isinstance(kind, inspect.EnumType):
            return self.choice(kind, name, path)
        pattern = getattr(kind, "pattern", None)
        if pattern and not re.fullmatch(pattern, name):
            self.problem(
                path,
                NAME_RULE if pattern == NAME_PATTERN else f"{name!r} does not have the form {pattern}",
                key=True,
            )
        return name

    def sequence(self, kind: Any, data: Any, path: Path) -> Any:
        """A tuple, a list, a set, or a frozen set."""
        if not isinstance(data, list):
            return self.problem(path, f"expected a list, found {kind_of(data)}")
        if (
            not (kind.min_length or 0)
            <= len(data)
            <= (len(data) if kind.max_length is None else kind.max_length)
        ):
            return self.problem(path, counted(kind, len(data)))
        values = [self.value(kind.item_type, item, (*path, index)) for index, item in enumerate(data)]
        return INVALID if has_invalid(values) else CONTAINERS[type(kind)](values)

    def fixed(self, kind: inspect.TupleType, data: Any, path: Path) -> Any:
        """A tuple of so many items, each with a type of its own."""
        wanted = len(kind.item_types)
        if not isinstance(data, list) or len(data) != wanted:
            found = f"{len(data)} items" if isinstance(data, list) else kind_of(data)
            return self.problem(path, f"expected a list of {wanted} items, found {found}")
        pairs = enumerate(zip(kind.item_types, data, strict=True))
        values = [self.value(each, item, (*path, index)) for index, (each, item) in pairs]
        return INVALID if has_invalid(values) else tuple(values)

    def secret(self, kind: Any, data: Any, path: Path) -> Any:
        """Text whose references are resolved. No message about it may say any of it."""
        if not isinstance(data, str):
            return self.problem(path, f"expected text, found {kind_of(data)} (put it in quotes)")
        try:
            value = self.references.text(data, allowed=self.document.trusted(path))
        except ValueError as error:
            return self.problem(path, str(error))
        if kind.pattern and not re.fullmatch(kind.pattern, value):
            return self.problem(path, f"the secret does not have the form {kind.pattern}")
        return self.text(msgspec.structs.replace(kind, pattern=None), value, path)

    def literal(self, kind: inspect.LiteralType, data: Any, path: Path) -> Any:
        """One of a few words or whole numbers."""
        for value in kind.values:
            if value == data and type(value) is type(data):
                return value
        words = [str(value) for value in kind.values]
        hint = nearest(data, words) if isinstance(data, str) else ""
        return self.problem(path, f"{data!r} is not one of {', '.join(words)}{hint}")

    def anything(self, _kind: inspect.AnyType, data: Any, _path: Path) -> Any:
        return data

    def nothing(self, _kind: inspect.NoneType, data: Any, path: Path) -> Any:
        return None if data is None else self.problem(path, f"expected nothing, found {kind_of(data)}")

    def text(self, kind: inspect.StrType, data: Any, path: Path) -> Any:
        if not isinstance(data, str):
            hint = " (put it in quotes)" if isinstance(data, (bool, int, float)) else ""
            return self.problem(path, f"expected text, found {kind_of(data)}{hint}")
        if len(data) < (kind.min_length or 0):
            return self.problem(
                path, "the text is empty" if not data else f"shorter than {kind.min_length} characters"
            )
        if kind.max_length is not None and len(data) > kind.max_length:
            return self.problem(path, f"longer than {kind.max_length} characters")
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

    def size(self, kind: Any, data: Any, path: Path) -> Any:
        try:
            size = parse_size(data)
        except ValueError as error:
            return self.problem(path, str(error))
        return self.bounded(kind, size, path, format_size)

    def bounded(self, kind: Any, number: float, path: Path, show: Callable[[Any], str]) -> Any:
        if not math.isfinite(number):
            return self.problem(path, "expected a finite number")
        above = (kind.ge is None or number >= kind.ge) and (kind.gt is None or number > kind.gt)
        below = (kind.le is None or number <= kind.le) and (kind.lt is None or number < kind.lt)
        if above and below:
            return number
        return self.problem(path, f"{show(number)} is out of range; it is {span(kind, show)}")

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


def has_invalid(values: Iterable[Any]) -> bool:
    """Whether one could not be made. By identity: what is equal to everything, or compares slowly, is not asked."""
    return any(value is INVALID for value in values)


def span(kind: Any, show: Callable[[Any], str]) -> str:
    """From where to where a number may go."""
    low = (
        ""
        if kind.ge is None and kind.gt is None
        else show(kind.ge)
        if kind.ge is not None
        else f"more than {show(kind.gt)}"
    )
    high = (
        ""
        if kind.le is None and kind.lt is None
        else show(kind.le)
        if kind.le is not None
        else f"less than {show(kind.lt)}"
    )
    if low and high:
        return f"{low} to {high}" if not high.startswith("less") else f"{low} or more, and {high}"
    return (
        f"at most {high}"
        if kind.le is not None
        else high or (low if kind.gt is not None else f"at least {low}")
    )


def counted(kind: Any, count: int) -> str:
    """What is wrong with the number of items."""
    thing = "mapping" if isinstance(kind, inspect.DictType) else "list"
    if count < (kind.min_length or 0):
        return f"expected a {thing} with at least {'one item' if kind.min_length == 1 else f'{kind.min_length} items'}"
    return f"expected a {thing} with at most {kind.max_length} items, found {count}"


def fits(kind: inspect.Type, data: Any) -> bool:
    """Whether data has the shape of a type; only so much as is needed to choose between several."""
    if isinstance(kind, inspect.Metadata):
        return fits(kind.type, data) or (kind.extra in (DURATION, SIZE) and isinstance(data, str))
    if isinstance(kind, inspect.LiteralType):
        return data in kind.values
    return isinstance(data, SHAPES.get(type(kind), object)) and not (
        isinstance(data, bool) and isinstance(kind, (inspect.IntType, inspect.FloatType))
    )


def describe(data: Any) -> str:
    """The value itself where it is short text, else what it is."""
    return f"the text {data!r}" if isinstance(data, str) and len(data) <= 40 else kind_of(data)


READERS: dict[type, Callable[[Decoder, Any, Any, Path], Any]] = {
    inspect.StructType: Decoder.struct,
    inspect.UnionType: Decoder.union,
    inspect.DictType: Decoder.mapping,
    inspect.VarTupleType: Decoder.sequence,
    inspect.ListType: Decoder.sequence,
    inspect.SetType: Decoder.sequence,
    inspect.FrozenSetType: Decoder.sequence,
    inspect.TupleType: Decoder.fixed,
    inspect.StrType: Decoder.text,
    inspect.IntType: Decoder.number,
    inspect.FloatType: Decoder.number,
    inspect.BoolType: Decoder.boolean,
    inspect.EnumType: Decoder.choice,
    inspect.LiteralType: Decoder.literal,
    inspect.AnyType: Decoder.anything,
    inspect.NoneType: Decoder.nothing,
}
MARKED: tuple[tuple[dict[str, Any], Callable[[Decoder, Any, Any, Path], Any]], ...] = (
    (DURATION, Decoder.duration),
    (SIZE, Decoder.size),
    (SECRET, Decoder.secret),
)
"""Types that are told apart by their Meta(extra=...): what is written differs from what is kept."""
SHAPES: dict[type, Any] = {
    inspect.StructType: dict,
    inspect.DictType: dict,
    inspect.VarTupleType: list,
    inspect.ListType: list,
    inspect.SetType: list,
    inspect.FrozenSetType: list,
    inspect.TupleType: list,
    inspect.StrType: str,
    inspect.IntType: int,
    inspect.FloatType: (int, float),
    inspect.BoolType: bool,
    inspect.EnumType: (str, bool),
}
CONTAINERS: dict[type, Callable[[Any], Any]] = {
    inspect.VarTupleType: tuple,
    inspect.ListType: list,
    inspect.SetType: set,
    inspect.FrozenSetType: frozenset,
}


def to_json(value: Any) -> bytes:
    """Any struct as JSON, for digests and for --json."""
    return msgspec.json.encode(value, order="deterministic")
