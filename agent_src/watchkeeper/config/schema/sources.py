"""Where more configuration comes from."""

from __future__ import annotations

from msgspec import field

from watchkeeper.config.schema.common import PositiveDuration, StrictStruct, Text, TlsClient


class Source(StrictStruct, frozen=True, kw_only=True, tag_field="type"):
    """What all sources have in common."""


class HttpSource(Source, frozen=True, kw_only=True, tag="http"):
    """A document behind a URL, asked with If-None-Match."""

    url: Text
    """http or https."""
    interval: PositiveDuration = 10.0
    """From one question to the next where the server does not hold the answer back."""
    tls: TlsClient = field(default_factory=TlsClient)


class FileSourceSpec(Source, frozen=True, kw_only=True, tag="file"):
    """A file or a folder of fragments on this machine."""

    path: Text
    """Where it is."""


AnySource = HttpSource | FileSourceSpec
