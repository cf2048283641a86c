"""Which traces are recorded; names and meaning are OpenTelemetry's (OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG)."""

from __future__ import annotations

from collections.abc import Callable

from watchkeeper.tracing.context import SpanContext

Sampler = Callable[[SpanContext | None, int], bool]
LOW = (1 << 64) - 1


def always(_parent: SpanContext | None, _trace_id: int) -> bool:
    """Everything."""
    return True


def never(_parent: SpanContext | None, _trace_id: int) -> bool:
    """Nothing."""
    return False


def ratio(share: float) -> Sampler:
    """That share of all traces, by their ids: whoever uses the same share records the same traces."""
    bound = round(min(1.0, max(0.0, share)) * (1 << 64))
    return lambda _parent, trace_id: trace_id & LOW < bound


def parent_based(root: Sampler) -> Sampler:
    """As the parent does; `root` decides where there is none."""
    return lambda parent, trace_id: root(parent, trace_id) if parent is None else parent.sampled


SAMPLERS: dict[str, Callable[[float], Sampler]] = {
    "always_on": lambda _share: always,
    "always_off": lambda _share: never,
    "traceidratio": ratio,
    "parentbased_always_on": lambda _share: parent_based(always),
    "parentbased_always_off": lambda _share: parent_based(never),
    "parentbased_traceidratio": lambda share: parent_based(ratio(share)),
}
"""By name, from the share that only the ratios use."""
