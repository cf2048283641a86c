"""The reconciler of faults: arms what a configuration allows, and shows when it goes off by itself."""

from __future__ import annotations

from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.logs import get_logger
from watchkeeper.reconcile import Result

journal = get_logger("faults")


class FaultReconciler:
    """Level-triggered: an unchanged section is not armed again, so that its time is not made longer by looking."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._armed: object = None

    async def reconcile(self, key: Key) -> Result:
        faults = self._context.faults
        wanted = self._context.snapshot.of(Kind.FAULTS).get(key.name)
        if wanted is None:
            faults.disarm()
            self._armed = None
            self._context.forget(key)
            return Result()
        if wanted != self._armed:
            self._armed = wanted
            faults.arm(wanted)
            journal.warning("faults are armed", ttl=wanted.ttl, max_active=wanted.max_active)
        if faults.on:
            self._context.show(
                key, "active", f"faults may be put in for {wanted.ttl:g} s", left=round(faults.left)
            )
            return Result(faults.left + 0.01)
        faults.expire()
        why = "they were switched off" if faults.killed else "their time is up"
        self._context.show(key, "inactive", why, left=0)
        return Result()
