"""Answers of Consul and etcd as typed structs. Whatever else arrives is one sentence, and never a crash."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


class RegistryError(Exception):
    """The registry does not answer, refuses, or answers nonsense; the text says which, in one line."""

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(one_line(text))
        self.status = status
        """The HTTP status where there was one."""


class ForgottenError(RegistryError):
    """The registry answers and does not know what it was told earlier."""


def one_line(text: str, limit: int = 300) -> str:
    """Text of others, fit for a log line."""
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def decode(body: bytes, kind: type[T], what: str) -> T:
    """JSON of a known form; numbers may be written as text, as protobuf's JSON does.

    Raises:
        RegistryError: it is none, or of another form; the text begins with `what`.
    """
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise RegistryError(f"{what} is not what it should be: {error}") from None
