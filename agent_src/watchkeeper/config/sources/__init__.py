"""Sources of configuration beyond the file that the agent is started with, one module per kind.

A source delivers fragments: documents, each with a name for messages and a suffix that says its format. It fetches all of
them first and then waits for changes; what it delivers is always the whole. Parsing, merging, checking, keeping the last
good copy and backing off after an error are not its business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from watchkeeper.config.schema.sources import ConsulSource, EtcdSource
from watchkeeper.outbound.client import Client


@dataclass(frozen=True)
class Fragment:
    """One document."""

    name: str
    """Where it comes from, as messages say it: `consul:watchkeeper/web.yaml`."""
    content: bytes
    suffix: str
    """.yaml, .toml or .json"""


@dataclass(frozen=True)
class Fetched:
    """Everything that a source has at one moment; equal fragments are no change, whatever the version says."""

    fragments: tuple[Fragment, ...]
    version: str
    """The source's own: an ETag, an index, a revision; for /status."""


class SourceError(Exception):
    """The source does not answer, or answers nonsense; the text says what, in one line."""


class FragmentSource(Protocol):
    """One source."""

    async def fetch(self) -> Fetched:
        """All of it, now.

        Raises:
            SourceError: it cannot be had.
        """

    async def watch(self) -> Fetched:
        """All of it, once it may have changed since the last answer; may wait for hours.

        Raises:
            SourceError: the watch ended; the caller waits, longer each time, and fetches anew.
        """

    async def close(self) -> None:
        """Let go of connections."""


def _consul(spec: ConsulSource, http: Client) -> FragmentSource:
    from watchkeeper.config.sources.consul import ConsulKeys

    return ConsulKeys(spec, http)


def _etcd(spec: EtcdSource, http: Client) -> FragmentSource:
    from watchkeeper.config.sources.etcd import EtcdKeys

    return EtcdKeys(spec, http)


SOURCES: dict[type, Callable[[Any, Client], FragmentSource]] = {ConsulSource: _consul, EtcdSource: _etcd}
"""From the struct in `sources:` to what reads it; the functions import their module when they are called."""
