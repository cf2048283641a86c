"""`ferryman-client`, or `python -m ferryman_client`: the library for scripts and for people.

Only :func:`main` prints errors and answers with a code; each command is a function from a client and options to one.
Exit codes are those of errors.py; `choose --exit-code` answers 100 when there is something to install.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ferryman_client import __version__
from ferryman_client.client import Client
from ferryman_client.errors import ClientError, UnknownReleaseError, UsageError
from ferryman_client.fetch import HttpFetcher
from ferryman_client.machine import Machine
from ferryman_client.model import KINDS
from ferryman_client.status import Status

SOMETHING_TO_DO = 100
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run a command; its exit code."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        code = int(args.run(make_client(args, environ), args))
        sys.stdout.flush()  # here a closed pipe can still be told from a failure
        return code
    except ClientError as error:
        _complain(args, error)
        return error.exit_code
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED


def _complain(args: argparse.Namespace, error: ClientError) -> None:
    if args.json:
        said = {
            "error": error.kind,
            "message": str(error),
            "advice": error.advice,
            "exit-code": error.exit_code,
        }
        print(json.dumps(said, indent=2))
        return
    sys.stderr.write(f"error: {error}\n")
    if error.advice:
        sys.stderr.write(f"  {error.advice}\n")


def make_client(args: argparse.Namespace, environ: Mapping[str, str]) -> Client:
    """The client that options and environment describe; FERRYMAN_URL and the like stand in for missing options."""
    url = args.url or environ.get("FERRYMAN_URL", "")
    if not url and args.command == "machine":
        url = "file:///"  # it is not asked
    if not url:
        raise UsageError("Which repository?", advice="Give --url, or set FERRYMAN_URL.")
    root = args.root or environ.get("FERRYMAN_ROOT", "")
    state = Path(args.state or environ.get("FERRYMAN_STATE", "") or default_state(environ))
    return Client(
        url,
        state,
        root=_read_root(Path(root)) if root else None,
        channel=args.channel or environ.get("FERRYMAN_CHANNEL", "") or "stable",
        mirrors=args.mirror,
        fetcher=HttpFetcher(timeout=args.timeout, headers=_headers(environ)),
        machine=_machine(args, state),
    )


def _read_root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", advice="Check --root.") from error


def _headers(environ: Mapping[str, str]) -> dict[str, str]:
    """A secret is taken from the environment, never from the command line, which other users can see."""
    secret = environ.get("FERRYMAN_AUTHORIZATION", "")
    return {"Authorization": secret} if secret else {}


def _machine(args: argparse.Namespace, state: Path) -> Machine | None:
    """Another target than this machine's, where one is asked for; then nothing is known of its floor."""
    if not getattr(args, "target", None):
        return None
    system, _, arch = args.target.partition("-")
    return Machine(target=args.target, os=system, arch=arch, id=Machine.detect(state).id)


def default_state(environ: Mapping[str, str]) -> Path:
    """Where a person's own tools keep such things on this system."""
    if sys.platform == "win32":
        base = environ.get("LOCALAPPDATA", "") or str(Path.home() / "AppData" / "Local")
    else:
        base = environ.get("XDG_STATE_HOME", "") or str(Path.home() / ".local" / "state")
    return Path(base) / "ferryman-client"


# --- commands ---------------------------------------------------------------------------------------------------------


def refresh(client: Client, args: argparse.Namespace) -> int:
    """Ask the repository; ends with the problem's code when there is one, though the old state is served."""
    status = client.refresh()
    _show_status(status, args)
    return status.problem.exit_code if status.problem else 0


def show(client: Client, args: argparse.Namespace) -> int:
    """What is known, without asking anybody."""
    status = client.status()
    _show_status(status, args)
    return 0 if status.known else 40


def _show_status(status: Status, args: argparse.Namespace) -> None:
    if args.json:
        _print_json({**asdict(status), "known": status.known})
        return
    if status.known:
        state = "fresh" if status.fresh else f"checked {_ago(status.age)} ago"
        until = (
            f"expired at {status.expires:%Y-%m-%d %H:%M} UTC"
            if status.expired
            else f"valid until {status.expires:%Y-%m-%d %H:%M} UTC"
        )
        print(f"{status.channel} {status.version}: {state}, {until} ({status.expiring})")
    else:
        print(f"{status.channel}: nothing is known yet")
    if status.problem:
        sys.stderr.write(f"warning: {status.problem.message}\n")
        if status.problem.advice:
            sys.stderr.write(f"  {status.problem.advice}\n")


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def choose(client: Client, args: argparse.Namespace) -> int:
    """What this machine should do."""
    _refreshed(client, args, strict=args.installed is None)
    choice = client.choose(args.kind, args.installed)
    if args.json:
        _print_json({**asdict(choice), "changes": choice.changes})
    else:
        print(f"{choice.action} {choice.version}".rstrip())
        for text in filter(None, (choice.reason, choice.notice)):
            print(f"  {text}")
    return SOMETHING_TO_DO if args.exit_code and choice.changes else 0


