"""What asks an agent to stop: the first time it drains, the second time it ends at once."""

from __future__ import annotations

import asyncio


class StopRequests:
    """Both requests, each with what made it: the name of a signal, of a console event, of a service control."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.stop: asyncio.Future[str] = loop.create_future()
        self.abort: asyncio.Future[str] = loop.create_future()

    def begin(self, cause: str) -> None:
        """Ask for the first alone: what the agent itself wants is never an impatient person's second word."""
        if not self.stop.done():
            self.stop.set_result(cause)

    def ask(self, cause: str) -> None:
        """Belongs to the loop; another thread goes through call_soon_threadsafe."""
        if not self.stop.done():
            self.stop.set_result(cause)
        elif not self.abort.done():
            self.abort.set_result(cause)
