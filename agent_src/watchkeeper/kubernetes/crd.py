"""The CustomResourceDefinition of ServiceCheck, made from the same structs that the agent reads a check with.

A structural schema (Kubernetes, "Specifying a structural schema") may say of a field only one thing, wherever it stands; so the
kinds of checks are laid over each other, and what belongs to which kind is left to the agent, which says it in the object's
status. Durations and sizes are numbers or text: fractions are written as text ("500ms").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import inspect

from watchkeeper.config.schema.checks import AnyCheck
from watchkeeper.config.schema.common import DURATION, SIZE
from watchkeeper.kubernetes.api import GROUP, KIND, PLURAL, VERSION

Schema = dict[str, Any]
ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}
NUMBER_OR_TEXT: Schema = {
    "x-kubernetes-int-or-string": True,
    "anyOf": [{"type": "integer"}, {"type": "string"}],
}
NODE_STATUS: Schema = {
    "type": "object",
    "properties": {
        "state": {"type": "string", "enum": ["success", "failure", "unknown", "invalid"]},
        "why": {"type": "string"},
        "since": {"type": "string", "format": "date-time"},
        "observedGeneration": {"type": "integer"},
    },
}


def manifest() -> Schema:
    """The whole definition, for `kubectl apply -f`."""
    columns = [
        {"name": "Type", "type": "string", "jsonPath": ".spec.type"},
        {"name": "Role", "type": "string", "jsonPath": ".spec.role"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema()},
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
    }
    names = {"kind": KIND, "plural": PLURAL, "singular": PLURAL[:-1], "shortNames": ["sck"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def schema() -> Schema:
    """The OpenAPI v3 schema of one object."""
    own = {
        "nodeName": {"type": "string", "description": "The only node that looks; empty: every agent does."}
    }
    check = _of(inspect.type_info(AnyCheck))
    check["properties"] |= own
    status = {"nodes": {"type": "object", "additionalProperties": NODE_STATUS}}
    return {
        "type": "object",
        "required": ["spec"],
        "properties": {"spec": check, "status": {"type": "object", "properties": status}},
    }


def _of(kind: inspect.Type) -> Schema:
    reader = READERS.get(type(kind))
    return reader(kind) if reader is not None else _scalar(kind)


def _metadata(kind: inspect.Metadata) -> Schema:
    return NUMBER_OR_TEXT if kind.extra in (DURATION, SIZE) else _of(kind.type)


def _array(kind: inspect.VarTupleType) -> Schema:
    return {"type": "array", "items": _of(kind.item_type)}


def _mapping(kind: inspect.DictType) -> Schema:
    return {"type": "object", "additionalProperties": _of(kind.value_type)}


def _choice(kind: inspect.EnumType) -> Schema:
    return {"type": "string", "enum": [str(member.value) for member in kind.cls]}


def _scalar(kind: inspect.Type) -> Schema:
    if isinstance(kind, inspect.StrType):
        bounds = {"pattern": kind.pattern, "minLength": kind.min_length, "maxLength": kind.max_length}
        return {"type": "string"} | {name: value for name, value in bounds.items() if value is not None}
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        limits = {"minimum": kind.ge, "maximum": kind.le}
        word = "integer" if isinstance(kind, inspect.IntType) else "number"
        return {"type": word} | {name: value for name, value in limits.items() if value is not None}
    return {"type": "boolean"} if isinstance(kind, inspect.BoolType) else dict(ANYTHING)


def _union(kind: inspect.UnionType) -> Schema:
    parts = [part for part in kind.types if not isinstance(part, inspect.NoneType)]
    structs = [part for part in parts if isinstance(part, inspect.StructType)]
    if structs and len(structs) == len(parts):
        found = _over(structs)
    elif len(parts) == 1:
        found = _of(parts[0])
    else:
        found = dict(ANYTHING)
    return found | ({"nullable": True} if len(parts) < len(kind.types) else {})


def _over(structs: list[inspect.StructType]) -> Schema:
    """Several structs as one object: a field that they do not agree about may be anything."""
    properties: Schema = {}
    for struct in structs:
        for field in struct.fields:
            found = _of(field.type)
            before = properties.setdefault(field.encode_name, found)
            if before != found:
                properties[field.encode_name] = dict(ANYTHING)
    required = set.intersection(
        *({each.encode_name for each in one.fields if each.required} for one in structs)
    )
    if structs[0].tag_field:
        properties[structs[0].tag_field] = {"type": "string", "enum": sorted(str(one.tag) for one in structs)}
        required.add(structs[0].tag_field)
    return {"type": "object", "properties": properties} | ({"required": sorted(required)} if required else {})


READERS: dict[type, Callable[[Any], Schema]] = {
    inspect.Metadata: _metadata,
    inspect.UnionType: _union,
    inspect.StructType: lambda kind: _over([kind]),
    inspect.VarTupleType: _array,
    inspect.DictType: _mapping,
    inspect.EnumType: _choice,
}
