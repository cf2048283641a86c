"""`ferryman refresh`: sign again what is about to expire, and nothing else; for a job that runs each day."""

from __future__ import annotations

import argparse
from datetime import datetime

from ferryman_release.commands.opening import changed
from ferryman_release.metadata.repository import Transaction


def run(args: argparse.Namespace) -> int:
    """A new timestamp; new documents for channels that have less than half of their time left."""

    def edit(transaction: Transaction) -> str:
        renewed = [role for role in transaction.current.channels if _due(transaction, role)]
        for role in renewed:
            transaction.set(transaction.state(role))
        return f"the timestamp is new; channels signed again: {', '.join(renewed) or 'none had to be'}"

    return changed(args, edit)


def _due(transaction: Transaction, role: str) -> bool:
    now, full = transaction.now(), transaction.expiry(role)
    expires: datetime = transaction.current.documents[role].signed.expires
    return expires - now < (full - now) / 2
