"""The commands of checks, which are not to outlive an agent that was killed: who has to know of their process groups.

A check is given what it needs, and this is not part of its definition: whoever makes the look says it for the task it runs in.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol

from watchkeeper import system


class Keeper(Protocol):
    """It is supervise.warden.Warden."""

    def guard(self, group: int, grace: float) -> None:
        """End this group should the agent be killed."""

    def release(self, group: int) -> None:
        """Nothing of it is left."""


KEEPER: ContextVar[Callable[[], Keeper] | None] = ContextVar("keeper", default=None)
"""Asked when there is a group to be kept, so that an agent without commands has no keeper."""


def keeper() -> Keeper | None:
    """Who ends the commands of this task should the agent be killed; None: nobody does."""
    make = KEEPER.get()
    return None if make is None or system.WINDOWS else make()
