"""The example that has one of everything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from watchkeeper.config.load import load_file
from watchkeeper.config.model import Config

FULL = Path(__file__).resolve().parents[3] / "agent_src" / "examples" / "full.yaml"


def kinds(kind: Any, seen: set[type]) -> Iterator[type]:
    """Every struct below a type that stands for one value of `type:` or `driver:`."""
    if isinstance(kind, inspect.StructType):
        if kind.cls in seen:
            return
        seen.add(kind.cls)
        if kind.tag is not None:
            yield kind.cls
    inner = [getattr(kind, each.name) for each in dataclass_fields(kind)]
    for each in inner:
        for one in each if isinstance(each, (tuple, list)) else [each]:
            yield from kinds(one.type if isinstance(one, inspect.Field) else one, seen)


def dataclass_fields(kind: Any) -> list[Any]:
    """The parts of one of msgspec's descriptions of a type."""
    if isinstance(kind, msgspec.Struct):
        return list(msgspec.structs.fields(kind))
    return list(dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else []


def used(value: Any) -> Iterator[type]:
    """The type of every struct in a configuration."""
    if isinstance(value, msgspec.Struct):
        yield type(value)
        for name in value.__struct_fields__:
            yield from used(getattr(value, name))
    elif isinstance(value, dict):
        for each in value.values():
            yield from used(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from used(each)


def test_full_has_one_of_every_kind() -> None:
    """Whoever looks for a kind of check, output, source, driver or rule finds one to copy."""
    known = {*kinds(inspect.type_info(Config), set())}
    assert len(known) > 30
    assert known - {*used(load_file(str(FULL)).config)} == set()


def test_full_has_every_section() -> None:
    """And none of them is what it would be without a word."""
    config, plain = load_file(str(FULL)).config, Config()
    same = [name for name in config.__struct_fields__ if getattr(config, name) == getattr(plain, name)]
    assert same == []
