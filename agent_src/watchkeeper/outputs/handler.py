"""What connects the log to an output: a taker of lines in front of a writer."""

from __future__ import annotations

import logging

from watchkeeper.logs import LineHandler
from watchkeeper.outputs.writer import Writer

CLOSE_LIMIT = 1.0
"""Seconds that the end of the program waits for one output."""


class OutputHandler(LineHandler):
    """Hands lines on; an error hurries."""

    def __init__(self, writer: Writer, level: int) -> None:
        super().__init__(level)
        self.writer = writer
        self._closed = False

    def take(self, line: bytes, level: int) -> None:
        self.writer.write(line, hurry=level >= logging.ERROR)

    def flush(self) -> None:
        self.writer.flush(CLOSE_LIMIT)

    def close(self) -> None:
        """Write the rest; a second call does nothing, and logging makes one at the end of the program."""
        self.close_within(CLOSE_LIMIT)

    def close_within(self, seconds: float) -> bool:
        """Whether every line was written or spooled in that time."""
        if self._closed:
            return True
        self._closed = True
        super().close()
        return self.writer.close(seconds)
