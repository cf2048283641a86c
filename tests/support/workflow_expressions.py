"""The part of GitHub's expression language that our workflows use.

    evaluate("needs.plan.outputs.plan", scope)      one expression, as a value
    render("tests (${{ matrix.os }})", scope)       a text with expressions in it

It is stricter than GitHub, which turns what it does not find into an empty text: a name that nothing has, a function that
is not in the table, a comparison of two kinds of values end in :class:`ExpressionError`. A workflow that needs such
things cannot be tried here, and then the test of it must not pass.

The rules are those of GitHub's page "Evaluate expressions in workflows and actions".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_][\w-]*)"
    r"|(?P<sign>&&|\|\||==|!=|[!()\[\].,*]))"
)
_EMBEDDED = re.compile(r"\$\{\{((?:[^'}]|'(?:[^']|'')*'|\}(?!\}))*)\}\}")
_CONSTANTS = {"true": True, "false": False, "null": None}


class ExpressionError(AssertionError):
    """An expression that is wrong, or that this evaluator does not understand."""


class Each(list[Any]):
    """What `.*` gives: a property of it is that property of each."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Contexts by name, and functions beyond the common ones (those that know the job's state or its folder)."""

    contexts: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


def evaluate(expression: str, scope: Scope) -> Any:
    """The value of one expression, without its `${{ }}`."""
    parser = _Parser(expression, scope)
    value = parser.either()
    parser.expect_end()
    return value


def render(template: Any, scope: Scope) -> Any:
    """A value of the YAML file with its expressions replaced; one that is a single expression keeps its kind."""
    if not isinstance(template, str):
        return template
    if whole := _EMBEDDED.fullmatch(template.strip()):
        return evaluate(whole.group(1), scope)
    rendered = _EMBEDDED.sub(lambda found: as_text(evaluate(found.group(1), scope)), template)
    if "${{" in _EMBEDDED.sub("", template):
        raise ExpressionError(f"an expression is not closed: {template}")
    return rendered


def condition(written: Any, scope: Scope, *, default: str = "success()") -> bool:
    """Whether an `if:` holds: with an implied success() unless it asks for the state itself."""
    if written is None:
        return truth(evaluate(default, scope))
    text = str(written).strip()
    inner = _EMBEDDED.fullmatch(text)
    expression = inner.group(1) if inner else text
    asks = re.search(r"\b(?:success|failure|always|cancelled)\s*\(", expression)
    return truth(evaluate(expression if asks else f"{default} && ({expression})", scope))


def truth(value: Any) -> bool:
    """False are: false, 0, the empty text and null."""
    return value not in (False, 0, "", None)


def as_text(value: Any) -> str:
    """How a value appears in a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ExpressionError(f"a {type(value).__name__} in a text; say which part of it")


def _contains(where: Any, what: Any) -> bool:
    if isinstance(where, str):
        return as_text(what).lower() in where.lower()
    return any(_equal(item, what) for item in where)


def _join(items: Any, separator: str = ",") -> str:
    return separator.join(map(as_text, items)) if isinstance(items, list) else as_text(items)


_FUNCTIONS: dict[str, Callable[..., Any]] = {"contains": _contains, "join": _join, "fromjson": json.loads}


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left.lower() == right.lower()
    if type(left) is not type(right):
        raise ExpressionError(f"{left!r} and {right!r} are compared, which are not of one kind")
    return bool(left == right)


class _Parser:
    """Recursive descent, evaluating as it goes: both sides of && and || are looked up, whichever is taken."""

    def __init__(self, expression: str, scope: Scope) -> None:
        self._expression, self._scope = expression, scope
        self._tokens: Sequence[tuple[str, str]] = self._split()
        self._at = 0

    def _split(self) -> list[tuple[str, str]]:
        tokens, at, text = [], 0, self._expression.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise self._error(f"not understood from {text[at:]!r} on")
            kind = str(found.lastgroup)
            tokens.append((kind, found[kind]))
            at = found.end()
        return tokens

    def _error(self, why: str) -> ExpressionError:
        return ExpressionError(f"{self._expression.strip()}: {why}")

    def _take(self, *signs: str) -> str | None:
        """The next token if it is one of these signs."""
        if self._at < len(self._tokens) and self._tokens[self._at] in [("sign", sign) for sign in signs]:
            self._at += 1
            return self._tokens[self._at - 1][1]
        return None

    def _need(self, sign: str) -> None:
        if self._take(sign) is None:
            raise self._error(f"a {sign!r} is missing")

    def expect_end(self) -> None:
        if self._at < len(self._tokens):
            raise self._error(f"not understood from {self._tokens[self._at][1]!r} on")

    def either(self) -> Any:
        value = self._both()
        while self._take("||"):
            other = self._both()
            value = value if truth(value) else other
        return value

    def _both(self) -> Any:
        value = self._comparison()
        while self._take("&&"):
            other = self._comparison()
            value = other if truth(value) else value
        return value

    def _comparison(self) -> Any:
        value = self._negation()
        while sign := self._take("==", "!="):
            value = _equal(value, self._negation()) is (sign == "==")
        return value

    def _negation(self) -> Any:
        return not truth(self._negation()) if self._take("!") else self._reach(self._single())

    def _single(self) -> Any:
        """A literal, a name, a call, or what stands between parentheses."""
        if self._take("("):
            value = self.either()
            self._need(")")
            return value
        if self._at >= len(self._tokens):
            raise self._error("it ends too early")
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if kind == "number":
            return float(text) if "." in text else int(text)
        if kind == "name":
            return self._call(text) if self._take("(") else self._named(text)
        raise self._error(f"{text!r} is in the wrong place")

    def _named(self, name: str) -> Any:
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name not in self._scope.contexts:
            raise self._error(f"there is no context {name}")
        return self._scope.contexts[name]

    def _call(self, name: str) -> Any:
        arguments = []
        while self._take(")") is None:
            arguments.append(self.either())
            if self._take(",") is None:
                self._need(")")
                break
        function = {**_FUNCTIONS, **self._scope.functions}.get(name.lower())
        if function is None:
            raise self._error(f"the function {name} is not known here")
        return function(*arguments)

    def _reach(self, value: Any) -> Any:
        """What follows a value: `.name`, `.*`, `['name']`."""
        while sign := self._take(".", "["):
            if sign == "[":
                value = self._part(value, self.either())
                self._need("]")
            elif self._take("*"):
                value = Each(value.values() if isinstance(value, Mapping) else value)
            else:
                kind, name = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
                if kind != "name":
                    raise self._error("a name is missing after a dot")
                self._at += 1
                value = self._part(value, name)
        return value

    def _part(self, value: Any, key: Any) -> Any:
        if isinstance(value, Each):
            return Each(self._part(item, key) for item in value)
        if not isinstance(value, Mapping) or key not in value:
            raise self._error(f"there is no {key}")
        return value[key]
