"""What /metrics says of the work queue: client-go's workqueue_* families, under the agent's name.

adds, depth, queue duration, work duration, retries (requests for later), unfinished work, longest running processor. A
worker that hangs shows in the last two at once; in work duration it would show when it has ended.
"""

from __future__ import annotations

from watchkeeper.config.snapshot import Key
from watchkeeper.metrics import Metrics
from watchkeeper.queue import WorkQueue

BUCKETS = (0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)


class QueueMetrics:
    """Implements queue.Measures."""

    def __init__(self, metrics: Metrics, queue: WorkQueue[Key]) -> None:
        adds = metrics.counter("workqueue_adds_total", "Keys that the queue has accepted.")
        retries = metrics.counter("workqueue_retries_total", "Requests to look at a key later.")
        waited = metrics.histogram(
            "workqueue_queue_duration_seconds", "How long a key waited for a worker.", buckets=BUCKETS
        )
        worked = metrics.histogram(
            "workqueue_work_duration_seconds", "How long a worker had a key in hand.", buckets=BUCKETS
        )
        self.added, self.retried = adds.inc, retries.inc
        self.taken, self.finished = waited.observe, worked.observe
        for name, text, function in (
            ("workqueue_depth", "Keys that wait.", lambda: len(queue)),
            (
                "workqueue_unfinished_work_seconds",
                "Age of all work in hand, added up.",
                queue.unfinished,
            ),
            (
                "workqueue_longest_running_processor_seconds",
                "Age of the oldest work in hand.",
                queue.longest_running,
            ),
        ):
            metrics.gauge(name, text).set_function(function)
        queue.measures = self
