"""--watch: the same look again and again, on a cleared screen where there is one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from watchkeeper.errors import AgentUnreachableError

CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def again(look: Callable[[], str], interval: float, *, clear: bool) -> Iterator[str]:
    """What `look()` says, every `interval` seconds, until Ctrl-C. An agent that is gone for a while is waited for.

    Raises:
        AgentUnreachableError: it did not answer the first time.
    """
    text = look()
    while True:
        yield (CLEAR if clear else "") + text + ("" if clear else "\n")
        time.sleep(interval)
        try:
            text = look()
        except AgentUnreachableError as error:
            text = f"watchkeeper: {error}"
