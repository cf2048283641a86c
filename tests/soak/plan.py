"""The plan of a soak: what goes wrong, when, and for how long. All of it comes from one seed, and nothing else.

Time is cut into rounds: a storm, in which faults overlap, and a calm, in which all of them have ended and everything has to come
back to what is wanted. Faults that would hide each other's consequences (ALONE) never meet. The agent is killed in the first half
only: in the second half one process lives through all of it, and its growth is measured.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

STORM, CALM = 40.0, 30.0
WARM_UP, FINALE = 15.0, 45.0
"""Seconds."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong `at` seconds after the beginning, for `seconds`; `how` is a word or number of its own."""

    at: float
    what: str
    how: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:8.1f} s  {self.what:<12} {self.how:<24} for {self.seconds:4.1f} s"


@dataclass(frozen=True)
class Round:
    """A storm and the calm after it."""

    number: int
    at: float
    calm_at: float
    faults: tuple[Fault, ...]
    kills: bool


TARGET_MODES = ("hang", "reset", "drip", "malformed", "torn", "endless", "flap", "status", "close")
SINK_MODES = ("away", "status", "hang", "slow", "refuse")
HTTP_MODES = ("lie", "wrong", "status", "torn", "slow", "hang", "flap")
CONSUL_MODES = ("status", "torn", "body", "delay", "back", "forget", "index")
KUBERNETES_MODES = ("status", "hang-up", "compact", "torn", "line", "silent", "throttle")
FOLDER_MODES = ("thousands", "wrong", "bomb", "churn", "gone")
ORDERS = ("restart", "stop", "start", "kill-child")
RELOADS = ("hup", "control", "file", "wrong-file")
LEVELS = ("trace", "debug", "warning", "error")

WORDS: dict[str, tuple[str, ...]] = {
    "targets": TARGET_MODES,
    "certificate": ("expired", "stranger", "renewed"),
    "sink": SINK_MODES,
    "http-source": HTTP_MODES,
    "consul": CONSUL_MODES,
    "kubernetes": KUBERNETES_MODES,
    "etcd": ("kill",),
    "folder": FOLDER_MODES,
    "order": ORDERS,
    "reload": RELOADS,
    "log-level": LEVELS,
    "rotate": ("moved",),
    "clock": ("-400d", "-1h", "+1h", "+4000d", "jitter"),
}
WEIGHTS = {
    "targets": 5,
    "order": 5,
    "sink": 2,
    "http-source": 3,
    "folder": 3,
    "consul": 2,
    "kubernetes": 2,
    "reload": 2,
}
"""How often one is chosen in comparison with the others (1)."""
ALONE: dict[str, tuple[str, ...]] = {
    "kill-agent": ("at once", "after a moment"),
    "freeze-agent": ("stop",),
    "full-disk": ("all", "almost"),
    "descriptors": ("none", "few"),
}
LONGEST = {
    "freeze-agent": 4.0,
    "descriptors": 4.0,
    "kill-agent": 1.5,
    "full-disk": 8.0,
    "order": 0.0,
    "reload": 4.0,
}
"""Seconds that one of these lasts at most; of all others a third of the storm."""


def make(seed: int, minutes: float) -> list[Round]:
    """The same for the same arguments, on every machine."""
    chance = random.Random(seed)
    length = STORM + CALM
    count = max(1, int((minutes * 60 - WARM_UP - FINALE) / length))
    kills = max(1, count // 2)
    starts = [WARM_UP + number * length for number in range(count)]
    return [
        Round(number, at, at + STORM, tuple(sorted(_storm(chance, at, kills=number < kills), key=lambda one: one.at)),
              number < kills)
        for number, at in enumerate(starts)
    ]  # fmt: skip


def _storm(chance: random.Random, start: float, *, kills: bool) -> Iterator[Fault]:
    names, weights = list(WORDS), [WEIGHTS.get(name, 1) for name in WORDS]
    for name in chance.choices(names, weights, k=chance.randint(22, 32)):
        yield _fault(chance, name, WORDS[name], start, start + STORM - 2)
    alone = [name for name in ALONE if kills or name != "kill-agent"]
    chosen = chance.sample(alone, k=min(3, len(alone)))
    if kills and "kill-agent" not in chosen:
        chosen[0] = "kill-agent"
    slot = (STORM - 2) / len(chosen)
    for number, name in enumerate(chosen):
        begin = start + number * slot
        yield _fault(chance, name, ALONE[name], begin, begin + slot)


def _fault(chance: random.Random, name: str, words: tuple[str, ...], begin: float, end: float) -> Fault:
    seconds = round(chance.uniform(0.3, 1.0) * LONGEST.get(name, (end - begin) / 3), 1)
    return Fault(
        round(chance.uniform(begin, max(begin, end - seconds - 1)), 1), name, chance.choice(words), seconds
    )
