"""Log lines: one JSON object each, on standard error.

Keys: timestamp (RFC 3339, UTC, milliseconds), level, logger, message; then the fields of the event. A line that a
service wrote has `service` and `stream`. What a failure is, says `error_class` (errors.ErrorClass, a closed list).
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, TextIO

import msgspec

ROOT = "watchkeeper"
RESERVED = frozenset({"timestamp", "level", "logger", "message"})
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        whole = int(record.created)
        milliseconds = int((record.created - whole) * 1000)
        line: dict[str, Any] = {
            "timestamp": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields: dict[str, Any] = getattr(record, "fields", {})
        line |= {(f"field_{name}" if name in RESERVED else name): value for name, value in fields.items()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _encode(line).decode()


class Log:
    """A logger whose keyword arguments become fields: `journal.info("listening", address=...)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

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
        if self._logger.isEnabledFor(level):
            # The message is complete: a % in it, from a child or a path, is not a format.
            self._logger.log(level, "%s", message, exc_info=trace, extra={"fields": fields})


def get_logger(name: str) -> Log:
    """The logger of one part of the agent."""
    return Log(f"{ROOT}.{name}")


def configure(level: str, stream: TextIO | None = None) -> None:
    """Write JSON lines from `level` on; called again, it changes the level. Other libraries only warn."""
    root = logging.getLogger()
    if not any(isinstance(handler.formatter, JsonFormatter) for handler in root.handlers):
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(JsonFormatter())
        root.addHandler(handler)
        # A standard error that is gone must not fill itself with reports about it.
        logging.raiseExceptions = False
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())
