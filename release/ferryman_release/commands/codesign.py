"""`ferryman codesign`: sign the programs in dist/ for the systems that ask for it, before `ferryman release` (docs/keys.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ferryman_build.cmd import Runner
from ferryman_build.errors import UsageError
from ferryman_build.inspect.native import Trait
from ferryman_release.signing import authenticode, macho
from ferryman_release.signing.dist import of_macos, of_windows, sign_dist
from ferryman_release.signing.secrets import Secrets


def run(args: argparse.Namespace) -> int:
    """Sign what is not signed yet.

    Raises:
        UsageError: no certificate was named.
        FerrymanError: see ferryman_release.signing; dist/ is as it was.
    """
    if not (args.windows or args.macos):
        raise UsageError(
            "No certificate was named.", advice="--windows FILE.p12 for .exe; --macos FILE.p12 for macOS."
        )
    signed: list[str] = []
    if args.windows:
        signed += _windows(args)
    if args.macos:
        signed += _macos(args)
    sys.stdout.write("".join(f"signed {name}\n" for name in signed) or "everything is signed already\n")
    return 0


def _windows(args: argparse.Namespace) -> tuple[str, ...]:
    if not args.timestamp:
        raise UsageError(
            "Nothing says who vouches for the time of the signature.",
            advice="--timestamp URL: the RFC 3161 authority that your certificate's issuer names.",
        )
    identity = authenticode.Identity(
        timestamp=args.timestamp, pkcs12=args.windows, trusted=args.ca, trusted_times=args.ca,
        description=args.description, url=args.url,
    )  # fmt: skip
    runner, secrets = Runner(args.out.absolute() / "logs", verbose=args.verbose), Secrets.usual()
    return sign_dist(
        args.dist,
        of_windows,
        lambda source, result: authenticode.sign_file(source, result, identity, secrets, runner),
        lambda path: authenticode.verify_file(path, identity, runner),
    )


def _macos(args: argparse.Namespace) -> tuple[str, ...]:
    if not args.identifier:
        raise UsageError(
            "Nothing says what macOS is to call the program.", advice="--identifier org.example.program"
        )
    stamp = {"timestamp": args.timestamp} if args.timestamp else {}
    developer, secrets = macho.Developer(pkcs12=Path(args.macos), **stamp), Secrets.usual()
    return sign_dist(
        args.dist,
        of_macos,
        lambda source, result: macho.sign_file(source, result, args.identifier, developer, secrets),
        lambda path: macho.verify_file(path, Trait.SIGNED),
    )
