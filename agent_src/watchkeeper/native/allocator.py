"""The twin of native/allocator.c: without the extension the C library does as it likes."""

from __future__ import annotations


def give_memory_back() -> bool:
    """Let the allocator return freed memory to the system sooner; whether it has such a setting."""
    return False
