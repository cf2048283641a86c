"""`ferryman releases`: what the channels offer and have offered."""

from __future__ import annotations

import argparse
import sys

import msgspec

from ferryman_build.ui import make_ui
from ferryman_release.commands.opening import opened
from ferryman_release.metadata.channels import ChannelState


def run(args: argparse.Namespace) -> int:
    """List them, newest first."""
    project, place = opened(args)
    with place.store:
        current = place.repository(project.name).load()
    if args.json:
        document = {
            role: {"channel": state.channel, "releases": state.history.releases}
            for role, state in current.channels.items()
        }
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")
        return 0
    rows = [row for role, state in current.channels.items() for row in _rows(role, state)]
    ui = make_ui(plain=args.plain, stream=sys.stdout)
    ui.table(f"{project.name} in {place.public_url}", ("channel", "version", "released", "since", ""), rows)
    ui.close()
    return 0


def _rows(role: str, state: ChannelState) -> list[tuple[str, ...]]:
    reasons = {one.version: one.reason for one in state.channel.yanked}
    return [
        (role, one.version, one.released[:10], one.promoted[:10], _mark(state, one.version, reasons))
        for one in state.history.releases
    ]


def _mark(state: ChannelState, version: str, reasons: dict[str, str]) -> str:
    channel = state.channel
    rollout = next((one.offer.rollout for one in state.offers if one.offer.rollout), None)
    if version in reasons:
        return f"yanked: {reasons[version]}"
    if version in channel.withdrawn:
        return "taken back"
    marks = []
    if version == channel.version:
        marks.append(f"offered to {rollout.percent} %" if rollout else "offered")
    if version == channel.previous:
        marks.append("offered to all others")
    if version == channel.minimum:
        marks.append("minimum")
    marks += [f"last for {one.target}" for one in channel.sunset if one.last == version]
    return ", ".join(marks)
