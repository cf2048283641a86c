"""`ferryman doctor` with both halves: what building needs, then what releasing needs and what expires soon.

The exit code is the worse of the two: 4 when a tool for building is missing, else 25 when metadata have expired, 26 when
they expire within an alarm's time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from tuf.api.metadata import Metadata

from ferryman_build.cli import run_doctor
from ferryman_build.errors import FerrymanError
from ferryman_build.ui import make_ui
from ferryman_release.commands.opening import opened
from ferryman_release.errors import ExpiresSoonError, MetadataError
from ferryman_release.keys.lifetimes import alarms
from ferryman_release.keys.names import SNAPSHOT, TIMESTAMP
from ferryman_release.place import Place


def run(args: argparse.Namespace) -> int:
    """Both tables."""
    code = run_doctor(args)
    project, place = opened(args)
    if not place.keys.exists():
        sys.stdout.write("\nThere are no keys yet: `ferryman keys init` makes them (docs/keys.md).\n")
        return code
    with place.store:
        rows, worst = _expiries(place, project.name)
    ui = make_ui(plain=args.plain, stream=sys.stdout)
    ui.table(f"What releasing {project.name} needs", ("document", "state", "expires"), rows)
    ui.close()
    return code or worst


def _expiries(place: Place, name: str) -> tuple[list[tuple[str, ...]], int]:
    documents: dict[str, Metadata[Any]] = {}
    rows: list[tuple[str, ...]] = []
    for role, found in _documents(place, name):
        if isinstance(found, FerrymanError):
            rows.append((role, str(found), found.advice))
        else:
            documents[role] = found
    due = {alarm.role: alarm for alarm in alarms(documents, place.now(), place.settings.expires)}
    for role, document in documents.items():
        state = (
            "ok" if role not in due else "EXPIRED" if due[role].expired else f"{due[role].left:.0f} days left"
        )
        rows.append(
            (f"{role} {document.signed.version}", state, document.signed.expires.strftime("%Y-%m-%d %H:%M"))
        )
    if len(rows) > len(documents) or any(alarm.expired for alarm in due.values()):
        return rows, MetadataError.exit_code
    return rows, ExpiresSoonError.exit_code if due else 0


def _documents(place: Place, name: str) -> Iterator[tuple[str, Metadata[Any] | FerrymanError]]:
    """Each document that clients look at, or why it cannot be read."""
    try:
        yield "root", place.keys.root()
        yield "targets", place.keys.targets()
        current = place.repository(name).load()
    except FerrymanError as error:
        yield "metadata", error
        return
    if current.timestamp and current.snapshot:
        yield TIMESTAMP, current.timestamp
        yield SNAPSHOT, current.snapshot
    yield from current.documents.items()
