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
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from securesystemslib.signer import Signer

from ferryman_build.errors import UsageError
from ferryman_release.errors import ExpiresSoonError, KeyProblemError, MetadataError
from ferryman_release.keys import ceremony
from ferryman_release.keys.ceremony import Named
from ferryman_release.keys.describe import changes, status
from ferryman_release.keys.desk import Desk
from ferryman_release.keys.edit import drafts, edit, sign
from ferryman_release.keys.names import BESIDE, OFFLINE, ONLINE, ROOT
from ferryman_release.keys.report import show, show_new_place, show_outcome, show_signers, warn_few
from ferryman_release.keys.sources import Sources, online_uris, read_public
from ferryman_release.signing.secrets import Secrets


def now() -> datetime:
    """The moment, UTC; tests put another one here."""
    return datetime.now(UTC)


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
    if path.suffix == ".pub" or path.with_suffix(".pub").exists():
        raise KeyProblemError(
            f"The public half would take the place of {path.with_suffix('.pub')}.",
            advice="Name the private key, such as ann.pem: its public half is ann.pub beside it.",
        )
    made = Sources(Secrets.usual(), Path.cwd()).make(path, _holder(path), str(path))
    public = path.with_suffix(".pub")
    public.write_bytes(made.public)
    print(f"made {path}, which stays with you, and {public}, which you hand over")
    return 0


# --- the first ceremony -------------------------------------------------------------------------------------------------


def _init(args: argparse.Namespace) -> int:
    desk = Desk(args, now())
    if desk.folder.exists() or drafts(desk.folder):
        raise KeyProblemError(
            f"There are keys in {desk.folder.path} already.",
            advice="Change them with `ferryman keys rotate`; `ferryman keys status` shows them.",
        )
    roles = (*ONLINE, *desk.settings.channels, *BESIDE)
    if not (args.public or args.private):
        raise UsageError(
            "Nothing says where the offline keys come from.",
            advice="--private DIR makes three of them; --public A.pub B.pub C.pub takes what holders have made.",
        )
    uris = online_uris(roles, desk.settings.signers, desk.private())  # before anything is made
    offline, signers = _offline(desk)
    online = {}
    for role, uri in uris.items():
        online[role], made = desk.sources.provide(uri, role)
        if made:
            print(f"made {made}")
    with edit(desk.folder, desk.settings, desk.now, signers) as change:
        ceremony.begin(change, offline, online, desk.settings.channels, threshold=args.threshold)
    show_signers({role: uri for role, uri in uris.items() if role not in desk.settings.signers})
    if not args.public:
        print(
            "The three offline keys lie in one folder. Take them apart now: one to each holder, each with a copy of its\n"
            f"own, none on a machine that publishes. {args.threshold} of them together can do everything."
        )
    return show_outcome(desk)


def _offline(desk: Desk) -> tuple[list[Named], list[Signer]]:
    """The holders' public keys, and what signs for those whose keys are made here."""
    if desk.args.public:
        return [read_public(path, ROOT) for path in desk.args.public], desk.holders()
    folder = desk.private()
    assert folder is not None
    names = [f"root-{number}" for number in (1, 2, 3)]
    made = [desk.sources.make(folder / f"{name}.pem", name, f"the offline key {name}") for name in names]
    for one in made:
        print(f"made {one.path}")
    offline = [Named(name, one.signer.public_key) for name, one in zip(names, made, strict=True)]
    return offline, [one.signer for one in made]


# --- changes ------------------------------------------------------------------------------------------------------------


def _sign(args: argparse.Namespace) -> int:
    desk = Desk(args, now())
    if not drafts(desk.folder):
        left = changes(desk.folder)
        sign(desk.folder, ())  # what an interrupted run has left
        print("".join(f"finished: {line}\n" for line in left) or "Nothing waits for a signature.\n", end="")
        return 0
    if not args.key:
        raise UsageError(
            "Nothing says which key signs.", advice="--key file:PATH, where your offline key is."
        )
    print("You are about to sign:")
    print("".join(f"  {line}\n" for line in changes(desk.folder)), end="")
    _confirm(args)
    sign(desk.folder, desk.holders())
    return show_outcome(desk)


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
        show_new_place(desk, (role,))
    return show_outcome(desk)


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
        warn_few(change)
    if new and not set(roles) & set(OFFLINE):
        show_new_place(desk, roles)
    return show_outcome(desk)


def _channels(args: argparse.Namespace) -> int:
    desk = _desk_with_keys(args)
    wanted_names = desk.settings.channels
    fresh = [name for name in wanted_names if name not in desk.folder.channels()]
    keys = {}
    for role, uri in online_uris(fresh, desk.settings.signers, desk.private()).items():
        keys[role], made = desk.sources.provide(uri, role)
        if made:
            print(f"made {made}")
    with edit(desk.folder, desk.settings, desk.now, desk.holders()) as change:
        added, removed = ceremony.set_channels(change, wanted_names, keys)
    print(f"added: {', '.join(added) or 'none'}; removed: {', '.join(removed) or 'none'}")
    return show_outcome(desk)


def _refresh(args: argparse.Namespace) -> int:
    desk = _desk_with_keys(args)
    with edit(desk.folder, desk.settings, desk.now, desk.holders()) as change:
        change.renew |= set(OFFLINE)
    return show_outcome(desk)


# --- status -------------------------------------------------------------------------------------------------------------


def _status(args: argparse.Namespace) -> int:
    desk = Desk(args, now())
    found = status(desk.folder, desk.now, desk.settings.expires)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        show(desk, found)
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


# --- words --------------------------------------------------------------------------------------------------------------


def _desk_with_keys(args: argparse.Namespace) -> Desk:
    desk = Desk(args, now())
    desk.folder.targets()  # the chain holds, or nothing is changed
    if args.key and (
        waiting := changes(desk.folder)
    ):  # the change goes on top of them, and what signs it signs them
        print("There is a draft already, which you are about to sign as well:")
        print("".join(f"  {line}\n" for line in waiting), end="")
        _confirm(args)
    return desk


def _holder(path: Path) -> str:
    return path.stem if path.stem.startswith("root-") else ROOT


def _word(args: argparse.Namespace, index: int, name: str) -> str:
    if len(args.words) <= index:
        raise UsageError(
            f"`ferryman keys {args.action}` wants a {name}.", advice="docs/keys.md shows each of them."
        )
    return str(args.words[index])


def _confirm(args: argparse.Namespace) -> None:
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("Nobody can be asked whether to sign that.", advice="Say --yes if you have read it.")
    if input("Sign it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was signed.")
