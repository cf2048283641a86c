"""The whole configuration as JSON Schema (draft 2020-12), made from the same types that the decoder walks over.

What the types alone cannot say (config/rules) is not in it: a document that it accepts may still be refused, but none that
it refuses is accepted. Durations and sizes are numbers or text; the bounds of the text are checked by the agent alone.
`x-unit` names the unit of the number, `x-secret` marks what may be a reference and is never shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from watchkeeper.config.descriptions import DESCRIPTIONS
from watchkeeper.config.model import Config
from watchkeeper.config.schema.common import DURATION, SECRET, SIZE
from watchkeeper.durations import format_duration
from watchkeeper.sizes import format_size

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DURATION_TEXT = r"^\s*([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+\s*$"
SIZE_TEXT = r"^\s*[0-9]{1,20}(\.[0-9]{1,9})? ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)\s*$"
WORDS_OF_YAML = {"no": False, "yes": True}
"""YAML 1.1 reads these bare words as truth values; the decoder takes both."""

Node = dict[str, Any]


def json_schema(target: type = Config) -> Node:
    """The schema of a struct; every struct below it is in `$defs`, under its name."""
    maker = _Maker()
    top = maker.node(inspect.type_info(target))
    return {
        "$schema": DIALECT,
        "title": "Watchkeeper's configuration",
        **top,
        "$defs": dict(sorted(maker.defs.items())),
    }


def described(cls: type, field: str = "") -> str:
    """What the docstring under a field says (without one: nothing), or that of the class; bases are asked as well."""
    names = (f"{each.__module__.rpartition('.')[2]}.{each.__name__}" for each in cls.__mro__)
    found = (DESCRIPTIONS.get(name, {}).get(field, "") for name in names)
    return next((text for text in found if text), "")


def default_of(field: inspect.Field) -> Any:
    """The default as it would be written, with units; msgspec.NODEFAULT: there is none."""
    if field.default_factory is not msgspec.NODEFAULT:
        return _plain(field.default_factory()) if not _is_struct(field) else {}
    if field.default is msgspec.NODEFAULT:
        return msgspec.NODEFAULT
    return as_written(field.type, field.default)


def as_written(kind: inspect.Type, value: Any) -> Any:
    """A value as people write it: 10.0 seconds are "10s"."""
    if isinstance(kind, inspect.UnionType) and value is not None:
        kind = next((each for each in kind.types if isinstance(each, inspect.Metadata)), kind)
    if isinstance(kind, inspect.Metadata) and isinstance(value, (int, float)):
        if kind.extra == DURATION:
            return format_duration(value) if value else 0
        if kind.extra == SIZE:
            return format_size(int(value)) if value else 0
    return _plain(value)


def _plain(value: Any) -> Any:
    """As JSON has it: a tuple is a list."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _is_struct(field: inspect.Field) -> bool:
    return isinstance(field.default_factory, type) and issubclass(field.default_factory, msgspec.Struct)


