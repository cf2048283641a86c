"""Types, values and near misses in words, for messages about a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PATTERN_WORDS: Mapping[str, str] = {
    r"^(3\.\d+|/.*|)$": 'a version such as "3.12", or the absolute path of an interpreter',
}
"""What a pattern asks for, in words, where the field has no description of its own."""


def suggest(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """`` — did you mean 'x'?`` for the known word nearest to ``word``; without one, ``otherwise``."""
    import difflib  # only a mistake needs it: 4 ms

    spelled = {_spelling(name): name for name in known}
    wanted = _spelling(word)
    near = difflib.get_close_matches(wanted, spelled, n=1, cutoff=0.6)
    if not near and len(wanted) > 1:
        # By ratio alone, 'exe' is far from 'executable'.
        near = [name for name in spelled if name.startswith(wanted)][:1]
    return f" — did you mean {spelled[near[0]]!r}?" if near else otherwise


def _spelling(word: str) -> str:
    return word.lower().replace("_", "-")


_NAMES: Mapping[type[inspect.Type], str] = {
    inspect.NoneType: "nothing",
    inspect.BoolType: "true or false",
    inspect.StrType: "text",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.DictType: "a table",
    inspect.StructType: "a table",
}


def type_words(kind: inspect.Type) -> str:
    """What a type asks for: ``an array of text``."""
    match kind:
        case inspect.Metadata():
            return type_words(kind.type)
        case inspect.EnumType():
            return either([member.value for member in kind.cls])
        case inspect.VarTupleType():
            return f"an array of {_plural(kind.item_type)}"
        case inspect.UnionType():
            return " or ".join(
                type_words(member) for member in kind.types if not isinstance(member, inspect.NoneType)
            )
        case _:
            return _NAMES[type(kind)]


def _plural(kind: inspect.Type) -> str:
    name = type_words(kind)
    return {"a table": "tables", "a whole number": "whole numbers"}.get(
        name, name.replace("an array", "arrays")
    )


def either(choices: list[Any]) -> str:
    """``'a', 'b' or 'c'``."""
    quoted = [repr(choice) for choice in choices]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def value_words(value: object) -> str:
    """What a value is: ``text 'x'``, ``the number 3``."""
    match value:
        case bool():
            return as_toml(value)
        case str():
            return f"text {value!r}"
        case int() | float():
            return f"the number {value}"
        case list() | tuple():
            return "an array"
        case dict():
            return "a table"
        case _:
            return f"the date or time {value}"


def as_toml(value: object) -> str:
    """A value in TOML's words, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {as_toml(item)}' for key, item in value.items())} }}"
    return msgspec.json.encode(value).decode()


def range_words(kind: inspect.IntType | inspect.FloatType) -> str:
    """The numbers that a type allows: ``0 to 2``."""
    if kind.ge is not None and kind.le is not None:
        return f"{kind.ge} to {kind.le}"
    bounds = (("more than", kind.gt), ("at least", kind.ge), ("less than", kind.lt), ("at most", kind.le))
    return " and ".join(f"{word} {bound}" for word, bound in bounds if bound is not None)
