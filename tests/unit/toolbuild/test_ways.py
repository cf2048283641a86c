"""ways: how the tree of a target is made, by configuration and machine."""

from __future__ import annotations

import pytest

from ferryman_build.settings import Collector, Settings
from ferryman_build.targets import parse_target
from ferryman_build.ways import Way, collector_of, way_of

LINUX, WINDOWS = parse_target("linux-amd64"), parse_target("windows-amd64")


@pytest.mark.parametrize(
    ("collector", "target", "way", "called"),
    [
        (Collector.AUTO, LINUX, Way.HERE, "pyinstaller"),
        (Collector.AUTO, WINDOWS, Way.STANDALONE, "standalone"),
        (Collector.PYINSTALLER, LINUX, Way.HERE, "pyinstaller"),
        (Collector.PYINSTALLER, WINDOWS, Way.THROUGH, "pyinstaller"),
        (Collector.STANDALONE, LINUX, Way.STANDALONE, "standalone"),
        (Collector.STANDALONE, WINDOWS, Way.STANDALONE, "standalone"),
    ],
)
def test_the_way_follows_from_collector_and_machine(
    collector: Collector, target: object, way: Way, called: str
) -> None:
    """Six cases, seen from a linux-amd64."""
    found = way_of(Settings(collector=collector), target, LINUX)  # type: ignore[arg-type]
    assert found is way
    assert collector_of(found) == called
