"""What a program that was started has in common with every other one, whoever started it."""

from __future__ import annotations

import asyncio
import weakref
from typing import cast

_leaving: weakref.WeakSet[Program] = weakref.WeakSet()


def leaving() -> bool:
    """Whether the end of one that was let go of is still to come: a loop must not close before."""
    return len(_leaving) > 0


class Program(asyncio.SubprocessProtocol):
    """Its transport, and how that is let go of."""

    transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.SubprocessTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and so have its pipes."""
        _leaving.discard(self)
        if self.transport is not None:
            self.transport.close()

    def let_go(self) -> None:
        """Read no more of it, and wait for nothing. Who wants it ended has killed it.

        The transport's own `close` asks for the exit status of a program that was killed a moment ago, and takes it away from
        the watcher that waits for it, which then says so in the log. So the pipes are closed, and the rest when it has ended.
        """
        transport = self.transport
        if transport is None:
            return
        if transport.get_returncode() is not None:
            transport.close()
            return
        _leaving.add(self)
        for number in range(3):
            pipe = transport.get_pipe_transport(number)
            if pipe is not None:
                pipe.close()
