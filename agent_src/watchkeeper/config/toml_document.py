"""TOML as data with positions.

tomllib says where a syntax error is, and nothing about where a key stands. A second, small reader goes over a text that
tomllib has accepted and notes the positions; it needs to be right only for valid TOML.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from typing import Any

from watchkeeper.config.document import Document, Path, Position, Problem

_AT = re.compile(r"^(?P<message>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_FILLER = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_PLAIN = re.compile(r"[^,\]}#\n]+")


def read_toml(text: str) -> Document:
    """The document; what is wrong with its syntax is among its problems."""
    document = Document(data={})
    document.values[()] = Position(1, 1)
    try:
        document.data = _plain(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        document.problems.append(_syntax_problem(error, text))
        return document
    except RecursionError:
        document.problems.append(Problem(Position(1, 1), (), "nested too deeply"))
        return document
    _Index(text, document).read()
    return document


def _syntax_problem(error: tomllib.TOMLDecodeError, text: str) -> Problem:
    found = _AT.match(str(error))
    if found is None:
        return Problem(Position(1, 1), (), f"not TOML: {error}")
    line = int(found["line"] or text.count("\n") + 1)
    return Problem(Position(line, int(found["column"] or 1)), (), f"not TOML: {found['message']}")


def _plain(value: Any) -> Any:
    """Dates become the text they were written as: the schema has none."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, bool, int, float)) else value.isoformat()


class _Index:
    """Walks over valid TOML and notes where keys and values stand."""

    def __init__(self, text: str, document: Document) -> None:
        self.text = text.replace("\r\n", "\n")
        self.document = document
        self.at = 0
        self.arrays: dict[Path, int] = {}
        starts = [0]
        starts.extend(found.end() for found in re.finditer("\n", self.text))
        self.starts = starts

    def read(self) -> None:
        table: Path = ()
        self.skip()
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            self.skip()

    def header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: the path that the following pairs belong to."""
        here = self.position()
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        path: Path = ()
        names = self.key()
        for depth, (name, _) in enumerate(names):
            path = (*path, name)
            last = depth == len(names) - 1
            if array and last:
                self.arrays[path] = self.arrays.get(path, -1) + 1
            if path in self.arrays:
                path = (*path, self.arrays[path])
            self.note(path, here, here)
        self.at = self.text.index("]", self.at) + (2 if array else 1)
        return path

    def pair(self, table: Path) -> None:
        """`a.b = value` in a table."""
        path = table
        for name, where in self.key():
            path = (*path, name)
            self.note(path, where, where)
        self.at = self.text.index("=", self.at) + 1
        self.blanks()
        self.document.values[path] = self.position()
        self.value(path)

    def key(self) -> list[tuple[str, Position]]:
        """The parts of a dotted key, each with its position."""
        parts: list[tuple[str, Position]] = []
        while True:
            self.blanks()
            where = self.position()
            found = _BARE.match(self.text, self.at) or _STRING.match(self.text, self.at)
            if found is None:
                return parts
            self.at = found.end()
            word = found.group()
            parts.append((tomllib.loads(f"k = {word}")["k"] if word[0] in "\"'" else word, where))
            self.blanks()
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def value(self, path: Path) -> None:
        """Over one value; those inside an array or an inline table are noted as well."""
        opening = self.text[self.at]
        if opening == "[":
            self.array(path)
        elif opening == "{":
            self.inline_table(path)
        else:
            found = _STRING.match(self.text, self.at) or _PLAIN.match(self.text, self.at)
            self.at = found.end() if found else self.at + 1

    def array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while not self.closed("]"):
            self.document.values[*path, index] = self.position()
            self.value((*path, index))
            index += 1

    def inline_table(self, path: Path) -> None:
        self.at += 1
        while not self.closed("}"):
            self.pair(path)

    def closed(self, bracket: str) -> bool:
        """Past commas and white space; whether that was the end of the array or the table."""
        self.skip()
        if self.text.startswith(",", self.at):
            self.at += 1
            self.skip()
        if self.at >= len(self.text) or self.text[self.at] == bracket:
            self.at += 1
            return True
        return False

    def note(self, path: Path, key: Position, value: Position) -> None:
        """Keep the first place where a path appears: a table may be opened by each of its children."""
        self.document.keys.setdefault(path, key)
        self.document.values.setdefault(path, value)

    def skip(self) -> None:
        """Over white space, newlines and comments."""
        found = _FILLER.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def position(self) -> Position:
        line = bisect.bisect_right(self.starts, self.at)
        return Position(line, self.at - self.starts[line - 1] + 1)
