"""Where each key and array element of a TOML text stands: tomllib answers values, messages need lines.

The text is one that tomllib has accepted, so this scanner only has to find the borders of things. It is tolerant: what
it cannot read it leaves out, and :meth:`Positions.find` then answers the nearest parent.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

KeyPath = tuple[str | int, ...]
"""Keys and array indexes from the document's root: ``("tool", "ferryman", "kinds", 1)``."""


class Position(NamedTuple):
    """Line and column, both counted from 1, columns in characters."""

    line: int
    column: int


class Positions:
    """The index of one text: ``index(text).find(("project", "name"))``."""

    def __init__(self, text: str, offsets: dict[KeyPath, int]) -> None:
        self._offsets = offsets
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def find(self, path: KeyPath) -> Position:
        """Where ``path`` is first written, or its nearest parent that is; the text's beginning when nothing is."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._offsets:
                return self._position(self._offsets[path[:length]])
        return Position(1, 1)

    def __contains__(self, path: KeyPath) -> bool:
        return path in self._offsets

    def _position(self, offset: int) -> Position:
        line = bisect_right(self._lines, offset)
        return Position(line, offset - self._lines[line - 1] + 1)


def index(text: str) -> Positions:
    """The positions of everything in ``text``; of everything up to the first oddity when it is not valid TOML."""
    scanner = _Scanner(text)
    with contextlib.suppress(_OddityError, RecursionError):  # what was found so far still helps
        scanner.document()
    return Positions(text, scanner.offsets)


def format_key(path: KeyPath) -> str:
    """The path as it would be written in TOML, with indexes in brackets: ``tool.ferryman.kinds[1]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else f'"{part}"')
    return text


class _OddityError(Exception):
    """The scanner met something that it does not know."""


_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_QUOTED = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'")
# A closing triple quote is the first one that no further quote follows: up to two may belong to the text itself.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?!")' r"|'''.*?'''(?!')" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'", re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]+")  # dates may hold a space, so this takes the trailing blanks as well


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.offsets: dict[KeyPath, int] = {}
        self.table: KeyPath = ()
        self.rows: dict[KeyPath, int] = {}  # arrays of tables -> index of the row being written

    def document(self) -> None:
        self.skip(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                self.header()
            else:
                self.pair(self.table)
            self.skip(_BLANK)

    def header(self) -> None:
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        parts = list(self.dotted())
        self.expect("]]" if array else "]")
        path: KeyPath = ()
        for number, (key, offset) in enumerate(parts, start=1):
            path = (*path, key)
            self.offsets.setdefault(path, offset)
            if array and number == len(parts):
                self.rows[path] = self.rows.get(path, -1) + 1
            if path in self.rows:
                path = (*path, self.rows[path])
                self.offsets.setdefault(path, offset)
        self.table = path

    def pair(self, table: KeyPath) -> None:
        path = table
        for key, offset in self.dotted():
            path = (*path, key)
            self.offsets.setdefault(path, offset)
        self.expect("=")
        self.skip(_SPACE)
        self.value(path)

    def dotted(self) -> Iterator[tuple[str, int]]:
        while True:
            self.skip(_SPACE)
            offset = self.at
            yield self.key(), offset
            self.skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return
            self.at += 1

    def key(self) -> str:
        if self.text[self.at : self.at + 1] not in ('"', "'"):
            return self.take(_BARE)
        quoted = self.take(_QUOTED)
        if "\\" not in quoted:
            return quoted[1:-1]
        return str(tomllib.loads(f"key = {quoted}")["key"])  # the escapes are tomllib's to know

    def value(self, path: KeyPath) -> None:
        match self.text[self.at : self.at + 1]:
            case '"' | "'":
                self.take(_STRING)
            case "[":
                self.array(path)
            case "{":
                self.inline_table(path)
            case _:
                self.take(_SCALAR)

    def array(self, path: KeyPath) -> None:
        self.at += 1
        number = 0
        while not self.closed("]"):
            self.offsets.setdefault((*path, number), self.at)
            self.value((*path, number))
            number += 1

    def inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while not self.closed("}"):
            self.pair(path)

    def closed(self, bracket: str) -> bool:
        """Whether the bracket ends here (and is passed); a comma before the next element is passed as well."""
        self.skip(_BLANK)
        if self.text.startswith(",", self.at):
            self.at += 1
            self.skip(_BLANK)
        if self.text.startswith(bracket, self.at):
            self.at += 1
            return True
        return False

    def skip(self, pattern: re.Pattern[str]) -> None:
        if match := pattern.match(self.text, self.at):
            self.at = match.end()

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise _OddityError
        self.at = match.end()
        return match.group()

    def expect(self, mark: str) -> None:
        self.skip(_SPACE)
        if not self.text.startswith(mark, self.at):
            raise _OddityError
        self.at += len(mark)
