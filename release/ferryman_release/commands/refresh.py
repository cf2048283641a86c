"""`ferryman refresh`: sign again what is about to expire, and nothing else; for a job that runs each day.

The job that nobody watches has the keys of snapshot and timestamp alone. So a key that is not here keeps nothing else from
being signed: only when its document comes near its end does the command say so with its exit code.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime

from ferryman_release.commands.opening import opened
from ferryman_release.errors import ExpiresSoonError, KeyProblemError
from ferryman_release.keys.lifetimes import alarms
from ferryman_release.metadata.repository import Transaction
from ferryman_release.operate import change
from ferryman_release.pages import write_pages
from ferryman_release.place import Place
from ferryman_release.signing.minisign import signature_key
from ferryman_release.site.pointer import pointer_key


def run(args: argparse.Namespace) -> int:
    """A new timestamp; new documents for channels that have less than half of their time left.

    Raises:
        ExpiresSoonError: a channel's document expires within an alarm's time, and its key is not here.
    """
    project, place = opened(args)
    renewed: list[str] = []
    left: dict[str, str] = {}

    def outdated(transaction: Transaction) -> list[str]:
        return place.repository(project.name).outdated(transaction.current)

    def edit(transaction: Transaction) -> None:
        for role in transaction.current.channels:
            if not _due(transaction, role) and role not in outdated(transaction):
                continue
            if reason := _no_key(place, role):
                left[role] = reason
                continue
            transaction.set(transaction.state(role))
            renewed.append(role)

    with place.store:
        change(place, project.name, edit)
        # The pointers for installers say until when a channel holds, and take the key of minisign.
        if renewed or _other_key(place):
            write_pages(place, project, project.name)
        sys.stdout.write(
            f"the timestamp is new; channels signed again: {', '.join(renewed) or 'none had to be'}\n"
        )
        _warn(place, project.name, left)
    return 0


def _due(transaction: Transaction, role: str) -> bool:
    now, full = transaction.now(), transaction.expiry(role)
    expires: datetime = transaction.current.documents[role].signed.expires
    return expires - now < (full - now) / 2


def _other_key(place: Place) -> bool:
    """Whether a pointer for installers is signed by another key than keys/minisign.pub: that key was rotated."""
    key = place.keys.minisign_public().key_id
    pointers = (place.store.get(pointer_key(channel)) for channel in place.keys.channels())
    return any(signature_key(found[0]) != key for found in pointers if found)


def _no_key(place: Place, role: str) -> str:
    """Why the role cannot sign here, '' when it can."""
    try:
        place.signing.signers(role)
    except KeyProblemError as error:
        return str(error)
    return ""


def _warn(place: Place, name: str, left: dict[str, str]) -> None:
    """Say what could not be signed again, by exit code once that is urgent."""
    if not left:
        return
    sys.stdout.write(f"not signed again, since their keys are not here: {', '.join(left)}\n")
    documents = place.repository(name).load().documents
    soon = alarms({role: documents[role] for role in left}, place.now(), place.settings.expires)
    if soon:
        raise ExpiresSoonError(
            "A channel expires soon, and its key is not here.",
            details=[*map(str, soon), *left.values()],
            advice="Run `ferryman refresh` where its key is; a release or a promotion to it does the same.",
        )
