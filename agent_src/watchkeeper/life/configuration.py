"""From the source of the configuration to the queue: what is good comes into force, what is wrong is reported everywhere."""

from __future__ import annotations

from collections.abc import Callable

from watchkeeper.config.load import Loaded
from watchkeeper.config.model import AgentSettings
from watchkeeper.config.snapshot import Key
from watchkeeper.config.source import FileSource
from watchkeeper.context import Context
from watchkeeper.errors import AgentError, ConfigInvalidError, StateError
from watchkeeper.logs import get_logger
from watchkeeper.observed import wall_clock

journal = get_logger("agent")


class Configuration:
    """What feeds one agent. `on_settings` hears of the agent's own settings each time a configuration is taken."""

    def __init__(
        self, context: Context, source: FileSource, on_settings: Callable[[AgentSettings], None]
    ) -> None:
        self._context = context
        self._store, self._metrics = context.store, context.metrics
        self._on_settings = on_settings
        self.source = source

    async def first(self) -> list[Key]:
        """What the agent starts with: the source, or else the last good copy; the keys that changed.

        Raises:
            AgentError: the configuration cannot be used, and there is no copy.
        """
        answer = await self.source.load()
        if isinstance(answer, Loaded):
            return self._take(answer)
        last_good = self._store.last_good()
        if last_good is None:
            raise answer
        changed = self._take(last_good, save=False)
        self._refuse(answer)
        self._store.from_last_good = True
        journal.warning("started with the last good configuration", error_class=answer.error_class)
        return changed

    async def watch(self) -> None:
        """Take every later one; never returns."""
        while True:
            answer = await self.source.next()
            if isinstance(answer, Loaded):
                for key in self._take(answer):
                    self._context.add(key)
            else:
                self._refuse(answer)

    def _take(self, loaded: Loaded, *, save: bool = True) -> list[Key]:
        """A good configuration comes into force; the keys that changed."""
        before = self._store.snapshot
        changed = self._store.apply(loaded)
        now = self._store.snapshot
        new = now is not before
        self._metrics.reloads.labels("success" if new else "unchanged").inc()
        self._metrics.reload_time.set(wall_clock())
        self._metrics.reload_ok.set(1)
        self._metrics.generation.set(now.generation)
        self.source.interval = now.settings.reload_interval
        self._on_settings(now.settings)
        message = "configuration in force" if new else "configuration unchanged"
        journal.info(
            message, generation=now.generation, digest=now.digest[:12], changed=[str(key) for key in changed]
        )
        if save:
            self._save(loaded)
        return changed

    def _save(self, loaded: Loaded) -> None:
        try:
            self._store.save(loaded)
        except StateError as error:
            self._metrics.error(error.error_class)
            journal.error(str(error), error_class=error.error_class, advice=error.advice)

    def _refuse(self, error: AgentError) -> None:
        """A configuration that cannot be used changes nothing."""
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
