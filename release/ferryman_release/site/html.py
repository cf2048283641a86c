"""HTML that cannot be injected into: text becomes markup in one place, and is escaped there."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is HTML already. Only :func:`tag` and :func:`joined` make it of other people's words."""

    __slots__ = ()


VOID = frozenset({"br", "hr", "link", "meta", "wbr"})


def tag(name: str, *children: str, **attributes: str | bool | None) -> Markup:
    """An element. A child is escaped unless it is :class:`Markup`.

    An attribute ``aria_label`` is written aria-label and ``class_`` class; True stands without a value, and one that
    is False or None is left out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    inside = joined(children)
    return Markup(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{inside}</{name}>")


def joined(children: Iterable[str], between: str = "") -> Markup:
    """The children one behind the other, each escaped unless it is :class:`Markup`."""
    return Markup(between.join(escaped(child) for child in children))


def escaped(text: str) -> Markup:
    """``text`` as it stands between two tags; control characters, which no page may have, become blanks."""
    if isinstance(text, Markup):
        return text
    printable = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
    return Markup(html.escape(printable, quote=True))


def _attribute(key: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escaped(value)}"'
