"""`ferryman gc`: remove what no client can come to any more; prints first, and asks."""

from __future__ import annotations

import argparse
import sys

from ferryman_build.errors import UsageError
from ferryman_build.ui import human_size
from ferryman_release.commands.opening import opened
from ferryman_release.gc import Plan, oldest_first, plan, reach
from ferryman_release.metadata.channels import without
from ferryman_release.metadata.repository import Transaction
from ferryman_release.operate import change
from ferryman_release.pages import write_pages


def run(args: argparse.Namespace) -> int:
    """Make the plan, show it, and after a yes do it."""
    project, place = opened(args)
    keep = place.settings.keep if args.keep is None else args.keep
    if keep < 1:
        raise UsageError("--keep has to be at least 1.", advice="What channels offer is kept in any case.")
    with place.store as store:
        objects = list(store.list())
        current = place.repository(project.name).load()
        found = plan(
            current,
            objects,
            reach(store, objects, current, place.now()),
            name=project.name,
            keep=keep,
            now=place.now(),
        )
        sys.stdout.write(text(found))
        if not (found.forget or found.remove) or not (args.yes or _agreed()):
            return 0
        if found.forget:
            change(place, project.name, lambda transaction: _forget(transaction, found.forget))
            write_pages(place, project, project.name)
        for entry in found.remove:
            store.delete(entry.key)
    sys.stdout.write(f"removed {len(found.remove)} objects, {human_size(found.size)}\n")
    return 0


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
