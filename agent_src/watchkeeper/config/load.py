"""From a file to a configuration: read once, parse, decode, check the rules; every problem at once."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from watchkeeper.config.decode import decode
from watchkeeper.config.document import Document, Position, Problem
from watchkeeper.config.model import Config
from watchkeeper.errors import ConfigInvalidError, ConfigUnreadableError

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes; a larger file is a mistake in the path rather than a configuration."""


@dataclass(frozen=True)
class Loaded:
    """A configuration that holds, and the bytes that it was read from."""

    config: Config
    content: bytes
    digest: str
    suffix: str


def load_file(path: str) -> Loaded:
    """The configuration in a file.

    Raises:
        ConfigUnreadableError: the file cannot be read, is too large, or its suffix names no known format.
        ConfigInvalidError: the content is wrong; the error has every problem with its position.
    """
    return parse(read_bytes(path), file=path)


def read_bytes(path: str) -> bytes:
    """The content, once.

    Raises:
        ConfigUnreadableError: there is none.
    """
    try:
        with pathlib.Path(path).open("rb") as stream:
            content = stream.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise ConfigUnreadableError(
            f"there is no file {path}", "Name an existing file after --config."
        ) from None
    except IsADirectoryError:
        raise ConfigUnreadableError(f"{path} is a directory", "Name the file inside it.") from None
    except PermissionError as error:
        if pathlib.Path(path).is_dir():  # Windows says so for a directory
            raise ConfigUnreadableError(f"{path} is a directory", "Name the file inside it.") from None
        raise ConfigUnreadableError(
            f"{path} may not be read by this user: {error.strerror}",
            "Change its mode or owner, or run as another user.",
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigUnreadableError(
            f"{path} cannot be read: {error}", "Look at the path and the file system."
        ) from None
    if len(content) > SIZE_LIMIT:
        raise ConfigUnreadableError(
            f"{path} is larger than {SIZE_LIMIT >> 20} MiB",
            "It is probably not a configuration; look at the path.",
        )
    return content


def parse(content: bytes, *, file: str) -> Loaded:
    """The configuration in a text; the suffix of `file` says the format.

    Raises:
        ConfigUnreadableError: the suffix names no known format.
        ConfigInvalidError: the content is wrong.
    """
    suffix = pathlib.PurePath(file).suffix.lower()
    if suffix not in READERS:
        raise ConfigUnreadableError(
            f"{file} is neither YAML nor TOML by its name",
            f"Give it one of the suffixes {', '.join(sorted(READERS))}.",
        )
    document = _document(content, READERS[suffix])
    config = decode(document, Config)
    if config is None:
        ordered = sorted(document.problems, key=lambda problem: problem.position)
        raise ConfigInvalidError(file, tuple(problem.render(file) for problem in ordered))
    return Loaded(config, content, hashlib.sha256(content).hexdigest(), suffix)


def _document(content: bytes, reader: Callable[[str], Document]) -> Document:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        return Document(problems=[Problem(Position(line, column), (), f"not UTF-8: {error.reason}")])
    return reader(text)


def _yaml(text: str) -> Document:
    from watchkeeper.config.yaml_document import read_yaml

    return read_yaml(text)


def _toml(text: str) -> Document:
    from watchkeeper.config.toml_document import read_toml

    return read_toml(text)


READERS: dict[str, Callable[[str], Document]] = {".yaml": _yaml, ".yml": _yaml, ".toml": _toml}
