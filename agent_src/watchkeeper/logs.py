"""Log lines: one JSON object each, on standard error.

Keys: timestamp (RFC 3339, UTC, milliseconds), level, logger, message; then the fields of the event. A line that a
service wrote has `service` and `stream`. What a failure is, says `error_class` (errors.ErrorClass, a closed list).

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
from functools import lru_cache
from types import TracebackType
from typing import Any, TextIO

import msgspec

from watchkeeper.native.log_ring import LogRing

ROOT = "watchkeeper"
RESERVED = frozenset({"timestamp", "level", "logger", "message"})
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
    line = {"timestamp": timestamp, "level": level, "logger": logger, "message": message, **fields}
    if len(line) < len(fields) + len(RESERVED):  # a field has taken the place of one of the four
        renamed = {(f"field_{name}" if name in RESERVED else name): value for name, value in fields.items()}
        line = {"timestamp": timestamp, "level": level, "logger": logger, "message": message, **renamed}
    return line


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        line = _line(record.created, record.levelname, record.name, record.getMessage(), fields)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _encode(line).decode()


class RingHandler(logging.Handler):
    """Any record of any logger into a ring. The ring has a lock of its own, so that of `Handler` is not taken."""

    def __init__(self, ring: LogRing) -> None:
        super().__init__()
        self.ring, self.write = ring, ring.write
        self._limit = CLOSE_LIMIT

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override]
        passed: bool | logging.LogRecord = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if not self.write(line):
                self.refused(line)
            elif record.levelno >= logging.ERROR:  # it is not kept back to share a system call with others
                self.ring.flush(0)
        except Exception:  # noqa: BLE001 - as in every handler: what a record holds must not end its program
            self.handleError(record)

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

    def debug(self, message: str, /, **fields: Any) -> None:
        self._log(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        self._log(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: Any) -> None:
        self._log(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: Any) -> None:
        self._log(logging.ERROR, message, fields)

    def crash(self, message: str, /, **fields: Any) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._log(logging.ERROR, message, fields, trace=True)

    def _log(self, level: int, message: str, fields: dict[str, Any], *, trace: bool = False) -> None:
        if not self._logger.isEnabledFor(level):
            return
        handler = None if trace else _only_ring(self._logger)
        if handler is not None:
            try:
                line = _encode(_line(_now(), _LEVELS[level], self._name, message, fields))
                if not handler.write(line):
                    handler.refused(line)
                elif level >= logging.ERROR:
                    handler.ring.flush(0)
                return
            except Exception:  # noqa: BLE001, S110 - a value that cannot be written: the long way says so, if anyone asks
                pass
        # The message is complete: a % in it, from a child or a path, is not a format.
        self._logger.log(level, "%s", message, exc_info=trace, extra={"fields": fields})


_LEVELS = {level: logging.getLevelName(level) for level in (10, 20, 30, 40)}
_root = logging.getLogger()


def _only_ring(logger: logging.Logger) -> RingHandler | None:
    """The ring, when a record of this logger would go there and nowhere else, and be asked nothing on its way.

    Then the record can be left out: making one takes longer than everything else together.
    """
    handlers = _root.handlers
    if len(handlers) != 1 or type(handler := handlers[0]) is not RingHandler:
        return None
    if handler.filters or handler.level or logger.filters:
        return None
    while logger is not _root:
        if logger.handlers or not logger.propagate or logger.parent is None:
            return None
        logger = logger.parent
    return handler


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
    logging.getLogger(ROOT).setLevel(level.upper())


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
