"""Commands that run on a schedule."""

from __future__ import annotations

from watchkeeper.config.schema.common import PositiveDuration, StrictStruct, Words


class JobSpec(StrictStruct, frozen=True, kw_only=True):
    """A command that is run again and again; never twice at the same time."""

    command: Words
    """The program and its arguments; no shell is involved."""
    every: PositiveDuration
    """From the start of one run to the start of the next."""
