"""`ferryman minimum VERSION`: machines below it have to update; `none` takes that back."""

from __future__ import annotations

import argparse

from ferryman_release.commands.opening import changed, having
from ferryman_release.metadata.channels import with_minimum
from ferryman_release.metadata.repository import Transaction


def run(args: argparse.Namespace) -> int:
    """Set it for the channel, or for all that have had the version."""
    version = "" if args.version == "none" else args.version

    def edit(transaction: Transaction) -> str:
        every = [args.channel] if args.channel else list(transaction.current.channels)
        roles = having(transaction, version, args.channel) if version else every
        for role in roles:
            transaction.set(with_minimum(transaction.state(role), version))
        what = f"machines below {version} have to update" if version else "no machine has to update"
        return f"{', '.join(roles)}: {what}"

    return changed(args, edit)
