"""What a service writes: lines in the agent's log, its own file, or both.

Rules:
    O1  The service is always read, and never waits for a log.
    O2  Of its lines, `rate` a second go to the agent's log. The others are counted in
        watchkeeper_service_output_dropped_lines_total, and once a second a line says how many there were.
    O3  One line is at most line_limit long in the agent's log; its file has it whole.
    O4  The streams of a service that outlives its agent are named pipes in the state directory, of which it holds both
        ends: with nobody there it can write 1 MiB before it waits, and the next agent reads what is in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import stat
from collections.abc import Mapping
from typing import Any, cast

from watchkeeper import redact
from watchkeeper.config.schema.services import LogTo, ProcessService
from watchkeeper.logs import get_logger
from watchkeeper.metrics import Metrics
from watchkeeper.supervise.child import LineReader
from watchkeeper.supervise.logfile import LogFile, LogFiles

STREAMS = {1: "stdout", 2: "stderr"}
PIPE_SIZE = 1 << 20
NOTE_AFTER = 1.0


class Output:
    """A sink for the streams of one process."""

    def __init__(self, name: str, spec: ProcessService, metrics: Metrics, files: LogFiles) -> None:
        self._name, self._files = name, files
        self._journal = get_logger(f"output.{name}")
        self._rate, self._left = spec.log.rate, float(spec.log.rate)
        self._refilled = _now()
        self._dropped = 0
        self._note: asyncio.TimerHandle | None = None
        self._counter = metrics.counter(
            "service_output_dropped_lines_total",
            "Lines of a service that did not get into a log.",
            "service",
        )
        self._to_agent = spec.log.to in (LogTo.AGENT, LogTo.BOTH)
        self._file = (
            LogFile(pathlib.Path(spec.log.file), spec.log.max_size, spec.log.keep)
            if spec.log.file is not None
            else None
        )
        self._readers = {
            fd: LineReader(spec.line_limit, lambda line, cut, fd=fd: self._line(fd, line, cut))  # type: ignore[misc]
            for fd in STREAMS
        }
        self._pipes: list[asyncio.ReadTransport] = []

    def __call__(self, stream: int, data: bytes) -> None:
        if self._file is not None and data and not self._files.write(self._file, _hidden(data)):
            self._counter.labels(self._name).inc(data.count(b"\n"))
        if self._to_agent:
            self._take(self._readers[stream], data)

    def _take(self, reader: LineReader, data: bytes) -> None:
        """O2. What is too much is only counted: to cut it into lines would keep the loop from everything else."""
        lines = data.count(b"\n")
        if lines > self._left:
            self._refill()
        if lines <= self._left:
            self._left -= lines
            reader.feed(data)
            return
        allowed = int(self._left)
        *taken, rest = data.split(b"\n", allowed)
        for line in taken:
            reader.feed(line + b"\n")
        reader.skip(ended=rest.endswith(b"\n"))
        self._left -= allowed
        self._drop(lines - allowed)

    def _refill(self) -> None:
        now = _now()
        self._left = min(float(self._rate), self._left + (now - self._refilled) * self._rate)
        self._refilled = now

    def _drop(self, lines: int) -> None:
        self._dropped += lines
        self._counter.labels(self._name).inc(lines)
        if self._note is None:
            self._note = asyncio.get_running_loop().call_later(NOTE_AFTER, self._say)

    def _say(self) -> None:
        self._note = None
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._journal.warning(
                f"{dropped} lines of service {self._name} were left out: it may write {self._rate} a second here",
                service=self._name,
                dropped=dropped,
            )

    def _line(self, stream: int, line: str, cut: bool) -> None:
        fields: Mapping[str, object] = {"truncated": True} if cut else {}
        self._journal.info(line, service=self._name, stream=STREAMS[stream], **fields)

    async def connect(self, folder: pathlib.Path) -> dict[str, int]:
        """Read named pipes (O4); their other ends, for the process and to be closed by the caller.

        Raises:
            OSError: there can be none.
        """
        ends = {}
        try:
            for number, stream in STREAMS.items():
                path = folder / f"{self._name}.{stream}"
                _make_pipe(path)
                ends[stream] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                _enlarge(ends[stream])
                await self.read(path, number)
        except BaseException:
            for end in ends.values():
                os.close(end)
            raise
        return ends

    async def read(self, path: pathlib.Path, number: int) -> None:
        """Take what comes out of a named pipe."""
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_read_pipe(lambda: _Reader(self, number), stream)
        except BaseException:
            stream.close()
            raise
        self._pipes.append(transport)

    def close(self) -> None:
        """The process and all of its kind are gone, or are read by nobody any more."""
        for transport in self._pipes:
            transport.close()
        self._pipes.clear()
        if self._note is not None:
            self._note.cancel()
            self._say()
        if self._file is not None:
            self._files.finish(self._file)


class _Reader(asyncio.Protocol):
    def __init__(self, output: Output, number: int) -> None:
        self._output, self._number = output, number

    def data_received(self, data: bytes) -> None:
        self._output(self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._output(self._number, b"")


def discard(_stream: int, _data: bytes) -> None:
    """A sink for output that nobody wants."""


def _make_pipe(path: pathlib.Path) -> None:
    """Have a named pipe there; what is there and is none (a copy that was put back, a link) makes room for it."""
    try:
        if stat.S_ISFIFO(path.lstat().st_mode):
            return
        path.unlink()
    except FileNotFoundError:
        pass
    os.mkfifo(path, 0o600)


def remove_pipes(folder: pathlib.Path, name: str) -> None:
    """Nobody will write to them again."""
    for stream in STREAMS.values():
        with contextlib.suppress(OSError):
            (folder / f"{name}.{stream}").unlink()


def _hidden(data: bytes) -> bytes:
    """What goes to a file holds no secret either; one that is torn between two reads is not found."""
    if not redact.found(data):
        return data
    return redact.text(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _enlarge(descriptor: int) -> None:
    try:
        import fcntl

        cast("Any", fcntl).fcntl(descriptor, cast("Any", fcntl).F_SETPIPE_SZ, PIPE_SIZE)
    except (ImportError, AttributeError, OSError):
        pass  # not Linux, or the user has used up what pipes may take: 64 KiB then


def _now() -> float:
    return asyncio.get_running_loop().time()
