"""What a metric may be called.

Rules (Prometheus: naming, instrumentation, and what `promtool check metrics` complains about):
    N1  A name is NAMESPACE_SUBSYSTEM_NAME: lower-case words of letters and digits, at least three, the first of which is
        `watchkeeper`.
    N2  A counter ends with _total, and nothing else does.
    N3  What is measured has a base unit: seconds, bytes, ratio; not milliseconds, megabytes or percent.
    N4  A name does not end with what a histogram or a summary adds to it, and does not say of which type it is.
    N5  At most LABEL_LIMIT labels; a label is a lower-case word that the format does not keep for itself.
A breach is a defect of the program and not of a configuration: the family is not made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

NAMESPACE = "watchkeeper"
LABEL_LIMIT = 5

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+){2,}")
LABEL = re.compile(r"[a-z][a-z0-9_]*")
RESERVED_LABELS = frozenset({"le", "quantile", "job", "instance"})
RESERVED_ENDINGS = ("_count", "_sum", "_bucket", "_created", "_info_total")
TYPES = frozenset({"counter", "gauge", "histogram", "summary"})
WRONG_UNITS = frozenset(
    {
        *(
            "ms",
            "us",
            "ns",
            "milliseconds",
            "microseconds",
            "nanoseconds",
            "minutes",
            "hours",
            "days",
            "weeks",
        ),
        *("kb", "mb", "gb", "kib", "mib", "gib", "kilobytes", "megabytes", "gigabytes", "bits"),
        *("percent", "percentage", "fahrenheit", "kelvin", "millivolts", "milliamperes"),
    }
)


def check(kind: str, name: str, labels: Sequence[str]) -> None:
    """Whether a family may be called so.

    Raises:
        ValueError: it may not; the text says why.
    """
    problem = _name_problem(kind, name) or _label_problem(labels)
    if problem:
        raise ValueError(f"the metric {name} cannot be made: {problem}")


def _name_problem(kind: str, name: str) -> str | None:
    if not NAME.fullmatch(name) or not name.startswith(f"{NAMESPACE}_"):
        return f"a name is {NAMESPACE}_SUBSYSTEM_NAME in lower-case words"  # N1
    if (kind == "counter") != name.endswith("_total"):
        return "a counter ends with _total, and nothing else does"  # N2
    if wrong := WRONG_UNITS.intersection(name.split("_")):
        return f"{min(wrong)} is no base unit"  # N3
    if name.endswith(RESERVED_ENDINGS):
        return "its ending is kept for parts of a histogram or a summary"  # N4
    if wrong := TYPES.intersection(name.split("_")):
        return f"it says that it is a {min(wrong)}, which its TYPE line does"  # N4
    return None


def _label_problem(labels: Sequence[str]) -> str | None:
    if len(labels) > LABEL_LIMIT:
        return f"{len(labels)} labels are more than {LABEL_LIMIT}"  # N5
    if len(set(labels)) != len(labels):
        return "a label is there twice"
    wrong = [label for label in labels if not LABEL.fullmatch(label) or label in RESERVED_LABELS]
    return f"{wrong[0]!r} cannot be a label" if wrong else None
