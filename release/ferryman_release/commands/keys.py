"""`ferryman keys`: who may sign, from the first ceremony to the last rotation (docs/keys.md).

new       make one key pair: what a holder does on their own machine
init      the first root and targets: three offline keys of which two sign, and a key for each online role
sign      sign what waits in keys/draft; it is valid when enough have
rotate    give a role a new key
revoke    take a key out of every role, and say that what it signed no longer counts
channels  let the channels be those of the settings
refresh   new versions of root and targets, with a new expiry
status    roles, keys, versions, expiries; the exit code says whether something is due
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from securesystemslib.signer import Key, Signer

from ferryman_build.errors import UsageError
from ferryman_build.project import find_project, load_project
from ferryman_build.settings import ReleaseSettings
from ferryman_build.ui import make_ui
from ferryman_release.errors import ExpiresSoonError, KeyProblemError, MetadataError
from ferryman_release.keys import ceremony
from ferryman_release.keys.ceremony import Named
from ferryman_release.keys.describe import Status, changes, status
from ferryman_release.keys.documents import role_keys
from ferryman_release.keys.edit import Change, drafts, edit, sign, wanted
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.keys.names import BESIDE, OFFLINE, ONLINE, ROOT
from ferryman_release.keys.sources import Sources, online_uris, read_public
from ferryman_release.signing.secrets import Secrets, terminal

Clock = Callable[[], datetime]


def now() -> datetime:
    """The moment, UTC; tests put another one here."""
    return datetime.now(UTC)


class Desk:
    """What every action works with: the folder, the settings, what opens and makes keys, and the moment."""

    def __init__(self, args: argparse.Namespace) -> None:
        project = load_project(find_project(Path.cwd(), args.project), lock_required=False)
        self.args = args
        self.root = project.root
        self.settings: ReleaseSettings = project.settings.release
        self.folder = KeyFolder(project.root / self.settings.keys)
        self.sources = Sources(Secrets(os.environ, terminal()), project.root)
        self.now = now()

    def holders(self) -> list[Signer]:
        """What signs with the offline keys of `--key`."""
        known: list[Key] = []
        if self.folder.exists():
            known += role_keys(self.folder.root().signed, ROOT)
        if (draft := drafts(self.folder).get(ROOT)) is not None:
            known += role_keys(draft.signed, ROOT)
        return [self.sources.holder(uri, known) for uri in self.args.key]

    def newcomer(self, role: str) -> Named | None:
        """The key of `--new` or `--public`, called like its file; None when neither was given."""
        if self.args.public:
            if len(self.args.public) > 1:
                raise UsageError("One key is replaced by one key.", advice="Give --public once.")
            return read_public(self.args.public[0], role)
        if not self.args.new:
            return None
        key, made = self.sources.provide(self.args.new, "root" if role == ROOT else role)
        if made:
            print(f"made {made}")
        return Named(Path(self.args.new.partition(":")[2]).stem or role, key)


def run(args: argparse.Namespace) -> int:
    """Do what ``args.action`` names.

    Raises:
        FerrymanError: see the modules in ferryman_release/keys.
    """
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "new": _new, "init": _init, "sign": _sign, "rotate": _rotate, "revoke": _revoke, "channels": _channels,
        "refresh": _refresh, "status": _status,
    }  # fmt: skip
    return actions[args.action](args)


def _new(args: argparse.Namespace) -> int:
    path = Path(_word(args, 0, "FILE")).expanduser()
    made = Sources(Secrets(os.environ, terminal()), Path.cwd()).make(path, _holder(path), str(path))
    public = path.with_suffix(".pub")
    public.write_bytes(made.public)
    print(f"made {path}, which stays with you, and {public}, which you hand over")
    return 0


# --- the first ceremony -------------------------------------------------------------------------------------------------


def _init(args: argparse.Namespace) -> int:
    desk = Desk(args)
    if desk.folder.exists() or drafts(desk.folder):
        raise KeyProblemError(
            f"There are keys in {desk.folder.path} already.",
            advice="Change them with `ferryman keys rotate`; `ferryman keys status` shows them.",
        )
    offline, signers = _offline(desk)
    roles = (*ONLINE, *desk.settings.channels, *BESIDE)
    online, uris = {}, online_uris(roles, desk.settings.signers, _private(desk))
    for role, uri in uris.items():
        online[role], made = desk.sources.provide(uri, role)
        if made:
            print(f"made {made}")
    with edit(desk.folder, desk.settings, desk.now, signers) as change:
        ceremony.begin(change, offline, online, desk.settings.channels, threshold=args.threshold)
    _tell_signers({role: uri for role, uri in uris.items() if role not in desk.settings.signers})
    if not args.public:
        print(
            "The three offline keys lie in one folder. Take them apart now: one to each holder, each with a copy of its\n"
            "own, none on a machine that publishes. Two of them can do everything."
        )
    return _outcome(desk)


def _offline(desk: Desk) -> tuple[list[Named], list[Signer]]:
    """The holders' public keys, and what signs for those whose keys are made here."""
    if desk.args.public:
        return [read_public(path, ROOT) for path in desk.args.public], desk.holders()
    folder = _private(desk)
    if folder is None:
        raise UsageError(
            "Nothing says where the offline keys come from.",
            advice="--private DIR makes three of them; --public A.pub B.pub C.pub takes what holders have made.",
        )
    names = [f"root-{number}" for number in (1, 2, 3)]
    made = [desk.sources.make(folder / f"{name}.pem", name, f"the offline key {name}") for name in names]
    for one in made:
        print(f"made {one.path}")
    offline = [Named(name, one.signer.public_key) for name, one in zip(names, made, strict=True)]
    return offline, [one.signer for one in made]


