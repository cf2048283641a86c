"""Which metrics the agent's sources define: found by reading them, so that none is forgotten because nothing made it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from watchkeeper.collectors import REGISTRY, Reading
from watchkeeper.config.schema.collectors import (
    Collectors,
    CpuCollector,
    TextfileCollector,
)

AGENT = Path(__file__).resolve().parents[2] / "agent_src" / "watchkeeper"
KINDS = ("counter", "gauge", "histogram", "summary")
FOREIGN = {"CounterMetricFamily": "counter", "GaugeMetricFamily": "gauge"}


@dataclass(frozen=True)
class Defined:
    """One metric; the name is the whole one."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...]
    where: str


ELSEWHERE = (
    Defined("watchkeeper_workqueue_depth", "gauge", "Keys that wait.", (), "queue_metrics.py"),
    Defined(
        "watchkeeper_workqueue_unfinished_work_seconds",
        "gauge",
        "Age of all work in hand, added up.",
        (),
        "queue_metrics.py",
    ),
    Defined(
        "watchkeeper_workqueue_longest_running_processor_seconds",
        "gauge",
        "Age of the oldest work in hand.",
        (),
        "queue_metrics.py",
    ),
    Defined(
        "watchkeeper_alerts_anomaly_score",
        "gauge",
        "How unusual a series is, in deviations.",
        ("alertname", "series"),
        "reconcilers/alerts.py",
    ),
    Defined(
        "watchkeeper_trace_spans_waiting",
        "gauge",
        "Spans that wait to be sent.",
        (),
        "reconcilers/tracing.py",
    ),
    Defined(
        "watchkeeper_service_processes",
        "gauge",
        "Processes of a service that are there now.",
        ("service",),
        "metrics/sources.py",
    ),
    Defined(
        "watchkeeper_service_resident_memory_bytes",
        "gauge",
        "Resident memory of these.",
        ("service",),
        "metrics/sources.py",
    ),
    Defined(
        "watchkeeper_service_cpu_seconds",
        "gauge",
        "Processor time that these have used; what has ended took its own with it.",
        ("service",),
        "metrics/sources.py",
    ),
    Defined("process_resident_memory_bytes", "gauge", "Resident memory.", (), "metrics/sources.py"),
    Defined("process_virtual_memory_bytes", "gauge", "Virtual memory.", (), "metrics/sources.py"),
    Defined(
        "process_start_time_seconds",
        "gauge",
        "Start of the process, since the epoch.",
        (),
        "metrics/sources.py",
    ),
    Defined("process_threads", "gauge", "Threads.", (), "metrics/sources.py"),
    Defined(
        "process_open_fds", "gauge", "Open file descriptors; on Windows, handles.", (), "metrics/sources.py"
    ),
    Defined(
        "watchkeeper_cpu_quota_cpus",
        "gauge",
        "What the tightest cgroup quota amounts to; absent without one.",
        (),
        "collectors: cpu",
    ),
    Defined(
        "watchkeeper_memory_limit_bytes",
        "gauge",
        "What the agent's cgroup may use, the least of its ancestors'; absent without a limit.",
        (),
        "collectors: memory",
    ),
)
"""Names that are put together at run time, and what this machine may not have."""


def defined() -> dict[str, Defined]:
    """All of them, by name."""
    found = {one.name: one for file in sorted(AGENT.rglob("*.py")) for one in _calls(file)}
    return {one.name: one for one in ELSEWHERE} | found | {one.name: one for one in _readings()}


def _calls(file: Path) -> Iterator[Defined]:
    """Calls of counter(), gauge() and the like with their names written out, and pairs of names and texts in front of them."""
    where = file.relative_to(AGENT).as_posix()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        words = [
            each.value
            for each in _flat(node.args)
            if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        if called in KINDS and len(words) >= 2 and isinstance(node.args[0], ast.Constant):
            if where.startswith("collectors/"):
                continue  # those are called
            yield Defined(f"watchkeeper_{words[0]}", called, words[1], tuple(words[2:]), where)
        elif called in FOREIGN and len(words) >= 2 and isinstance(node.args[0], ast.Constant):
            labels = next((each.value for each in node.keywords if each.arg == "labels"), None)
            names = ast.literal_eval(labels) if labels is not None else ()
            name = words[0] + ("_total" if FOREIGN[called] == "counter" else "")
            yield Defined(name, FOREIGN[called], words[1], tuple(names), where)


def _flat(arguments: list[ast.expr]) -> Iterator[ast.expr]:
    """Arguments, and those of a tuple that stands there with a star."""
    for each in arguments:
        if isinstance(each, ast.Starred) and isinstance(each.value, ast.Tuple):
            yield from each.value.elts
        else:
            yield each


def _readings() -> Iterator[Defined]:
    """What the collectors say when they are called."""
    specs = {name: getattr(Collectors(), {"self": "self_"}.get(name, name)) for name in REGISTRY}
    specs["cpu"] = CpuCollector(per_cpu=True)
    specs["textfile"] = TextfileCollector(directories=("/nowhere",))
    for name, spec in specs.items():
        for one in REGISTRY[name].make(spec).collect():
            if isinstance(one, Reading):
                yield Defined(
                    f"watchkeeper_{one.name}", one.kind, one.text, one.labels, f"collectors: {name}"
                )
