"""docs/agent/metrics.md has every metric that the sources define, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from support.metric_sources import defined
from watchkeeper.metrics import names

DOCS = Path(__file__).resolve().parents[3] / "docs" / "agent" / "metrics.md"
ROW = re.compile(r"^\| `([a-z0-9_]+)` \| (\w+) \| ((?:`\w+` ?)*)\s*\| (.+) \|$", re.MULTILINE)


def documented() -> dict[str, tuple[str, tuple[str, ...], str]]:
    text = DOCS.read_text(encoding="utf-8")
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), what)
        for name, kind, labels, what in ROW.findall(text)
    }


def test_every_metric_is_documented() -> None:
    """With its type, its labels, and the text that /metrics has."""
    rows = documented()
    for name, one in sorted(defined().items()):
        labels = " ".join(f"`{label}`" for label in one.labels)
        line = f"| `{name}` | {one.kind} | {labels} | {one.text} |"
        assert rows.get(name) == (one.kind, one.labels, one.text), f"docs/agent/metrics.md needs: {line}"


def test_nothing_else_is_documented() -> None:
    """What is gone from the sources goes from the page."""
    assert set(documented()) <= set(defined())


def test_every_metric_has_a_name_that_the_registry_takes() -> None:
    """Also those of collectors that the registry does not make itself."""
    for name, one in defined().items():
        if not name.startswith("process_"):
            names.check(one.kind, name, one.labels)
