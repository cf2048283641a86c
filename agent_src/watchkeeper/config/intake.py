"""From what is delivered to what is in force: the file or folder, and over it what each source has.

Rules:
    I1  The file or folder has to hold by itself. What a source delivers has to hold together with everything else that is
        in force at that moment; if it does not, what that source delivered before stays, and the others go on.
    I2  What was refused is looked at again whenever something else comes into force: in which order two sources answer does
        not decide what holds in the end.
    I3  Every source has its own copy on disk. At the start the copies count as delivered, in the order of precedence; one
        that does not hold with those before it is left out. A copy of another address than the one configured is not used.
    I4  A source that is no longer configured takes what it delivered with it, and its copy.
    I5  One change at a time. Documents are read in a thread, and the loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping

import msgspec

from watchkeeper import redact, tracing
from watchkeeper.config.copies import SOURCE
from watchkeeper.config.decode import to_json
from watchkeeper.config.fragments import Fragment, Layer
from watchkeeper.config.load import Loaded, assemble
from watchkeeper.config.schema.sources import Source
from watchkeeper.config.snapshot import Key
from watchkeeper.config.store import Store
from watchkeeper.errors import AgentError, ConfigInvalidError, StateError
from watchkeeper.logs import get_logger
from watchkeeper.metrics import Metrics
from watchkeeper.observed import wall_clock

journal = get_logger("config")

Fragments = tuple[Fragment, ...]


class Intake:
    """What has been delivered to one agent. `add` is where the keys go that a source has changed."""

    def __init__(self, store: Store, metrics: Metrics, add: Callable[[Key], None]) -> None:
        self._store, self._metrics, self._add = store, metrics, add
        self._lock = asyncio.Lock()
        self._base: Loaded | None = None
        self._delivered: dict[str, Fragments] = {}
        self._refused: dict[str, Fragments] = {}
        self._unsaved: set[str] = set()
        self.restored: set[str] = set()
        """The sources whose copies are in force, and that have delivered nothing since."""
        self.on_accepted: dict[str, Callable[[], None]] = {}
        """By source: what hears that a delivery which was refused at first has come into force (I2)."""
        self.on_ask: dict[str, Callable[[], None]] = {}
        """By source: how it is asked to look now."""
        self.files: frozenset[str] = frozenset()
        """The files that secrets were read from."""

    def ask(self) -> None:
        """Let every source look now."""
        for ask in list(self.on_ask.values()):
            ask()

    async def take(self, loaded: Loaded, *, save: bool = True) -> list[Key]:
        """The file or folder comes into force, with what sources have delivered; the keys that changed.

        Raises:
            ConfigInvalidError: it does not hold together with what sources have delivered.
        """
        with tracing.span("reload") as span:
            changed = await self._take(loaded, save=save)
            if span.recording:
                span.set("watchkeeper.changed_keys", len(changed))
                span.set("watchkeeper.generation", self._store.snapshot.generation)
        return changed

    async def _take(self, loaded: Loaded, *, save: bool) -> list[Key]:
        async with self._lock:
            wanted = loaded.config.sources
            if self._base is None:
                delivered = await asyncio.to_thread(self._copies, loaded)
                self.restored = set(delivered)
            else:
                delivered = {name: each for name, each in self._delivered.items() if name in wanted}  # I4
            whole = await asyncio.to_thread(combine, loaded, delivered)
            before = self._base.config.sources if self._base is not None else {}
            changed = self._put(whole, loaded, delivered)
            self._refused = {
                name: each
                for name, each in self._refused.items()
                if name in wanted and origin_of(wanted[name]) == origin_of(before[name])
            }
            if save:
                await self._keep(lambda: self._store.save(loaded))
            await asyncio.to_thread(self._store.copies.drop_sources_but, set(wanted))
            await self._settle()
            return changed

    async def offer(self, name: str, fragments: Fragments, origin: str) -> bool:
        """What a source has now; whether that is something new.

        Args:
            name: the source's.
            fragments: all that it has.
            origin: `origin_of` what it was asked by; of a source that has moved meanwhile nothing is taken.

        Raises:
            AgentError: it does not hold; what the source delivered before stays.
        """
        async with self._lock:
            base = self._base
            if (
                base is None
                or name not in base.config.sources
                or origin_of(base.config.sources[name]) != origin
            ):
                return False
            if self._delivered.get(name) == fragments:
                self._refused.pop(name, None)
                await self._save_source(name, base, only_missing=name not in self.restored)
                self.restored.discard(name)
                return False
            try:
                await self._accept(base, name, fragments)
            except AgentError:
                self._refused[name] = fragments
                raise
            self._refused.pop(name, None)
            await self._settle()
            return True

    async def _accept(self, base: Loaded, name: str, fragments: Fragments) -> None:
        delivered = {**self._delivered, name: fragments}
        whole = await asyncio.to_thread(combine, base, delivered)
        for key in self._put(whole, base, delivered, source=name):
            self._add(key)
        self.restored.discard(name)
        await self._save_source(name, base)

    async def _settle(self) -> None:
        """Try again what was refused (I2)."""
        base, again = self._base, True
        while base is not None and again:
            again = False
            for name in [name for name in in_order(base) if name in self._refused]:
                try:
                    await self._accept(base, name, self._refused[name])
                except AgentError:
                    continue
                again = True
                del self._refused[name]
                self.on_accepted.get(name, lambda: None)()

    def _copies(self, loaded: Loaded) -> dict[str, Fragments]:
        """What the copies on disk hold (I3)."""
        delivered: dict[str, Fragments] = {}
        for name in in_order(loaded):
            origin = origin_of(loaded.config.sources[name])
            copy = self._store.copies.load(SOURCE + name, origin.__eq__)
            if copy is None:
                continue
            try:
                combine(loaded, {**delivered, name: copy})
            except AgentError as error:
                journal.warning(
                    f"the copy of source {name} does not hold and is left out", error_class=error.error_class
                )
                continue
            delivered[name] = copy
        return delivered

    def _put(self, whole: Loaded, base: Loaded, delivered: dict[str, Fragments], **fields: str) -> list[Key]:
        """Everything was checked: it is in force now."""
        self._base, self._delivered, self.files = base, delivered, whole.files
        before = self._store.snapshot
        changed = self._store.apply(whole)
        now = self._store.snapshot
        new = now is not before
        self._metrics.reloads.labels("success" if new else "unchanged").inc()
        self._metrics.reload_time.set(wall_clock())
        self._metrics.reload_ok.set(1)
        self._metrics.generation.set(now.generation)
        self._metrics.limits.series = now.config.metrics.series_limit
        message = "configuration in force" if new else "configuration unchanged"
        journal.info(
            message,
            generation=now.generation,
            digest=now.digest[:12],
            changed=[str(key) for key in changed],
            **fields,
        )
        return changed

    def refuse(self, error: AgentError) -> None:
        """A file or folder that cannot be used changes nothing."""
        self._store.refuse(error)
        self._metrics.reloads.labels("failure").inc()
        self._metrics.reload_ok.set(0)
        self._metrics.error(error.error_class)
        problems = list(error.problems) if isinstance(error, ConfigInvalidError) else []
        reason, kept = str(error).splitlines()[0], self._store.snapshot.generation
        journal.error(
            f"configuration refused, generation {kept} stays in force: {reason}",
            error_class=error.error_class,
            problems=problems,
        )

    async def _save_source(self, name: str, base: Loaded, *, only_missing: bool = False) -> None:
        if only_missing and name not in self._unsaved:
            return
        fragments, origin = self._delivered[name], origin_of(base.config.sources[name])
        kept = await self._keep(lambda: self._store.copies.save(SOURCE + name, origin, fragments))
        self._unsaved = self._unsaved - {name} if kept else self._unsaved | {name}

    async def _keep(self, save: Callable[[], None]) -> bool:
        """Write a copy; a full disk is said, and stops nothing."""
        try:
            await asyncio.to_thread(save)
        except StateError as error:
            self._metrics.error(error.error_class)
            journal.error(str(error), error_class=error.error_class, advice=error.advice)
            return False
        return True


def combine(base: Loaded, delivered: Mapping[str, Fragments]) -> Loaded:
    """The file or folder, and over it what sources have delivered, in the order of their precedence.

    Raises:
        ConfigInvalidError: it does not hold.
    """
    layers = []
    for name in in_order(base):
        if delivered.get(name):
            spec = base.config.sources[name]
            layers.append(Layer(f"source {name}", delivered[name], spec.sections, spec.allow_references))
    return assemble(base.fragments, layers, origin=base.origin) if layers else base


def in_order(base: Loaded) -> list[str]:
    """The sources; later ones go over earlier ones."""
    sources = base.config.sources
    return sorted(sources, key=lambda name: (sources[name].precedence, name))


def origin_of(spec: Source) -> str:
    """What a copy is from. The address counts, the secrets do not: they change, and a copy says nothing of them."""
    neutral = msgspec.structs.replace(spec, precedence=0, sections=(), allow_references=True)
    return hashlib.sha256(redact.text(to_json(neutral).decode()).encode()).hexdigest()
