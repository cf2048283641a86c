"""An engine of containers for tests: the few calls of the Docker Engine API that the agent makes, over a Unix socket.

Written from the public API documents (create, start, kill, wait, inspect, delete). Nothing runs in its containers; a test
decides when they end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web


@dataclass
class Made:
    """One container."""

    body: dict[str, Any]
    running: bool = False
    code: int = 0
    starts: int = 0
    oom: bool = False
    deaf: bool = False
    """Whether it takes no notice of any signal but KILL."""
    signals: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, code: int) -> None:
        self.running, self.code = False, code
        self.ended.set()


class EngineServer:
    """The engine; `images` are those that are there."""

    def __init__(self, socket: Path, images: tuple[str, ...] = ("image:1",)) -> None:
        self.socket, self.images = socket, set(images)
        self.containers: dict[str, Made] = {}
        self.calls: list[str] = []
        self.trouble: int | None = None
        """A status that every call is answered with."""
        self.deaf = False

    async def start(self) -> None:
        application = web.Application(middlewares=[self._count])
        application.router.add_post("/containers/create", self._create)
        application.router.add_get("/containers/{name}/json", self._inspect)
        application.router.add_delete("/containers/{name}", self._delete)
        for word, handler in (("start", self._start), ("kill", self._kill), ("wait", self._wait)):
            application.router.add_post(f"/containers/{{name}}/{word}", handler)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        if self.trouble is not None:
            return web.json_response({"message": "the engine is in trouble"}, status=self.trouble)
        answer: web.StreamResponse = await handler(request)
        return answer

    def _named(self, request: web.Request) -> Made:
        name = request.match_info["name"]
        if name not in self.containers:
            text = f'{{"message": "No such container: {name}"}}'
            raise web.HTTPNotFound(text=text, content_type="application/json")
        return self.containers[name]

    async def _create(self, request: web.Request) -> web.Response:
        name, body = request.query["name"], await request.json()
        if body["Image"] not in self.images:
            return web.json_response({"message": f"No such image: {body['Image']}"}, status=404)
        if name in self.containers:
            return web.json_response({"message": "the name is in use"}, status=409)
        self.containers[name] = Made(body, deaf=self.deaf)
        return web.json_response({"Id": "0" * 64, "Warnings": []}, status=201)

    async def _start(self, request: web.Request) -> web.Response:
        made = self._named(request)
        if made.running:
            return web.Response(status=304)
        made.running, made.ended = True, asyncio.Event()
        made.starts += 1
        return web.Response(status=204)

    async def _kill(self, request: web.Request) -> web.Response:
        made = self._named(request)
        if not made.running:
            return web.json_response({"message": "it is not running"}, status=409)
        word = request.query["signal"]
        made.signals.append(word)
        if word == "SIGKILL" or not made.deaf:
            made.end(137 if word == "SIGKILL" else 143)
        return web.Response(status=204)

    async def _wait(self, request: web.Request) -> web.Response:
        made = self._named(request)
        if made.running:
            await made.ended.wait()
        return web.json_response({"StatusCode": made.code})

    async def _inspect(self, request: web.Request) -> web.Response:
        made = self._named(request)
        state = {
            "Running": made.running,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": made.oom,
            "Pid": 4321 if made.running else 0,
            "ExitCode": made.code,
            "Error": "",
        }
        return web.json_response(
            {"Id": "0" * 64, "State": state, "Config": {"Labels": made.body.get("Labels")}}
        )

    async def _delete(self, request: web.Request) -> web.Response:
        self._named(request).end(137)
        del self.containers[request.match_info["name"]]
        return web.Response(status=204)
