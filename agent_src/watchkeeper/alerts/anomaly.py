"""How unusual a value is for its own series: online, robust, and without a model.

Rules:
    A1  The score is the distance from what is usual, in deviations; 0 until `warmup` values were seen.
    A2  A value is scored before it counts as usual itself.
    A3  mad: usual is the median of the newest `samples` values, a deviation is 1.4826 times their median distance from it,
        which is the standard deviation where the values are normal. Half of them may be wild before it is moved.
    A4  ewma: usual is an exponentially weighted average, a deviation 1.2533 times that of the distance from it, which is
        again the standard deviation. A value counts only as far as CLIP deviations away, so that one wild value does not
        hide the next.
    A5  A deviation is at least `min_deviation`, and never 0: the slightest move of a series that never moved is a score of
        at most HIGHEST and not infinite.
    A6  A series that is gone is forgotten at once; NaN says nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Protocol

from watchkeeper.alerts.series import Labels, Vector
from watchkeeper.config.schema.alerts import AnomalyAlert, Method

CLIP = 3.0
HIGHEST = 1e6
MAD_TO_SIGMA = 1.4826
MEAN_DISTANCE_TO_SIGMA = math.sqrt(math.pi / 2)


class Detector(Protocol):
    """One series."""

    def score(self, value: float) -> float:
        """How unusual it is; then it is one of those that were seen."""


class MadDetector:
    """A3: the newest values, also in order, so that a median costs no sort."""

    def __init__(self, samples: int, warmup: int, floor: float) -> None:
        self._newest: deque[float] = deque(maxlen=samples)
        self._ordered: list[float] = []
        self._warmup, self._floor = warmup, floor

    def score(self, value: float) -> float:
        score = 0.0
        if len(self._ordered) >= self._warmup:  # A1
            usual = _median(self._ordered)
            spread = _median(sorted(abs(each - usual) for each in self._ordered))
            score = _score(value - usual, MAD_TO_SIGMA * spread, self._floor)
        if len(self._newest) == self._newest.maxlen:
            self._ordered.pop(bisect_left(self._ordered, self._newest[0]))
        self._newest.append(value)
        insort(self._ordered, value)  # A2
        return score


class EwmaDetector:
    """A4: two averages and a count."""

    def __init__(self, samples: int, warmup: int, floor: float) -> None:
        self._weight = 2 / (samples + 1)
        self._warmup, self._floor = warmup, floor
        self._seen = 0
        self._usual = 0.0
        self._distance = 0.0

    def score(self, value: float) -> float:
        if not self._seen:
            self._seen, self._usual = 1, value
            return 0.0
        away = value - self._usual
        deviation = MEAN_DISTANCE_TO_SIGMA * self._distance
        score = _score(away, deviation, self._floor) if self._seen >= self._warmup else 0.0
        most = CLIP * max(deviation, self._floor)
        if self._seen >= self._warmup and most > 0:
            away = max(-most, min(most, away))
        # While little has been seen, every value weighs the same; afterwards the newest weigh most.
        weight = max(self._weight, 1 / (self._seen + 1))
        self._usual += weight * away
        self._distance += weight * (abs(away) - self._distance)
        self._seen += 1
        return score


class Detectors:
    """One for each series of a rule."""

    def __init__(self, spec: AnomalyAlert) -> None:
        self._spec = spec
        self._detectors: dict[Labels, Detector] = {}

    def score(self, vector: Vector) -> Vector:
        """The score of each value."""
        self._detectors = {labels: self._detectors.get(labels) or self._make() for labels in vector}  # A6
        return {
            labels: self._detectors[labels].score(value)
            for labels, value in vector.items()
            if math.isfinite(value)
        }

    def _make(self) -> Detector:
        make = MadDetector if self._spec.method is Method.MAD else EwmaDetector
        return make(self._spec.samples, self._spec.warmup, self._spec.min_deviation)


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _score(away: float, deviation: float, floor: float) -> float:
    """A5."""
    if away == 0:
        return 0.0
    deviation = max(deviation, floor)
    return HIGHEST if deviation <= abs(away) / HIGHEST else abs(away) / deviation
