"""YAML as data with positions, from the marks that PyYAML keeps on every node."""

from __future__ import annotations

from typing import Any

import yaml

from watchkeeper.config.document import Document, Path, Position, Problem
from watchkeeper.durations import kind_of

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NODE_LIMIT = 200_000


MISREAD = (
    "this value is not what its form promises; put text that begins with ! & * or looks like a date in quotes"
)
"""Said instead of the parser's own words where these repeat the value: it may be a secret that was not put in quotes."""


class _TooManyNodesError(Exception):
    """Aliases that multiply each other: the text is small, what it stands for is not."""


def read_yaml(text: str) -> Document:
    """The document; what is wrong with its syntax, and keys that appear twice, are among its problems."""
    document = Document(data={})
    document.values[()] = Position(1, 1)
    try:
        loader = Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                document.data = _Walk(loader, document).value(node, (), ())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        document.problems.append(_syntax_problem(error))
    except (RecursionError, _TooManyNodesError):
        message = f"nested too deeply, or aliases that stand for more than {NODE_LIMIT} values"
        document.problems.append(Problem(Position(1, 1), (), message))
    return document


def _syntax_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    message = ", ".join(part for part in parts if part) or type(error).__name__
    message = MISREAD if _names_a_value(message) else message
    position = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
    return Problem(position, (), f"not YAML: {message}")


def _names_a_value(message: str) -> bool:
    """Whether the parser repeats an alias, an anchor, a tag or a handle."""
    return any(word in message for word in ("alias", "anchor", "tag", "constructor"))


class _Walk:
    """From nodes to values; every node's mark is kept under its path."""

    def __init__(self, loader: Any, document: Document) -> None:
        self.loader = loader
        self.document = document
        self.count = 0

    def value(self, node: yaml.Node, path: Path, parents: tuple[int, ...]) -> Any:
        """The value of a node; `parents` are the nodes that contain it, so that an alias cannot contain itself."""
        self.count += 1
        if self.count > NODE_LIMIT:
            raise _TooManyNodesError
        position = _position(node)
        self.document.values[path] = position
        if id(node) in parents:
            self.problem(position, path, "this alias contains itself")
            return None
        inside = (*parents, id(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, inside)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index), inside) for index, item in enumerate(node.value)]
        return self.scalar(node, path)

    def mapping(self, node: yaml.MappingNode, path: Path, parents: tuple[int, ...]) -> dict[str, Any]:
        """A dict with text keys; a merge key gives way to the keys that stand beside it, as YAML 1.1 says."""
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged = self.merge(value_node, path, parents) | merged
                continue
            key = self.key(key_node, path)
            if key is None:
                continue
            at = (*path, key)
            if key in own:
                first = self.document.keys[at]
                self.problem(_position(key_node), at, f"this key is already there, in line {first.line}")
                continue
            self.document.keys[at] = _position(key_node)
            own[key] = self.value(value_node, at, parents)
        return merged | own

    def merge(self, node: yaml.Node, path: Path, parents: tuple[int, ...]) -> dict[str, Any]:
        """The mapping, or the mappings, that `<<` names; an earlier one wins."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        result: dict[str, Any] = {}
        for part in nodes:
            if isinstance(part, yaml.MappingNode) and id(part) not in parents:
                result = self.mapping(part, path, (*parents, id(part))) | result
            else:
                self.problem(_position(part), path, "<< takes a mapping, or a list of mappings")
        # Positions of merged keys would otherwise make the same key, written beside <<, look like a duplicate.
        for key in result:
            self.document.keys.pop((*path, key), None)
        return result

    def key(self, node: yaml.Node, path: Path) -> str | None:
        """A key as text. `on:` and `1:` are names here, not a truth value and a number."""
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        self.problem(_position(node), path, "a key is text, not a list or a mapping")
        return None

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        """Text, a number, true, false or nothing; a date stays the text it was written as."""
        try:
            value = self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError):
            self.problem(_position(node), path, MISREAD)
            return None
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        self.problem(_position(node), path, f"{kind_of(value)} has no place in a configuration")
        return None

    def problem(self, position: Position, path: Path, message: str) -> None:
        self.document.problems.append(Problem(position, path, message))


def _position(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)
