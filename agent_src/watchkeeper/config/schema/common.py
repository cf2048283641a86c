"""What the schema's structs are made of: the types of single values, and what every struct has in common.

Durations are seconds, written as a number or as "500ms", "5s", "2m"; sizes are bytes, written as a number or as "64KiB",
"10MiB".
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

DURATION = {"unit": "seconds"}
SIZE = {"unit": "bytes"}
SECRET = {"secret": True}
Duration = Annotated[float, Meta(ge=0, le=31_536_000, extra=DURATION)]
PositiveDuration = Annotated[float, Meta(ge=0.001, le=31_536_000, extra=DURATION)]
Size = Annotated[int, Meta(ge=0, le=1 << 50, extra=SIZE)]
"""Bytes. A field with limits of its own: Annotated[int, Meta(ge=..., le=..., extra=SIZE)]; likewise with DURATION."""
PositiveSize = Annotated[int, Meta(ge=1, le=1 << 50, extra=SIZE)]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Address = Annotated[str, Meta(min_length=1, max_length=300)]
Text = Annotated[str, Meta(min_length=1)]
Words = Annotated[tuple[Text, ...], Meta(min_length=1)]
Secret = Annotated[str, Meta(min_length=1, extra=SECRET)]
"""Text that must never be shown; usually written as a reference: ${env:NAME} or ${file:PATH}."""


class StrictStruct(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every struct of the schema has in common."""


class TlsClient(StrictStruct, frozen=True, kw_only=True):
    """How an https server is trusted, and what it is shown. Files are read again when they change."""

    verify: bool = True
    """Whether the server's certificate must be valid."""
    ca_file: str | None = None
    """Certificates in PEM; None: the system's."""
    cert_file: str | None = None
    """The client's own certificate in PEM, for mutual TLS; needs key_file."""
    key_file: str | None = None
    server_name: str | None = None
    """The name that the server's certificate must have; None: the one in the URL."""


def split_address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [IPv6]:PORT.

    Raises:
        ValueError: it is not one, or the port is not 0..65535.
    """
    host, separator, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not host or (":" in host and not bracketed):
        raise ValueError(f"{text!r} is not HOST:PORT")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"the port in {text!r} is not a number from 0 to 65535")
    return (host[1:-1] if bracketed else host), int(port)
