"""What a person sees while Ferryman works: one line per finished step, folds in CI, a closing table.

Three faces of one Protocol, chosen by :func:`make_ui`: a terminal gets a live line for what is running, a GitHub
Actions job gets folded groups, anything else gets plain lines. Only this module and ``cli`` write to the terminal.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status as RichStatus


class Mark(StrEnum):
    """How a step ended. ``CACHED`` did nothing since its inputs are those of an earlier run."""

    DONE = "done"
    CACHED = "cached"
    SKIPPED = "skipped"
    FAILED = "failed"


_TICKS = {Mark.DONE: "✓", Mark.CACHED: "=", Mark.SKIPPED: "-", Mark.FAILED: "✗"}
_PLAIN_TICKS = {Mark.DONE: "ok", Mark.CACHED: "same", Mark.SKIPPED: "skip", Mark.FAILED: "FAIL"}
_STYLES = {Mark.DONE: "green", Mark.CACHED: "dim", Mark.SKIPPED: "yellow", Mark.FAILED: "bold red"}


class Ui(Protocol):
    """``who`` is a target id or '', ``what`` a step's title; both stay the same from start to end."""

    def start(self, who: str, what: str) -> None: ...
    def end(self, who: str, what: str, mark: Mark, seconds: float, note: str = "") -> None: ...
    def say(self, text: str) -> None: ...
    def table(self, title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None: ...
    def close(self) -> None: ...


def make_ui(*, plain: bool = False, stream: TextIO | None = None) -> Ui:
    """The face that fits ``stream`` (stderr when None): rich on a terminal, folds on GitHub Actions, else lines."""
    out = stream or sys.stderr
    if os.environ.get("GITHUB_ACTIONS") == "true":
        return GithubUi(out)
    if plain or not out.isatty() or os.environ.get("TERM") == "dumb":
        return PlainUi(out)
    return RichUi()


class PlainUi:
    """Lines that survive a log file: no colours, no cursor movement, ASCII when the stream can't do better."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._ticks = _TICKS if _can_encode(stream, "✓✗") else _PLAIN_TICKS

    def start(self, who: str, what: str) -> None:
        """Nothing: a line per step is enough when nobody watches."""

    def end(self, who: str, what: str, mark: Mark, seconds: float, note: str = "") -> None:
        tick = self._ticks[mark]
        tail = f"  {note}" if note else ""
        self.say(f"{tick} {who:<18} {what:<12} {seconds:6.1f} s{tail}")

    def say(self, text: str) -> None:
        with self._lock:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def table(self, title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        body = [columns, *rows]
        widths = [max(len(row[index]) for row in body) for index in range(len(columns))]
        self.say(f"\n{title}")
        for row in body:
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def close(self) -> None:
        """Nothing to take down."""


class GithubUi(PlainUi):
    """Plain lines in one fold, the closing table outside it and in the job's summary page."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._open = False

    def start(self, who: str, what: str) -> None:
        with self._lock:
            if not self._open:
                self._stream.write("::group::Steps\n")
                self._open = True

    def table(self, title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        body = list(rows)
        self.close()
        super().table(title, columns, body)
        self._summary(title, columns, body)

    def close(self) -> None:
        if self._open:
            self._open = False
            self.say("::endgroup::")

    def _summary(self, title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        path = os.environ.get("GITHUB_STEP_SUMMARY")
        if not path:
            return
        lines = [f"### {title}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")


class RichUi:
    """A live line that names what is running, and a coloured line for each finished step."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._running: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._status: RichStatus | None = None

    def start(self, who: str, what: str) -> None:
        with self._lock:
            self._running[who, what] = time.monotonic()
            self._refresh()

    def end(self, who: str, what: str, mark: Mark, seconds: float, note: str = "") -> None:
        with self._lock:
            self._running.pop((who, what), None)
            tail = f"  [dim]{_escape(note)}[/]" if note else ""
            style = _STYLES[mark]
            self._console.print(
                f"[{style}]{_TICKS[mark]}[/] {who:<18} {what:<12} [dim]{seconds:6.1f} s[/]{tail}"
            )
            self._refresh()

    def say(self, text: str) -> None:
        self._console.print(_escape(text))

    def table(self, title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        from rich.table import Table

        self.close()
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for index, column in enumerate(columns):
            table.add_column(column, no_wrap=index < len(columns) - 1, style=None)
        for row in rows:
            table.add_row(*(_escape(cell) for cell in row))
        self._console.print(table)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _refresh(self) -> None:
        names = ", ".join(f"{who} {what}".strip() for who, what in self._running)
        if not names:
            self.close()
        elif self._status is None:
            self._status = self._console.status(names)
            self._status.start()
        else:
            self._status.update(names)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _can_encode(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def human_size(size: int) -> str:
    """Bytes as people read them, in powers of 1000: 26.1 MB."""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < (1000 if unit == "B" else 999.95):  # what would be shown as 1000.0 is 1.0 of the next
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


@contextlib.contextmanager
def make_progress(title: str, *, plain: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """A callback (done, total, label): a bar on a terminal, silence elsewhere."""
    if plain or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, label: bar.update(
            task, completed=done, total=total, description=f"{title}: {label}"
        )


def stdout_console(*, plain: bool = False) -> Console:
    """A rich console on standard output; without colours and 120 wide when ``plain`` or not a terminal."""
    from rich.console import Console

    if plain or not sys.stdout.isatty():
        return Console(width=140, no_color=True, highlight=False)
    return Console(highlight=False)
