"""`ferryman gc`: remove what no client can come to any more; prints first, and asks."""

from __future__ import annotations

import argparse
import sys

from ferryman_build.errors import UsageError
from ferryman_build.project import Project
from ferryman_build.ui import human_size
from ferryman_release.commands.opening import opened
from ferryman_release.gc import Plan, oldest_first, plan, reach
from ferryman_release.metadata.channels import without
from ferryman_release.metadata.repository import Transaction
from ferryman_release.operate import change
from ferryman_release.pages import write_pages
from ferryman_release.place import Place
from ferryman_release.store.base import Entry


def run(args: argparse.Namespace) -> int:
    """Make the plan, show it, and after a yes do it."""
    project, place = opened(args)
    keep = place.settings.keep if args.keep is None else args.keep
    if keep < 1:
        raise UsageError("--keep has to be at least 1.", advice="What channels offer is kept in any case.")
    with place.store:
        shown = _plan(place, project.name, keep)
        sys.stdout.write(text(shown))
        if not (shown.forget or shown.remove) or not (args.yes or _agreed()):
            return 0
        removed = _carry_out(place, project, keep, shown)
    sys.stdout.write(f"removed {len(removed)} objects, {human_size(sum(entry.size for entry in removed))}\n")
    return 0


def _plan(place: Place, name: str, keep: int) -> Plan:
    objects, now = list(place.store.list()), place.now()
    current = place.repository(name).load()
    return plan(current, objects, reach(place.store, objects, current, now), name=name, keep=keep, now=now)


def _carry_out(place: Place, project: Project, keep: int, agreed: Plan) -> list[Entry]:
    """Forget and remove what was agreed to and still holds; what was removed.

    The pointer is replaced first, whatever is forgotten: a publisher who has seen what goes away loses its flip, and looks
    again.
    """
    change(place, project.name, lambda transaction: _forget(transaction, agreed.forget))
    write_pages(place, project, project.name)
    keys = {entry.key for entry in agreed.remove}
    going = [entry for entry in _plan(place, project.name, keep).remove if entry.key in keys]
    for entry in going:
        place.store.delete(entry.key)
    return going


def _forget(transaction: Transaction, versions: frozenset[str]) -> None:
    for role, state in transaction.current.channels.items():
        if any(one.version in versions for one in state.history.releases):
            transaction.set(without(transaction.state(role), versions))


def text(found: Plan) -> str:
    """What a person agrees to."""
    lines = [f"kept     {version:<12} {found.kept[version]}" for version in oldest_first(found.kept)]
    lines += [
        f"forget   {version:<12} its files go when no valid metadata name them"
        for version in oldest_first(found.forget)
    ]
    lines += [f"remove   {entry.key}  {human_size(entry.size)}" for entry in found.remove]
    if not (found.forget or found.remove):
        lines.append("nothing to remove")
    return "".join(f"{line}\n" for line in lines)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError("Nobody can be asked here, and nothing was removed.", advice="Say --yes.")
    sys.stdout.write("Remove it? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