def _private(desk: Desk) -> Path | None:
    """The folder of new private keys: never inside the project, where it would be committed."""
    if desk.args.private is None:
        return None
    folder = Path(desk.args.private).expanduser().absolute()
    if folder.resolve().is_relative_to(desk.root.resolve()):
        raise UsageError(
            f"{folder} is inside of the project, and would be committed with it.",
            advice="Name a folder outside.",
        )
    return folder


def _tell_signers(uris: dict[str, str]) -> None:
    if uris:
        print("\nAdd to pyproject.toml, or the paths that these files get on the machine that publishes:\n")
        print("[tool.ferryman.release.signers]")
        print("".join(f'{role} = "{uri}"\n' for role, uri in uris.items()))


# --- changes ------------------------------------------------------------------------------------------------------------


def _sign(args: argparse.Namespace) -> int:
    desk = Desk(args)
    if not drafts(desk.folder):
        sign(desk.folder, ())  # what an interrupted run has left
        print("Nothing waits for a signature.")
        return 0
    if not args.key:
        raise UsageError(
            "Nothing says which key signs.", advice="--key file:PATH, where your offline key is."
        )
    print("You are about to sign:")
    print("".join(f"  {line}\n" for line in changes(desk.folder)), end="")
    _confirm(args)
    sign(desk.folder, desk.holders())
    return _outcome(desk)


def _rotate(args: argparse.Namespace) -> int:
    role = _word(args, 0, "ROLE")
    desk = _desk_with_keys(args)
    new = desk.newcomer(role)
    if new is None:
        raise UsageError(
            f"Nothing says what the new key of {role} is.",
            advice="--new file:PATH makes one there, or takes the one that is there; --public FILE takes its public half.",
        )
    with edit(desk.folder, desk.settings, desk.now, desk.holders()) as change:
        if role in OFFLINE and len(args.words) > 1:
            ceremony.replace_holder(change, ceremony.find_key(change, args.words[1]), new)
        elif role in OFFLINE:
            ceremony.add_holder(change, new)
        else:
            ceremony.rotate(change, role, new.key)
    if role not in OFFLINE:
        _tell_new_place(desk, (role,))
    return _outcome(desk)


