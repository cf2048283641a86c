"""Where more configuration comes from.

A source delivers documents with the same sections as the file that the agent is started with, but only those in which
things have names (services, checks, outputs, ...): settings of the agent itself, and `sources`, stand in the file.
"""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import (
    DURATION,
    SIZE,
    Duration,
    PositiveDuration,
    Secret,
    StrictStruct,
    Text,
    TlsClient,
)
from watchkeeper.config.schema.registries import ConsulServer, EtcdServer


class Format(enum.StrEnum):
    """In what format the documents of a store of keys are, whatever the keys are called."""

    YAML = "yaml"
    TOML = "toml"
    JSON = "json"


class Source(StrictStruct, frozen=True, kw_only=True, tag_field="type"):
    """What all sources have in common."""

    precedence: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    """Where two sources define the same name, the definition of the one with the higher number counts; among equals that of
    the source whose own name is later in the alphabet. Every source goes before the file."""
    sections: tuple[Text, ...] = ()
    """The sections that it may deliver; empty: all that a source can."""
    allow_references: bool = True
    """Whether its documents may name secrets of this machine (${env:NAME}, ${file:PATH})."""


class HttpSource(Source, frozen=True, kw_only=True, tag="http"):
    """A document behind a URL, asked for with If-None-Match and If-Modified-Since."""

    url: Text
    """http or https."""
    format: Format | None = None
    """None: by the Content-Type of the answer, else by the end of the URL's path."""
    interval: PositiveDuration = 10.0
    """From one question to the next where the server does not hold its answer back; a tenth of it is left to chance."""
    wait: Annotated[float, Meta(ge=0, le=3600, extra=DURATION)] = 0.0
    """How long the server is asked to hold an answer back that would say nothing new (long poll); 0: not at all."""
    wait_parameter: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    """The query parameter that asks for it, in whole seconds; None: the header Prefer: wait=SECONDS (RFC 7240)."""
    token: Secret | None = None
    """Sent as Authorization: Bearer; not to another server that a redirect names."""
    headers: dict[Text, Secret] = field(default_factory=dict)
    """Sent as they are, under the same condition."""
    timeout: PositiveDuration = 10.0
    """For a whole answer, from the question on; `wait` is added to it."""
    size_limit: Annotated[int, Meta(ge=1, le=64 << 20, extra=SIZE)] = 4 << 20
    """Of the document, once it is decompressed."""
    redirects: Annotated[int, Meta(ge=0, le=20)] = 5
    """How many redirects in a row are followed; never from https to http."""
    tls: TlsClient = field(default_factory=TlsClient)


class FileSourceSpec(Source, frozen=True, kw_only=True, tag="file"):
    """A file or a folder of fragments on this machine; also a checkout that something else keeps up to date."""

    path: Text
    """Where it is; absolute. In a folder, the files that end in .yaml, .yml, .toml or .json, in the order of their names;
    hidden files and the backups of editors are left out."""
    interval: PositiveDuration = 1.0
    """How often it is looked at where the system does not tell of changes (the extra `watch`)."""
    watch: bool = True
    """Whether the system is asked to tell of changes, if it can."""
    allow_missing: bool = False
    """Whether a file or folder that is not there, or is empty, means: nothing. Otherwise what is in force stays."""


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


class KubernetesSource(Source, frozen=True, kw_only=True, tag="kubernetes"):
    """Objects of the kind ServiceCheck in a Kubernetes cluster, listed once and then watched."""

    url: Text | None = None
    """The API server; None: the cluster that this agent runs in (KUBERNETES_SERVICE_HOST and _PORT)."""
    namespace: Text | None = None
    """None: all of them."""
    label_selector: Text | None = None
    """Only objects with these labels: "node=a,tier!=b"."""
    token: Secret | None = None
    """The bearer token; None: token_file."""
    token_file: Text = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path
    """Read again for every request: Kubernetes renews it. One that is not there is left out."""
    page_size: Annotated[int, Meta(ge=1, le=10_000)] = 500
    """Objects per piece of the first list (client-go's default)."""
    status: bool = True
    """Whether what the agent sees is written to the objects' status."""
    finalizer: bool = True
    """Whether an object is held until what it asked for has ended."""
    timeout: Duration = 10.0
    """For an answer that is no watch."""
    inactivity: PositiveDuration = 70.0
    """A watch without a word for so long is taken up anew; bookmarks come every 60 s."""
    tls: TlsClient = field(default_factory=TlsClient)
    """ca_file None: the service account's, if there is one."""


AnySource = HttpSource | FileSourceSpec | ConsulSource | EtcdSource | KubernetesSource
