"""Configuration from objects of the kind ServiceCheck: each is one check.

An object whose spec is wrong does not take the others with it: it is left out, and its status says what is wrong. One that
is being deleted is left out at once; its finalizer goes when the check has ended (reconcilers/servicechecks.py).
"""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from watchkeeper.config.load import assemble
from watchkeeper.config.references import References
from watchkeeper.config.schema.common import Name
from watchkeeper.config.schema.sources import KubernetesSource
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.sources import Fetched, Fragment, SourceError
from watchkeeper.errors import AgentError, ConfigInvalidError
from watchkeeper.events import Event
from watchkeeper.kubernetes.api import GROUP, KubeClient, KubeError, Object
from watchkeeper.kubernetes.reflector import Reflector
from watchkeeper.outbound.client import Client

if TYPE_CHECKING:
    from watchkeeper.context import Context

_NAME = re.compile(Name.__metadata__[0].pattern)  # type: ignore[attr-defined]
OWN_FIELDS = ("nodeName",)
"""Fields of a spec that say something about the object, and not about the check."""


class ServiceChecks:
    """A FragmentSource. `wrong` has the objects that were left out, with the reason."""

    def __init__(self, spec: KubernetesSource, http: Client) -> None:
        self.spec = spec
        self.client = KubeClient(spec, http)
        self.node = os.environ.get("NODE_NAME") or socket.gethostname()
        """What this agent calls itself in an object's status; a DaemonSet sets NODE_NAME."""
        self._reflector = Reflector(self.client, inactivity=spec.inactivity)
        self.wrong: dict[str, str] = {}
        self._context: Context | None = None
        self._name = ""
        self._heard = False
        self._parsed: dict[str, tuple[Object, Fragment | str]] = {}

    def attach(self, context: Context, name: str) -> None:
        """Report to the cluster what becomes of the objects, as the source of that name."""
        self._context, self._name = context, name
        context.reporters[name] = self
        if not self._heard:
            self._heard = True
            context.events.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        if event.key.kind is Kind.CHECK and event.key.name in self.objects:
            self._report(event.key.name)

    def _report(self, name: str) -> None:
        if self._context is not None:
            self._context.add(Key(Kind.SERVICE_CHECK, f"{self._name}/{name}"))

    @property
    def objects(self) -> dict[str, Object]:
        """Those that are this agent's business, by the name of their check."""
        return {name: each for name, each in self._reflector.objects.items() if self._mine(each)}

    def left(self, name: str) -> Object | None:
        """An object that is another node's now and still has this agent's finalizer."""
        item = self._reflector.objects.get(name)
        held = item is not None and not self._mine(item) and self.finalizer in item.metadata.finalizers
        return item if held else None

    @property
    def finalizer(self) -> str:
        """This agent's own."""
        return f"{GROUP}/{self.node[:63]}"

    async def fetch(self) -> Fetched:
        try:
            await self._reflector.list()
        except KubeError as error:
            raise SourceError(str(error), retry_after=error.retry_after or None) from None
        return self._fetched()

    async def watch(self) -> Fetched:
        try:
            await self._reflector.changed()
        except KubeError as error:
            raise SourceError(str(error), retry_after=error.retry_after or None) from None
        return self._fetched()

    async def close(self) -> None:
        await self._reflector.close()
        if self._context is None:
            return
        self._context.events.unsubscribe(self._hear)
        self._heard = False
        if self._context.reporters.get(self._name) is self:
            del self._context.reporters[self._name]

    def _mine(self, item: Object) -> bool:
        wanted = item.spec.get("nodeName")
        return not wanted or wanted == self.node

    def _fetched(self) -> Fetched:
        """Only what has changed is read again."""
        parsed = {}
        for name, item in sorted(self.objects.items()):
            before = self._parsed.get(name)
            same = before is not None and (before[0].spec, before[0].metadata) == (item.spec, item.metadata)
            parsed[name] = before if before is not None and same else (item, self._read(name, item))
        for name in self._parsed.keys() | parsed.keys():
            if self._parsed.get(name) is not parsed.get(name):
                self._report(name)
        for name in self._reflector.objects.keys() - parsed.keys():
            if self.left(name) is not None:
                self._report(name)
        self._parsed = parsed
        self.wrong = {name: found for name, (_, found) in parsed.items() if isinstance(found, str)}
        fragments = tuple(
            found
            for item, found in parsed.values()
            if isinstance(found, Fragment) and item.metadata.deletion_timestamp is None
        )
        return Fetched(fragments, self._reflector.version)

    @staticmethod
    def _read(name: str, item: Object) -> Fragment | str:
        """One object as a document; or why it is none."""
        if not _NAME.fullmatch(name):
            return f"{name} is longer than 63 characters: shorten the namespace or the name"
        check: dict[str, Any] = {key: value for key, value in item.spec.items() if key not in OWN_FIELDS}
        content = msgspec.json.encode({"checks": {name: check}})
        fragment = Fragment(f"kubernetes:{item.metadata.namespace}/{item.metadata.name}", content, ".json")
        try:
            assemble((fragment,), origin=fragment.name, references=References(resolve=False))
        except ConfigInvalidError as error:
            return "; ".join(_without_place(problem, name) for problem in error.problems)
        except AgentError as error:
            return str(error)
        return fragment


def _without_place(problem: str, name: str) -> str:
    """A problem as whoever wrote the object knows it: `spec.url: ...`, without a line of a document that he never saw."""
    _, _, said = problem.partition(f"checks.{name}")
    return f"spec{said}" if said else problem.partition(": ")[2]
