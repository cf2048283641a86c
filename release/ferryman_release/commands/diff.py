"""`ferryman diff A B`: what differs between two releases."""

from __future__ import annotations

import argparse
import sys

import msgspec

from ferryman_build.ui import make_ui
from ferryman_release.commands.opening import opened
from ferryman_release.compare import differences, insides
from ferryman_release.operate import find_release


def run(args: argparse.Namespace) -> int:
    """Print them; 0 also when there are some."""
    project, place = opened(args)
    with place.store as store:
        repository = place.repository(project.name)
        current = repository.load()
        (_, old), (_, new) = (find_release(repository, current, one) for one in (args.old, args.new))
        rows = list(differences(old, new, insides(store, old), insides(store, new)))
    if args.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode() + "\n")
        return 0
    ui = make_ui(plain=args.plain, stream=sys.stdout)
    ui.table(f"{project.name} {args.old} and {args.new}", ("what", args.old, args.new),
             [(row.what, row.before or "-", row.after or "-") for row in rows])  # fmt: skip
    ui.close()
    return 0
