"""Native wheels for every target from one machine, and the choice among wheels that were built elsewhere.

    build_cross_wheel(…)      a setuptools project with an extension, compiled for a target by `zig cc`
    choose_own_wheel(…)       the best of a folder of wheels, for instance cibuildwheel's
    refuse_other_sources(…)   a wheel that was built elsewhere holds what is here

docs/wheels.md says what can be built this way and what cannot; docs/adr/0013-native-wheels.md why it is done so.
"""

from __future__ import annotations

from ferryman_build.wheels.cross import build_cross_wheel
from ferryman_build.wheels.own_wheels import choose_own_wheel, refuse_other_sources
from ferryman_build.wheels.refusals import why_not_here

__all__ = ["build_cross_wheel", "choose_own_wheel", "refuse_other_sources", "why_not_here"]
