"""From the file or folder that the agent is started with to the intake: first once, then whenever it changes."""

from __future__ import annotations

from collections.abc import Callable

from watchkeeper.config.load import Loaded
from watchkeeper.config.model import AgentSettings
from watchkeeper.config.snapshot import Key
from watchkeeper.config.source import FileSource
from watchkeeper.context import Context
from watchkeeper.errors import AgentError
from watchkeeper.life.manager_link import ManagerLink
from watchkeeper.logs import get_logger

journal = get_logger("agent")


class Configuration:
    """What feeds one agent. `on_settings` hears of the agent's own settings each time a configuration is taken."""

    def __init__(
        self,
        context: Context,
        source: FileSource,
        on_settings: Callable[[AgentSettings], None],
        link: ManagerLink,
    ) -> None:
        self._context = context
        self._store, self._intake = context.store, context.intake
        self._on_settings = on_settings
        self._link = link
        self.source = source

    def ask(self) -> None:
        """Look at everything now: the file or folder, and each source. The service manager hears of it."""
        self._link.reloading()
        self.source.ask()
        self._intake.ask()

    async def first(self) -> list[Key]:
        """What the agent starts with: the source, or else the last good copy; the keys that changed.

        Raises:
            AgentError: the configuration cannot be used, and there is no copy.
        """
        answer = await self.source.load()
        if isinstance(answer, Loaded):
            return await self._take(answer)
        last_good = self._store.last_good(self.source.path)
        if last_good is None:
            raise answer
        changed = await self._take(last_good, save=False)
        self._intake.refuse(answer)
        self._store.from_last_good = True
        journal.warning("started with the last good configuration", error_class=answer.error_class)
        return changed

    async def watch(self) -> None:
        """Take every later one; never returns."""
        while True:
            await self._answered(await self.source.next())
            self._link.started()

    async def _answered(self, answer: Loaded | AgentError) -> None:
        try:
            if isinstance(answer, AgentError):
                raise answer
            changed = await self._take(answer)
        except AgentError as error:
            self._intake.refuse(error)
            return
        for key in changed:
            self._context.add(key)

    async def _take(self, loaded: Loaded, *, save: bool = True) -> list[Key]:
        changed = await self._intake.take(loaded, save=save)
        settings = self._store.snapshot.settings
        self.source.interval = settings.reload_interval
        self.source.tell(wanted=settings.watch_files)
        self.source.look_after(self._intake.files)
        self._on_settings(settings)
        return changed
