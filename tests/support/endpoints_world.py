"""The endpoints of an agent without the agent: a real server on loopback, and an agent's state that a test writes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from watchkeeper.config.load import parse
from watchkeeper.config.schema.listeners import Listener
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.endpoints.exposition import Exposition
from watchkeeper.endpoints.site import Site
from watchkeeper.metrics import Metrics
from watchkeeper.status import AgentStatus, ConfigStatus, rfc3339


@dataclass
class Answer:
    """What came back. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Rig:
    """A site whose answers a test decides."""

    exposition: Exposition
    context: Context
    reasons: list[str] = field(default_factory=list)
    reloads: list[None] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    status: AgentStatus | None = None

    @property
    def port(self) -> int:
        return int(self.exposition.address.rpartition(":")[2])

    def port_of(self, name: str) -> int:
        listening = self.exposition.listening(name)
        assert listening is not None
        return int(listening.address.rpartition(":")[2])

    def load(self, config: dict[str, Any]) -> None:
        """A configuration comes into force; nobody reconciles it."""
        self.context.store.apply(parse(json.dumps(config).encode(), file="f.yaml"))

    async def get(self, path: str, **options: Any) -> Answer:
        return await ask("GET", path, port=options.pop("port", self.port), **options)

    def series(self, name: str, **labels: str) -> float | None:
        return self.context.metrics.registry.get_sample_value(f"watchkeeper_{name}", labels)


@contextlib.asynccontextmanager
async def endpoints(state_dir: Path | None = None, listen: str = "127.0.0.1:0") -> AsyncIterator[Rig]:
    """Endpoints that listen, until the block ends."""
    context = Context(Store(str(state_dir) if state_dir else None), Metrics())
    rig: Rig
    site = Site(
        context,
        lambda: rig.status or empty_status(),
        lambda: rig.reasons,
        reload=lambda: rig.reloads.append(None),
        set_level=lambda level: rig.levels.append(level),  # noqa: PLW0108 - the rig is made below
    )
    exposition = context.exposition = Exposition(site, state_dir)
    rig = Rig(exposition, context)
    await exposition.start(listen, 1.0)
    try:
        yield rig
    finally:
        assert await exposition.stop(3.0)


def empty_status(**fields: Any) -> AgentStatus:
    """An agent that has nothing to do."""
    config = ConfigStatus(
        file="f.yaml",
        generation=1,
        digest="d",
        loaded_at=rfc3339(0),
        from_last_good=False,
        last_reload_error=None,
        problems=[],
        needs_restart=[],
    )
    usual = AgentStatus(
        version="1",
        pid=7,
        state="running",
        ready=True,
        not_ready_because=[],
        started_at=rfc3339(0),
        listen="127.0.0.1:1",
        config=config,
        services=[],
        checks=[],
    )
    return msgspec.structs.replace(usual, **fields)


def listener(address: str = "127.0.0.1:0", **fields: Any) -> Listener:
    """A definition, from plain data as in a file."""
    return msgspec.convert({"address": address} | fields, Listener)


async def ask(
    method: str,
    path: str,
    *,
    port: int = 0,
    unix: str = "",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    tls: Any = None,
    raw: bytes | None = None,
) -> Answer:
    """One request on a connection of its own, with nothing in it that is not said here."""
    reader, writer = await connect(port=port, unix=unix, tls=tls)
    try:
        return await exchange(reader, writer, method, path, headers=headers, body=body, raw=raw)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def connect(
    *, port: int = 0, unix: str = "", tls: Any = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if unix:
        return await asyncio.open_unix_connection(unix)
    return await asyncio.open_connection("127.0.0.1", port, ssl=tls)


async def exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    raw: bytes | None = None,
) -> Answer:
    """One request on a connection that stays open."""
    lines = {"Host": "localhost"} | ({"Content-Length": str(len(body))} if body else {}) | (headers or {})
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(raw if raw is not None else head.encode() + b"\r\n" + body)
    await writer.drain()
    return await read_answer(reader, method)


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    """The next answer on a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *rest = head.splitlines()
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)
    }
    status = int(first.split()[1])
    length = int(headers.get("content-length", "0"))
    body = b"" if method == "HEAD" or status in (204, 304) else await reader.readexactly(length)
    return Answer(status, headers, body)
