"""From documents to a configuration: parse, merge, decode, check the rules; every problem at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from watchkeeper.config.decode import decode
from watchkeeper.config.document import Document, Position, Problem
from watchkeeper.config.folder import SIZE_LIMIT, SUFFIXES, read_bytes, read_path, suffix_of
from watchkeeper.config.fragments import Fragment, Layer, digest
from watchkeeper.config.merge import beside, over
from watchkeeper.config.model import Config
from watchkeeper.config.references import References
from watchkeeper.errors import ConfigInvalidError, ConfigUnreadableError

__all__ = ["READERS", "SIZE_LIMIT", "Loaded", "assemble", "load_file", "parse", "read_bytes"]


@dataclass(frozen=True)
class Loaded:
    """A configuration that holds, and the documents that it was read from."""

    config: Config
    fragments: tuple[Fragment, ...]
    """Of the file or folder alone, without what sources have delivered."""
    digest: str
    origin: str
    """The file or folder."""
    files: frozenset[str] = frozenset()
    """The files that secrets were read from."""


def load_file(path: str, references: References | None = None) -> Loaded:
    """The configuration in a file or a folder.

    Raises:
        ConfigUnreadableError: it cannot be read, is too large, or no suffix names a known format.
        ConfigInvalidError: the content is wrong; the error has every problem with its position.
    """
    return assemble(read_path(path), origin=path, references=references)


def parse(content: bytes, *, file: str, references: bool = True) -> Loaded:
    """The configuration in a text; the suffix of `file` says the format.

    Args:
        content: the text.
        file: what messages call it.
        references: whether references to secrets are resolved; False: only their form is looked at.

    Raises:
        ConfigUnreadableError: the suffix names no known format.
        ConfigInvalidError: the content is wrong.
    """
    suffix = suffix_of(file)
    if suffix not in READERS:
        raise ConfigUnreadableError(
            f"{file} is neither YAML nor TOML nor JSON by its name",
            f"Give it one of the suffixes {', '.join(SUFFIXES)}.",
        )
    fragment = Fragment(file, content, suffix)
    return assemble((fragment,), origin=file, references=References(resolve=references))


def assemble(
    fragments: Sequence[Fragment],
    layers: Sequence[Layer] = (),
    *,
    origin: str,
    references: References | None = None,
) -> Loaded:
    """The configuration that documents and what goes over them make together; later layers go over earlier ones.

    Raises:
        ConfigInvalidError: something is wrong, in whichever document.
    """
    references = references or References()
    whole = beside([read_fragment(each) for each in fragments], origin)
    for layer in layers:
        parts = [read_fragment(each, references=layer.references) for each in layer.fragments]
        if parts:
            whole = over(whole, beside(parts, layer.source), layer.sections)
    config = decode(whole, Config, references)
    if config is None:
        placed = (
            each if each.position.file else each.within(whole.file or origin) for each in whole.problems
        )
        ordered = sorted(placed, key=lambda each: (each.position.file, each.position))
        raise ConfigInvalidError(origin, tuple(each.render(origin) for each in ordered), tuple(ordered))
    return Loaded(config, tuple(fragments), digest(fragments, layers), origin, frozenset(references.files))


def read_fragment(fragment: Fragment, *, references: bool = True) -> Document:
    """One document; what is wrong with its syntax is among its problems."""
    document = _read(fragment)
    document.file, document.references = fragment.name, references
    return document


def _read(fragment: Fragment) -> Document:
    content = fragment.content
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        return Document(problems=[Problem(Position(line, column), (), f"not UTF-8: {error.reason}")])
    return READERS[fragment.suffix](text)


def _yaml(text: str) -> Document:
    from watchkeeper.config.yaml_document import read_yaml

    return read_yaml(text)


def _toml(text: str) -> Document:
    from watchkeeper.config.toml_document import read_toml

    return read_toml(text)


def _json(text: str) -> Document:
    from watchkeeper.config.json_document import read_json

    return read_json(text)


READERS: dict[str, Callable[[str], Document]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": _toml,
    ".json": _json,
}
