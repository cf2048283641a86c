"""The commands of checks, which are not to outlive an agent that was killed: who has to know of their process groups.

A check is given what it needs, and this is not part of its definition: whoever makes the look says it for the task it runs in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def guarded(group: int) -> Iterator[None]:
    """While the block runs, somebody else would end the group."""
    make = KEEPER.get()
    if make is None or system.WINDOWS:
        yield
        return
    keeper = make()
    keeper.guard(group, 0)
    try:
        yield
    finally:
        keeper.release(group)
