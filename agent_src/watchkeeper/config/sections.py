"""Which sections a configuration has, and which of them can come from where."""

from __future__ import annotations

from msgspec.structs import fields

from watchkeeper.config.model import Config
from watchkeeper.config.schema.collectors import Collectors

NAMED = (dict, Collectors)


def named_sections() -> tuple[str, ...]:
    """The sections in which things have names; the others are settings of the agent."""
    return tuple(each.name for each in fields(Config) if each.default_factory in NAMED)


def delivered_sections() -> tuple[str, ...]:
    """The sections that a source can deliver: a source of sources would have no end."""
    return tuple(name for name in named_sections() if name != "sources")
