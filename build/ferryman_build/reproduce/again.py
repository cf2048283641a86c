"""The process of the second build: `python -m ferryman_build.reproduce.again UMASK PROCESSORS build …`.

What a process can only change for itself is changed here; everything else is in its environment already.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(words: Sequence[str]) -> int:
    """Set umask (octal) and number of processors (0: all), then run `ferryman` with the rest."""
    umask, processors, *rest = words
    os.umask(int(umask, 8))
    if int(processors) and sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(processors) :])
    from ferryman_build.cli import main as ferryman

    return ferryman(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
