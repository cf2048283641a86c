"""Amounts of bytes as people write them: a number of bytes, or "64KiB", "10MiB", "1GB"."""

from __future__ import annotations

import re

from watchkeeper.durations import kind_of

UNITS = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_SIZE = re.compile(r"(?P<number>[0-9]{1,20}(?:\.[0-9]{1,9})?) ?(?P<unit>[A-Za-z]{1,3})")
_EXAMPLES = "write bytes as a number, or 512B, 64KiB, 10MiB, 1GB"


def parse_size(value: object) -> int:
    """Bytes.

    Raises:
        ValueError: it is neither a whole number nor a number and a unit, or not a whole number of bytes.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"a size is a whole number of bytes or text such as 64KiB, not {kind_of(value)}")
    if isinstance(value, int):
        return value
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{value!r} is no size; {_EXAMPLES}")
    if found["unit"] not in UNITS:
        raise ValueError(f"{value!r} has no known unit; {_EXAMPLES}")
    whole, _, fraction = found["number"].partition(".")
    size: int
    size, rest = divmod(int(whole + fraction) * UNITS[found["unit"]], 10 ** len(fraction))
    if rest:
        raise ValueError(f"{value!r} is not a whole number of bytes")
    return size


def format_size(size: int) -> str:
    """The shortest exact spelling in binary units: 65536 is "64KiB", 1000 is "1000B"."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return f"{size}B"
