"""What every command of this half begins with: the project, and the place that its releases go to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from ferryman_build.project import Project, find_project, load_project
from ferryman_build.ui import Ui, make_ui
from ferryman_release.metadata.repository import Transaction
from ferryman_release.operate import change
from ferryman_release.pages import local_page, write_pages
from ferryman_release.place import Place, open_place
from ferryman_release.signing.roles import minisign_secret


def opened(args: argparse.Namespace) -> tuple[Project, Place]:
    """The project of the command line, and its place."""
    project = load_project(find_project(Path.cwd(), args.project), lock_required=False)
    place = open_place(project)
    place.keys.believe_revoked = getattr(args, "believe_revoked", False)
    return project, place


def ui_of(args: argparse.Namespace) -> Ui:
    """What a person sees, on standard error."""
    return make_ui(plain=args.plain)


def changed(
    args: argparse.Namespace, edit: Callable[[Transaction], str], *, channels: Iterable[str] = ()
) -> int:
    """Make one change of channels visible, with the pages; print what ``edit`` says that it did."""
    project, place = opened(args)
    said: list[str] = []
    minisign_secret(place.settings, place.keys, place.secrets, root=place.root)  # the pages need it
    with place.store:
        change(place, project.name, lambda transaction: said.append(edit(transaction)), channels=channels)
        sys.stdout.write("".join(f"{line}\n" for line in said))  # it is visible, whatever comes now
        write_pages(place, project, project.name)
    sys.stdout.write(f"{local_page(place.public_url)}\n")
    return 0


def having(transaction: Transaction, version: str, channel: str = "") -> list[str]:
    """The channels whose history has the version: all, or the one that is named.

    Raises:
        UnknownReleaseError: none has it.
    """
    from ferryman_release.errors import UnknownReleaseError

    roles = [channel] if channel else list(transaction.current.channels)
    found = [
        role for role in roles
        if any(one.version == version for one in transaction.state(role).history.releases)
    ]  # fmt: skip
    if not found:
        where = channel or "No channel"
        raise UnknownReleaseError(
            f"{where} never had {version}.", advice="`ferryman releases` lists what the channels have had."
        )
    return found
