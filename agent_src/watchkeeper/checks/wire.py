"""An HTTP/1 answer, read piece by piece and never more of it than is asked for (RFC 9112).

Rules:
    W1  The head is at most HEAD_LIMIT bytes; what does not begin as an answer, or has a line that is no header, is none.
    W2  Interim answers (1xx but 101) are skipped, INTERIM_LIMIT at most.
    W3  There is no body after HEAD, 1xx, 204 and 304. Else `chunked` counts before Content-Length, and without both the
        body ends with the connection.
    W4  Several lengths must be the same one. Lengths and chunk sizes have at most 18 and 15 digits.
    W5  Of the body `limit` bytes are kept, and then no more is wanted: an endless one is no failure of the reader's.
    W6  A connection that ends before the answer does has torn it.
"""

from __future__ import annotations

import enum
import re

HEAD_LIMIT = 64 * 1024
INTERIM_LIMIT = 10
CHUNK_LINE_LIMIT = 4096

_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: [^\r\n\0]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0\r\n]*)")
_END = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?")


class MalformedError(Exception):
    """What came is no answer in HTTP/1, or ended in the middle; the text says how."""


class _Due(enum.Enum):
    """Which line of a chunked body is next."""

    SIZE = enum.auto()
    END = enum.auto()
    TRAILER = enum.auto()


class Reader:
    """One answer. Feed it until `done`."""

    def __init__(self, *, head_only: bool = False, limit: int) -> None:
        self._head_only = head_only
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0
        """Up to where there is no end of the head: what drips in is not looked through again with each drop."""
        self._interim = 0
        self._left: int | None = None
        """Bytes until the end of the body, or of the chunk; None: until the connection ends."""
        self._chunked = False
        self._due = _Due.SIZE
        self._lines = 0
        """Bytes of lines since the last chunk."""
        self.status = 0
        self.headers: dict[str, str] = {}
        """By lower-case name; several of one name are joined by commas."""
        self.body = bytearray()
        self.done = False
        self.cut = False
        """Whether the body was longer than what is kept."""

    def feed(self, data: bytes) -> None:
        """Take what was received.

        Raises:
            MalformedError: it cannot be part of an answer.
        """
        self._buffer += data
        if not self.status:
            self._head()
        if self.status and not self.done:
            self._chunks() if self._chunked else self._plain()

    def end(self) -> None:
        """The connection has ended.

        Raises:
            MalformedError: the answer had not.
        """
        if self.done:
            return
        if not self.status:
            raise MalformedError(
                "the connection ended without an answer" if not self._buffer else self._nothing()
            )
        if self._chunked or self._left is not None:
            raise MalformedError("the connection ended in the middle of the body")  # W6
        self.done = True

    def _nothing(self) -> str:
        started = bytes(self._buffer[:5])
        return (
            "the connection ended in the middle of the head"
            if b"HTTP/".startswith(started)
            else "it is no HTTP/1"
        )

    def _head(self) -> None:
        """W1, W2."""
        while not self.status:
            if not b"HTTP/".startswith(bytes(self._buffer[:5])):
                raise MalformedError(f"it does not answer in HTTP/1 but with {bytes(self._buffer[:20])!r}")
            end = _END.search(self._buffer, self._searched)
            if end is None or end.start() > HEAD_LIMIT:
                if len(self._buffer) > HEAD_LIMIT:
                    raise MalformedError(f"the head of the answer is longer than {HEAD_LIMIT >> 10} KiB")
                self._searched = max(0, len(self._buffer) - 3)
                return
            lines = bytes(self._buffer[: end.start()]).split(b"\n")
            del self._buffer[: end.end()]
            self._searched = 0
            self._take_head(lines)

    def _take_head(self, lines: list[bytes]) -> None:
        first = _STATUS.fullmatch(lines[0].removesuffix(b"\r"))
        if first is None:
            raise MalformedError(f"the answer begins with {lines[0][:60]!r}")
        status = int(first[1])
        if 100 <= status < 200 and status != 101:
            self._interim += 1
            if self._interim > INTERIM_LIMIT:
                raise MalformedError(f"more than {INTERIM_LIMIT} interim answers")
            return
        for line in lines[1:]:
            self._take_header(line.removesuffix(b"\r"))
        self._frame(status)
        self.status = status

    def _take_header(self, line: bytes) -> None:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise MalformedError(f"the answer has a header {line[:60]!r}")
        name, value = found[1].decode().lower(), found[2].decode("latin-1").rstrip(" \t")
        earlier = self.headers.get(name)
        self.headers[name] = value if earlier is None else f"{earlier}, {value}"

    def _frame(self, status: int) -> None:
        """W3, W4: how the end of the body will be known."""
        if self._head_only or status < 200 or status in (204, 304):
            self.done = True
            return
        coding = self.headers.get("transfer-encoding", "").lower()
        if coding:
            if coding.rsplit(",", 1)[-1].strip() != "chunked":
                return  # until the connection ends
            self._chunked, self._left = True, 0
            return
        lengths = {each.strip() for each in self.headers.get("content-length", "").split(",")} - {""}
        if "content-length" in self.headers:
            length = lengths.pop() if len(lengths) == 1 else ""
            if not (length.isascii() and length.isdigit() and len(length) <= 18):
                raise MalformedError(f"the answer has a length {self.headers['content-length'][:60]!r}")
            self._left = int(length)

    def _keep(self, data: bytes | bytearray) -> None:
        """W5."""
        room = self._limit - len(self.body)
        self.body += data[:room]
        if len(data) > room:
            self.cut = self.done = True

    def _plain(self) -> None:
        part = bytes(self._buffer if self._left is None else self._buffer[: self._left])
        self._buffer.clear()
        self._keep(part)
        if self._left is not None:
            self._left -= len(part)
            self.done = self.done or self._left == 0

    def _chunks(self) -> None:
        while self._buffer and not self.done:
            if self._left:
                part = bytes(self._buffer[: self._left])
                del self._buffer[: len(part)]
                self._keep(part)
                self._left -= len(part)
                self._due = _Due.END if not self._left else _Due.SIZE
                continue
            line, found, rest = self._buffer.partition(b"\n")
            self._lines += len(line)
            if len(line) > CHUNK_LINE_LIMIT or (self._lines > HEAD_LIMIT and self._due is _Due.TRAILER):
                raise MalformedError("a line between the chunks of the body does not end")
            if not found:
                self._lines -= len(line)
                return
            self._buffer = rest
            self._take_line(bytes(line).removesuffix(b"\r"))

    def _take_line(self, line: bytes) -> None:
        """The size of a chunk, the line end behind one, or what follows the last."""
        if self._due is _Due.TRAILER:
            self.done = not line
            return
        if self._due is _Due.END:
            if line:
                raise MalformedError(f"a chunk of the body is followed by {line[:60]!r}")
            self._due = _Due.SIZE
            return
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise MalformedError(f"a chunk of the body begins with {line[:60]!r}")
        self._left = int(size[1], 16)
        self._lines = 0
        if not self._left:
            self._due = _Due.TRAILER
