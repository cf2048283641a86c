"""/metrics: text format 0.0.4 or OpenMetrics, by what a client accepts, and compressed where it wants that.

Rules:
    M1  The loop gets its turn after every collector that made the last TURN seconds pass: a registry of any size holds
        nothing else up for longer than one family takes.
    M2  Clients that come while a scrape is being written get that one; a crowd costs no more than one of it.
    M3  Compression happens in a thread, and only where it saves something.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from weakref import WeakKeyDictionary

from watchkeeper.endpoints import web
from watchkeeper.endpoints.site import Call
from watchkeeper.metrics.render import OPENMETRICS, TEXT, Registry, pieces

TURN = 0.01
SMALLEST = 1024
"""Bytes; less is sent as it is."""
LEVEL = 1
"""Of zlib: a fifth of the size already; higher ones take several times as long for a tenth less."""
GZIP = 31
"""zlib's window bits for a gzip header and the largest window."""

_writing: WeakKeyDictionary[Registry, dict[bool, asyncio.Task[bytes]]] = WeakKeyDictionary()


async def metrics(call: Call) -> web.Response:
    """The registry as text."""
    openmetrics = prefers_openmetrics(call.request.headers.get("Accept", ""))
    body = await _written(call.site.context.metrics.registry, openmetrics)
    headers = {"Content-Type": OPENMETRICS if openmetrics else TEXT, "Vary": "Accept, Accept-Encoding"}
    if len(body) >= SMALLEST and accepts(call.request.headers.get("Accept-Encoding", ""), "gzip"):
        headers["Content-Encoding"] = "gzip"
        body = await asyncio.to_thread(_gzip, body)
    return web.Response(body=body, headers=headers)


async def _written(registry: Registry, openmetrics: bool) -> bytes:
    """M2: the client that began it may go; the others still get it."""
    running = _writing.setdefault(registry, {})
    task = running.get(openmetrics)
    if task is None:
        task = running[openmetrics] = asyncio.create_task(_write(registry, openmetrics), name="scrape")
        task.add_done_callback(lambda _task: running.pop(openmetrics, None))
    return await asyncio.shield(task)


async def _write(registry: Registry, openmetrics: bool) -> bytes:
    """M1."""
    parts = []
    turn = time.perf_counter()
    for piece in pieces(registry, openmetrics):
        parts.append(piece)
        if time.perf_counter() - turn > TURN:
            await asyncio.sleep(0)
            turn = time.perf_counter()
    return "".join(parts).encode()


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    return packer.compress(body) + packer.flush()


def prefers_openmetrics(accept: str) -> bool:
    """Whether a client wants OpenMetrics at least as much as the older text (RFC 9110, 12.5.1)."""
    newer = _quality(accept, "application/openmetrics-text")
    return newer > 0 and newer >= _quality(accept, "text/plain")


def accepts(header: str, word: str) -> bool:
    """Whether a word is in an Accept header, and not with a quality of 0."""
    return _quality(header, word) > 0


def _quality(header: str, word: str) -> float:
    """The highest quality with which a word is named; 0 where it is not. A star is not taken for it."""
    highest = 0.0
    for part in header.split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        if name == word:
            given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
            try:
                highest = max(highest, float(given))
            except ValueError:
                continue
    return highest
