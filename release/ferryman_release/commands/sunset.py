"""`ferryman sunset TARGET --last VERSION --reason TEXT`: a platform gets nothing newer, and its machines are told why."""

from __future__ import annotations

import argparse

from ferryman_build.errors import UsageError
from ferryman_build.targets import parse_target
from ferryman_release.commands.opening import changed, having
from ferryman_release.metadata.channels import with_sunset
from ferryman_release.metadata.repository import Transaction
from ferryman_release.model import Sunset


def run(args: argparse.Namespace) -> int:
    """Set it for the channel, or for all that have had the version."""
    target = parse_target(args.target)
    rule = Sunset(target=target.id, last=args.last, reason=args.reason, below=_below(args.below))

    def edit(transaction: Transaction) -> str:
        roles = having(transaction, args.last, args.channel)
        for role in roles:
            transaction.set(with_sunset(transaction.state(role), rule))
        below = f" below {args.below}" if args.below else ""
        return f"{', '.join(roles)}: {args.last} is the last version for {target.id}{below}"

    return changed(args, edit)


def _below(text: str) -> dict[str, str]:
    if not text:
        return {}
    system, _, version = text.partition(" ")
    if system not in ("glibc", "musl", "macos", "windows") or not version.strip():
        raise UsageError(
            f"--below {text!r} is no floor.", advice='Write a system and a version: "glibc 2.28".'
        )
    return {system: version.strip()}
