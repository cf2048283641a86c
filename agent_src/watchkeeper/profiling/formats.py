"""A profile as text that flame graph programs read: collapsed stacks, and speedscope's own format. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from watchkeeper._version import __version__
from watchkeeper.profiling.sampler import Profile

SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def collapsed(profile: Profile) -> str:
    """A line per stack: thread and frames, outermost first, parted by semicolons; a blank; how often it was seen.

    It is what flamegraph.pl, inferno and speedscope read. The most frequent come first.
    """
    counts: Counter[str] = Counter()
    names = [str(frame).replace(";", ":").replace("\n", " ") for frame in profile.frames]
    for thread in profile.threads.values():
        head = thread.name.replace(";", ":").replace("\n", " ")
        for number, count in Counter(thread.stacks).items():
            counts[";".join((head, *(names[frame] for frame in profile.stacks[number])))] += count
    return "".join(f"{stack} {count}\n" for stack, count in counts.most_common())


def speedscope(profile: Profile, name: str) -> dict[str, Any]:
    """speedscope's file format: shared frames, and a sampled profile per thread in the order of time."""
    return {
        "$schema": SCHEMA,
        "name": name,
        "exporter": f"watchkeeper@{__version__}",
        "activeProfileIndex": 0,
        "shared": {
            "frames": [
                {"name": frame.name, "file": frame.file, "line": frame.line} for frame in profile.frames
            ]
        },
        "profiles": [
            {
                "type": "sampled",
                "name": thread.name,
                "unit": "seconds",
                "startValue": 0,
                "endValue": sum(thread.weights),
                "samples": [profile.stacks[number] for number in thread.stacks],
                "weights": thread.weights,
            }
            for thread in profile.threads.values()
        ],
    }
