"""What is written back to a cluster: status and finalizers, against a client that only takes notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.kubernetes.api import KubeError, Meta, Object
from watchkeeper.metrics import Metrics
from watchkeeper.reconcilers.servicechecks import LOOK_INTERVAL, SOON, ServiceCheckReconciler

KEY = Key(Kind.SERVICE_CHECK, "cluster/shop.web")
OWN = "watchkeeper.internal/here"
pytestmark = pytest.mark.asyncio


@dataclass
class Source:
    """A source with one object, and what was asked of its cluster."""

    objects: dict[str, Object]
    wrong: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    error: KubeError | None = None
    node: str = "here"
    finalizer: str = OWN
    others: dict[str, Object] = field(default_factory=dict)
    spec: Any = field(default_factory=lambda: SimpleNamespace(finalizer=True, status=True))

    @property
    def client(self) -> Source:
        return self

    def left(self, name: str) -> Object | None:
        return self.others.get(name)

    async def patch(self, _meta: Meta, change: dict[str, Any], *, subresource: str = "") -> None:
        self.asked.append((subresource, change))
        if self.error is not None:
            raise self.error


def item(**more: Any) -> Object:
    status = more.pop("status", {})
    meta = {
        "name": "web",
        "namespace": "shop",
        "resource_version": "7",
        "generation": 3,
        "finalizers": (OWN,),
    }
    return Object(Meta(**(meta | more)), {"type": "tcp"}, status)


def world(found: Object, **more: Any) -> tuple[Context, Source, ServiceCheckReconciler]:
    context = Context(Store(), Metrics())
    source = Source({"shop.web": found}, **more)
    context.reporters["cluster"] = source
    return context, source, ServiceCheckReconciler(context)


def checked(context: Context, verdict: str) -> None:
    """The check as it is observed."""
    gate, outcome = (
        SimpleNamespace(verdict=SimpleNamespace(value=verdict)),
        SimpleNamespace(detail="status 200"),
    )
    context.observed.checks["shop.web"] = SimpleNamespace(gate=gate, outcome=outcome, since=0.0)  # type: ignore[assignment]


async def test_the_finalizer_comes_first() -> None:
    """K3, K4: before anything is reported, with the version that was read, beside the finalizers of others."""
    _, source, reconciler = world(item(finalizers=("other/x",)))
    assert (await reconciler.reconcile(KEY)).requeue_after == SOON
    assert source.asked == [("", {"metadata": {"finalizers": ("other/x", OWN), "resourceVersion": "7"}})]


async def test_a_status_is_written_once() -> None:
    """K1, K2: under the node's own name; not again while state and generation are the same, whatever the wording."""
    context, source, reconciler = world(item())
    checked(context, "success")
    assert (await reconciler.reconcile(KEY)).requeue_after == LOOK_INTERVAL
    [(subresource, change)] = source.asked
    seen = change["status"]["nodes"]["here"]
    assert (subresource, seen["state"], seen["observedGeneration"]) == ("status", "success", 3)
    source.objects["shop.web"] = item(
        status={"nodes": {"here": {**seen, "why": "other words"}, "there": {"state": "failure"}}}
    )
    await reconciler.reconcile(KEY)
    assert len(source.asked) == 1
    checked(context, "failure")
    await reconciler.reconcile(KEY)
    assert source.asked[1][1]["status"]["nodes"]["here"]["state"] == "failure"


async def test_what_is_wrong_with_a_spec_is_said() -> None:
    """K2: and said anew when it is something else."""
    _, source, reconciler = world(item(), wrong={"shop.web": "spec.url: missing"})
    await reconciler.reconcile(KEY)
    seen = source.asked[0][1]["status"]["nodes"]["here"]
    assert (seen["state"], seen["why"]) == ("invalid", "spec.url: missing")
    source.objects["shop.web"] = item(status={"nodes": {"here": seen}})
    await reconciler.reconcile(KEY)
    assert len(source.asked) == 1
    source.wrong["shop.web"] = "spec.period: too short"
    await reconciler.reconcile(KEY)
    assert len(source.asked) == 2


async def test_an_object_is_let_go_after_its_check() -> None:
    """K3: not while the check is still there; then without touching the finalizers of others."""
    context, source, reconciler = world(item(deletion_timestamp="now", finalizers=(OWN, "other/x")))
    checked(context, "success")
    assert (await reconciler.reconcile(KEY)).requeue_after == SOON
    assert source.asked == []
    del context.observed.checks["shop.web"]
    await reconciler.reconcile(KEY)
    assert source.asked == [("", {"metadata": {"finalizers": ("other/x",), "resourceVersion": "7"}})]


async def test_an_object_that_moved_to_another_node_is_let_go() -> None:
    """K3: its finalizer would otherwise hold it for ever, since nobody else takes that one out."""
    context, source, reconciler = world(item())
    source.others["shop.web"] = source.objects.pop("shop.web")
    checked(context, "success")
    assert (await reconciler.reconcile(KEY)).requeue_after == SOON
    del context.observed.checks["shop.web"]
    await reconciler.reconcile(KEY)
    assert source.asked == [("", {"metadata": {"finalizers": (), "resourceVersion": "7"}})]
    source.others.clear()
    await reconciler.reconcile(KEY)
    assert KEY not in context.observed.objects


@pytest.mark.parametrize(
    ("status", "again"), [(404, None), (409, SOON), (403, LOOK_INTERVAL), (0, LOOK_INTERVAL)]
)
async def test_refusals(status: int, again: float | None) -> None:
    """K4, K5: gone is no error, a conflict is tried again soon, the rest later and is shown."""
    context, _, reconciler = world(item(), error=KubeError("no", status))
    checked(context, "success")
    assert (await reconciler.reconcile(KEY)).requeue_after == again
    failing = context.observed.objects.get(KEY)
    assert (failing is not None and failing.state == "failing") is (status in (403, 0))


async def test_a_source_that_has_asked_for_time_gets_it() -> None:
    """Retry-After beyond the usual interval is kept to."""
    context, _, reconciler = world(item(), error=KubeError("slow down", 429, 33.0))
    checked(context, "success")
    assert (await reconciler.reconcile(KEY)).requeue_after == 33.0


async def test_an_object_that_is_gone_leaves_no_trace() -> None:
    """K5: also when its whole source is gone."""
    context, source, reconciler = world(item())
    checked(context, "success")
    await reconciler.reconcile(KEY)
    assert KEY in context.observed.objects
    source.objects.clear()
    assert (await reconciler.reconcile(KEY)).requeue_after is None
    assert KEY not in context.observed.objects
    del context.reporters["cluster"]
    assert (await reconciler.reconcile(KEY)).requeue_after is None
