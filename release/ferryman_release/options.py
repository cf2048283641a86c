"""The options of the release half's commands. Nothing heavy is imported here: every `ferryman` reads this page."""

from __future__ import annotations

import argparse
from pathlib import Path


def project(parser: argparse.ArgumentParser) -> None:
    """Which project, and where it keeps things between runs."""
    parser.add_argument("--project", type=Path, metavar="DIR", help="folder of the agent's pyproject.toml")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        metavar="DIR",
        help="what is kept between runs (default: out)",
    )


def release(parser: argparse.ArgumentParser) -> None:
    """`ferryman release`."""
    parser.add_argument(
        "--dist", type=Path, default=Path("dist"), metavar="DIR", help="what to release (default: dist)"
    )
    parser.add_argument("--to", default="", metavar="CHANNEL", help="the channel (default: the first)")
    _percent(parser)
    parser.add_argument(
        "--snapshot",
        action="store_true",
        help="everything but publishing, into out/snapshot, with keys of the moment",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the requests that would change the store, and send none"
    )
    parser.add_argument(
        "--skip", default="", metavar="A,B", help="steps to leave out: sbom, provenance, pages, github"
    )


def _percent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--percent",
        type=_share,
        default=100,
        metavar="N",
        help="of the machines; the others stay with what they are offered now",
    )


def _share(text: str) -> int:
    digits = text.removesuffix("%")
    if not (digits.isdecimal() and 0 < int(digits) <= 100):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 100")
    return int(digits)


def promote(parser: argparse.ArgumentParser) -> None:
    """`ferryman promote`."""
    parser.add_argument("version", metavar="VERSION")
    parser.add_argument("--to", required=True, metavar="CHANNEL")
    _percent(parser)


def yank(parser: argparse.ArgumentParser) -> None:
    """`ferryman yank`."""
    parser.add_argument("version", metavar="VERSION")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="what machines and people are told")


def rollback(parser: argparse.ArgumentParser) -> None:
    """`ferryman rollback`."""
    parser.add_argument("channel", metavar="CHANNEL")


def minimum(parser: argparse.ArgumentParser) -> None:
    """`ferryman minimum`."""
    parser.add_argument(
        "version", metavar="VERSION", help="machines below it have to update; `none` takes it back"
    )
    parser.add_argument(
        "--channel", default="", metavar="CHANNEL", help="only this one (default: all that have had it)"
    )


def sunset(parser: argparse.ArgumentParser) -> None:
    """`ferryman sunset`."""
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("--last", required=True, metavar="VERSION", help="the last version for it")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="what machines and people are told")
    parser.add_argument(
        "--below", default="", metavar="TEXT", help='only machines below a floor: "glibc 2.28"'
    )
    parser.add_argument(
        "--channel", default="", metavar="CHANNEL", help="only this one (default: all that have had it)"
    )


def gc(parser: argparse.ArgumentParser) -> None:
    """`ferryman gc`."""
    parser.add_argument(
        "--keep",
        type=int,
        default=None,
        metavar="N",
        help="releases of each channel (default: the settings')",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def diff(parser: argparse.ArgumentParser) -> None:
    """`ferryman diff`."""
    parser.add_argument("old", metavar="A")
    parser.add_argument("new", metavar="B")


def json(parser: argparse.ArgumentParser) -> None:
    """For programs."""
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def keys(parser: argparse.ArgumentParser) -> None:
    """`ferryman keys`."""
    actions = ("new", "init", "sign", "rotate", "revoke", "channels", "refresh", "status")
    parser.add_argument("action", choices=actions, nargs="?", default="status")
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="new: FILE; rotate: ROLE, or root and a holder; revoke: KEY"
    )
    parser.add_argument(
        "--private",
        metavar="DIR",
        help="init, channels: the folder, outside of the project, for new private keys",
    )
    parser.add_argument(
        "--public",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="public keys that are held elsewhere",
    )
    parser.add_argument(
        "--new", default="", metavar="URI", help="the new key; a file that is not there is made"
    )
    parser.add_argument(
        "--key", action="append", default=[], metavar="URI", help="an offline key that signs; again for each"
    )
    parser.add_argument(
        "--threshold", type=int, default=2, metavar="N", help="init: how many holders must sign (default: 2)"
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="revoke: why")
    parser.add_argument("--yes", action="store_true", help="sign: do not ask")


def verify(parser: argparse.ArgumentParser) -> None:
    """`ferryman verify`."""
    parser.add_argument(
        "what",
        metavar="FILE|URL|DIR",
        help="an artifact, a dist/ folder, or the folder of a version, here or elsewhere",
    )
    parser.add_argument(
        "--policy", action="append", default=[], metavar="A,B",
        help="what must hold: all, or names with parameters such as provenance:commit=3f1c2d (default: what has evidence)",
    )  # fmt: skip
    parser.add_argument(
        "--key", action="append", default=[], type=Path, metavar="FILE",
        help="a public key to trust: minisign.pub, or that of the provenance in PEM",
    )  # fmt: skip
    parser.add_argument("--root", type=Path, metavar="FILE", help="the root metadata to trust: root.json")
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="DIR",
        help="a project's key folder to trust (default: that of the project here)",
    )
    parser.add_argument("--project", type=Path, metavar="DIR", help="whose key folder that is")
    parser.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="NAME",
        help="where a release must have been (default: any known)",
    )
    parser.add_argument("--offline", action="store_true", help="no network at all")


def believe_revoked(parser: argparse.ArgumentParser) -> None:
    """After a revocation, for who looks at what the old key has signed."""
    parser.add_argument(
        "--believe-revoked",
        action="store_true",
        help="read what revoked keys have signed: you have looked at it",
    )


def codesign(parser: argparse.ArgumentParser) -> None:
    """`ferryman codesign`."""
    parser.add_argument(
        "--dist", type=Path, default=Path("dist"), metavar="DIR", help="what to sign (default: dist)"
    )
    parser.add_argument(
        "--windows", type=Path, metavar="P12", help="a certificate for Authenticode, as PKCS#12"
    )
    parser.add_argument(
        "--macos", type=Path, metavar="P12", help="a Developer ID, as PKCS#12 in its older form"
    )
    parser.add_argument("--timestamp", default="", metavar="URL", help="the time-stamp authority (RFC 3161)")
    parser.add_argument(
        "--ca", type=Path, metavar="PEM", help="roots that the result must lead to (default: the system's)"
    )
    parser.add_argument("--identifier", default="", metavar="NAME", help="what macOS calls the program")
    parser.add_argument("--description", default="", metavar="TEXT", help="what Windows shows of the program")
    parser.add_argument("--url", default="", metavar="URL", help="where Windows sends who wants to know more")
