"""Containers of Docker and Podman, through the socket of the engine (the Engine API, which both speak).

Rules:
    C1  A container is the agent's when its label says so. One of the same name that is not is never touched.
    C2  It is made anew when its definition has changed; the digest in its label says so.
    C3  The engine restarts nothing by itself: that is what lifecycle.py is for.
    C4  Images are never pulled: what runs is what somebody has brought here.
    C5  It is stopped by signals, so that the grace is the agent's and no request hangs for as long.

aiohttp is imported with the first container.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from watchkeeper import system
from watchkeeper.config.schema.services import ContainerService
from watchkeeper.supervise.drivers.polled import RemoteError, Seen

if TYPE_CHECKING:
    import aiohttp

LIMIT = 10.0
"""Seconds for one answer; making and starting a container have START_LIMIT."""
START_LIMIT = 120.0
BODY_LIMIT = 4 << 20
OWNER, DIGEST = "io.watchkeeper.service", "io.watchkeeper.definition"
NOT_THERE, NOT_MODIFIED, CONFLICT = 404, 304, 409


class Container:
    """One container."""

    def __init__(self, name: str, spec: ContainerService, engine: Engine) -> None:
        self._service, self._spec, self._engine = name, spec, engine
        self._container = spec.container or f"watchkeeper-{name}"
        self._body = definition(name, spec)
        self._begun = False

    async def start(self) -> None:
        self._begun = True
        found = await self._inspect()
        if found is not None and not self._current(found):
            await self._call("DELETE", "?force=true&v=true", limit=START_LIMIT)
            found = None
        if found is None:
            await self._create()
        await self._call("POST", "/start", limit=START_LIMIT, fine=(204, NOT_MODIFIED))

    async def stop(self) -> None:
        await self._signal(f"SIG{self._spec.stop.upper()}")

    async def kill(self) -> None:
        await self._signal("SIGKILL")

    async def look(self) -> Seen:
        found = await self._inspect()
        if found is None:
            return Seen(False, why="the container has been removed")
        if not self._begun and not self._current(found):
            return Seen(False, why="the container was made by another definition")
        self._begun = True
        return seen(found.get("State"))

    async def change(self, period: float) -> None:
        """The engine answers when the container has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(period):
                await self._call("POST", "/wait", limit=period + LIMIT, fine=(200,))

    async def _signal(self, name: str) -> None:
        # 409: it does not run, which is what was wanted.
        await self._call("POST", f"/kill?signal={name}", fine=(204, 200, NOT_THERE, CONFLICT))

    async def _inspect(self) -> dict[str, Any] | None:
        status, found = await self._engine.call("GET", f"/containers/{self._container}/json")
        if status == NOT_THERE:
            return None
        if status != 200 or not isinstance(found, dict):
            raise RemoteError(f"the engine says {status} of {self._container}: {_message(found)}")
        if _labels(found).get(OWNER) != self._service:
            raise RemoteError(f"there is a container {self._container} that is not this agent's")  # C1
        return found

    def _current(self, found: Mapping[str, Any]) -> bool:
        return bool(_labels(found).get(DIGEST) == self._body["Labels"][DIGEST])  # C2

    async def _create(self) -> None:
        path = f"/containers/create?name={self._container}"
        status, found = await self._engine.call("POST", path, self._body, limit=START_LIMIT)
        if status == NOT_THERE:
            image = self._spec.image
            raise RemoteError(f"the image {image} is not there, and is not pulled: {_message(found)}")  # C4
        if status != 201:
            raise RemoteError(
                f"the engine does not make {self._container}, it says {status}: {_message(found)}"
            )

    async def _call(
        self, method: str, rest: str, *, limit: float = LIMIT, fine: tuple[int, ...] = (200, 204)
    ) -> None:
        status, found = await self._engine.call(method, f"/containers/{self._container}{rest}", limit=limit)
        if status not in fine:
            word = rest.partition("?")[0].strip("/") or "removal"
            raise RemoteError(f"{word} of {self._container}: the engine says {status}: {_message(found)}")


def definition(name: str, spec: ContainerService) -> dict[str, Any]:
    """What the engine is told of a container."""
    variables = spec.environment | spec.secrets
    host: dict[str, Any] = {"Binds": list(spec.volumes), "RestartPolicy": {"Name": "no"}, **spec.host_options}
    if spec.network is not None:
        host["NetworkMode"] = spec.network
    body: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{variable}={value}" for variable, value in sorted(variables.items())],
        "HostConfig": host,
    }
    if spec.command:
        body["Cmd"] = list(spec.command)
    if spec.user is not None:
        body["User"] = spec.user
    if spec.working_directory is not None:
        body["WorkingDir"] = spec.working_directory
    digest = hashlib.sha256(msgspec.json.encode([body, spec.labels], order="deterministic")).hexdigest()
    return body | {"Labels": {**spec.labels, OWNER: name, DIGEST: digest}}


def seen(state: Any) -> Seen:
    """What the State of an inspection says.

    Raises:
        RemoteError: it is none.
    """
    if not isinstance(state, dict):
        raise RemoteError("the engine's answer has no State")
    pid, code = state.get("Pid"), state.get("ExitCode")
    if state.get("Running") or state.get("Paused") or state.get("Restarting"):
        return Seen(True, pid=pid if isinstance(pid, int) else 0)
    status = code if isinstance(code, int) and 0 <= code < 256 else system.NOT_SEEN
    # A shell's convention that engines share: 128 + the number of a signal.
    status = 128 - status if 128 < status < 128 + 65 else status
    why = [f"the container has ended: {system.describe_exit(status)}"]
    if state.get("OOMKilled"):
        why.append("it had used up its memory")
    if state.get("Error"):
        why.append(str(state["Error"]))
    return Seen(False, exit_code=status, why=", ".join(why))


class Engine:
    """One engine, at one socket."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self, method: str, path: str, body: Any = None, *, limit: float = LIMIT
    ) -> tuple[int, Any]:
        """Status and JSON of an answer; None for one without.

        Raises:
            RemoteError: the engine does not answer, or not as one.
        """
        import aiohttp

        session = self._open()
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"} if data is not None else {}
        try:
            timeout = aiohttp.ClientTimeout(total=limit)
            async with session.request(
                method, f"http://engine{path}", data=data, headers=headers, timeout=timeout
            ) as response:
                content = await response.content.read(BODY_LIMIT)
                return response.status, msgspec.json.decode(content) if content.strip() else None
        except TimeoutError:
            raise RemoteError(
                f"the engine at {self._socket} did not answer {method} {path.partition('?')[0]} within {limit:g} s"
            ) from None
        except (aiohttp.ClientError, OSError, msgspec.MsgspecError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise RemoteError(f"the engine at {self._socket} does not answer: {reason}") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            connector = aiohttp.UnixConnector(self._socket, limit=0, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


class Engines:
    """All that containers of one agent are at."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}

    def at(self, socket: str) -> Engine:
        """The engine at a socket."""
        if socket not in self._engines:
            self._engines[socket] = Engine(socket)
        return self._engines[socket]

    async def close(self) -> None:
        """Let go of all connections."""
        for engine in self._engines.values():
            await engine.close()


def _labels(found: Mapping[str, Any]) -> Mapping[str, Any]:
    config = found.get("Config")
    labels = config.get("Labels") if isinstance(config, dict) else None
    return labels if isinstance(labels, dict) else {}


def _message(found: Any) -> str:
    text = found.get("message") or found.get("cause") if isinstance(found, dict) else None
    return str(text or found or "nothing more")[:300]
