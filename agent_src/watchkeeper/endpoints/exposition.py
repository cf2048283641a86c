"""All listeners of one agent: agent.listen, the control socket that is always there, and those of the configuration.

agent.listen has to come up, or the agent does not start; any other listener that cannot is reported and tried again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from pathlib import Path

from watchkeeper.config.schema.listeners import Listener, TlsMode
from watchkeeper.endpoints.listening import Listening
from watchkeeper.endpoints.server import Endpoints
from watchkeeper.endpoints.site import Site
from watchkeeper.endpoints.sockets import group_number, user_number
from watchkeeper.errors import AgentError, ListenError, StateError
from watchkeeper.logs import attach, detach, get_logger
from watchkeeper.outputs.tail import Tail

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
        self.site.tail = Tail()
        attach(self.site.tail)
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

    def listening(self, name: str) -> Listening | None:
        """The listener of that name in the configuration, if it is open."""
        return self._open.get(_configured(name))

    async def open(self, name: str, listener: Listener) -> Listening:
        """Open a listener of the configuration; one of that name that is open goes, once the new one is prepared.

        Raises:
            AgentError: it cannot be opened; the old one is still there unless its own address was what failed.
        """
        tls = None
        if listener.tls.mode is not TlsMode.OFF:
            from watchkeeper.endpoints.tls import ServerContexts

            tls = ServerContexts(listener.tls)
            await tls.load()
        numbers = await asyncio.to_thread(_numbers, listener)
        token = await asyncio.to_thread(_token, listener.token_file)
        listening = Listening(self.endpoints, name, listener, tls=tls, numbers=numbers, token=token)
        await self._make_room(listener)
        old = self._open.get(_configured(name))
        if old is None or _port(old.listener) != _port(listener):
            listening.start()
            await self.close(name)
        else:
            await self._take_place(name, old, listening)
        self._open[_configured(name)] = listening
        return listening

    async def _take_place(self, name: str, old: Listening, new: Listening) -> None:
        """Both want one port, or one path: the old one has to go first, and comes back if the new one cannot be."""
        await self.close(name)
        try:
            new.start()
        except ListenError:
            old.start()
            self._open[_configured(name)] = old
            raise

    async def close(self, name: str) -> None:
        """Close a listener of the configuration, and what is connected to it."""
        listening = self._open.pop(_configured(name), None)
        if listening is not None:
            await listening.stop()

    async def _make_room(self, listener: Listener) -> None:
        """The control socket gives way to a listener that wants its place."""
        control = self._open.get(CONTROL)
        if control is not None and control.listener.address == listener.address:
            del self._open[CONTROL]
            await control.stop()

    async def stop(self, limit: float) -> bool:
        """Close the listeners, let requests in flight end; whether that was done within `limit` seconds."""
        self.site.closing.set()
        if self.site.tail is not None:
            detach(self.site.tail)
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


def _port(listener: Listener) -> str:
    """What of an address two sockets cannot have at once; hosts may stand for each other."""
    unix = listener.address.startswith("unix:")
    return listener.address if unix else listener.address.rpartition(":")[2]


def _configured(name: str) -> str:
    """Names of the configuration have no slash, so that none of them is one of ours."""
    return f"listener/{name}"


def _numbers(listener: Listener) -> dict[str, int]:
    """The uid or gid of everybody whom the rules name.

    Raises:
        ListenError: there is no such user or group.
    """
    try:
        users = {f"user:{name}": user_number(name) for rule in listener.peers for name in rule.users}
        groups = {f"group:{name}": group_number(name) for rule in listener.peers for name in rule.groups}
    except (LookupError, ImportError) as error:
        raise ListenError(str(error), "Name users and groups of this machine, or their numbers.") from None
    return users | groups


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
