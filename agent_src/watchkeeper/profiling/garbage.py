"""What the garbage collector does: how often, for how long, what it found."""

from __future__ import annotations

import gc
from typing import Any

from watchkeeper.collectors.itself import PAUSES


def report() -> dict[str, Any]:
    """Counts and thresholds, what each generation has done since the start, and the pauses since somebody first asked."""
    PAUSES.watch()
    return {
        "enabled": gc.isenabled(),
        "threshold": gc.get_threshold(),
        "count": gc.get_count(),
        "frozen": gc.get_freeze_count(),
        "generations": gc.get_stats(),
        "pauses": {
            "count": sum(PAUSES.collections),
            "seconds": sum(PAUSES.seconds),
            "longest_seconds": PAUSES.longest,
            "by_generation": [
                {"collections": count, "seconds": seconds}
                for count, seconds in zip(PAUSES.collections, PAUSES.seconds, strict=True)
            ],
        },
    }
