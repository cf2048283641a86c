"""Every failure that a person can cause, in one place.

Each class says its exit code; each instance says what happened (``str(error)``) and what to do about it
(``advice``). Only :func:`ferryman_build.cli.main` prints an error and exits. Codes are stable and documented in
docs/exit-codes.md; 1 is left to unexpected exceptions, 2 to the command line's own usage errors, 130 to Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class FerrymanError(Exception):
    """A failure with a cure.

    Args:
        message: one sentence that says what happened.
        advice: one sentence that says what to do.
        details: further lines (the tail of a log, one line per configuration error), shown indented.
        log: path of the full output, when there is one.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, advice: str = "", details: Iterable[str] = (), log: Path | None = None
    ) -> None:
        super().__init__(message)
        self.advice = advice
        self.details = tuple(details)
        self.log = log


class UsageError(FerrymanError):
    """The command line asks for something that does not exist: an unknown target, kind or step."""

    exit_code = 2


class ConfigError(FerrymanError):
    """pyproject.toml or an option is wrong; ``details`` has one line per mistake."""

    exit_code = 3


class ToolMissingError(FerrymanError):
    """A program, library or interpreter that an enabled step needs is not on this machine."""

    exit_code = 4


class BlockedError(FerrymanError):
    """The plan says that a requested target cannot be built here."""

    exit_code = 5


class ResolutionError(FerrymanError):
    """The dependencies have no solution for a target, or a wheel is missing."""

    exit_code = 6


class BuildStepError(FerrymanError):
    """A build tool ran and failed; ``log`` has its whole output."""

    exit_code = 7


class InspectError(FerrymanError):
    """An artifact does not keep what its target promises."""

    exit_code = 8


class SmokeError(FerrymanError):
    """A built artifact did not pass its smoke test."""

    exit_code = 9


class SpaceError(FerrymanError):
    """No space left on the device that holds out/, dist/ or the cache."""

    exit_code = 10


class BusyError(FerrymanError):
    """Another build holds the lock of this checkout."""

    exit_code = 11


class ManifestError(FerrymanError):
    """A manifest is unreadable, of a newer schema, or two manifests contradict each other."""

    exit_code = 12


class PackageIndexError(FerrymanError):
    """The package index did not answer."""

    exit_code = 13


class InterruptedBuildError(FerrymanError):
    """Ctrl-C or SIGTERM; children were ended."""

    exit_code = 130
