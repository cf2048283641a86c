"""`ferryman promote VERSION --to CHANNEL`: another channel offers what one has offered; no byte is built or copied."""

from __future__ import annotations

import argparse

from ferryman_release.commands.opening import changed
from ferryman_release.metadata.channels import promoted
from ferryman_release.metadata.repository import Transaction
from ferryman_release.operate import find_release_in
from ferryman_release.steps.sign import entry_asset


def run(args: argparse.Namespace) -> int:
    """Promote."""

    def edit(transaction: Transaction) -> str:
        entry, release = find_release_in(transaction, args.version)
        moment = transaction.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        state = transaction.state(args.to)
        after = promoted(state, release, entry_asset(entry), percent=args.percent, moment=moment)
        transaction.set(after)
        rest = f"; all others stay with {after.channel.previous}" if after.channel.previous else ""
        part = f" to {args.percent} % of the machines" if after.channel.previous else ""
        return f"{args.to} offers {args.version}{part}{rest}"

    return changed(args, edit)
