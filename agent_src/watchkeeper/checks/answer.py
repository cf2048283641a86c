"""What an http check asks of an answer beyond its status."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from watchkeeper.checks.wire import Reader
from watchkeeper.config.schema.checks import HttpCheck, JsonRule
from watchkeeper.jsonpath import Step, parse_path, values_at


class Expectations:
    """The rules of one check, ready to be applied."""

    __slots__ = ("_headers", "_json", "_unwanted", "_wanted", "of_body")

    def __init__(self, spec: HttpCheck) -> None:
        self._headers = [(name.lower(), name, re.compile(text)) for name, text in spec.expect_headers.items()]
        self._wanted = re.compile(spec.expect_body) if spec.expect_body else None
        self._unwanted = re.compile(spec.reject_body) if spec.reject_body else None
        self._json = [_Rule(rule, parse_path(rule.path)) for rule in spec.expect_json]
        self.of_body = bool(self._wanted or self._unwanted or self._json)
        """Whether the body matters."""

    def wrong(self, answer: Reader) -> str | None:
        """What does not hold, as half a sentence; None: all does."""
        for lower, name, pattern in self._headers:
            value = answer.headers.get(lower)
            if value is None:
                return f"it has no header {name}"
            if not pattern.search(value):
                return f"its header {name} is {value[:100]!r}"
        return self._body(answer) if self.of_body else None

    def _body(self, answer: Reader) -> str | None:
        coding = answer.headers.get("content-encoding", "identity").lower()
        if coding != "identity":
            return f"its body is encoded ({coding[:40]}), which was not asked for"
        text = answer.body.decode("utf-8", "replace")
        within = f" in its first {len(answer.body)} bytes" if answer.cut else ""
        if self._wanted and not self._wanted.search(text):
            return f"its body has no {self._wanted.pattern!r}{within}"
        if self._unwanted and (found := self._unwanted.search(text)):
            return f"its body has {found[0][:100]!r}"
        return self._document(answer, text) if self._json else None

    def _document(self, answer: Reader, text: str) -> str | None:
        if answer.cut:
            return f"its JSON is longer than {len(answer.body)} bytes"
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            return f"its body is no JSON: {error}"
        return next((wrong for rule in self._json if (wrong := rule.wrong(document))), None)


@dataclass(frozen=True)
class _Rule:
    rule: JsonRule
    steps: tuple[Step, ...]

    def wrong(self, document: Any) -> str | None:
        values = values_at(document, self.steps)
        if not values:
            return f"its JSON has no {self.rule.path}"
        for value in values:
            if not _holds(self.rule, value):
                return f"its {self.rule.path} is {_text(value)[:100]}"
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _holds(rule: JsonRule, value: Any) -> bool:
    if rule.equals is not None and not _equal(rule.equals, value):
        return False
    if rule.matches is not None and not re.search(rule.matches, _text(value)):
        return False
    if rule.minimum is None and rule.maximum is None:
        return True
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    low = -float("inf") if rule.minimum is None else rule.minimum
    high = float("inf") if rule.maximum is None else rule.maximum
    return low <= value <= high


def _equal(wanted: str | float | bool, value: Any) -> bool:
    """JSON's own types: true is not 1, and "1" is not 1."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    if isinstance(wanted, str) or isinstance(value, str):
        return isinstance(wanted, str) and wanted == value
    return isinstance(value, (int, float)) and wanted == value
