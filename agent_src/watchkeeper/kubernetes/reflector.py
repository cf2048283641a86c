"""A local copy of a collection of objects, kept by one list and a watch.

Rules (client-go tools/cache/reflector.go; the API concepts page, "Efficient detection of changes"):
    R1  The first list asks for any version the server has at hand ("0"); a list after 410 asks for the newest.
    R2  The watch begins at the list's resource version. Every event, bookmarks included, moves that version on.
    R3  A watch is asked to last a random time between WATCH_LEAST and twice that; when the server ends it, the next one goes
        on from the version that was reached.
    R4  410 Gone, as an answer or as an ERROR event, means a new list. What was in the copy stays until that list is there.
    R5  A watch that says nothing for `inactivity` seconds is given up and taken up anew (kopf; bookmarks come every 60 s).
    R6  A stream that is torn, or says something that cannot be read, is taken up anew from the last version that was whole.
        EMPTY_LIMIT of them in a row that brought nothing are an error: the caller backs off. So is a watch that the server
        ends within SHORT seconds without a word; one that lasted longer was merely quiet.
    R7  An event with the resource version that the copy already has changes nothing.
    R8  Without any change the copy is handed out again every RESYNC seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable

import msgspec

from watchkeeper.kubernetes.api import (
    Event,
    KubeClient,
    KubeError,
    Object,
    Page,
    decode_object,
    decode_status,
)
from watchkeeper.outbound.client import RequestError, Stream

WATCH_LEAST = 300.0
RESYNC = 1800.0
LINE_LIMIT = 4 << 20
"""Bytes of one event; etcd takes no object of more than 1.5 MiB."""
EMPTY_LIMIT = 2
SHORT = 1.0
_decode_event = msgspec.json.Decoder(Event).decode


class Reflector:
    """One collection. `objects` is the copy, by namespace and name; it is replaced, never changed.

    Args:
        inactivity: seconds (R5).
        chance: a number from 0 to 1.
    """

    def __init__(
        self, client: KubeClient, *, inactivity: float = 70.0, chance: Callable[[], float] = random.random
    ) -> None:
        self._client, self._inactivity, self._chance = client, inactivity, chance
        self.objects: dict[str, Object] = {}
        self.version = ""
        self._stack = contextlib.AsyncExitStack()
        self._lines: Lines | None = None
        self._relist = False
        self._empty = 0
        self._opened_at = 0.0
        self._untold = False

    async def list(self) -> dict[str, Object]:
        """The whole collection, anew.

        Raises:
            KubeError: it cannot be had; the copy stays what it was.
        """
        await self.close()
        version = None if self._relist or self.version else "0"  # R1
        found, reached = await self._pages(version)
        self._relist = self._untold = False
        self.objects, self.version = found, reached
        return self.objects

    async def _pages(self, version: str | None) -> tuple[dict[str, Object], str]:
        """All pieces. A token that has expired meanwhile (410) begins the list again, once, and in one consistent read."""
        found: dict[str, Object] = {}
        page: Page = await self._client.page(version=version)
        restarted = False
        while True:
            found |= {item.name: item for item in page.items}
            if not page.metadata.more:
                return found, page.metadata.resource_version
            try:
                page = await self._client.page(more=page.metadata.more)
            except KubeError as error:
                if not error.gone or restarted:
                    raise
                found, restarted = {}, True
                page = await self._client.page()

    async def changed(self) -> dict[str, Object]:
        """The collection, once it has changed, or after RESYNC seconds. Whoever is cancelled here may call again.

        Raises:
            KubeError: the watch cannot be had; the copy stays.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + RESYNC * (0.9 + 0.2 * self._chance())
        while loop.time() < until:
            if self._relist:
                return await self.list()  # R4
            # What comes together is handed out together; a change waits for no further one.
            self._untold = await self._step(until - loop.time()) or self._untold
            if self._untold and not (self._lines and self._lines.waiting):
                break
        self._untold = False
        return self.objects  # R8

    async def close(self) -> None:
        """End the watch."""
        self._lines = None
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        with contextlib.suppress(RequestError):
            await stack.aclose()

    async def _step(self, left: float) -> bool:
        """One event, or the end of a stream; whether the copy has changed."""
        try:
            line = await self._line(left)
            changed = line is not None and self._apply(_decode_event(line))
        except KubeError as error:
            await self._failed(error)
            return False
        except (RequestError, TimeoutError, ValueError, RecursionError) as error:
            await self._broken(error)
            return False
        except BaseException:  # a stream that was left in the middle of a wait cannot be read on
            await self.close()
            raise
        if line is None:
            await self._ended()
            return False
        self._empty = 0
        return changed

    async def _line(self, left: float) -> bytes | None:
        """The next line; None: the watch is over, by the server's wish or because it is time (R8)."""
        if self._lines is None:
            await self._open()
        assert self._lines is not None
        try:
            async with asyncio.timeout(min(self._inactivity, max(left, 0.001))):
                return await self._lines.next()
        except TimeoutError:
            if left > self._inactivity:
                raise TimeoutError("says nothing") from None  # R5
            self._opened_at = -SHORT
            return None

    async def _open(self) -> None:
        seconds = int(WATCH_LEAST * (1 + self._chance()))  # R3
        stream = await self._stack.enter_async_context(self._client.watch(self.version, seconds))
        self._lines = Lines(stream)
        self._opened_at = asyncio.get_running_loop().time()

    async def _failed(self, error: KubeError) -> None:
        """The server said no."""
        await self.close()
        if error.gone:
            self._relist = True  # R4
            return
        raise error

    async def _ended(self) -> None:
        """R3, R6."""
        if asyncio.get_running_loop().time() - self._opened_at < SHORT:
            await self._broken(ValueError("ends without a word"))
        else:
            await self.close()

    async def _broken(self, error: BaseException) -> None:
        """R5, R6: the stream is of no use any more."""
        await self.close()
        self._empty += 1
        if self._empty >= EMPTY_LIMIT:
            self._empty = 0
            raise KubeError(f"the watch of the Kubernetes API: {str(error) or type(error).__name__}")

    def _apply(self, event: Event) -> bool:
        """R2; whether the copy has changed."""
        if event.type == "ERROR":
            status = decode_status(event.object)
            raise KubeError(f"the watch of the Kubernetes API ended: {status.message}", status.code)
        item = decode_object(event.object)
        if not item.metadata.resource_version:
            raise KubeError("an event of the Kubernetes API has no resource version")
        self.version = item.metadata.resource_version
        known = self.objects.get(item.name)
        if event.type in ("ADDED", "MODIFIED"):
            if known is not None and known.metadata.resource_version == item.metadata.resource_version:
                return False  # R7
            self.objects = {**self.objects, item.name: item}
            return True
        if event.type == "DELETED" and known is not None:
            self.objects = {name: each for name, each in self.objects.items() if name != item.name}
            return True
        return False  # BOOKMARK, or a word of a later version of the API


class Lines:
    """Cuts a stream into lines. A part of a line at its end was cut off, and is none."""

    def __init__(self, stream: Stream) -> None:
        self._parts = stream.__aiter__()
        self._whole: deque[bytes] = deque()
        self._rest = b""

    @property
    def waiting(self) -> bool:
        """Whether there is a line that has come already."""
        return bool(self._whole)

    async def next(self) -> bytes | None:
        """The next line; None: the end.

        Raises:
            RequestError: the stream is torn.
            ValueError: a line is longer than LINE_LIMIT.
        """
        while not self._whole:
            try:
                part = await anext(self._parts)
            except StopAsyncIteration:
                return None
            *whole, self._rest = (self._rest + part).split(b"\n")
            self._whole.extend(line for line in whole if line.strip())
            if len(self._rest) > LINE_LIMIT:
                raise ValueError("says a line without an end")
        return self._whole.popleft()
