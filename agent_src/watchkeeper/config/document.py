"""A configuration text as plain data, with the position of every key and value.

A path is the tuple of keys and indices from the root; a position is a line and a column, both from 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A place in the text, both numbers from 1."""

    line: int
    column: int
    file: str = field(default="", compare=False)
    """Of which file, where a configuration is made of several."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where it is, and what was probably meant."""

    position: Position
    path: Path
    message: str

    def within(self, file: str) -> Problem:
        """The same problem, said of a file."""
        return Problem(Position(self.position.line, self.position.column, file), self.path, self.message)

    def render(self, file: str) -> str:
        """One line, in the form that editors and CI systems turn into a link."""
        where = f"{self.position.file or file}:{self.position.line}:{self.position.column}"
        return (
            f"{where}: {render_path(self.path)}: {self.message}" if self.path else f"{where}: {self.message}"
        )


@dataclass
class Document:
    """The data and where each part of it stands."""

    data: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    file: str = ""
    references: bool = True
    """Whether it may name secrets of this machine."""

    def position(self, path: Path, *, key: bool = False) -> Position:
        """Where the value (or its key) stands; for one that is not there, its nearest parent."""
        if key and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return Position(1, 1)

    def trusted(self, _path: Path) -> bool:
        """Whether what stands at a path may name secrets of this machine."""
        return self.references


@dataclass
class Merged(Document):
    """Parts of several documents as one. Positions stay with the document that a part is from."""

    owners: dict[Path, Document] = field(default_factory=dict)
    """By the section, or by section and name."""

    def owner(self, path: Path) -> Document | None:
        """The document that a path is from."""
        return self.owners.get(path[:2]) or self.owners.get(path[:1])

    def position(self, path: Path, *, key: bool = False) -> Position:
        found = self.owner(path)
        if found is None:
            return Position(1, 1, self.file)
        place = found.position(path, key=key)
        return Position(place.line, place.column, place.file or found.file)

    def trusted(self, path: Path) -> bool:
        found = self.owner(path)
        return found is None or found.trusted(path)


def render_path(path: Path) -> str:
    """`services.web.command[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
