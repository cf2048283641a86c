"""What must never be shown: every writer asks here before a text leaves the agent.

A secret is added when it is read (config/references.py), before anything can say it. It is found as it is, and in the forms
that it takes in JSON, in a URL, in a Python literal and in base64; of a secret of several lines, each line as well. Secrets
of fewer than SHORTEST characters are not looked for: their text is in every line, and hiding it would hide the line.

The newest KEPT secrets are known. An old one that has been replaced stays among them: it may still open something.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

MARK = "[redacted]"
SHORTEST = 4
SHORTEST_LINE = 8
"""Characters; a shorter line of a secret of several lines is not looked for by itself."""
KEPT = 1000

_secrets: dict[str, frozenset[str]] = {}
"""The forms of each, the newest last."""
_forms: tuple[str, ...] = ()
"""Longest first: a secret that contains another one is replaced as a whole."""
_raw_forms: tuple[bytes, ...] = ()


def add(value: str) -> None:
    """Hide this text from now on."""
    global _forms, _raw_forms  # noqa: PLW0603 - one list for the process, as there is one log and one traceback
    if len(value) < SHORTEST:
        return
    forms = _secrets.pop(value, None)
    _secrets[value] = forms or frozenset(_forms_of(value))
    if forms is not None:
        return
    while len(_secrets) > KEPT:
        del _secrets[next(iter(_secrets))]
    _forms = tuple(sorted(frozenset().union(*_secrets.values()), key=len, reverse=True))
    _raw_forms = tuple(form.encode("utf-8", "surrogatepass") for form in _forms)


def forget() -> None:
    """Know no secret; for tests."""
    global _forms, _raw_forms
    _secrets.clear()
    _forms, _raw_forms = (), ()


def found(line: str | bytes) -> bool:
    """Whether a line holds a secret. This is the quick question; the answer is nearly always no."""
    forms: tuple[Any, ...] = _raw_forms if isinstance(line, bytes) else _forms
    for form in forms:  # noqa: SIM110 - a loop takes a third of the time of any(), and each log line comes here
        if form in line:
            return True
    return False


def text(line: str) -> str:
    """The line without its secrets."""
    for form in _forms:
        if form in line:
            line = line.replace(form, MARK)
    return line


def data(value: Any) -> Any:
    """Plain data without its secrets, keys of mappings included.

    Better asked before data is encoded as JSON than after: a secret made of digits is then no part of a number.
    """
    if not _forms:
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {data(key): data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [data(item) for item in value]
    return value


def _forms_of(secret: str) -> Iterator[str]:
    lines = [line.strip() for line in secret.splitlines()]
    for part in {secret, *(line for line in lines if len(line) >= SHORTEST_LINE)}:
        raw = part.encode("utf-8", "surrogatepass")
        yield part
        yield json.dumps(part)[1:-1]
        yield json.dumps(part, ensure_ascii=False)[1:-1]
        yield repr(part)[1:-1]
        yield urllib.parse.quote_from_bytes(raw, safe="")
        yield urllib.parse.quote_plus(raw)
        yield base64.b64encode(raw).decode().rstrip("=")
