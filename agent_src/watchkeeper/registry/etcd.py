"""etcd v3 through its JSON gateway, as far as it is needed: keys under a prefix, a watch, leases.

Rules:
    E1  Keys and values are base64; a prefix is the range from it to the first key that does not begin with it.
    E2  A large range is read page by page, all pages at the revision of the first: one state, not several.
    E3  A watch begins at the revision after the one that was read, so that nothing falls in between.
    E4  A watch whose start is compacted away, that is cancelled, that ends, or that is silent for too long, is followed by
        reading everything anew. So is one whose server knows only older revisions than ours: it has been restored.
    E5  A member that does not answer is followed by the next one.
    E6  A token that is no longer taken is replaced, once per question.
    E7  Changes that come fast are taken at a distance: registry/churn.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, TypeVar

import msgspec

from watchkeeper.config.schema.registries import EtcdServer
from watchkeeper.logs import get_logger
from watchkeeper.outbound.client import Answer, Client, Limits, RequestError, Stream
from watchkeeper.registry.answers import RegistryError, decode
from watchkeeper.registry.churn import Churn
from watchkeeper.registry.etcd_messages import (
    FRAME_LIMIT,
    CompactedError,
    Frames,
    Header,
    KeepaliveFrame,
    KeyValue,
    LeaseAnswer,
    RangeAnswer,
    Token,
    WatchAnswer,
    check,
    message,
    prefix_end,
    text,
)

journal = get_logger("etcd")
T = TypeVar("T")
PAGE = 500
UNAUTHENTICATED = 401
UNAVAILABLE = (502, 503, 504)
OLD_TOKEN = b"auth store is old"


class EtcdClient:
    """One cluster."""

    def __init__(self, server: EtcdServer, http: Client) -> None:
        self.server = server
        self._http = http
        self._urls = [url.rstrip("/") for url in server.urls]
        self._token: str | None = None

    async def call(self, path: str, question: Mapping[str, Any], kind: type[T]) -> T:
        """One question and its answer.

        Raises:
            RegistryError: no member answers, or the answer is an error or nonsense.
        """
        answer = await self._asked(path, question)
        if self.server.user and (answer.status == UNAUTHENTICATED or OLD_TOKEN in answer.body):  # E6
            self._token = None
            answer = await self._asked(path, question)
        check(path, answer)
        return decode(answer.body, kind, f"etcd's answer to {path}")

    async def prefix(self, prefix: bytes) -> tuple[tuple[KeyValue, ...], int]:
        """All keys that begin with it, and the revision at which that was so.

        Raises:
            RegistryError: as for `call`.
        """
        for _attempt in range(3):
            with contextlib.suppress(CompactedError):  # between two pages: begin anew
                return await self._pages(prefix, prefix_end(prefix))
        raise RegistryError(f"etcd compacts faster than {prefix.decode('utf-8', 'replace')} can be read")

    async def key(self, key: bytes) -> tuple[tuple[KeyValue, ...], int]:
        """One key, if it is there, and the revision."""
        answer = await self.call("kv/range", {"key": text(key)}, RangeAnswer)
        return answer.kvs, answer.header.revision

    async def _pages(self, start: bytes, end: bytes) -> tuple[tuple[KeyValue, ...], int]:
        found: list[KeyValue] = []
        revision = 0
        while True:
            message = {"key": text(start), "range_end": text(end), "limit": str(PAGE)}
            if revision:
                message["revision"] = str(revision)  # E2
            page = await self.call("kv/range", message, RangeAnswer)
            revision = revision or page.header.revision
            found += page.kvs
            if not page.more or not page.kvs:
                return tuple(found), revision
            if page.kvs[-1].key < start:
                raise RegistryError("etcd: the pages of a range are not in order")
            start = page.kvs[-1].key + b"\0"

    async def put(self, key: bytes, value: bytes, lease: int) -> None:
        """Write a key that goes with its lease."""
        await self.call("kv/put", {"key": text(key), "value": text(value), "lease": str(lease)}, Header)

    async def grant(self, ttl: int) -> LeaseAnswer:
        """A lease of so many seconds, or of more if etcd finds that too short."""
        lease = await self.call("lease/grant", {"TTL": str(ttl)}, LeaseAnswer)
        if lease.error or not lease.id or lease.ttl < 1:
            raise RegistryError(f"etcd grants no lease: {lease.error or 'it names none'}")
        return lease

    async def keepalive(self, lease: int) -> int:
        """Seconds that the lease has again; 0: it is gone."""
        frame = await self.call("lease/keepalive", {"ID": str(lease)}, KeepaliveFrame)
        if frame.error is not None:
            raise RegistryError(f"etcd: lease/keepalive: {frame.error.message}")
        return 0 if frame.result is None else frame.result.ttl

    async def revoke(self, lease: int) -> None:
        """End a lease, and with it its keys; that it is gone already is fine."""
        try:
            await self.call("lease/revoke", {"ID": str(lease)}, Header)
        except RegistryError as error:
            if error.status != 404:
                raise

    @contextlib.asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes | None, revision: int, silence: float
    ) -> AsyncIterator[AsyncIterator[WatchAnswer]]:
        """The messages of a watch on a range from a revision on; end None: one key.

        Raises:
            CompactedError: the revision is no longer kept.
            RegistryError: the watch ended; TimeoutError: it was silent for `silence` seconds.
        """
        request: dict[str, Any] = {
            "key": text(key),
            "start_revision": str(revision),
            "progress_notify": True,
        }
        if end is not None:
            request["range_end"] = text(end)
        body = msgspec.json.encode({"create_request": request})
        limits = Limits(connect=self.server.timeout, read=silence + self.server.timeout, total=0)
        try:
            headers = await self._headers()
            async with (
                self._http.stream(
                    "POST",
                    f"{self._urls[0]}/v3/watch",
                    headers=headers,
                    body=body,
                    limits=limits,
                    tls=self.server.tls,
                    essential=True,
                ) as stream,
                contextlib.aclosing(self._messages(stream, silence)) as messages,
            ):
                yield messages
        except RequestError as error:
            self._next_member()
            raise RegistryError(str(error)) from None

    async def _messages(self, stream: Stream, silence: float) -> AsyncGenerator[WatchAnswer, None]:
        if stream.status != 200:
            self._token = None
            body = await stream.read(FRAME_LIMIT)
            check("watch", Answer(stream.status, stream.headers, body))
        frames = Frames()
        pieces = aiter(stream)
        while True:
            try:
                async with asyncio.timeout(silence):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                raise RegistryError("etcd ended the watch") from None
            for line in frames.feed(piece):
                yield message(line)

    async def _asked(self, path: str, question: Mapping[str, Any]) -> Answer:
        """The answer of the first member that can give one; else that of the last."""
        for _member in self._urls[1:]:
            with contextlib.suppress(RequestError):
                answer = await self._post(path, question, await self._headers())
                if answer.status not in UNAVAILABLE:
                    return answer
            self._next_member()  # E5
        try:
            return await self._post(path, question, await self._headers())
        except RequestError as error:
            self._next_member()
            raise RegistryError(str(error)) from None

    async def _headers(self) -> dict[str, str]:
        """With the token, which is asked for when it is first needed."""
        headers = {"Content-Type": "application/json"}
        if self.server.user is None:
            return headers
        if self._token is None:
            question = {"name": self.server.user, "password": self.server.password}
            answer = await self._post("auth/authenticate", question, headers)
            check("auth/authenticate", answer)
            self._token = decode(answer.body, Token, "etcd's answer to auth/authenticate").token
        return {**headers, "Authorization": self._token}

    async def _post(self, path: str, question: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        timeout = self.server.timeout
        return await self._http.request(
            "POST",
            f"{self._urls[0]}/v3/{path}",
            headers=headers,
            body=msgspec.json.encode(question),
            limits=Limits(connect=timeout, read=timeout, total=timeout),
            tls=self.server.tls,
            body_limit=FRAME_LIMIT,
            essential=True,
        )

    def _next_member(self) -> None:
        self._urls.append(self._urls.pop(0))


class EtcdRange:
    """One key, or all keys with a prefix, read again and again."""

    def __init__(self, client: EtcdClient, key: bytes, *, prefix: bool, wait: float, churn: float) -> None:
        self._client = client
        self._key = key
        self._prefix = prefix
        self._wait = wait
        self._churn = Churn(churn)
        self.revision = 0

    async def fetch(self) -> tuple[KeyValue, ...]:
        """What there is now.

        Raises:
            RegistryError: no answer.
        """
        read = self._client.prefix if self._prefix else self._client.key
        found, self.revision = await read(self._key)
        return found

    async def next(self) -> tuple[KeyValue, ...]:
        """What there is once something may have changed.

        Raises:
            RegistryError: as for `fetch`.
        """
        await self._churn.pause()  # E7
        try:
            await self._changed()
        except TimeoutError:
            journal.debug("a watch was silent for too long; reading anew", wait=self._wait)
        except RegistryError as error:  # E4
            journal.info(f"a watch ended; reading anew: {error}")
        return await self.fetch()

    async def _changed(self) -> None:
        """Returns when something may have changed."""
        end = prefix_end(self._key) if self._prefix else None
        async with self._client.watch(self._key, end, self.revision + 1, self._wait) as messages:  # E3
            async for each in messages:
                restored = each.created and each.header.revision < self.revision  # E4
                if each.events or restored:
                    return
