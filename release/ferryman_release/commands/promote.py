"""`ferryman promote VERSION --to CHANNEL`: another channel offers what one has offered; no byte is built or copied."""

from __future__ import annotations

import argparse

from ferryman_release.commands.opening import changed
from ferryman_release.metadata.repository import Transaction
from ferryman_release.operate import find_release_in, offer
from ferryman_release.steps.sign import entry_asset


def run(args: argparse.Namespace) -> int:
    """Promote."""

    def edit(transaction: Transaction) -> str:
        entry, release = find_release_in(transaction, args.version)
        return offer(transaction, args.to, release, entry_asset(entry), percent=args.percent)

    return changed(args, edit)
