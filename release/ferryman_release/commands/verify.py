"""`ferryman verify FILE|URL|DIR`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

import msgspec
from securesystemslib.signer import Key, SSlibKey

from ferryman_build.errors import ConfigError, UsageError
from ferryman_build.project import find_project, load_project
from ferryman_build.ui import make_ui
from ferryman_client.fetch import HttpFetcher
from ferryman_release.errors import KeyProblemError, VerifyError
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.keys.minisign import MinisignKey
from ferryman_release.verify.engine import verify_all
from ferryman_release.verify.evidence import Trust
from ferryman_release.verify.opening import opened
from ferryman_release.verify.policies import select
from ferryman_release.verify.report import failures, harmless, holds, report, show

_LONGEST_KEY = 1_000_000


def run(args: argparse.Namespace) -> int:
    """Verify, print, and end with 0 or a VerifyError.

    Raises:
        VerifyError: a policy failed, or nothing vouches for a file.
        UsageError: there is no such file, policy or parameter.
        KeyProblemError: a key that was named is none.
    """
    selection = select(args.policy)
    trust = trusted(args)
    fetcher = HttpFetcher()
    with contextlib.closing(fetcher), opened(args.what, trust, None if args.offline else fetcher) as found:
        results = verify_all(found, selection)
    if args.json:
        text = msgspec.json.format(msgspec.json.encode(report(results, found.unlisted)), indent=2)
        sys.stdout.write(text.decode() + "\n")
    else:
        ui = make_ui(plain=args.plain, stream=sys.stdout)
        if trust.origin:
            ui.say(f"trusted: {trust.origin}")
        show(results, ui, args.what, found.unlisted)
        ui.close()
    wrong = failures(results)
    if wrong or not holds(results):
        first = wrong[0].verdict if wrong else None
        raise VerifyError(
            f"{args.what} is not verified: {len(wrong)} of {len(results)} checks failed.",
            advice=getattr(first, "advice", "") or "Do not use it.",
            details=[
                harmless(f"{one.subject}: {one.policy}: {getattr(one.verdict, 'why', '')}")
                for one in wrong[:20]
            ],
        )
    return 0


def trusted(args: argparse.Namespace) -> Trust:
    """What the caller trusts: what the options name, else the project's key folder.

    Raises:
        KeyProblemError: a file is no key, or the folder has none.
    """
    named = [_key(path) for path in args.key]
    root = _read(args.root) if args.root else None
    channels, origin = tuple(args.channel), ""
    folder = args.keys
    if folder is None and not named and root is None:
        folder, settings_channels = _project_keys(args.project)
        channels = channels or settings_channels
        origin = f"{folder}, since no key was named and this is a project's folder" if folder else ""
    if folder is not None:
        found = _folder_trust(KeyFolder(folder))
        named, root = [*named, *found.minisign, *found.provenance], root or found.root
        channels = channels or found.channels
    return Trust(
        minisign=tuple(one for one in named if isinstance(one, MinisignKey)),
        provenance=tuple(one for one in named if isinstance(one, Key)),
        root=root,
        channels=channels or ("stable",),
        origin=origin,
    )


def _key(path: Path) -> MinisignKey | Key:
    """minisign.pub, or a public key in PEM, which is one of provenance."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path)[:_LONGEST_KEY]
    if b"-----BEGIN PRIVATE" in data or b"-----BEGIN ENCRYPTED" in data:
        raise KeyProblemError(
            f"{path} is a private key.", advice="Name the public one; keep this one to yourself."
        )
    if b"-----BEGIN" not in data:
        try:
            return MinisignKey.parse(data.decode("utf-8", "replace"))
        except KeyProblemError as error:
            raise KeyProblemError(f"{path}: {error}", advice=error.advice) from error
    try:
        return SSlibKey.from_crypto(load_pem_public_key(data))
    except ValueError as error:
        raise KeyProblemError(
            f"{path} is no public key: {error}.", advice="Name a PEM file or minisign.pub."
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(f"There is no file {path}.", advice="Name a file that you trust.") from error


def _project_keys(given: Path | None) -> tuple[Path | None, tuple[str, ...]]:
    """The key folder of the project here, and its channels; nothing where there is no project."""
    try:
        project = load_project(find_project(Path.cwd(), given), lock_required=False)
    except ConfigError:
        if given is not None:
            raise
        return None, ()
    settings = project.settings.release
    folder = project.root / settings.keys
    return (folder if folder.is_dir() else None), settings.channels


def _folder_trust(folder: KeyFolder) -> Trust:
    if not folder.path.is_dir():
        raise UsageError(f"There is no folder {folder.path}.", advice="Name the project's key folder.")
    if folder.exists():
        folder.root()  # the chain of signatures holds
        return Trust(
            minisign=folder.minisign_keys(), provenance=folder.provenance_keys(),
            root=list(folder.roots().values())[-1], channels=folder.channels(),
        )  # fmt: skip
    return Trust(minisign=folder.minisign_keys(), provenance=folder.provenance_keys())
