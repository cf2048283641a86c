"""All listeners of one agent: agent.listen, the control socket that is always there, and those of the configuration.

agent.listen has to come up, or the agent does not start; any other listener that cannot is reported and tried again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from pathlib import Path

from watchkeeper.config.schema.listeners import Listener
from watchkeeper.endpoints.listening import Listening
from watchkeeper.endpoints.server import Endpoints
from watchkeeper.endpoints.site import Site
from watchkeeper.errors import AgentError, ListenError, StateError
from watchkeeper.logs import get_logger

journal = get_logger("endpoints")

MAIN = "agent.listen"
CONTROL = "control"
SOCKET = "control.sock"
RUNTIME_SOCKET = "watchkeeper.sock"
TOKEN = "control.token"  # noqa: S105 - the name of a file


class Exposition:
    """The listeners, by name."""

    def __init__(self, site: Site, state_dir: Path | None = None) -> None:
        self.site = site
        self.endpoints = Endpoints(site)
        self._state_dir = state_dir
        self._open: dict[str, Listening] = {}
        self._request_timeout = 5.0

    @property
    def address(self) -> str:
        """HOST:PORT of agent.listen as it is, once `start` has returned."""
        main = self._open.get(MAIN)
        return main.address if main else ""

    async def start(self, listen: str, request_timeout: float) -> None:
        """Listen on HOST:PORT, and on the control socket where there is a place for it.

        Raises:
            ListenError: the address is taken, forbidden, or not this machine's.
        """
        self._request_timeout = request_timeout
        windows = sys.platform == "win32"
        token = str(self._state_dir / TOKEN) if windows and self._state_dir else None
        main = Listener(address=listen, token_file=token)
        self._open[MAIN] = Listening(self.endpoints, MAIN, main, token=_token(token))
        try:
            self._open[MAIN].start()
        except ListenError:
            del self._open[MAIN]
            raise
        socket = None if windows else control_socket(self._state_dir)
        if socket is not None:
            self._start_control(socket)

    def _start_control(self, socket: Path) -> None:
        listening = Listening(self.endpoints, CONTROL, Listener(address=f"unix:{socket}"))
        try:
            listening.start()
        except ListenError as error:
            journal.warning(f"no control socket: {error}", advice=error.advice, error_class=error.error_class)
            return
        self._open[CONTROL] = listening
        journal.info("listening for orders", address=listening.address)

    async def stop(self, limit: float) -> bool:
        """Close the listeners, let requests in flight end; whether that was done within `limit` seconds."""
        self.site.closing.set()
        try:
            async with asyncio.timeout(limit):
                for listening in self._open.values():
                    await listening.close()
                await self.endpoints.close(self._request_timeout)
                for listening in self._open.values():
                    await listening.stop()
        except TimeoutError:
            return False
        return True


def control_socket(state_dir: Path | None) -> Path | None:
    """Where the control socket is: in $RUNTIME_DIRECTORY, else in the state directory, else nowhere."""
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime:
        return Path(runtime) / RUNTIME_SOCKET
    return state_dir / SOCKET if state_dir else None


def _token(file: str | None) -> str | None:
    return None if file is None else read_token(Path(file))


def read_token(file: Path) -> str:
    """The word in a file; a file that is missing is made, for its owner alone.

    Raises:
        AgentError: it cannot be read or made, or holds no word.
    """
    try:
        if not file.exists():
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                stream.write(secrets.token_urlsafe(32) + "\n")
        word = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise StateError(
            f"the token file {file} cannot be used: {error}", "Look at the folder and its owner."
        ) from None
    if len(word) < 16:
        raise AgentError(
            f"the token in {file} is shorter than 16 characters", "Remove the file; a new one is made."
        )
    return word
