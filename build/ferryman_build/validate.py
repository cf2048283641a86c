"""Every mistake in a plain value, found by walking the types: msgspec.convert would stop at the first.

:func:`check` knows the types that settings use (text, numbers, booleans, enums, arrays, tables, ``X | None`` and the
constraints of ``Meta``). A value without mistakes here is one that ``msgspec.convert`` accepts, and the other way
round; a test holds the two together.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import inspect

from ferryman_build.toml_positions import KeyPath
from ferryman_build.words import PATTERN_WORDS, as_toml, either, range_words, suggest, type_words, value_words


class Mistake(NamedTuple):
    """One thing wrong: where, and a sentence without a full stop that ends in what is expected or suggested."""

    path: KeyPath
    message: str


def check(value: object, expected: type | inspect.Type, path: KeyPath = ()) -> list[Mistake]:
    """Every mistake in ``value``, a plain value as tomllib answers, for the type ``expected``.

    Raises:
        TypeError: ``expected`` holds a type that this walk does not know (a defect of the settings, not of a user).
    """
    kind = expected if isinstance(expected, inspect.Type) else _type_info(expected)
    return list(_walk(value, kind, path, ""))


_type_info = functools.cache(inspect.type_info)


def prune(data: Mapping[str, Any], mistakes: Iterable[Mistake]) -> dict[str, Any]:
    """A copy of ``data`` without the keys whose values hold mistakes, so that what is left can be read on.

    Only keys of tables are taken out, never elements of arrays: every index stays true.
    """
    doomed = {path for mistake in mistakes if (path := _nearest_key(data, mistake.path))}
    pruned = _without(data, doomed, ())
    assert isinstance(pruned, dict)
    return pruned


def _nearest_key(data: object, path: KeyPath) -> KeyPath:
    """The longest prefix of ``path`` that names a key present in a table; empty when there is none."""
    found: KeyPath = ()
    for depth, part in enumerate(path, start=1):
        if isinstance(data, dict) and part in data:
            data, found = data[part], path[:depth]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            # The key is missing, so the table that lacks it is what cannot be read.
            return found
    return found


def _without(value: object, doomed: set[KeyPath], path: KeyPath) -> object:
    if isinstance(value, dict):
        return {
            key: _without(item, doomed, (*path, key))
            for key, item in value.items()
            if (*path, key) not in doomed
        }
    if isinstance(value, list):
        return [_without(item, doomed, (*path, number)) for number, item in enumerate(value)]
    return value


# --- one function per kind of type -------------------------------------------------------------------------------


def _walk(value: object, kind: inspect.Type, path: KeyPath, words: str) -> Iterator[Mistake]:
    checker = _CHECKERS.get(type(kind))
    if checker is None:
        raise TypeError(f"{type(kind).__name__} is not a type that settings may use")
    return checker(value, kind, path, words)


def _metadata(value: object, kind: inspect.Metadata, path: KeyPath, words: str) -> Iterator[Mistake]:
    return _walk(value, kind.type, path, str((kind.extra_json_schema or {}).get("description", words)))


def _anything(_value: object, _kind: inspect.AnyType, _path: KeyPath, _words: str) -> Iterator[Mistake]:
    return iter(())


def _none(value: object, kind: inspect.NoneType, path: KeyPath, _words: str) -> Iterator[Mistake]:
    if value is not None:
        yield _wrong_type(value, kind, path)


def _boolean(value: object, kind: inspect.BoolType, path: KeyPath, _words: str) -> Iterator[Mistake]:
    if not isinstance(value, bool):
        yield _wrong_type(value, kind, path)


def _text(value: object, kind: inspect.StrType, path: KeyPath, words: str) -> Iterator[Mistake]:
    if not isinstance(value, str):
        yield _wrong_type(value, kind, path)
    elif kind.pattern is not None and not re.search(kind.pattern, value):
        asked = PATTERN_WORDS.get(kind.pattern) or words or f"text that matches {kind.pattern}"
        yield Mistake(path, f"{value!r} is not {asked}")
    else:
        yield from _length(value, kind, path, "characters")


def _number(
    value: object, kind: inspect.IntType | inspect.FloatType, path: KeyPath, words: str
) -> Iterator[Mistake]:
    allowed = int if isinstance(kind, inspect.IntType) else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        yield _wrong_type(value, kind, path)
    elif not _in_range(value, kind):
        unit = f" {words}" if words else ""
        yield Mistake(path, f"{value} is out of range — expected {range_words(kind)}{unit}")


def _enum(value: object, kind: inspect.EnumType, path: KeyPath, _words: str) -> Iterator[Mistake]:
    choices = [member.value for member in kind.cls]
    if not isinstance(value, str):
        yield _wrong_type(value, kind, path)
    elif value not in choices:
        listed = f" — expected {either(choices)}"
        yield Mistake(
            path, f"unknown {kind.cls.__name__.lower()} {value!r}{suggest(value, choices, otherwise=listed)}"
        )


def _array(value: object, kind: inspect.VarTupleType, path: KeyPath, words: str) -> Iterator[Mistake]:
    if not isinstance(value, list | tuple):
        cure = f" — write [{as_toml(value)}]" if isinstance(value, str | int | float) else ""
        yield Mistake(path, _wrong_type(value, kind, path).message + cure)
        return
    yield from _length(value, kind, path, "elements")
    for number, item in enumerate(value):
        yield from _walk(item, kind.item_type, (*path, number), words)


def _mapping(value: object, kind: inspect.DictType, path: KeyPath, words: str) -> Iterator[Mistake]:
    if not isinstance(value, dict):
        yield _wrong_type(value, kind, path)
        return
    for key, item in value.items():
        yield from _walk(item, kind.value_type, (*path, key), words)


def _table(value: object, kind: inspect.StructType, path: KeyPath, _words: str) -> Iterator[Mistake]:
    if not isinstance(value, dict):
        yield _wrong_type(value, kind, path)
        return
    fields = {field.encode_name: field for field in kind.fields}
    for key, item in value.items():
        if key in fields:
            yield from _walk(item, fields[key].type, (*path, key), "")
        else:
            yield from _unknown_key(key, fields, path, closed=kind.forbid_unknown_fields)
    for name, field in fields.items():
        if field.required and name not in value:
            yield Mistake((*path, name), f"missing — expected {type_words(field.type)}")


def _unknown_key(key: str, fields: Iterable[str], path: KeyPath, *, closed: bool) -> Iterator[Mistake]:
    """An open table may have keys that we do not know, but one that is nearly a known key is a slip."""
    listed = f" — the keys here are {', '.join(sorted(fields))}" if closed else ""
    hint = suggest(key, fields, otherwise=listed)
    if hint:
        yield Mistake((*path, key), f"unknown key{hint}")


def _union(value: object, kind: inspect.UnionType, path: KeyPath, words: str) -> Iterator[Mistake]:
    attempts = [list(_walk(value, member, path, words)) for member in kind.types]
    if all(attempts):
        real = [
            found
            for member, found in zip(kind.types, attempts, strict=True)
            if not isinstance(member, inspect.NoneType)
        ]
        # `X | None` is "X, or not written": TOML has no null, so X's own mistakes are what helps.
        yield from real[0] if len(real) == 1 else [_wrong_type(value, kind, path)]


_Checker = Callable[[object, Any, KeyPath, str], Iterator[Mistake]]
_CHECKERS: Mapping[type[inspect.Type], _Checker] = {
    inspect.Metadata: _metadata,
    inspect.AnyType: _anything,
    inspect.NoneType: _none,
    inspect.BoolType: _boolean,
    inspect.StrType: _text,
    inspect.IntType: _number,
    inspect.FloatType: _number,
    inspect.EnumType: _enum,
    inspect.VarTupleType: _array,
    inspect.DictType: _mapping,
    inspect.StructType: _table,
    inspect.UnionType: _union,
}


# --- helpers ------------------------------------------------------------------------------------------------------


def _wrong_type(value: object, kind: inspect.Type, path: KeyPath) -> Mistake:
    return Mistake(path, f"expected {type_words(kind)}, found {value_words(value)}")


def _in_range(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    return (
        (kind.gt is None or value > kind.gt)
        and (kind.ge is None or value >= kind.ge)
        and (kind.lt is None or value < kind.lt)
        and (kind.le is None or value <= kind.le)
    )


def _length(
    value: Any, kind: inspect.StrType | inspect.VarTupleType, path: KeyPath, unit: str
) -> Iterator[Mistake]:
    if kind.min_length is not None and len(value) < kind.min_length:
        yield Mistake(path, f"too short — expected at least {kind.min_length} {unit}")
    if kind.max_length is not None and len(value) > kind.max_length:
        yield Mistake(path, f"too long — expected at most {kind.max_length} {unit}")
