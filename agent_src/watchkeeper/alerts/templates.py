"""The part of Prometheus's templates that annotations need: {{ $value }}, {{ $labels.NAME }}, {{ .Value }} and the like.

Anything else between braces stays as it is, so that the same text can be handed to Prometheus, which understands more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

_PLACE = re.compile(
    r"\{\{\s*(?:(?:\$value|\.Value)|(?:\$labels|\.Labels)\.(?P<label>[a-zA-Z_][a-zA-Z0-9_]*))\s*\}\}"
)


def expand(text: str, labels: Mapping[str, str], value: float) -> str:
    """The text with a series' value and labels; a label that it has not is nothing."""

    def put(found: re.Match[str]) -> str:
        name = found["label"]
        return go_float(value) if name is None else labels.get(name, "")

    return _PLACE.sub(put, text)


def go_float(value: float) -> str:
    """A number as Go's %v prints it: the shortest digits, with an exponent below 1e-4 and from 1e6 on."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    decimal = Decimal(repr(value))
    exponent = decimal.adjusted()
    if value == 0 or -4 <= exponent < 6:
        return f"{decimal:f}".removesuffix(".0")
    sign = "-" if value < 0 else ""
    digits = "".join(map(str, decimal.as_tuple().digits)).rstrip("0")
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
