"""The ways to make a tree, decided from configuration and machine alone.

collector = "auto"          PyInstaller for the target that this machine is, a standalone runtime for every other
collector = "pyinstaller"   here for this machine's own target, through a runner for another
collector = "standalone"    a standalone runtime, for this machine's own target as well
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from ferryman_build.inspect.native import version_key
from ferryman_build.settings import Bundler, Collector, Settings
from ferryman_build.targets import Target


class Way(StrEnum):
    """HERE: PyInstaller on this machine. THROUGH: PyInstaller in a runner. STANDALONE: nothing of the target runs."""

    HERE = "here"
    THROUGH = "through a runner"
    STANDALONE = "standalone"


def way_of(settings: Settings, target: Target, host: Target, needs: Mapping[str, str] | None = None) -> Way:
    """How the tree of ``target`` is made on a machine that is ``host`` and whose Python ``needs`` {"glibc": "2.36"}."""
    own = target.id == host.id
    if settings.collector is Collector.STANDALONE:
        return Way.STANDALONE
    if settings.collector is Collector.PYINSTALLER or settings.bundle is Bundler.PYINSTALLER:
        return Way.HERE if own else Way.THROUGH
    return Way.HERE if own and keeps(needs or {}, target) else Way.STANDALONE


def keeps(needs: Mapping[str, str], target: Target) -> bool:
    """Whether what ``needs`` these versions can keep what ``target`` promises."""
    return all(
        system in target.floor and version_key(version) <= version_key(target.floor[system])
        for system, version in needs.items()
    )


def collector_of(way: Way) -> Collector:
    """What the manifest calls it."""
    return Collector.STANDALONE if way is Way.STANDALONE else Collector.PYINSTALLER
