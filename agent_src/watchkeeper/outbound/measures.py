"""What /metrics says about requests. Labels are the names of destinations, "other", and closed lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchkeeper.outbound.breaker import State

if TYPE_CHECKING:
    from watchkeeper.metrics import Metrics

OTHER = "other"
"""The label of every host that is no destination."""


class Measures:
    """The families of one client; without `metrics` nothing is counted."""

    def __init__(self, metrics: Metrics | None) -> None:
        self._metrics = metrics
        if metrics is None:
            return
        self._requests = metrics.counter(
            "outbound_requests_total",
            "Requests of the agent's own, repetitions counted; outcome is 2xx to 5xx, or why there is no answer.",
            "destination",
            "outcome",
        )
        self._duration = metrics.histogram(
            "outbound_request_duration_seconds",
            "From the first byte sent to the last byte received.",
            "destination",
        )
        self._retries = metrics.counter("outbound_retries_total", "Repetitions of requests.", "destination")
        self._changes = metrics.counter(
            "outbound_breaker_changes_total",
            "Changes of a circuit breaker, by its new state.",
            "destination",
            "to",
        )
        self._open = metrics.gauge(
            "outbound_breakers_open", "Breakers that let nothing or only trials through.", "destination"
        )

    def request(self, destination: str, outcome: str, seconds: float) -> None:
        """One was made, or refused; seconds as long as it took."""
        if self._metrics is not None:
            self._requests.labels(destination, outcome).inc()
            self._duration.labels(destination).observe(seconds)

    def retry(self, destination: str) -> None:
        """One is made again."""
        if self._metrics is not None:
            self._retries.labels(destination).inc()

    def breaker(self, destination: str, to: State, open_now: int) -> None:
        """One has changed."""
        if self._metrics is not None:
            self._changes.labels(destination, to.value).inc()
            self._open.labels(destination).set(open_now)

    def no_breakers(self, destination: str) -> None:
        """All that it had are forgotten, with what they knew."""
        if self._metrics is not None:
            self._open.labels(destination).set(0)

    def forget(self, destination: str) -> None:
        """It is no longer configured."""
        if self._metrics is not None:
            for name in (
                "requests_total",
                "request_duration_seconds",
                "retries_total",
                "breaker_changes_total",
            ):
                self._metrics.drop(f"outbound_{name}", "destination", destination)
            self._metrics.drop("outbound_breakers_open", "destination", destination)
