"""The roles that keys are for, and where each stands: light, so that a command line can name them."""

from __future__ import annotations

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"
MINISIGN, PROVENANCE = "minisign", "provenance"

OFFLINE = (ROOT, TARGETS)
ONLINE = (SNAPSHOT, TIMESTAMP)
BESIDE = (MINISIGN, PROVENANCE)
"""Roles of no metadata: what people verify, and what says how a release was made."""


def channel_paths(channel: str) -> list[str]:
    """What the role of a channel may say: targets below its own name, up to three levels deep."""
    return [f"{channel}/*", f"{channel}/*/*", f"{channel}/*/*/*"]
