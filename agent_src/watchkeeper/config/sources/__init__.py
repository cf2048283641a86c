"""Sources of configuration beyond the file that the agent is started with, one module per kind.

A source delivers fragments: documents, each with a name for messages and a suffix that says its format. It fetches all of
them first and then waits for changes; what it delivers is always the whole. Parsing, merging, checking, keeping the last
good copy and backing off after an error are not its business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from watchkeeper.config.fragments import Fetched, Fragment
from watchkeeper.config.schema.sources import (
    ConsulSource,
    EtcdSource,
    FileSourceSpec,
    HttpSource,
    KubernetesSource,
)
from watchkeeper.outbound.client import Client

if TYPE_CHECKING:
    from watchkeeper.context import Context


class SourceError(Exception):
    """The source does not answer, or answers nonsense; the text says what, in one line.

    `retry_after` is in seconds: the source is not asked again before; None: it has not said.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


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


@runtime_checkable
class Reporting(Protocol):
    """A source that wants to write back what became of its documents."""

    def attach(self, context: Context, name: str) -> None:
        """The agent that it is a source of, and what it is called there; before the first `fetch`."""


__all__ = ["SOURCES", "Fetched", "Fragment", "FragmentSource", "Reporting", "SourceError"]


def _http(spec: HttpSource, http: Client) -> FragmentSource:
    from watchkeeper.config.sources.http import HttpDocument

    return HttpDocument(spec, http)


def _file(spec: FileSourceSpec, _http: Client) -> FragmentSource:
    from watchkeeper.config.sources.file import Files

    return Files(spec)


def _consul(spec: ConsulSource, http: Client) -> FragmentSource:
    from watchkeeper.config.sources.consul import ConsulKeys

    return ConsulKeys(spec, http)


def _etcd(spec: EtcdSource, http: Client) -> FragmentSource:
    from watchkeeper.config.sources.etcd import EtcdKeys

    return EtcdKeys(spec, http)


def _kubernetes(spec: KubernetesSource, http: Client) -> FragmentSource:
    from watchkeeper.config.sources.kubernetes import ServiceChecks

    return ServiceChecks(spec, http)


SOURCES: dict[type, Callable[[Any, Client], FragmentSource]] = {
    HttpSource: _http,
    FileSourceSpec: _file,
    ConsulSource: _consul,
    EtcdSource: _etcd,
    KubernetesSource: _kubernetes,
}
"""From the struct in `sources:` to what reads it; the functions import their module when they are called."""
