"""Executable bytes and what is known of their order, whatever format they came in."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import msgspec

from ferryman_build.inspect.native import MOST_HOLDERS


class Symbol(msgspec.Struct, frozen=True, order=True):
    """A function's name and where it is; size 0 where the format does not tell one."""

    address: int
    size: int
    name: str


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """The machine code of one file.

    ``sections`` are (address, bytes). ``functions`` are (first address, address behind the last byte), from unwind
    tables or lists of functions: what lies in them is code, what lies between them may be data, and with ``mixed`` their
    last part as well. ``entries`` are
    addresses that are called when the file is loaded. ``asks`` says how the file learns what the processor has, as
    far as headers, imports and relocations tell it. ``references`` are the addresses that the file's data names; None where
    that is not known.
    """

    sections: tuple[tuple[int, bytes], ...] = ()
    functions: tuple[tuple[int, int], ...] = ()
    symbols: tuple[Symbol, ...] = ()
    entries: tuple[int, ...] = ()
    asks: tuple[str, ...] = ()
    mixed: bool = False
    references: frozenset[int] | None = None

    def name(self, address: int) -> str:
        """The function at ``address``, or the address itself when no symbol covers it."""
        at = bisect.bisect_right(self.symbols, address, key=lambda symbol: symbol.address) - 1
        if at >= 0:
            symbol = self.symbols[at]
            if address < symbol.address + max(symbol.size, 1):
                return symbol.name
        return f"{address:#x}"


class Piece(msgspec.Struct, frozen=True):
    """A run of bytes; ``sure`` when a table says that it is a function."""

    address: int
    data: bytes
    sure: bool


def pieces(code: Code) -> Iterator[Piece]:
    """Every executable byte once: the functions, and what lies between them."""
    functions = sorted(set(code.functions))
    for start, data in code.sections:
        at, end = start, start + len(data)
        for low, high in functions:
            if low >= end:
                break
            low, high = max(low, at), min(high, end)  # noqa: PLW2901 - cut to what is left of the section
            if low >= high:
                continue
            if low > at:
                yield Piece(at, data[at - start : low - start], sure=False)
            yield Piece(low, data[low - start : high - start], sure=True)
            at = high
        if at < end:
            yield Piece(at, data[at - start :], sure=False)


def between(starts: list[int], sections: tuple[tuple[int, bytes], ...]) -> tuple[tuple[int, int], ...]:
    """Ranges from a list of first addresses alone: each function ends where the next one begins."""
    found = []
    ordered = sorted(set(starts))
    for start, data in sections:
        end = start + len(data)
        inside = ordered[bisect.bisect_left(ordered, start) : bisect.bisect_left(ordered, end)]
        found += list(zip(inside, [*inside[1:], end], strict=False))  # an empty list has no end
    return tuple(found)


class Holders:
    """For each feature the first functions that have it; one with a name takes the place of one without."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._found: dict[str, list[str]] = {}
        self._named: dict[str, int] = {}

    def full(self) -> set[str]:
        """Features of which no more is wanted."""
        return {feature for feature, count in self._named.items() if count == MOST_HOLDERS}

    def add(self, feature: str, piece: Piece, address: int) -> None:
        """``feature`` is needed at ``address`` in ``piece``."""
        name = self._code.name(address)
        named = not name.startswith("0x")
        name = name if named or not piece.sure else f"{piece.address:#x}"
        found, count = self._found.setdefault(feature, []), self._named.setdefault(feature, 0)
        if name in found or (count if named else len(found)) >= MOST_HOLDERS:
            return
        found.insert(count if named else len(found), name)
        self._named[feature] += named
        del found[MOST_HOLDERS:]

    def listed(self) -> dict[str, tuple[str, ...]]:
        """What was found, those with names first."""
        return {feature: tuple(found) for feature, found in sorted(self._found.items())}
