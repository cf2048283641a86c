"""Amounts as messages have them."""

from __future__ import annotations


def about(size: int) -> str:
    """Bytes, rounded: 1536 is "1.5 KiB"."""
    if abs(size) < 1024:
        return f"{size} bytes"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if abs(amount) < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"
