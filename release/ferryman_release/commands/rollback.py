"""`ferryman rollback CHANNEL`: it takes back what it offers; machines that have it go back to the one before."""

from __future__ import annotations

import argparse

from ferryman_release.commands.opening import changed
from ferryman_release.metadata.channels import rolled_back
from ferryman_release.metadata.repository import Transaction
from ferryman_release.operate import read_release


def run(args: argparse.Namespace) -> int:
    """Go back."""

    def edit(transaction: Transaction) -> str:
        before = transaction.state(args.channel)
        after = rolled_back(before, releases=lambda entry: read_release(transaction.store, entry))
        transaction.set(after)
        return f"{args.channel} takes back {before.channel.version} and offers {after.channel.version}"

    return changed(args, edit)
