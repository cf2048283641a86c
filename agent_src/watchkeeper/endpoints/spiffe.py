"""SPIFFE IDs: what one is, and whether a pattern means it. Pure.

Rules (SPIFFE-ID.md, sections 2 and 2.1 to 2.3; X509-SVID.md, section 2):
    I1  spiffe://TRUST-DOMAIN/PATH: no port, user, query or fragment, at most 2048 bytes.
    I2  A trust domain has lower-case letters, digits, dots, dashes and underscores, at most 255.
    I3  A path has parts of letters, digits, dots, dashes and underscores; none is empty, "." or "..".
    I4  A certificate has exactly one URI among its names, and that is the ID; one with more is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_PART = re.compile(r"[A-Za-z0-9._-]+")
LONGEST = 2048


def is_id(text: str) -> bool:
    """Whether it is a SPIFFE ID (I1 to I3)."""
    return _split(text, pattern=False) is not None


def is_pattern(text: str) -> bool:
    """Whether it may stand for SPIFFE IDs: one of them, with * for a part of the path and ** at its end."""
    return _split(text, pattern=True) is not None


def identity_of(uris: Sequence[str]) -> str | None:
    """The ID among the URIs of a certificate (I4)."""
    return uris[0] if len(uris) == 1 and is_id(uris[0]) else None


def matches_any(identity: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns means this ID."""
    parts = _split(identity, pattern=False)
    return parts is not None and any(_matches(parts, _split(each, pattern=True)) for each in patterns)


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...] | None) -> bool:
    if pattern is None:
        return False
    if pattern[-1] == "**":
        pattern = pattern[:-1]
        if len(parts) < len(pattern) + 1:
            return False
        parts = parts[: len(pattern)]
    return len(parts) == len(pattern) and all(
        wanted in ("*", part) for part, wanted in zip(parts, pattern, strict=True)
    )


@lru_cache(maxsize=1024)
def _split(text: str, *, pattern: bool) -> tuple[str, ...] | None:
    """Trust domain and the parts of the path; None: it is none."""
    scheme, separator, rest = text.partition("://")
    if scheme.lower() != "spiffe" or not separator or len(text) > LONGEST:
        return None
    domain, *path = rest.split("/")
    if not _DOMAIN.fullmatch(domain):
        return None
    for index, part in enumerate(path):
        wild = pattern and (part == "*" or (part == "**" and index == len(path) - 1))
        if not wild and (not _PART.fullmatch(part) or part in (".", "..")):
            return None
    return (domain, *path)
