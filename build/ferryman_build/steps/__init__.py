"""The pipeline on one screen: which step comes after which, and for the sake of which kinds."""

from __future__ import annotations

from ferryman_build.artifacts import Kind
from ferryman_build.pipeline import Step
from ferryman_build.steps.checks import INSPECT, INSPECT_PYZ, SMOKE, artifact_path, needs, notes, smoke_result
from ferryman_build.steps.environments import ENV, TOOLS, WHEEL
from ferryman_build.steps.job import TargetJob
from ferryman_build.steps.trees import ANALYSE, LAUNCHER, TREE
from ferryman_build.steps.wrappings import ARCHIVE, EXECUTABLE, PYZ, SITE

__all__ = ["STEPS", "TargetJob", "artifact_path", "needs", "notes", "smoke_result", "steps_for"]

_ALL = tuple(Kind)
_FROM_TREE = (Kind.ARCHIVE, Kind.EXECUTABLE)

#     wheel ──┬─▶ analyse ─▶ launcher ─▶ tree ─┬─▶ archive ─────▶ smoke archive
#     env ────┘                                ├─▶ executable ──▶ smoke executable
#                                              └─▶ inspect
#     tools ─▶ site ─▶ pyz (with the wheel) ───┬─▶ smoke pyz
#                                              └─▶ inspect pyz
#
# (step, the kinds that need it), in the order in which steps are offered to free workers.
STEPS: tuple[tuple[Step, tuple[Kind, ...]], ...] = (
    (WHEEL, _ALL),  # the hub: every form is made from it
    (ENV, _FROM_TREE),  # locked dependencies and PyInstaller
    (ANALYSE, _FROM_TREE),  # which files belong to the program
    (TOOLS, (Kind.PYZ,)),  # pip and shiv
    (SITE, (Kind.PYZ,)),  # the target's wheels, unpacked
    (LAUNCHER, _FROM_TREE),  # what starts the tree
    (TREE, _FROM_TREE),  # a folder that is the whole program
    (EXECUTABLE, (Kind.EXECUTABLE,)),  # one file
    (ARCHIVE, (Kind.ARCHIVE,)),  # .tar.gz or .zip
    (PYZ, (Kind.PYZ,)),  # for machines that have a Python
    (INSPECT, _FROM_TREE),  # what it needs, measured
    (INSPECT_PYZ, (Kind.PYZ,)),
    *((SMOKE[kind], (kind,)) for kind in Kind),  # that it runs, tried
)


def steps_for(kinds: tuple[Kind, ...]) -> tuple[Step, ...]:
    """The steps that ``kinds`` need, in order."""
    return tuple(step for step, needed_by in STEPS if set(needed_by) & set(kinds))
