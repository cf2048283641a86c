"""The load averages: processes that run or wait to run, over one, five and fifteen minutes. Windows' are psutil's guess."""

from __future__ import annotations

import os
import sys

from watchkeeper.collectors import Reading, gauge

MINUTES = ("1", "5", "15")


class LoadAverages:
    """The collector."""

    def collect(self) -> list[Reading]:
        if sys.platform == "win32":
            import psutil

            averages = psutil.getloadavg()
        else:
            averages = os.getloadavg()
        rows = {(minutes,): average for minutes, average in zip(MINUTES, averages, strict=True)}
        return [gauge("load_average", "Processes that run or wait, over so many minutes.", rows, "minutes")]
