"""Where more configuration comes from."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import PositiveDuration, StrictStruct, Text, TlsClient
from watchkeeper.config.schema.registries import ConsulServer, EtcdServer


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


class Format(enum.StrEnum):
    """In what format the documents of a store of keys are, whatever the keys are called."""

    YAML = "yaml"
    TOML = "toml"
    JSON = "json"


class KeyedSource(Source, frozen=True, kw_only=True):
    """What stores of keys and values have in common: either `key` or `prefix`."""

    key: Text | None = None
    """The one key that holds the document."""
    prefix: Text | None = None
    """Every key that begins with it and ends in .yaml, .yml, .toml or .json is a document; others are left out."""
    format: Format | None = None
    """None: by the end of the key. Otherwise every key is a document of this format."""
    allow_empty: bool = False
    """Whether no document at all is an answer. Otherwise it is an error, and what is in force stays."""
    wait: Annotated[float, Meta(ge=1, le=600, extra={"unit": "seconds"})] = 300.0
    """How long a watch may be silent; then the documents are read again (Consul: 5 min, at most 10)."""
    churn_interval: PositiveDuration = 15.0
    """Of changes that come faster than this, two in a row are taken at once and the others at this distance (Consul)."""


class ConsulSource(KeyedSource, frozen=True, kw_only=True, tag="consul"):
    """Keys in Consul's KV store, read with blocking queries."""

    server: ConsulServer = field(default_factory=ConsulServer)


class EtcdSource(KeyedSource, frozen=True, kw_only=True, tag="etcd"):
    """Keys in etcd, read once and then watched."""

    server: EtcdServer = field(default_factory=EtcdServer)


AnySource = HttpSource | FileSourceSpec | ConsulSource | EtcdSource
