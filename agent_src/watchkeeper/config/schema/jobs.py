"""Commands that run on a schedule."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import DURATION, Duration, PositiveDuration, Secret, StrictStruct, Words


class JobSpec(StrictStruct, frozen=True, kw_only=True):
    """A command that is run again and again; never twice at the same time."""

    command: Words
    """The program and its arguments; no shell is involved."""
    every: Annotated[float, Meta(ge=0.1, le=31_536_000, extra=DURATION)]
    """From the start of one run to the start of the next. A slot that comes while the job still runs is left out."""
    jitter: Duration = 0.0
    """A random delay before each run, from 0 to this, so that a fleet does not act at once; the slots stay where they are."""
    at_start: bool = False
    """Whether the first slot is when the job becomes known; otherwise it is `every` later."""
    timeout: PositiveDuration = 300.0
    """What a run may take; then it is asked to end (monit's program timeout)."""
    grace: Duration = 10.0
    """From TERM to KILL, both to the whole process group."""
    environment: dict[str, str] = field(default_factory=dict)
    """Added to the agent's own."""
    secrets: dict[str, Secret] = field(default_factory=dict)
    """More variables, whose values are never shown."""
    working_directory: str | None = None
    success: tuple[Annotated[int, Meta(ge=0, le=255)], ...] = (0,)
    """The exit statuses of a run that went well."""
    line_limit: Annotated[int, Meta(ge=80, le=1_048_576)] = 16_384
    """Bytes of one line of output that are kept."""
