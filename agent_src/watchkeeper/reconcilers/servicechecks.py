"""The reconciler of ServiceCheck objects: writes to the cluster what became of them here.

Rules:
    K1  What this agent sees of an object stands in its status under `nodes`, under the node's own name: agents of other
        nodes write beside it, and no two of them the same field.
    K2  A status is written when state, generation or the reason of an invalid spec differ from what stands there; not for
        every new wording of the same failure.
    K3  While a finalizer is wanted, it stands in the object from the first time that the object is seen. It is taken out
        once the object is being deleted, or has become another node's, and its check has ended here.
    K4  The list of finalizers is changed only as it was read: with the resource version, and again after a conflict.
    K5  An object that is gone is no error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from watchkeeper.config.snapshot import Key
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.kubernetes.api import KubeError, Object
from watchkeeper.logs import get_logger
from watchkeeper.observed import wall_clock
from watchkeeper.reconcile import Result
from watchkeeper.status import rfc3339

if TYPE_CHECKING:
    from watchkeeper.config.sources.kubernetes import ServiceChecks

journal = get_logger("kubernetes")
LOOK_INTERVAL = 10.0
"""Seconds; a check that changes its verdict says so by an event, and this finds what was missed."""
SOON = 0.2
WHY_LIMIT = 1024


class ServiceCheckReconciler:
    """A key is SOURCE/NAMESPACE.NAME."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writes = context.metrics.counter(
            "kubernetes_writes_total", "Changes that were written to the cluster.", "what", "result"
        )

    async def reconcile(self, key: Key) -> Result:
        origin, _, name = key.name.partition("/")
        source: ServiceChecks | None = self._context.reporters.get(origin)
        item = source.objects.get(name) if source is not None else None
        left = source.left(name) if source is not None and item is None else None
        try:
            if source is not None and item is not None:
                return await self._write(key, source, name, item)
            if source is not None and left is not None:
                return await self._let_go(key, source, name, left)
        except KubeError as error:
            return self._refused(key, error)
        self._context.forget(key)  # K5
        return Result()

    async def _write(self, key: Key, source: ServiceChecks, name: str, item: Object) -> Result:
        if item.metadata.deletion_timestamp is not None:
            return await self._let_go(key, source, name, item)
        own = source.finalizer
        if source.spec.finalizer and own not in item.metadata.finalizers:
            await self._finalizers(source, item, (*item.metadata.finalizers, own))  # K3
            return Result(SOON)
        seen = self._seen(source, name, item)
        if source.spec.status and self._differs(item, source.node, seen):
            await source.client.patch(
                item.metadata, {"status": {"nodes": {source.node: seen}}}, subresource="status"
            )
            self._writes.labels("status", "success").inc()
        self._context.show(key, seen["state"], seen["why"], generation=item.metadata.generation)
        return Result(LOOK_INTERVAL)

    async def _let_go(self, key: Key, source: ServiceChecks, name: str, item: Object) -> Result:
        """K3: the check first, then the finalizer."""
        gone = item.metadata.deletion_timestamp is not None
        why = "it is being deleted" if gone else "it is another node's now"
        if name in self._context.observed.checks or name in self._context.snapshot.checks:
            self._context.show(key, "ending", f"{why}, and its check has not ended yet")
            return Result(SOON)
        if source.finalizer in item.metadata.finalizers:
            left = tuple(each for each in item.metadata.finalizers if each != source.finalizer)
            await self._finalizers(source, item, left)
        self._context.show(key, "ended", f"{why}, and nothing is left of it here")
        return Result(LOOK_INTERVAL)

    async def _finalizers(self, source: ServiceChecks, item: Object, names: tuple[str, ...]) -> None:
        meta = {"finalizers": names, "resourceVersion": item.metadata.resource_version}  # K4
        await source.client.patch(item.metadata, {"metadata": meta})
        self._writes.labels("finalizer", "success").inc()

    def _seen(self, source: ServiceChecks, name: str, item: Object) -> dict[str, Any]:
        if name in source.wrong:
            state, why, since = "invalid", source.wrong[name], wall_clock()
        else:
            record = self._context.observed.checks.get(name)
            state = "unknown" if record is None else record.gate.verdict.value
            why = (
                record.outcome.detail
                if record is not None and record.outcome is not None
                else "not checked yet"
            )
            since = wall_clock() if record is None else record.since
        return {
            "state": state,
            "why": why[:WHY_LIMIT],
            "since": rfc3339(since),
            "observedGeneration": item.metadata.generation,
        }

    @staticmethod
    def _differs(item: Object, node: str, seen: dict[str, Any]) -> bool:
        """K2."""
        nodes = item.status.get("nodes")
        there = nodes.get(node) if isinstance(nodes, dict) else None
        if not isinstance(there, dict):
            return True
        asked = ("state", "observedGeneration", *(("why",) if seen["state"] == "invalid" else ()))
        return any(there.get(field) != seen[field] for field in asked)

    def _refused(self, key: Key, error: KubeError) -> Result:
        if error.status == 404:  # K5: the watch will say so
            return Result()
        if error.conflict:  # K4: the watch brings the newer one
            return Result(SOON)
        self._writes.labels("any", "failure").inc()
        self._context.metrics.error(ErrorClass.NETWORK_FAILURE)
        self._context.show(key, "failing", str(error), last_error=str(error))
        journal.warning(
            f"{key.name} cannot be written to: {error}", error_class=ErrorClass.NETWORK_FAILURE, key=str(key)
        )
        return Result(max(error.retry_after, LOOK_INTERVAL))
