"""What a plover can do, done in C."""

from plover._core import Counter, Error, digest, facts

__all__ = ["Counter", "Error", "digest", "facts"]
