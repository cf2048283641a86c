"""`ferryman` with both halves: the commands that build, and those that release.

A command's module is imported when it is called; `ferryman build` loads nothing of this half but this page and
:mod:`ferryman_release.options`.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence

from ferryman_build import cli as build_half
from ferryman_build.cli import Command
from ferryman_build.errors import InterruptedBuildError, ToolMissingError
from ferryman_release import options

# What the extra `release` brings; without it the commands say so.
_EXTRA = frozenset({"boto3", "botocore", "cryptography", "ferryman_client", "securesystemslib", "tuf"})


Run = Callable[[argparse.Namespace], int]


def _run(module: str, *, otherwise: Run | None = None) -> Run:
    """`run` of a module in ferryman_release/commands, imported when it is called; ``otherwise`` without the extra."""

    def run(args: argparse.Namespace) -> int:
        try:
            found = importlib.import_module(f"ferryman_release.commands.{module}")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRA:
                raise
            if otherwise is not None:
                return otherwise(args)
            raise ToolMissingError(
                f"`ferryman {module}` needs the package {error.name}, which is not installed.",
                advice="Install Ferryman with its extra: pip install 'ferryman[release]'.",
            ) from error
        try:
            return int(found.run(args))
        except KeyboardInterrupt as error:
            raise InterruptedBuildError(
                f"Interrupted; what `ferryman {module}` makes visible, it makes visible whole.",
                advice="Run the same command again: it goes on from what is there.",
            ) from error

    return run


RELEASE_COMMANDS: dict[str, Command] = {
    "release": (_run("release"), "publish dist/ to a channel, whole or not at all", (options.project, options.release)),
    "promote": (_run("promote"), "let another channel offer a version, without a rebuild", (options.project, options.promote)),
    "yank": (_run("yank"), "say that no machine should have a version", (options.project, options.yank)),
    "rollback": (_run("rollback"), "let a channel take back what it offers", (options.project, options.rollback)),
    "minimum": (_run("minimum"), "say which version machines must have at least", (options.project, options.minimum)),
    "sunset": (_run("sunset"), "say which version is the last for a platform", (options.project, options.sunset)),
    "releases": (_run("releases"), "list what the channels offer and have offered", (options.project, options.json, options.believe_revoked)),
    "diff": (_run("diff"), "say what differs between two releases", (options.project, options.diff, options.json)),
    "refresh": (_run("refresh"), "sign again what is about to expire", (options.project, options.believe_revoked)),
    "codesign": (_run("codesign"), "sign the programs in dist/ for Windows and macOS, before a release",
                 (options.project, options.codesign)),
    "keys": (_run("keys"), "make, sign, rotate, revoke and look at the keys that sign releases",
             (options.project, options.json, options.keys)),
    "verify": (_run("verify"), "say whether files are what a project has released", (options.json, options.verify)),
    "doctor": (_run("doctor", otherwise=build_half.run_doctor), "list every tool that building needs, and what expires soon", build_half.COMMANDS["doctor"][2]),
    "gc": (_run("gc"), "remove what no client can come to any more", (options.project, options.gc)),
}  # fmt: skip

COMMANDS: dict[str, Command] = {**build_half.COMMANDS, **RELEASE_COMMANDS}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of either half; its exit code (docs/exit-codes.md)."""
    return build_half.main(argv, COMMANDS)
