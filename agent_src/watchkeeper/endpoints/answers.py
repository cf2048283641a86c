"""Answers: what every one of them has in common, and how a refusal is said."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from watchkeeper import redact
from watchkeeper.endpoints import web

COMMON = {
    "Server": "watchkeeper",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Nobody learns which libraries answer, keeps an answer, guesses at its type, or takes it into another page."""
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Refusal(Exception):  # noqa: N818 - it is an answer; an error is what a defect makes
    """A request that is not carried out: one sentence, what to do about it, and what else the client can use.

    `close`: the connection ends with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        advice: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.advice, self.details, self.close = status, advice, details, close
        self.headers = dict(headers or {})

    def answer(self) -> web.Response:
        content = {"error": str(self)} | ({"advice": self.advice} if self.advice else {}) | self.details
        made = json(content, status=self.status, headers=self.headers)
        if self.close:
            made.force_close()
        return made


def json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """One JSON object, and a line break for whoever reads it in a terminal."""
    return web.Response(body=_body(value), status=status, headers=headers, content_type="application/json")


def _body(value: Any) -> bytes:
    """The object without secrets, encoded."""
    encoded = _encode(value)
    if redact.found(encoded):
        encoded = _encode(redact.data(msgspec.json.decode(encoded)))
    return encoded + b"\n"


def text(value: str, *, status: int = 200) -> web.Response:
    """Plain text."""
    return web.Response(text=redact.text(value), status=status)


_PASSING = re.compile(rb'"(?:next_try_in|since|last_run|run)":(?:"[^"]*"|[^,}]+)')
"""What changes with every look at a clock, or of a check. In a JSON text a quote within a value is escaped, so a key is found
only where it is one."""


def json_with_tag(request: web.BaseRequest, value: Any) -> web.Response:
    """As `json`, with a weak entity tag; 304 without a body for who has it already (RFC 9110, 13.1.2).

    Weak: two answers that differ only in times have one tag.
    """
    body = _body(value)
    tag = f'"{hashlib.blake2b(_PASSING.sub(b"", body), digest_size=16).hexdigest()}"'
    headers = {"ETag": f"W/{tag}", "Cache-Control": "no-cache"}
    known = [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]
    if tag in known or known == ["*"]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers, content_type="application/json")
