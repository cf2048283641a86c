"""What `ferryman keys` tells people: the table of status, what is valid now, who has still to sign, and what to write down."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ferryman_build.ui import make_ui
from ferryman_release.keys.describe import Status, changes
from ferryman_release.keys.desk import Desk
from ferryman_release.keys.edit import Change, wanted
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.keys.names import ROOT


def show(desk: Desk, found: Status) -> None:
    """The table of roles, what was revoked, and what waits."""
    ui = make_ui(plain=desk.args.plain, stream=sys.stdout)
    rows = [
        (
            row.role, f"{row.threshold} of {len(row.keys)}",
            ", ".join(f"{name} {keyid[:8]}" if name != row.role else keyid[:8] for name, keyid in row.keys.items()),
            str(row.version or ""), row.expires[:10], "" if row.left is None else f"{row.left:.0f}",
        )
        for row in found.roles
    ]  # fmt: skip
    if rows:
        ui.table(f"Keys in {desk.folder.path}", ("role", "signs", "keys", "version", "expires", "days"), rows)
    for one in found.revoked:
        ui.say(f"revoked {one.revoked}: {one.name} {one.id[:8]}, {one.reason}")
    for line in (*changes(desk.folder), *map(str, found.wanted)):
        ui.say(f"draft: {line}")
    ui.close()


def show_outcome(desk: Desk) -> int:
    """Say what is valid now, or who has still to sign."""
    folder = KeyFolder(desk.folder.path)
    missing = wanted(folder)
    if missing:
        print("".join(f"draft: {line}\n" for line in changes(folder)), end="")
        print("".join(f"{one}\n" for one in missing), end="")
        print(
            f"Commit {folder.drafts} and let holders run `ferryman keys sign --key file:PATH`; it is valid then."
        )
    else:
        print(
            f"valid: {max(folder.versions(ROOT))}.root.json, {folder.targets_bytes()[0]}.targets.json; "
            f"commit {folder.path} and publish with it"
        )
    return 0


def show_signers(uris: dict[str, str]) -> None:
    """The lines of the settings for keys that were just made."""
    if uris:
        print("\nAdd to pyproject.toml, or the paths that these files get on the machine that publishes:\n")
        print("[tool.ferryman.release.signers]")
        print("".join(f'{role} = "{uri}"\n' for role, uri in uris.items()))


def show_new_place(desk: Desk, roles: Iterable[str]) -> None:
    """The lines of the settings after a rotation."""
    if desk.args.new:
        print("[tool.ferryman.release.signers]")
        print("".join(f'{role} = "{desk.args.new}"\n' for role in roles), end="")


def warn_few(change: Change) -> None:
    """Say when no holder may be lost any more."""
    role = change.root.roles[ROOT]
    if len(role.keyids) <= role.threshold:
        print(
            f"{len(role.keyids)} offline keys are left and {role.threshold} must sign: if one more is lost, nothing can be\n"
            "changed any more. Bring another soon: ferryman keys rotate root --public FILE",
            file=sys.stderr,
        )
