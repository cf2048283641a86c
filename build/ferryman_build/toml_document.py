"""A pyproject.toml as it was read: its values, and where each of them is written."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferryman_build.errors import ConfigError
from ferryman_build.toml_positions import KeyPath, Position, Positions, format_key, index

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferryman_build.validate import Mistake


class Document:
    """One TOML file. ``data`` are its values as tomllib answers them."""

    def __init__(self, path: Path, text: str, data: dict[str, Any]) -> None:
        self.path = path
        self.text = text
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and (self.path, self.text) == (other.path, other.text)

    def __hash__(self) -> int:
        return hash((self.path, self.text))

    @functools.cached_property
    def positions(self) -> Positions:
        """Where everything is written; found when first asked for."""
        return index(self.text)

    @property
    def label(self) -> str:
        """The file's name for people: relative to the working directory when it is below it."""
        return label(self.path)

    def table(self, *keys: str) -> dict[str, Any]:
        """The table at ``keys``; an empty one when it is missing or something else."""
        value: object = self.data
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def where(self, path: KeyPath) -> str:
        """``pyproject.toml:12:3`` of a key, or of its nearest parent."""
        position = self.positions.find(path)
        return f"{self.label}:{position.line}:{position.column}"

    def error(self, mistakes: Iterable[Mistake]) -> ConfigError:
        """All mistakes as one error, a line for each, in the order of the file."""
        ordered = sorted(
            set(mistakes), key=lambda mistake: (self.positions.find(mistake.path), mistake.message)
        )
        return _error(
            self.label,
            [
                f"{self.where(path)} {format_key(path)}: {message}".replace(" : ", ": ")
                for path, message in ordered
            ],
        )


def read_document(path: Path) -> Document:
    """Read and parse one file.

    Raises:
        ConfigError: no such file, unreadable, not UTF-8, or not TOML; the last two with line and column.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        message = f"{label(path)} cannot be read: {error.strerror}."
        raise ConfigError(message, advice="Check its permissions.") from None
    text = raw.decode("utf-8", "replace").replace("\r\n", "\n")
    try:
        raw.decode("utf-8")
        return Document(path, text, tomllib.loads(text))
    except UnicodeDecodeError as error:
        where, what = _position(raw[: error.start]), "this byte is not UTF-8, the only encoding of TOML"
    except tomllib.TOMLDecodeError as error:
        where, what = _syntax(str(error), text)
    except RecursionError:
        where, what = Position(1, 1), "arrays or tables are nested too deeply"
    raise _error(label(path), [f"{label(path)}:{where.line}:{where.column}: {what}"])


def missing(path: Path) -> ConfigError:
    """The error for a pyproject.toml that is not there; its advice names one further up, if there is one."""
    above = next(
        (folder for folder in path.absolute().parent.parents if (folder / path.name).is_file()), None
    )
    instead = f", for example in {above}" if above else ""
    return ConfigError(
        f"There is no {path.name} in {path.absolute().parent}.",
        advice=f"Run this in an agent's folder{instead}, or name the folder with --project.",
    )


def label(path: Path) -> str:
    """A path for people: relative to the working directory when it is below it, else as it is."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):  # elsewhere, or the working directory is gone
        return str(path)


def _error(name: str, lines: list[str]) -> ConfigError:
    count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return ConfigError(
        f"{name} has {count}.",
        advice="Correct what is listed; `ferryman schema` describes every key.",
        details=lines,
    )


_AT = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def _syntax(message: str, text: str) -> tuple[Position, str]:
    """The position, which tomllib says only inside its message (attributes came with Python 3.14)."""
    match = _AT.fullmatch(message)
    if match is None:
        return Position(1, 1), message
    what = f"{match[1][:1].lower()}{match[1][1:]}"
    if match[2] is None:
        return _position(text.rstrip("\n").encode()), f"{what} at the end of the file"
    if text.startswith("\ufeff"):
        return Position(1, 1), "the file begins with a byte order mark — save it as UTF-8 without one"
    return Position(int(match[2]), int(match[3])), what


def _position(before: bytes) -> Position:
    lines = before.decode("utf-8", "replace").split("\n")
    return Position(len(lines), len(lines[-1]) + 1)
