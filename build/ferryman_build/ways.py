"""The ways to make a tree, decided from configuration and machine alone.

collector = "auto"          PyInstaller for the target that this machine is, a standalone runtime for every other
collector = "pyinstaller"   here for this machine's own target, through a runner for another
collector = "standalone"    a standalone runtime, for this machine's own target as well
"""

from __future__ import annotations

from enum import StrEnum

from ferryman_build.settings import Collector, Settings
from ferryman_build.targets import Target


class Way(StrEnum):
    """HERE: PyInstaller on this machine. THROUGH: PyInstaller in a runner. STANDALONE: nothing of the target runs."""

    HERE = "here"
    THROUGH = "through a runner"
    STANDALONE = "standalone"


def way_of(settings: Settings, target: Target, host: Target) -> Way:
    """How the tree of ``target`` is made on a machine that is ``host``."""
    own = target.id == host.id
    if settings.collector is Collector.STANDALONE or (settings.collector is Collector.AUTO and not own):
        return Way.STANDALONE
    return Way.HERE if own else Way.THROUGH


def collector_of(way: Way) -> Collector:
    """What the manifest calls it."""
    return Collector.STANDALONE if way is Way.STANDALONE else Collector.PYINSTALLER
