"""`nox -s bench [-- NAME …]`: run the named benches, or all of them. Each prints ratios against a peer of the same run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BENCHES = (
    "spine",
    "launcher",
    "payload_delta",
    "extension",
    "matrix",  # takes the tree that the one before it has built
    "agent_checks",
    "agent_footprint",
    "agent_growth",
    "agent_logging",
    "agent_metrics",
    "agent_restart",
    "release",
    "release_again",
    "release_client",
)
TOGETHER = {
    "agent": tuple(name for name in BENCHES if name.startswith("agent_")),
    "release": ("release", "release_again", "release_client"),
}  # one name for what belongs to one half


def main(arguments: list[str]) -> int:
    """Exit code 1 when any promise is not kept. What begins with a dash is handed to the one bench that is named."""
    named = [word for word in arguments if not word.startswith("-")]
    names = [
        name
        for word in named
        for name in TOGETHER.get(word, (word,))
        if name in BENCHES or name not in TOGETHER
    ]
    options = [word for word in arguments if word.startswith("-")]
    unknown = sorted(set(names) - set(BENCHES))
    if unknown:
        sys.stderr.write(
            f"There is no bench called {', '.join(unknown)}. Benches are {', '.join(BENCHES)}.\n"
        )
        return 2
    if options and len(names) != 1:
        sys.stderr.write(f"{' '.join(options)} belongs to one bench: name it.\n")
        return 2
    codes = [
        subprocess.run([sys.executable, HERE / f"{name}.py", *options], check=False).returncode
        for name in names or BENCHES
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
