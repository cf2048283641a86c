"""Where log lines go."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from watchkeeper.config.schema.common import StrictStruct, Text


class Output(StrictStruct, frozen=True, kw_only=True, tag_field="type"):
    """What all outputs have in common. One that is slow or gone holds up neither the agent nor another output."""

    capacity: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    """Lines that wait; the oldest are dropped, and counted."""


class FileOutput(Output, frozen=True, kw_only=True, tag="file"):
    """A file, rotated."""

    path: Text
    """Where it is."""


class StdoutOutput(Output, frozen=True, kw_only=True, tag="stdout"):
    """Standard output."""


AnyOutput = FileOutput | StdoutOutput
