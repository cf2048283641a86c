"""`ferryman yank VERSION --reason TEXT`: no machine should have it; channels that offer it go back to the one before."""

from __future__ import annotations

import argparse

from ferryman_release.commands.opening import changed, having
from ferryman_release.metadata.channels import yanked
from ferryman_release.metadata.repository import Transaction
from ferryman_release.operate import read_release


def run(args: argparse.Namespace) -> int:
    """Yank from every channel that has had it."""

    def edit(transaction: Transaction) -> str:
        lines = []
        for role in having(transaction, args.version):
            after = yanked(
                transaction.state(role), args.version, args.reason, date=transaction.now().date().isoformat(),
                releases=lambda entry: read_release(transaction.store, entry),
            )  # fmt: skip
            transaction.set(after)
            lines.append(f"{role}: {args.version} is yanked, it offers {after.channel.version}")
        return "\n".join(lines)

    return changed(args, edit)
