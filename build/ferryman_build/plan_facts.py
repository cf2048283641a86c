"""What the plan is told about a target beside configuration and locks: its runtime, its runners, the project's own wheel.

The values are plain, so that the plan stays a pure function of them; :mod:`ferryman_build.plan_sources` finds them out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from ferryman_build.artifacts import Kind
    from ferryman_build.settings import Settings
    from ferryman_build.targets import Target


class Block(msgspec.Struct, frozen=True):
    """Why not, and what would help."""

    reason: str
    cure: str


class RuntimeFact(msgspec.Struct, frozen=True, kw_only=True):
    """The interpreter distribution that a standalone tree would be made from.

    ``python`` is X.Y.Z; ``origin`` who built it, or the folder that was named; ``floor`` what it needs, measured, empty
    while it has not been fetched; ``problem`` why there is none.
    """

    python: str = ""
    origin: str = ""
    fetched: bool = False
    floor: Mapping[str, str] = {}
    problem: Block | None = None


class RunnerFact(msgspec.Struct, frozen=True, kw_only=True):
    """What would try a target's artifacts: ``names``, or ``untested`` with the reason and the cure.

    ``problem`` is what keeps PyInstaller from running there; None when it can.
    """

    names: tuple[str, ...] = ()
    untested: str = ""
    problem: Block | None = None


class OwnWheel(msgspec.Struct, frozen=True, kw_only=True):
    """The project's own wheel.

    ``native``: it holds machine code; ``prebuilt``: file names of wheels in the folder `wheels`; ``crossable``: zig
    compiles it for any target, else ``obstacle`` says why not.
    """

    native: bool = False
    prebuilt: tuple[str, ...] = ()
    crossable: bool = True
    obstacle: str = ""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Where the plan gets facts from; each answers for one target, and of runners for one kind.

    ``here`` is what this machine's own Python needs of its C library, for this machine's own target.
    """

    runtime: Callable[[Target, Settings, str], RuntimeFact]
    runner: Callable[[Target, Settings, Kind], RunnerFact]
    own: OwnWheel = OwnWheel()
    here: Callable[[Target, Settings], Mapping[str, str]] = lambda *_: {}


UNKNOWN_RUNTIME = RuntimeFact(
    problem=Block("Nobody has looked for a runtime.", "Name one with `runtime` in [tool.ferryman].")
)
NOBODY = Sources(runtime=lambda *_: UNKNOWN_RUNTIME, runner=lambda *_: RunnerFact())
"""For a plan that nobody asked anything for."""
