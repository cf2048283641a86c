"""Who waits for whom: rules S14, S15 and S16 of lifecycle.py, from the present state of all services.

Nothing is kept here but the links of the snapshot in force; every answer is worked out anew from what is wanted, what is
there and what operators have ordered. The links have no circles: check-config and every reload refuse them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from watchkeeper.checks.gate import Verdict
from watchkeeper.config.model import ProcessService, Role, Service, same_program
from watchkeeper.config.schema.services import OnAgentStop
from watchkeeper.config.snapshot import Key, Kind, Snapshot
from watchkeeper.context import Context
from watchkeeper.orders import Order
from watchkeeper.supervise.lifecycle import ON_PURPOSE, Around, Record, State


class Dependencies:
    """Questions about services and their neighbours."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._observed = context.observed
        self._of: Snapshot | None = None
        self._behind: dict[str, list[str]] = {}

    def around(self, record: Record, wanted: Service | None) -> Around:
        """What the rules have to know of the others."""
        name = record.name
        order = self._order(name) if wanted is not None else None
        requires, after = _links(wanted, "requires"), _links(wanted, "after")
        return Around(
            order=order,
            not_yet=self._not_yet(requires, after) if record.process is None else None,
            first=self._first(name) if record.process is not None else None,
            pulled=self._pulled(requires) if record.process is not None else None,
            started=self.started(record),
            leave=self._left_alone(record.spec, wanted),
        )

    def _left_alone(self, spec: Service | None, wanted: Service | None) -> bool:
        """S19. A process that is not wanted any more is stopped: nobody else would know of it."""
        if getattr(spec, "on_agent_stop", OnAgentStop.STOP) is not OnAgentStop.LEAVE:
            return False
        return self._observed.draining or (wanted is None and not isinstance(spec, ProcessService))

    def started(self, record: Record) -> bool:
        """Whether its start is over and its startup checks have passed."""
        begun = getattr(record.process, "begun", True)
        return begun and self._observed.has_started(self._context.snapshot, record.name, record.instance)

    def ready(self, name: str) -> bool:
        """It runs, has started, and its readiness checks pass; or it had one thing to do, and has done it."""
        record = self._observed.services.get(name)
        if record is None:
            return False
        if record.state is State.FINISHED and record.process is None:
            return True
        checks = self._context.snapshot.checks_of(name, Role.READINESS)
        found = (self._observed.checks.get(check) for check in checks)
        passing = all(each is not None and each.gate.verdict is Verdict.SUCCESS for each in found)
        return record.running and record.state is State.RUNNING and passing

    def about_to_stop(self, name: str) -> bool:
        """Whether somebody wants it to end, now or as soon as those before it have ended (S16)."""
        wanted = self._wanted(name)
        if wanted is None or self._order(name) is Order.STOP:
            return True
        record = self._observed.services.get(name)
        if record is None or record.process is None:
            return False
        if record.stop is not None:
            return record.stop.cause in ON_PURPOSE
        if record.process.exit_code is not None:
            return False
        if self._order(name) is Order.RESTART or not same_program(wanted, record.spec):
            return True
        return self._pulled(_links(wanted, "requires")) is not None

    def neighbours(self, name: str) -> set[str]:
        """Those that have to look again when something about it changes."""
        spec = self._spec(name)
        return {*self._dependants(name), *_links(spec, "requires"), *_links(spec, "after")}

    def _not_yet(self, requires: Sequence[str], after: Sequence[str]) -> str | None:
        for name in requires:
            if not self.ready(name):
                return f"it requires {name}, which is not ready"
        for name in after:
            if not self.ready(name) and not self._at_rest(name):
                return f"it comes after {name}, which is not ready"
        return None

    def _at_rest(self, name: str) -> bool:
        """Whether nothing will come of it until somebody does something."""
        record = self._observed.services.get(name)
        if record is None or record.process is not None:
            return False
        return record.final or self._order(name) is Order.STOP

    def _pulled(self, requires: Sequence[str]) -> str | None:
        if self._observed.draining:
            return None
        return next(
            (f"it requires {name}, which is stopped" for name in requires if self.about_to_stop(name)), None
        )

    def _first(self, name: str) -> str | None:
        """S15."""
        words = ("requires", "after") if self._observed.draining else ("requires",)
        for other in self._dependants(name):
            record = self._observed.services.get(other)
            linked = any(name in _links(self._spec(other), word) for word in words)
            if linked and record is not None and record.process is not None:
                return f"it waits until {other} has stopped"
        return None

    def _dependants(self, name: str) -> list[str]:
        snapshot = self._context.snapshot
        if self._of is not snapshot:
            self._behind = {}
            for other, spec in snapshot.services.items():
                for link in {*spec.requires, *spec.after}:
                    self._behind.setdefault(link, []).append(other)
            self._of = snapshot
        return self._behind.get(name, []) + self._removed_behind(name)

    def _removed_behind(self, name: str) -> list[str]:
        """Services that still run and were behind it when they were configured."""
        wanted = self._context.snapshot.services
        return [
            other
            for other, record in self._observed.services.items()
            if other not in wanted
            and any(name in _links(record.spec, word) for word in ("requires", "after"))
        ]

    def _spec(self, name: str) -> Any:
        """As it is configured; a service that is not any more, as it was."""
        record = self._observed.services.get(name)
        return self._context.snapshot.services.get(name) or (record.spec if record else None)

    def _wanted(self, name: str) -> Service | None:
        return self._context.snapshot.services.get(name)

    def _order(self, name: str) -> Order | None:
        return self._context.orders.of(Key(Kind.SERVICE, name))


def _links(spec: Service | None, word: str) -> Sequence[str]:
    return () if spec is None else getattr(spec, word)