class _Maker:
    """One walk over the types."""

    def __init__(self) -> None:
        self.defs: dict[str, Node] = {}
        self._names: dict[type, str] = {}

    def name(self, cls: type) -> str:
        """The struct's own name; of a second struct with the same one, with its section."""
        taken = cls.__name__ in self._names.values()
        own = f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}" if taken else cls.__name__
        return self._names.setdefault(cls, own)

    def node(self, kind: inspect.Type) -> Node:
        """What a type allows."""
        if isinstance(kind, inspect.Metadata):
            for mark, make in MARKED:
                if kind.extra == mark:
                    return make(kind.type)
            return self.node(kind.type)
        return MAKERS[type(kind)](self, kind)

    def struct(self, kind: inspect.StructType) -> Node:
        """A reference; the definition is made once."""
        name = self.name(kind.cls)
        if name not in self.defs:
            self.defs[name] = {}  # a struct may contain itself
            self.defs[name] = self.definition(kind)
        return {"$ref": f"#/$defs/{name}"}

    def definition(self, kind: inspect.StructType) -> Node:
        properties: Node = {}
        required = [field.encode_name for field in kind.fields if field.required]
        if kind.tag_field:
            properties[kind.tag_field] = {"const": kind.tag}
            if not getattr(kind.cls, "DEFAULT_TAG", False):
                required.insert(0, kind.tag_field)
        for field in kind.fields:
            properties[field.encode_name] = self.property(kind.cls, field)
        node: Node = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            node["required"] = required
        text = described(kind.cls)
        return {"description": text, **node} if text else node

    def property(self, cls: type, field: inspect.Field) -> Node:
        node = dict(self.node(field.type))
        default = default_of(field)
        if default is not msgspec.NODEFAULT:
            node["default"] = default
        text = described(cls, field.name)
        return {"description": text, **node} if text else node

    def union(self, kind: inspect.UnionType) -> Node:
        structs = [each for each in kind.types if isinstance(each, inspect.StructType)]
        word = "oneOf" if len(structs) == len(kind.types) else "anyOf"
        return {word: [self.node(each) for each in kind.types]}

    def mapping(self, kind: inspect.DictType) -> Node:
        names = self.node(kind.key_type)
        node: Node = {"type": ["object", "null"], "additionalProperties": self.node(kind.value_type)}
        if names != {"type": "string"}:
            node["propertyNames"] = names
        return node | _limits(kind, "Properties")

    def sequence(self, kind: Any) -> Node:
        return {"type": "array", "items": self.node(kind.item_type)} | _limits(kind, "Items")

    def fixed(self, kind: inspect.TupleType) -> Node:
        items = [self.node(each) for each in kind.item_types]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}

    def text(self, kind: inspect.StrType) -> Node:
        node: Node = {"type": "string"} | _limits(kind, "Length")
        return node | ({"pattern": kind.pattern} if kind.pattern else {})

    def number(self, kind: Any) -> Node:
        return {"type": "integer" if isinstance(kind, inspect.IntType) else "number"} | bounds(kind)

    def boolean(self, _kind: inspect.BoolType) -> Node:
        return {"type": "boolean"}

    def choice(self, kind: inspect.EnumType) -> Node:
        words: list[Any] = [member.value for member in kind.cls]
        return {"enum": words + [WORDS_OF_YAML[word] for word in words if word in WORDS_OF_YAML]}

    def literal(self, kind: inspect.LiteralType) -> Node:
        return {"enum": list(kind.values)}

    def anything(self, _kind: inspect.AnyType) -> Node:
        return {}

    def nothing(self, _kind: inspect.NoneType) -> Node:
        return {"type": "null"}


def bounds(kind: Any) -> Node:
    """From where to where a number may go."""
    words = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
    return {word: getattr(kind, name) for name, word in words.items() if getattr(kind, name) is not None}


def _limits(kind: Any, what: str) -> Node:
    words = {"min_length": f"min{what}", "max_length": f"max{what}"}
    return {word: getattr(kind, name) for name, word in words.items() if getattr(kind, name)}


def _duration(kind: Any) -> Node:
    number = {"type": "number", **bounds(kind)}
    return {"anyOf": [number, {"type": "string", "pattern": DURATION_TEXT}], "x-unit": "seconds"}


def _size(kind: Any) -> Node:
    number = {"type": "integer", **bounds(kind)}
    return {"anyOf": [number, {"type": "string", "pattern": SIZE_TEXT}], "x-unit": "bytes"}


def _secret(_kind: Any) -> Node:
    """A pattern of its own would refuse the reference that stands for the secret."""
    return {"type": "string", "minLength": 1, "x-secret": True}


MARKED: tuple[tuple[Node, Callable[[Any], Node]], ...] = (
    (DURATION, _duration),
    (SIZE, _size),
    (SECRET, _secret),
)
MAKERS: dict[type, Callable[[_Maker, Any], Node]] = {
    inspect.StructType: _Maker.struct,
    inspect.UnionType: _Maker.union,
    inspect.DictType: _Maker.mapping,
    inspect.VarTupleType: _Maker.sequence,
    inspect.ListType: _Maker.sequence,
    inspect.SetType: _Maker.sequence,
    inspect.FrozenSetType: _Maker.sequence,
    inspect.TupleType: _Maker.fixed,
    inspect.StrType: _Maker.text,
    inspect.IntType: _Maker.number,
    inspect.FloatType: _Maker.number,
    inspect.BoolType: _Maker.boolean,
    inspect.EnumType: _Maker.choice,
    inspect.LiteralType: _Maker.literal,
    inspect.AnyType: _Maker.anything,
    inspect.NoneType: _Maker.nothing,
}
