"""The part of the Kubernetes API that a custom resource needs, written from the public API documents; it can also misbehave.

Lists in pieces with continue tokens, watches with bookmarks and timeouts, merge patches, the status subresource, finalizers
and deletion timestamps, resource versions that run out (410). Objects are held to the schema of the agent's own
CustomResourceDefinition. What it is not: an API server; there is no admission, no authorisation beyond one token, one kind.
It runs in a thread with a loop of its own; its methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jsonschema
from aiohttp import web

T = TypeVar("T")
GROUP = "/apis/watchkeeper.internal/v1"


@dataclass
class Faults:
    """What goes wrong, for watches or for everything else."""

    status: int | None = None
    retry_after: int | None = None
    only: str = ""
    """"watch", "list", "patch", or empty: all."""
    times: int | None = None
    torn_after: int | None = None
    """Bytes of the next watch's stream after which the connection is cut."""
    line: bytes | None = None
    """Said by the next watch before anything else."""
    silent: bool = False
    """Watches say nothing, bookmarks included."""


class KubernetesServer:
    """One cluster. `url` is where it is."""

    def __init__(self, schema: dict[str, Any] | None = None, token: str | None = None, port: int = 0) -> None:
        self.faults = Faults()
        self.requests: list[tuple[str, str]] = []
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.patches: list[tuple[str, dict[str, Any]]] = []
        self.bookmark_seconds = 0.2
        self._schema, self._token, self._port = schema, token, port
        self._version = 100
        self._compacted = 0
        self._log: list[tuple[int, str, dict[str, Any]]] = []
        self._ready = threading.Event()

    # -- what a test does ---------------------------------------------------------------------------------------------

    def apply(
        self,
        name: str,
        spec: dict[str, Any],
        *,
        namespace: str = "default",
        labels: dict[str, str] | None = None,
    ) -> None:
        """As kubectl apply: make an object, or change its spec."""
        if self._schema is not None:
            jsonschema.validate({"spec": spec}, self._schema)

        def write() -> None:
            old = self.objects.get((namespace, name))
            item = copy.deepcopy(old) if old else {
                "apiVersion": "watchkeeper.internal/v1", "kind": "ServiceCheck",
                "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{self._version}", "generation": 0},
            }  # fmt: skip
            item["metadata"]["labels"] = labels or {}
            item["metadata"]["generation"] += 1
            item["spec"] = spec
            self._put(item, "MODIFIED" if old else "ADDED")

        self._call(write)

    def delete(self, name: str, *, namespace: str = "default") -> None:
        """As kubectl delete: an object with finalizers only gets its deletion timestamp."""

        def remove() -> None:
            item = copy.deepcopy(self.objects[namespace, name])
            item["metadata"]["deletionTimestamp"] = "2026-01-31T00:00:00Z"
            self._put(item, "MODIFIED")

        self._call(remove)

    def compact(self) -> None:
        """Versions up to now are forgotten: a watch from one of them is answered 410."""
        self._call(lambda: setattr(self, "_compacted", self._version))

    def break_down(self, **faults: Any) -> None:
        """From now on, this goes wrong; without arguments nothing does."""
        self._call(lambda: setattr(self, "faults", Faults(**faults)))

    def hang_up(self) -> None:
        """Cut every watch that there is."""

        def cut() -> None:
            for transport in list(self._watching):
                transport.abort()

        self._call(cut)

    def find(self, name: str, *, namespace: str = "default") -> dict[str, Any] | None:
        """An object as it is now; None: there is none."""
        return self._call(lambda: copy.deepcopy(self.objects.get((namespace, name))))

    @property
    def watches(self) -> int:
        """How many watches have been asked for so far."""
        return sum("watch=1" in query for _, query in self.requests)

    @property
    def lists(self) -> int:
        """How many first pieces of lists."""
        return sum(
            method == "GET" and "watch=1" not in query and "continue=" not in query
            for method, query in self.requests
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # -- running ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run()), name="kubernetes", daemon=True
        )
        self._thread.start()
        assert self._ready.wait(10), "the Kubernetes of the tests did not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        self._ready.clear()

    async def _run(self) -> None:
        self._loop, self._end, self._changed = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._watching: set[asyncio.Transport] = set()
        app = web.Application(middlewares=[self._misbehave])
        one = GROUP + "/namespaces/{namespace}/servicechecks/{name}"
        app.add_routes(
            [
                web.get(GROUP + "/servicechecks", self._get),
                web.get(GROUP + "/namespaces/{namespace}/servicechecks", self._get),
                web.patch(one, self._patch),
                web.patch(one + "/{subresource}", self._patch),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = runner.addresses[0][1]
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    def _call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    # -- state --------------------------------------------------------------------------------------------------------

    def _put(self, item: dict[str, Any], what: str) -> dict[str, Any]:
        self._version += 1
        meta = item["metadata"]
        meta["resourceVersion"] = str(self._version)
        place = meta["namespace"], meta["name"]
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            self.objects.pop(place, None)
            what = "DELETED"
        else:
            self.objects[place] = item
        self._log.append((self._version, what, copy.deepcopy(item)))
        self._changed.set()
        self._changed = asyncio.Event()
        return item

    # -- requests -----------------------------------------------------------------------------------------------------

    @web.middleware
    async def _misbehave(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        if self._token is not None and request.headers.get("Authorization") != f"Bearer {self._token}":
            return _status(401, "Unauthorized")
        faults = self.faults
        kind = "patch" if request.method == "PATCH" else "watch" if "watch" in request.query else "list"
        if faults.status is None or faults.only not in ("", kind) or faults.times == 0:
            return await handler(request)
        if faults.times is not None:
            faults.times -= 1
        answer = _status(faults.status, "the server says no")
        if faults.retry_after is not None:
            answer.headers["Retry-After"] = str(faults.retry_after)
        return answer

    def _chosen(self, request: web.Request, item: dict[str, Any]) -> bool:
        namespace = request.match_info.get("namespace")
        if namespace and item["metadata"]["namespace"] != namespace:
            return False
        labels = item["metadata"].get("labels", {})
        wanted = [part.split("=") for part in request.query.get("labelSelector", "").split(",") if part]
        return all(labels.get(key) == value for key, value in wanted)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watch(request)
        items = [item for _, item in sorted(self.objects.items()) if self._chosen(request, item)]
        start, version = 0, self._version
        if token := request.query.get("continue"):
            start, version = map(int, token.split("-"))
            if version < self._compacted:
                return _status(410, "The provided continue parameter is too old")
        limit = int(request.query["limit"])
        meta = {"resourceVersion": str(version)}
        if start + limit < len(items):
            meta["continue"] = f"{start + limit}-{version}"
        return web.json_response(
            {"kind": "ServiceCheckList", "metadata": meta, "items": items[start : start + limit]}
        )

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        if version < self._compacted:
            return _status(410, f"too old resource version: {version}")
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._watching.add(transport)
        try:
            await self._events(request, answer, version, transport)
        finally:
            self._watching.discard(transport)
        return answer

    async def _events(
        self, request: web.Request, answer: web.StreamResponse, version: int, transport: asyncio.Transport
    ) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + int(request.query["timeoutSeconds"])
        left, self.faults.torn_after = self.faults.torn_after, None
        if self.faults.line is not None:
            line, self.faults.line = self.faults.line, None
            await answer.write(line + b"\n")
        while loop.time() < until and not self._end.is_set():
            changed = self._changed
            news = [] if self.faults.silent else [each for each in self._log if each[0] > version]
            for number, what, item in news:
                version = number
                if self._chosen(request, item):
                    data = json.dumps({"type": what, "object": item}).encode() + b"\n"
                    if left is not None:
                        await answer.write(data[:left])
                        await asyncio.sleep(0.02)
                        transport.abort()
                        return
                    await answer.write(data)
            try:
                async with asyncio.timeout(self.bookmark_seconds):
                    await changed.wait()
            except TimeoutError:
                if not self.faults.silent:
                    meta = {"metadata": {"resourceVersion": str(version)}}
                    await answer.write(json.dumps({"type": "BOOKMARK", "object": meta}).encode() + b"\n")

    async def _patch(self, request: web.Request) -> web.Response:
        place = request.match_info["namespace"], request.match_info["name"]
        item = copy.deepcopy(self.objects.get(place))
        change = await request.json()
        assert request.headers["Content-Type"] == "application/merge-patch+json"
        if item is None:
            return _status(404, f"servicechecks {place[1]!r} not found")
        asked = change.get("metadata", {}).get("resourceVersion")
        if asked is not None and asked != item["metadata"]["resourceVersion"]:
            return _status(409, "the object has been modified")
        subresource = request.match_info.get("subresource", "")
        self.patches.append((f"{place[1]}/{subresource}".rstrip("/"), change))
        if subresource == "status":
            change = {"status": change.get("status")}
        else:
            change = {key: value for key, value in change.items() if key != "status"}
        merged = _merge(item, change)
        if self._schema is not None:
            jsonschema.validate(
                {key: merged[key] for key in ("spec", "status") if key in merged}, self._schema
            )
        return web.json_response(self._put(merged, "MODIFIED") if merged != item else item)


def _merge(target: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, dict):
        return change
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _status(code: int, message: str) -> web.Response:
    return web.json_response(
        {"kind": "Status", "status": "Failure", "message": message, "code": code}, status=code
    )
