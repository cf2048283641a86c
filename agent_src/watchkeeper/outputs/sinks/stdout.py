"""Lines to standard output. A reader that is gone is an error like any other; one that does not read is waited for."""

from __future__ import annotations

import os

from watchkeeper.outputs.writer import SinkError


class StdoutSink:
    """A descriptor of its own, so that whoever closes standard output does not close this."""

    def __init__(self, fd: int = 1) -> None:
        try:
            self._fd = os.dup(fd)
        except OSError as error:
            raise SinkError(f"there is no standard output: {error.strerror}") from None

    def write(self, lines: list[bytes]) -> None:
        left = memoryview(b"".join(line + b"\n" for line in lines))
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            raise SinkError(f"standard output: {error.strerror}") from None

    def close(self) -> None:
        os.close(self._fd)
