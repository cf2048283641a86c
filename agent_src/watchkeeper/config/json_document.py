"""JSON as data with positions (RFC 8259).

The standard library's reader knows where a syntax error is and nothing about where a key stands, and takes the last of two
equal keys. This one notes every position, reports equal keys, and says of the usual slips (a comma too many, a comment,
single quotes) what they are.
"""

from __future__ import annotations

import bisect
import json
import re
from typing import Any, NoReturn

from watchkeeper.config.document import Document, Path, Position, Problem

DEPTH_LIMIT = 200
_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"')
_NUMBER = re.compile(
    r"-?(?:0|[1-9][0-9]*)(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][+-]?[0-9]+)?(?![0-9A-Za-z.+-])"
)
_WORD = re.compile(r"[^\s,:\[\]{}\"']+")
_LONE = re.compile("[\ud800-\udfff]")
_WORDS = {"true": True, "false": False, "null": None}
_MEANT = {"True": "true", "False": "false", "None": "null", "yes": "true", "no": "false"}


class _SyntaxError(Exception):
    """Where the text stops being JSON."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


def read_json(text: str) -> Document:
    """The document; what is wrong with its syntax, and keys that appear twice, are among its problems."""
    document = Document(data={})
    document.values[()] = Position(1, 1)
    reader = _Reader(text, document)
    try:
        reader.space()
        if reader.at < len(text):
            document.data = reader.value((), 0)
            reader.space()
            if reader.at < len(text):
                reader.fail("something follows the end of the document")
    except _SyntaxError as error:
        document.problems.append(Problem(reader.position(error.at), (), f"not JSON: {error}"))
    return document


class _Reader:
    """One walk over one text."""

    def __init__(self, text: str, document: Document) -> None:
        self.text, self.document, self.at = text, document, 0
        self.starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def value(self, path: Path, depth: int) -> Any:
        """The value that begins here."""
        if depth > DEPTH_LIMIT:
            self.fail("nested too deeply")
        self.document.values[path] = self.position(self.at)
        opening = self.text[self.at : self.at + 1]
        if opening == "{":
            return self.mapping(path, depth)
        if opening == "[":
            return self.list(path, depth)
        return self.string() if opening == '"' else self.word()

    def mapping(self, path: Path, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        self.at += 1
        first = True
        while not self.closed("}", first=first):
            first = False
            place = self.at
            key = self.key()
            at = (*path, key)
            self.colon()
            if key in result:
                line = self.document.keys[at].line
                message = f"this key is already there, in line {line}"
                self.document.problems.append(Problem(self.position(place), at, message))
                self.over(at, depth + 1)
                continue
            self.document.keys[at] = self.position(place)
            result[key] = self.value(at, depth + 1)
        return result

    def over(self, path: Path, depth: int) -> None:
        """Past the value of a key that is already there; the positions of the first one stay."""
        kept, self.document = self.document, Document(problems=self.document.problems)
        self.value(path, depth)
        self.document = kept

    def list(self, path: Path, depth: int) -> list[Any]:
        result: list[Any] = []
        self.at += 1
        while not self.closed("]", first=not result):
            result.append(self.value((*path, len(result)), depth + 1))
        return result

    def closed(self, bracket: str, *, first: bool) -> bool:
        """Past white space and the comma between two items; whether the end of the mapping or list was there."""
        self.space()
        here = self.text[self.at : self.at + 1]
        if here == bracket:
            self.at += 1
            return True
        if first:
            return False
        if here != ",":
            self.fail(f"a comma or {bracket} is missing" if here else f"{bracket} is missing at the end")
        comma = self.at
        self.at += 1
        self.space()
        if self.text.startswith(bracket, self.at):
            raise _SyntaxError(comma, f"a comma before {bracket} is one too many")
        return False

    def key(self) -> str:
        if not self.text.startswith('"', self.at):
            self.fail("a key in double quotes is missing")
        return self.string()

    def colon(self) -> None:
        self.space()
        if not self.text.startswith(":", self.at):
            self.fail("a colon is missing after the key")
        self.at += 1
        self.space()

    def string(self) -> str:
        found = _STRING.match(self.text, self.at)
        if found is None:
            self.fail(
                "this text does not end in its line, or holds a character or an escape that JSON does not know"
            )
        value: str = json.loads(found.group())
        if _LONE.search(value):
            self.fail("half of a surrogate pair is no character")
        self.at = found.end()
        return value

    def word(self) -> Any:
        """A number, true, false or null."""
        found = _NUMBER.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
            try:
                return float(found.group()) if found["fraction"] or found["exponent"] else int(found.group())
            except ValueError:
                raise _SyntaxError(found.start(), "a number with too many digits") from None
        word = _WORD.match(self.text, self.at)
        if word is None or word.group() not in _WORDS:
            self.fail(self.slip(word.group() if word else ""))
        self.at = word.end()
        return _WORDS[word.group()]

    def slip(self, word: str) -> str:
        """What was probably meant; the text itself is not repeated, it may be a secret."""
        if word in _MEANT:
            return f"{word} is written {_MEANT[word]}"
        if self.text.startswith("'", self.at):
            return "text is written in double quotes"
        if word.startswith(("//", "/*", "#")):
            return "JSON has no comments"
        return (
            "a value is missing"
            if not word
            else "this is neither text in double quotes nor a number, true, false or null"
        )

    def space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def fail(self, message: str) -> NoReturn:
        raise _SyntaxError(self.at, message)

    def position(self, at: int) -> Position:
        line = bisect.bisect_right(self.starts, at)
        return Position(line, at - self.starts[line - 1] + 1)
