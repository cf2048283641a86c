"""Log lines: one JSON object each, on standard error and wherever outputs take them.

Keys: timestamp (RFC 3339, UTC, milliseconds), level (LEVELS), service, logger, message; then the fields of the event.
`service` is the one that a line speaks of or comes from, else the agent. A line that a service wrote has `stream` as
well, one that was written within a span `trace_id`. What a failure is, says `error_class` (errors.ErrorClass, a closed list).

Lines go through a ring that a thread of its own empties (watchkeeper.native): whoever reads standard error may be as slow
as he likes and the agent does not wait for him. A full ring drops its oldest lines; where they are missing a line says how
many, and `counts` tells. Lines gather for LINGER seconds and share a system call; an error goes out at once, with all
before it. At the end of the program the rest is written, up to CLOSE_LIMIT, and what is logged after that goes straight to
standard error. What a program loses that has no such end is in docs/extension.md.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType
from typing import Any, TextIO, cast

import msgspec

from watchkeeper import redact
from watchkeeper.native.log_ring import LogRing

ROOT = "watchkeeper"
SERVICE = "watchkeeper"
RESERVED = frozenset({"timestamp", "level", "logger", "message"})
TRACE, FATAL = 5, 50
LEVELS = {"trace": TRACE, "debug": 10, "info": 20, "warning": 30, "error": 40, "fatal": FATAL}
"""From the words of the configuration to logging's numbers; logging's own CRITICAL is FATAL here."""
logging.addLevelName(TRACE, "TRACE")
logging.addLevelName(FATAL, "FATAL")
CAPACITY = 1 << 20
"""Bytes that wait for a slow reader, and once more as many that are on their way."""
LINGER = 0.01
CLOSE_LIMIT = 1.0
"""Seconds that the end of the program waits for whoever reads standard error; once, not for each part of it."""
NOTICE = (
    b'{"timestamp":"{time}","level":"WARNING","logger":"watchkeeper.logs",'
    b'"message":"{count} log lines were dropped","dropped":{count}}'
)
_encode = msgspec.json.Encoder(enc_hook=str).encode
_now = time.time


_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))


@lru_cache(maxsize=4)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def _line(created: float, level: str, logger: str, message: str, fields: dict[str, Any]) -> dict[str, Any]:
    whole = int(created)
    timestamp = _second(whole) + _MILLISECONDS[int((created - whole) * 1000)]
    line = {
        "timestamp": timestamp, "level": level, "service": SERVICE, "logger": logger, "message": message, **fields,
    }  # fmt: skip
    if len(line) < len(fields) + 5 - ("service" in fields):  # a field has taken the place of one of the four
        renamed = {(f"field_{name}" if name in RESERVED else name): value for name, value in fields.items()}
        return _line(created, level, logger, message, renamed)
    if _trace_id is not None and (trace := _trace_id()):
        line.setdefault("trace_id", trace)
    return line


_trace_id: Callable[[], str] | None = None


def take_trace_ids_from(source: Callable[[], str] | None) -> None:
    """Who knows the id of the trace that the caller is in (32 hex digits; empty: none). None: nobody, which costs nothing."""
    global _trace_id  # noqa: PLW0603 - one per process, like the root logger that it serves
    _trace_id = source


def _bytes(line: dict[str, Any]) -> bytes:
    """The line as JSON, without secrets."""
    encoded = _encode(line)
    if not redact.found(encoded):
        return encoded
    return _encode(redact.data(msgspec.json.decode(encoded)))


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        line = _line(record.created, record.levelname, record.name, record.getMessage(), fields)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _bytes(line).decode()


class LineHandler(logging.Handler):
    """A handler that takes finished lines. What it writes to has a lock of its own, so that of `Handler` is not taken."""

    def take(self, line: bytes, level: int) -> None:
        """One line, without a line break, of a record of that level; must neither wait nor raise."""
        raise NotImplementedError

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override]
        passed: bool | logging.LogRecord = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.take(self.format(record).encode("utf-8", "backslashreplace"), record.levelno)
        except Exception:  # noqa: BLE001 - as in every handler: what a record holds must not end its program
            self.handleError(record)


class RingHandler(LineHandler):
    """Any record of any logger into a ring."""

    def __init__(self, ring: LogRing) -> None:
        super().__init__()
        self.ring, self.write = ring, ring.write
        self._limit = CLOSE_LIMIT

    def take(self, line: bytes, level: int) -> None:
        if not self.write(line):
            self.refused(line)
        elif level >= logging.ERROR:  # it is not kept back to share a system call with others
            self.ring.flush(0)

    def refused(self, line: bytes | str) -> None:
        """What the ring did not take: after the end of the log it is written all the same, otherwise it was counted."""
        if self.ring.finished:
            self.ring.write_straight(line)

    def flush(self) -> None:
        """Bring out what is there. A reader that did not read for CLOSE_LIMIT is not waited for again until he has."""
        self._limit = CLOSE_LIMIT if self.ring.flush(self._limit) else 0.0

    def close(self) -> None:
        self.ring.finish(self._limit)
        super().close()


class Log:
    """A logger whose keyword arguments become fields: `journal.info("listening", address=...)`."""

    def __init__(self, name: str) -> None:
        self._logger, self._name = logging.getLogger(name), name

    def trace(self, message: str, /, **fields: Any) -> None:
        self._log(TRACE, message, fields)

    def debug(self, message: str, /, **fields: Any) -> None:
        self._log(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        self._log(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: Any) -> None:
        self._log(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: Any) -> None:
        self._log(logging.ERROR, message, fields)

    def fatal(self, message: str, /, **fields: Any) -> None:
        self._log(FATAL, message, fields)

    def crash(self, message: str, /, **fields: Any) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._log(logging.ERROR, message, fields, trace=True)

    def _log(self, level: int, message: str, fields: dict[str, Any], *, trace: bool = False) -> None:
        if not self._logger.isEnabledFor(level):
            return
        handlers = None if trace else _only_lines(self._logger)
        if handlers is not None:
            try:
                line = _bytes(_line(_now(), _LEVELS[level], self._name, message, fields))
                for handler in handlers:
                    if level >= handler.level:
                        handler.take(line, level)
                return
            except Exception:  # noqa: BLE001, S110 - a value that cannot be written: the long way says so, if anyone asks
                pass
        # The message is complete: a % in it, from a child or a path, is not a format.
        self._logger.log(level, "%s", message, exc_info=trace, extra={"fields": fields})


_LEVELS = {level: logging.getLevelName(level) for level in LEVELS.values()}
_root = logging.getLogger()


def _only_lines(logger: logging.Logger) -> list[LineHandler] | None:
    """The handlers, when a record of this logger would go to takers of lines and nowhere else, and be asked nothing on its way.

    Then the record can be left out: making one takes longer than everything else together.
    """
    handlers = _root.handlers
    if not handlers:
        return None
    for handler in handlers:
        if not isinstance(handler, LineHandler) or handler.filters:
            return None
    if logger.filters:
        return None
    while logger is not _root:
        if logger.handlers or not logger.propagate or logger.parent is None:
            return None
        logger = logger.parent
    return cast("list[LineHandler]", handlers)


def get_logger(name: str) -> Log:
    """The logger of one part of the agent."""
    return Log(f"{ROOT}.{name}")


def configure(level: str, stream: TextIO | None = None) -> None:
    """Write JSON lines from `level` on; called again, it changes the level. Other libraries only warn.

    Args:
        level: a level's name, in any case.
        stream: None: standard error, through a ring. A stream is written to as it is.
    """
    if not any(isinstance(handler.formatter, JsonFormatter) for handler in _root.handlers):
        handler = logging.StreamHandler(stream) if stream is not None else _to_stderr()
        handler.setFormatter(JsonFormatter())
        _root.addHandler(handler)
        # A standard error that is gone must not fill itself with reports about it.
        logging.raiseExceptions = False
        if isinstance(handler, RingHandler) and sys.excepthook is sys.__excepthook__:
            sys.excepthook = _traceback_after_the_log
    _root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(LEVELS[level.lower()])


def attach(handler: LineHandler) -> None:
    """Let another handler have every line from now on."""
    handler.setFormatter(JsonFormatter())
    _root.addHandler(handler)


def detach(handler: LineHandler) -> None:
    """It gets no more; closing it is the caller's business."""
    _root.removeHandler(handler)


def _to_stderr() -> logging.Handler:
    if os.name == "nt" and sys.stderr is not None and sys.stderr.isatty():
        return logging.StreamHandler(sys.stderr)  # a console of Windows takes text, and no bytes in UTF-8
    try:
        return RingHandler(
            LogRing(
                sys.stderr.fileno(), capacity=CAPACITY, policy="drop-oldest", linger=LINGER, notice=NOTICE
            )
        )
    except (AttributeError, OSError, ValueError):  # there is none, or it is a stream without a descriptor
        return logging.StreamHandler(sys.stderr)


def flush() -> None:
    """Bring out every line so far, within CLOSE_LIMIT: before something else is written to standard error."""
    for handler in _root.handlers:
        if isinstance(handler, RingHandler):
            handler.flush()


def _traceback_after_the_log(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What ends the program goes past the ring: it must neither come before the log nor stand within a line of it."""
    flush()
    sys.__excepthook__(kind, error, trace)


def counts() -> dict[str, int]:
    """What became of the lines so far; empty when they go through no ring. native/ring.h says what each counts."""
    rings = (handler for handler in _root.handlers if isinstance(handler, RingHandler))
    return next((handler.ring.stats() for handler in rings), {})