def _revoke(args: argparse.Namespace) -> int:
    if not args.reason:
        raise UsageError("A key is revoked for a reason.", advice='--reason "the laptop was stolen"')
    text = _word(args, 0, "KEY")
    desk = _desk_with_keys(args)
    with edit(desk.folder, desk.settings, desk.now, desk.holders()) as change:
        keyid = ceremony.find_key(change, text)
        had = [role for role in ceremony.every_role(change) if keyid in ceremony.role_ids(change, role)]
        new = desk.newcomer(had[0]) if had else None
        roles = ceremony.revoke(change, keyid, args.reason, new)
        print(f"revoked {keyid[:12]}, which had {', '.join(roles) or 'no role any more'}")
        _warn_few(change)
    if new and not set(roles) & set(OFFLINE):
        _tell_new_place(desk, roles)
    return _outcome(desk)


def _channels(args: argparse.Namespace) -> int:
    desk = _desk_with_keys(args)
    wanted_names = desk.settings.channels
    fresh = [name for name in wanted_names if name not in desk.folder.channels()]
    keys = {}
    for role, uri in online_uris(fresh, desk.settings.signers, _private(desk)).items():
        keys[role], made = desk.sources.provide(uri, role)
        if made:
            print(f"made {made}")
    with edit(desk.folder, desk.settings, desk.now, desk.holders()) as change:
        added, removed = ceremony.set_channels(change, wanted_names, keys)
    print(f"added: {', '.join(added) or 'none'}; removed: {', '.join(removed) or 'none'}")
    return _outcome(desk)


def _refresh(args: argparse.Namespace) -> int:
    desk = _desk_with_keys(args)
    with edit(desk.folder, desk.settings, desk.now, desk.holders()) as change:
        change.renew |= set(OFFLINE)
    return _outcome(desk)


# --- status -------------------------------------------------------------------------------------------------------------


def _status(args: argparse.Namespace) -> int:
    desk = Desk(args)
    found = status(desk.folder, desk.now, desk.settings.expires)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _show(desk, found)
    if not found.roles and not found.wanted:
        desk.folder.roots()  # says that there are none
    if expired := [alarm for alarm in found.alarms if alarm.expired]:
        raise MetadataError(
            "Clients refuse what the keys have signed: it has expired.",
            details=map(str, expired),
            advice=_RENEW,
        )
    if found.alarms:
        raise ExpiresSoonError(
            "What the keys have signed expires soon.", details=map(str, found.alarms), advice=_RENEW
        )
    return 0


_RENEW = (
    "`ferryman keys refresh` and two holders with `ferryman keys sign` renew root and targets (docs/keys.md)."
)


def _show(desk: Desk, found: Status) -> None:
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


# --- words --------------------------------------------------------------------------------------------------------------


def _desk_with_keys(args: argparse.Namespace) -> Desk:
    desk = Desk(args)
    desk.folder.targets()  # the chain holds, or nothing is changed
    return desk


def _outcome(desk: Desk) -> int:
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


def _tell_new_place(desk: Desk, roles: Iterable[str]) -> None:
    if desk.args.new:
        print("[tool.ferryman.release.signers]")
        print("".join(f'{role} = "{desk.args.new}"\n' for role in roles), end="")


def _warn_few(change: Change) -> None:
    role = change.root.roles[ROOT]
    if len(role.keyids) <= role.threshold:
        print(
            f"{len(role.keyids)} offline keys are left and {role.threshold} must sign: if one more is lost, nothing can be\n"
            "changed any more. Bring another soon: ferryman keys rotate root --public FILE",
            file=sys.stderr,
        )


def _confirm(args: argparse.Namespace) -> None:
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("Nobody can be asked whether to sign that.", advice="Say --yes if you have read it.")
    if input("Sign it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was signed.")


def _holder(path: Path) -> str:
    return path.stem if path.stem.startswith("root-") else ROOT


def _word(args: argparse.Namespace, index: int, name: str) -> str:
    if len(args.words) <= index:
        raise UsageError(
            f"`ferryman keys {args.action}` wants a {name}.", advice="docs/keys.md shows each of them."
        )
    return str(args.words[index])
