"""YAML as data with positions, from the marks that PyYAML puts on every event.

The events become values one by one. A tree of PyYAML's nodes takes twenty times the text, and what has been taken once stays with
the process: only what has an anchor, or is merged, is a tree for as long as it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml

from watchkeeper.config.document import Document, Path, Position, Problem
from watchkeeper.durations import kind_of

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NODE_LIMIT = 200_000
COMING: Final = None
"""Instead of a node: the parser has not read it yet."""

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
            document.data = _Walk(loader, document).whole()
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


class _Nodes:
    """What comes next, as a node."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._anchored: dict[str, yaml.Node] = {}

    def coming(self) -> yaml.Node:
        """The next one. What a list or a mapping holds is read while one goes through its `value`, in step.

        Raises:
            yaml.YAMLError: the text is no YAML, or names an anchor that is not there.
        """
        event = self._loader.get_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            return self._kept(event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return yaml.SequenceNode("", self._items(), _mark(event))
        return yaml.MappingNode("", self._pairs(), _mark(event))

    def complete(self) -> yaml.Node:
        """The next one with everything that it holds."""
        return self._kept(self._loader.get_event())

    def _kept(self, event: Any) -> yaml.Node:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchored:
                raise yaml.composer.ComposerError(problem="undefined alias", problem_mark=_mark(event))
            return self._anchored[event.anchor]
        if event.anchor in self._anchored:
            raise yaml.composer.ComposerError(
                problem="an anchor for the second time", problem_mark=_mark(event)
            )
        if isinstance(event, yaml.ScalarEvent):
            return self._remembered(event, self._scalar(event))
        if isinstance(event, yaml.SequenceStartEvent):
            node = self._remembered(event, yaml.SequenceNode("", [], _mark(event)))
            node.value.extend(self.complete() for _ in self._items())
            return node
        node = self._remembered(event, yaml.MappingNode("", [], _mark(event)))
        node.value.extend((key, self.complete()) for key, _ in self._pairs())
        return node

    def _remembered(self, event: Any, node: yaml.Node) -> yaml.Node:
        """Before what it holds is read: an alias in there may name it."""
        if event.anchor is not None:
            self._anchored[event.anchor] = node
        return node

    def _scalar(self, event: Any) -> yaml.ScalarNode:
        tag = event.tag
        if tag in (None, "!"):
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        return yaml.ScalarNode(tag, event.value, _mark(event))

    def _items(self) -> Iterator[None]:
        while not self._loader.check_event(yaml.SequenceEndEvent):
            yield COMING
        self._loader.get_event()

    def _pairs(self) -> Iterator[tuple[yaml.Node, None]]:
        while not self._loader.check_event(yaml.MappingEndEvent):
            yield self.complete(), COMING
        self._loader.get_event()


class _Walk:
    """From nodes to values; every node's mark is kept under its path."""

    def __init__(self, loader: Any, document: Document) -> None:
        self.loader = loader
        self.nodes = _Nodes(loader)
        self.document = document
        self.count = 0

    def whole(self) -> Any:
        """What the text holds; an empty one an empty mapping.

        Raises:
            yaml.YAMLError: it is no YAML, or more than one document.
        """
        self.loader.get_event()  # the stream's beginning
        if self.loader.check_event(yaml.StreamEndEvent):
            return {}
        self.loader.get_event()  # the document's
        data = self.value(COMING, (), ())
        self.loader.get_event()  # its end
        if not self.loader.check_event(yaml.StreamEndEvent):
            mark = self.loader.get_event().start_mark
            raise yaml.composer.ComposerError(problem="a second document begins here", problem_mark=mark)
        return data

    def value(self, node: yaml.Node | None, path: Path, parents: tuple[int, ...]) -> Any:
        """The value of a node; `parents` are the nodes that contain it, so that an alias cannot contain itself."""
        self.count += 1
        if self.count > NODE_LIMIT:
            raise _TooManyNodesError
        node = node or self.nodes.coming()
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
                merged = self.merge(value_node or self.nodes.complete(), path, parents) | merged
                continue
            key = self.key(key_node, path)
            if key is None:
                self.skip(value_node)
                continue
            at = (*path, key)
            if key in own:
                first = self.document.keys[at]
                self.problem(_position(key_node), at, f"this key is already there, in line {first.line}")
                self.skip(value_node)
                continue
            self.document.keys[at] = _position(key_node)
            own[key] = self.value(value_node, at, parents)
        return merged | own

    def skip(self, node: yaml.Node | None) -> None:
        """Nobody wants it."""
        if node is COMING:
            self.nodes.complete()

    def merge(self, node: yaml.Node, path: Path, parents: tuple[int, ...]) -> dict[str, Any]:
        """The mapping, or the mappings, that `<<` names; an earlier one wins."""
        result: dict[str, Any] = {}
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(part, yaml.MappingNode) and id(part) not in parents:
                result = self.apart(part, path, parents) | result
            else:
                self.problem(_position(part), path, "<< takes a mapping, or a list of mappings")
        return result

    def apart(self, node: yaml.MappingNode, path: Path, parents: tuple[int, ...]) -> dict[str, Any]:
        """A mapping whose places give way to those that are there, and whose own keys are no first ones for a duplicate."""
        beside, self.document = self.document, Document(problems=self.document.problems)
        found = self.mapping(node, path, (*parents, id(node)))
        merged, self.document = self.document, beside
        for at, place in merged.values.items():
            beside.values.setdefault(at, place)
        for at, place in merged.keys.items():
            if len(at) > len(path) + 1:
                beside.keys.setdefault(at, place)
        return found

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
        finally:
            self.loader.constructed_objects.clear()  # else every node stays until the end
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        self.problem(_position(node), path, f"{kind_of(value)} has no place in a configuration")
        return None

    def problem(self, position: Position, path: Path, message: str) -> None:
        self.document.problems.append(Problem(position, path, message))


def _mark(event: Any) -> Any:
    """Where it begins; the two parsers have marks of their own each."""
    return event.start_mark


def _position(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)
