"""Runners: what runs a target's programs on this machine. One Protocol (base.py), a dict from the name to the kind.

    native      this machine's own programs, on it
    rootfs      the same processor in another userland: the oldest Debian that the floor promises, or one with musl
    qemu        the same for another processor, under QEMU's user mode
    wine        Windows programs
    container   what a container engine has an image for

Nothing is installed by anything but `ferryman runners setup`. docs/runners.md says what each of them shows and does not.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ferryman_build.errors import ConfigError
from ferryman_build.runners.base import Command, Place, Purpose, Readiness, RunnerKind
from ferryman_build.runners.container import ContainerRunner
from ferryman_build.runners.native import Native
from ferryman_build.runners.rootfs import Qemu, Rootfs
from ferryman_build.runners.wine import WineRunner
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Target

__all__ = [
    "KINDS", "Command", "Outlook", "Place", "Purpose", "Readiness", "RunnerKind", "kinds_for", "pace", "readiness",
]  # fmt: skip

_EVERY: tuple[RunnerKind, ...] = (Native(), Rootfs(), Qemu(), WineRunner(), ContainerRunner())
KINDS: Mapping[RunnerName, RunnerKind] = {kind.name: kind for kind in _EVERY}
"""Every kind, in the order in which they are preferred."""

_PACE = {RunnerName.QEMU: 8.0, RunnerName.WINE: 4.0, RunnerName.CONTAINER: 2.0}


def pace(name: RunnerName, target: Target, host: Target) -> float:
    """By what the time limits of a smoke test are multiplied.

    QEMU's user mode was measured to start an agent five to six times as slowly as the processor itself, Wine two to four
    times (docs/runners.md); a limit is there to end what hangs, so each has some room. A container for another processor
    runs under QEMU as well.
    """
    if target.arch != host.arch and name is RunnerName.CONTAINER:
        name = RunnerName.QEMU
    return _PACE.get(name, 1.0)


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """Through what artifacts of a target would be tried here, for people and for the plan.

    ``names`` are the runners that are ready, with ``found`` of each; when there is none, ``untested`` says why, and
    ``advice`` is the command that would change it (empty when nothing would).
    """

    names: tuple[RunnerName, ...] = ()
    found: tuple[str, ...] = ()
    untested: str = ""
    advice: str = ""


def kinds_for(
    target: Target, host: Target, wanted: RunnerName = RunnerName.AUTO, floor: Mapping[str, str] | None = None
) -> tuple[RunnerKind, ...]:
    """The runners that artifacts of ``target`` are tried with; one that is not ready only when none is.

    AUTO: this machine for its own target, and beside it the oldest userland that the promise ``floor`` (the target's own
    when None) allows, if one is set up; for others the first that is ready, a container only where nothing else is.

    Raises:
        ConfigError: ``wanted`` cannot run programs of ``target``; the advice names those that can.
    """
    if wanted is RunnerName.NONE:
        return ()
    able = tuple(kind for kind in KINDS.values() if kind.runs(target, host))
    if wanted is not RunnerName.AUTO:
        return (_named(wanted, able, target),)
    promised = target.floor if floor is None else floor

    def is_ready(kind: RunnerKind) -> bool:
        return kind.ready(target, Purpose.TRY, promised).ready

    if able and able[0].name is RunnerName.NATIVE:
        return able[:1] + tuple(kind for kind in able if kind.name is RunnerName.ROOTFS and is_ready(kind))
    # One after the other: to ask a container engine takes longer than everything else together.
    return next(((kind,) for kind in able if is_ready(kind)), able[:1])


def _named(wanted: RunnerName, able: tuple[RunnerKind, ...], target: Target) -> RunnerKind:
    for kind in able:
        if kind.name is wanted:
            return kind
    names = " or ".join(kind.name for kind in able)
    raise ConfigError(
        f"Programs of {target} cannot be run through {wanted} on this machine.",
        advice=f'Set runner to {names}, or to "none".'
        if names
        else 'Set runner to "none": nothing can run them here.',
    )


def readiness(
    target: Target, host: Target, wanted: RunnerName = RunnerName.AUTO, floor: Mapping[str, str] | None = None,
    purpose: Purpose = Purpose.TRY,
) -> Outlook:  # fmt: skip
    """What the plan and the doctor say about trying (or building) a target's programs here.

    Raises:
        ConfigError: see kinds_for.
    """
    promised = target.floor if floor is None else floor
    if wanted is RunnerName.NONE:
        return Outlook(untested='runner = "none"')
    kinds = kinds_for(target, host, wanted, promised)
    states = [(kind, kind.ready(target, purpose, promised)) for kind in kinds]
    ready = [(kind.name, state.found) for kind, state in states if state.ready]
    if ready:
        return Outlook(names=tuple(name for name, _ in ready), found=tuple(found for _, found in ready))
    if not states:
        return Outlook(untested=f"nothing runs programs of {target} on this machine")
    kind, state = states[0]
    return Outlook(untested=f"{kind.name}: {state.found or 'not ready'}", advice=state.advice)
