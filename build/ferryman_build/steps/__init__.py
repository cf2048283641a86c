"""The pipeline on one screen: which step comes after which, for the sake of which kinds, and under which bundler."""

from __future__ import annotations

from ferryman_build.artifacts import Kind
from ferryman_build.pipeline import Step
from ferryman_build.settings import Bundler
from ferryman_build.steps.checks import INSPECT, INSPECT_PYZ, SMOKE, artifact_path, needs, notes, smoke_result
from ferryman_build.steps.environments import ENV, TOOLS, WHEEL
from ferryman_build.steps.job import TargetJob
from ferryman_build.steps.launchers import LAUNCHER, OBJECTS, TOOLCHAIN
from ferryman_build.steps.trees import ANALYSE, BOOTLOADER, TREE
from ferryman_build.steps.wrappings import ARCHIVE, BOOTLOADER_EXECUTABLE, EXECUTABLE, PYZ, SITE

__all__ = ["STEPS", "TargetJob", "artifact_path", "needs", "notes", "smoke_result", "steps_for"]

_ALL = tuple(Kind)
_FROM_TREE = (Kind.ARCHIVE, Kind.EXECUTABLE)
_BOTH = tuple(Bundler)
_OURS, _THEIRS = (Bundler.FERRYMAN,), (Bundler.PYINSTALLER,)

#     toolchain ─▶ objects ─▶ launcher ──┐
#     wheel ──┬─▶ analyse ───────────────┴─▶ tree ─┬─▶ archive ─────▶ smoke archive
#     env ────┘                                    ├─▶ executable ──▶ smoke executable
#                                                  └─▶ inspect
#     tools ─▶ site ─▶ pyz (with the wheel) ───────┬─▶ smoke pyz
#                                                  └─▶ inspect pyz
#
# With bundle = "pyinstaller" nothing is compiled, and launcher comes after analyse.
#
# (step, the kinds that need it, the bundlers under which), in the order in which steps are offered to free workers.
STEPS: tuple[tuple[Step, tuple[Kind, ...], tuple[Bundler, ...]], ...] = (
    (WHEEL, _ALL, _BOTH),  # the hub: every form is made from it
    (ENV, _FROM_TREE, _BOTH),  # locked dependencies and PyInstaller
    (TOOLCHAIN, _FROM_TREE, _OURS),  # zig and the decoder's sources
    (ANALYSE, _FROM_TREE, _BOTH),  # which files belong to the program
    (OBJECTS, _FROM_TREE, _OURS),  # the launcher, compiled for target and Python
    (TOOLS, (Kind.PYZ,), _BOTH),  # pip and shiv
    (SITE, (Kind.PYZ,), _BOTH),  # the target's wheels, unpacked
    (LAUNCHER, _FROM_TREE, _OURS),  # what starts the tree
    (BOOTLOADER, _FROM_TREE, _THEIRS),  # the same, under the same name
    (TREE, _FROM_TREE, _BOTH),  # a folder that is the whole program
    (EXECUTABLE, (Kind.EXECUTABLE,), _OURS),  # one file
    (BOOTLOADER_EXECUTABLE, (Kind.EXECUTABLE,), _THEIRS),
    (ARCHIVE, (Kind.ARCHIVE,), _BOTH),  # .tar.gz or .zip
    (PYZ, (Kind.PYZ,), _BOTH),  # for machines that have a Python
    (INSPECT, _FROM_TREE, _BOTH),  # what it needs, measured
    (INSPECT_PYZ, (Kind.PYZ,), _BOTH),
    *((SMOKE[kind], (kind,), _BOTH) for kind in Kind),  # that it runs, tried
)


def steps_for(kinds: tuple[Kind, ...], bundler: Bundler) -> tuple[Step, ...]:
    """The steps that ``kinds`` need under ``bundler``, in order."""
    return tuple(
        step for step, needed_by, bundlers in STEPS if set(needed_by) & set(kinds) and bundler in bundlers
    )
