"""`ferryman runners`: what runs programs of other targets on this machine, and how to get it (docs/runners.md).

list    every runner with the targets that it could run here, ready or how to get it
setup   get what a runner needs: the only command that installs anything
remove  delete what was set up for it below FERRYMAN_HOME; packages of the system stay
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from ferryman_build.cmd import Runner
from ferryman_build.errors import ConfigError, UsageError
from ferryman_build.runners import KINDS, RunnerKind
from ferryman_build.runners.base import Purpose, Readiness
from ferryman_build.runners.roots import recipes, store
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Target, all_targets, host_target, parse_targets, with_promise
from ferryman_build.ui import make_ui


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list, and one object of `--json`."""

    runner: str
    target: str
    purpose: Purpose
    ready: bool
    found: str
    advice: str


def run(args: argparse.Namespace) -> int:
    """Do what ``args.action`` names.

    Raises:
        UsageError: there is no such runner or target.
        ConfigError: it cannot run that target on this machine.
        FerrymanError: see RunnerKind.setup.
    """
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list, "setup": _setup, "remove": _remove,
    }  # fmt: skip
    return actions[args.action](args)


# --- list -------------------------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    rows = list(rows_of(args, host_target()))
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return 0
    ui = make_ui(plain=args.plain, stream=sys.stdout)
    table = [
        (row.runner, row.target, row.purpose.value, "ready" if row.ready else "not ready", row.found)
        for row in rows
    ]
    ui.table("Runners on this machine", ("runner", "target", "to", "state", "found"), table)
    for advice in dict.fromkeys(row.advice for row in rows if row.advice):
        ui.say(advice)
    ui.close()
    return 0


def rows_of(args: argparse.Namespace, host: Target) -> Iterator[Row]:
    """Every runner with every target that was asked for, or every one that it could run on a machine like ``host``."""
    wanted = _asked(args) or all_targets()
    for kind in _kinds(args.name):
        for target in wanted:
            if kind.runs(target, host):
                floor = promised(args, target)
                for purpose in Purpose:
                    yield _row(kind, target, purpose, kind.ready(target, purpose, floor))


def _row(kind: RunnerKind, target: Target, purpose: Purpose, state: Readiness) -> Row:
    return Row(runner=kind.name.value, target=target.id, purpose=purpose, ready=state.ready, found=state.found,
               advice=state.advice)  # fmt: skip


# --- setup and remove -------------------------------------------------------------------------------------------------


def _setup(args: argparse.Namespace) -> int:
    kind, host = _kind(args.name), host_target()
    runner = Runner(args.out.absolute() / "logs", verbose=args.verbose)
    ui = make_ui(plain=args.plain)
    for target in _settable(kind, _asked(args), host):
        kept = msgspec.structs.replace(target, floor=promised(args, target))
        kind.setup(kept, runner, lambda text, target=target: ui.say(f"{target}: {text}"))  # type: ignore[misc]
    ui.close()
    return 0


def _settable(kind: RunnerKind, asked: tuple[Target, ...], host: Target) -> tuple[Target, ...]:
    """The targets to set ``kind`` up for: those asked for, else those of tier 1.

    Raises:
        ConfigError: it runs none of them here.
    """
    found = tuple(target for target in asked or all_targets() if kind.runs(target, host))
    chosen = found if asked else tuple(target for target in found if target.tier == 1)
    if (asked and len(found) < len(asked)) or not chosen:
        names = ", ".join(target.id for target in asked if target not in found) or "any target"
        able = ", ".join(target.id for target in all_targets() if kind.runs(target, host))
        raise ConfigError(
            f"The runner {kind.name} does not run {names} on a machine that is {host}.",
            advice=f"It runs {able}." if able else "`ferryman runners` lists what this machine can have.",
        )
    return chosen


def _remove(args: argparse.Namespace) -> int:
    kind = _kind(args.name)
    asked = _asked(args)
    folders = _folders(kind.name, asked) if asked else [store(kind.name)]
    there = [folder for folder in folders if folder.exists()]
    for folder in there:
        shutil.rmtree(folder)
        print(f"removed {folder}")
    if not there:
        print(f"nothing was set up for {kind.name} below {store(kind.name).parent}")
    return 0


def _folders(name: RunnerName, targets: tuple[Target, ...]) -> list[Path]:
    """The userlands of these targets alone."""
    if name not in (RunnerName.ROOTFS, RunnerName.QEMU):
        raise UsageError(f"What {name} has is not kept by target.", advice=f"ferryman runners remove {name}")
    return [
        store(name) / recipe.name
        for target in targets
        for purpose in Purpose
        for recipe in recipes(target, purpose, {})
    ]


# --- words ------------------------------------------------------------------------------------------------------------


def _kinds(name: str) -> tuple[RunnerKind, ...]:
    return (_kind(name),) if name else tuple(KINDS.values())


def _kind(name: str) -> RunnerKind:
    found = next((kind for kind in KINDS.values() if kind.name == name), None)
    if found is None:
        names = ", ".join(kind.name for kind in KINDS.values())
        raise UsageError(
            f"There is no runner called {name!r}." if name else "No runner was named.",
            advice=f"Runners are {names}.",
        )
    return found


def _asked(args: argparse.Namespace) -> tuple[Target, ...]:
    """Empty when the command line names none."""
    if getattr(args, "all", False):
        return all_targets()
    return parse_targets(args.target) if args.target else ()


def _meant_for(target: Target, text: str) -> str:
    """Of a floor that was said for no target by name, what this one can have."""
    parts = (part.strip() for part in text.split(","))
    return ", ".join(part for part in parts if part.partition(" ")[0] in target.floor)


def promised(args: argparse.Namespace, target: Target) -> Mapping[str, str]:
    """What the oldest machine has: --floor, else what the project says, else the target's row.

    Raises:
        ConfigError: --floor makes no sense for ``target``, or --project names none.
    """
    if args.floor:
        return with_promise(target, args.floor if args.target else _meant_for(target, args.floor)).floor
    from ferryman_build.project import find_project, load_project
    from ferryman_build.promises import own_floor
    from ferryman_build.promises import promised as promised_by

    as_host = (args.target or "").strip().lower() == "host"
    try:
        project = load_project(find_project(Path.cwd(), args.project), lock_required=False)
    except ConfigError:
        if args.project is not None:
            raise
        return {**target.floor, **(own_floor(target) if as_host else {})}
    return promised_by(project, target, as_host=as_host).floor