def download(client: Client, args: argparse.Namespace) -> int:
    """Fetch and verify an artifact: what is offered, or the release that is named."""
    _refreshed(client, args, strict=True)
    if args.version:
        offer = client.release(args.version).offer(client.machine.target, args.kind)
    else:
        offer = client.choose(args.kind).offer
    if offer is None:
        raise UnknownReleaseError(
            f"{client.channel_name} {args.version or ''} has no {args.kind} for {client.machine.target or 'this machine'}.".replace(
                "  ", " "
            ),
            advice="`ferryman-client choose` says why; --kind and --target ask for others.",
        )
    path = client.download(offer, args.into, name=args.name, progress=_progress(args))
    if args.json:
        _print_json({**asdict(offer), "file": str(path)})
    else:
        print(path)
    return 0


def _progress(args: argparse.Namespace) -> Callable[[int, int], None] | None:
    """A line that counts, where somebody looks."""
    if args.json or args.quiet or not sys.stderr.isatty():
        return None

    def tell(have: int, size: int) -> None:
        end = "\n" if have == size else ""
        sys.stderr.write(f"\r{have / 1e6:8.1f} of {size / 1e6:.1f} MB {have * 100 // max(size, 1):3d} %{end}")
        sys.stderr.flush()

    return tell


def verify(client: Client, args: argparse.Namespace) -> int:
    """Which released file a file is."""
    _refreshed(client, args, strict=True)
    found = client.verify(args.file, version=args.version)
    if args.json:
        _print_json(asdict(found))
    else:
        print(f"{args.file}: {found.name} {found.version} {found.path}, SHA-256 {found.sha256}")
    if found.bad:
        sys.stderr.write(f"warning: {found.bad}\n")
    return 0


def history(client: Client, args: argparse.Namespace) -> int:
    """All releases of the channel, newest first."""
    _refreshed(client, args, strict=False)
    found = client.history()
    if args.json:
        _print_json(asdict(found))
    else:
        for one in found.releases:
            print(f"{one.version:<20} released {one.released[:10]}  promoted {one.promoted[:10]}")
    return 0


def machine(client: Client, args: argparse.Namespace) -> int:
    """What this machine is taken for; its identifier stays here."""
    seen = client.machine
    if args.json:
        _print_json({**asdict(seen), "floor": seen.floor, "id": "set" if seen.id else ""})
    else:
        floor = " ".join(f"{name} {version}" for name, version in seen.floor.items())
        print(f"{seen.target or 'no known target'} ({seen.os} {seen.arch} {floor})".replace(" )", ")"))
    return 0


def _refreshed(client: Client, args: argparse.Namespace, *, strict: bool) -> None:
    if args.offline:
        return
    if strict:
        client.strict_refresh()
    elif (problem := client.refresh().problem) is not None:
        sys.stderr.write(f"warning: {problem.message}\n")


def _print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(_plain(value), indent=2))


def _plain(value: Any) -> Any:
    """What JSON has a form for, with hyphens in the names of fields."""
    if isinstance(value, Mapping):
        return {str(name).replace("_", "-"): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    return _plain(asdict(value)) if is_dataclass(value) and not isinstance(value, type) else value


# --- options ----------------------------------------------------------------------------------------------------------


def _asking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--offline", action="store_true", help="ask nobody: use what is known")


def _kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", choices=KINDS, default="executable", help="default: executable")
    parser.add_argument("--target", metavar="ID", help="another machine's, such as linux-arm64-musl")


def _installed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--installed", metavar="VERSION", help="what is installed; without it: a first install"
    )
    parser.add_argument(
        "--exit-code", action="store_true", help=f"{SOMETHING_TO_DO} when there is something to install"
    )


def _into(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("into", type=Path, nargs="?", default=Path(), metavar="FOLDER", help="default: here")
    parser.add_argument("--version", metavar="VERSION", help="this release of the channel, and no other")
    parser.add_argument("--name", metavar="FILE", help="what the file is to be called")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--version", metavar="VERSION", help="look only in this release")


Options = Callable[[argparse.ArgumentParser], None]
COMMANDS: dict[str, tuple[Callable[[Client, argparse.Namespace], int], tuple[Options, ...]]] = {
    "refresh": (refresh, ()),
    "status": (show, ()),
    "choose": (choose, (_asking, _kind, _installed)),
    "download": (download, (_asking, _kind, _into)),
    "verify": (verify, (_asking, _file)),
    "history": (history, (_asking,)),
    "machine": (machine, ()),
}


def make_parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    parser = argparse.ArgumentParser(
        prog="ferryman-client", description="Find, verify and fetch a release that Ferryman has published."
    )
    parser.add_argument("--version", action="version", version=f"ferryman-client {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (run, options) in COMMANDS.items():
        text = (run.__doc__ or "").strip()
        command = commands.add_parser(name, help=text[:1].lower() + text[1:].rstrip("."), description=text)
        command.set_defaults(run=run)
        for add in (_common, *options):
            add(command)
    return parser


def _seconds(text: str) -> float:
    """A time that a socket can wait: not zero, not for ever."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if 0 < seconds <= 24 * 3600:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, at most a day's")


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", metavar="URL", help="the repository (FERRYMAN_URL)")
    parser.add_argument(
        "--mirror", metavar="URL", action="append", default=[], help="another place; may be repeated"
    )
    parser.add_argument("--root", metavar="FILE", help="the root metadata to trust (FERRYMAN_ROOT)")
    parser.add_argument("--state", metavar="FOLDER", help="what this machine remembers (FERRYMAN_STATE)")
    parser.add_argument("--channel", metavar="NAME", help="default: stable (FERRYMAN_CHANNEL)")
    parser.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="SECONDS", help="of silence; default: 30"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")
