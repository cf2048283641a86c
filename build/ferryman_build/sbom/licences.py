"""Licences as SPDX expressions, from whatever a distribution's metadata says.

Order: `License-Expression` (core metadata 2.4); the field `License` where it means one licence; classifiers; what `License`
says, as it says it. Nothing is guessed: words that mean several licences stay words.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from email.message import Message
from importlib import resources

import msgspec
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

_PREFIXES = ("License :: OSI Approved :: ", "License :: ")
_LONGEST_NAME = 100


class Licence(msgspec.Struct, frozen=True, order=True):
    """Either an SPDX ``expression`` (a single identifier is one), or a ``name`` for people."""

    expression: str = ""
    name: str = ""

    @property
    def compound(self) -> bool:
        """Whether it is more than one identifier."""
        return " " in self.expression


@functools.cache
def _table() -> Mapping[str, Mapping[str, str]]:
    text = resources.files("ferryman_build").joinpath("resources/licences.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, dict[str, str]])


def licence(text: str) -> Licence:
    """A licence from an expression, or from any other words for one."""
    one_line = " ".join(text.split())
    known = _table()["names"].get(one_line.lower())
    expression = known or _expression(one_line)
    return Licence(expression=expression) if expression else Licence(name=one_line[:_LONGEST_NAME])


def _expression(text: str) -> str:
    """The text in the standard's spelling; "" when it is no expression."""
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return ""


def licences_of(metadata: Message) -> tuple[Licence, ...]:
    """What a distribution's METADATA declares, sorted; () when it says nothing."""
    stated = metadata.get("License-Expression", "").strip()
    if stated:
        return (licence(stated),)
    field = _field(metadata.get("License", ""))
    classified = _classified(metadata.get_all("Classifier") or [])
    if field is not None and field.expression:
        return (field,)
    if classified and all(one.expression for one in classified):
        return classified
    return (field,) if field is not None else classified


def _field(text: str) -> Licence | None:
    """The field `License`: a few words, or the whole text of a licence, of which the first line is its name."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0].upper() in ("UNKNOWN", "NONE"):
        return None
    return licence(lines[0])


def _classified(classifiers: Sequence[str]) -> tuple[Licence, ...]:
    found = (_of_classifier(text) for text in classifiers if text.startswith("License ::"))
    return tuple(sorted({one for one in found if one is not None}))


def _of_classifier(text: str) -> Licence | None:
    name = next(text.removeprefix(prefix) for prefix in _PREFIXES if text.startswith(prefix))
    if name == "OSI Approved":
        return None
    known = _table()["classifiers"].get(name)
    return Licence(expression=known) if known else Licence(name=name)


def joined(licences: Iterable[Licence]) -> str:
    """One expression for all of them; "" when one has none."""
    listed = tuple(licences)
    if not listed or not all(one.expression for one in listed):
        return ""
    if len(listed) == 1:
        return listed[0].expression
    return " AND ".join(f"({one.expression})" if one.compound else one.expression for one in listed)
