"""Every failure that a caller or a person may meet, with its cure and its exit code.

The numbers are those of Ferryman's own commands (docs/exit-codes.md) where they mean the same; from 40 on they are the
client's. :meth:`ferryman_client.Client.refresh` turns them into a :class:`Problem`, so that nothing is raised into a
program that is running.
"""

from __future__ import annotations

from dataclasses import dataclass


class ClientError(Exception):
    """A failure with a cure.

    Args:
        message: one sentence that says what happened.
        advice: one sentence that says what to do.
    """

    exit_code = 1
    kind = "defect"

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class UsageError(ClientError):
    """The command line, or an argument of the library, asks for what does not exist."""

    exit_code, kind = 2, "usage"


class SpaceError(ClientError):
    """No space left on the device that holds the download."""

    exit_code, kind = 10, "space"


class BusyError(ClientError):
    """Another process of this machine holds the lock of the state folder or of the download."""

    exit_code, kind = 11, "busy"


class UnreachableError(ClientError):
    """The repository and its mirrors did not answer, or answered with an error; ``status`` is HTTP's, or 0."""

    exit_code, kind = 21, "unreachable"

    def __init__(self, message: str, *, advice: str = "", status: int = 0) -> None:
        super().__init__(message, advice=advice)
        self.status = status


class VerifyError(ClientError):
    """Bytes are not those that signed metadata names."""

    exit_code, kind = 23, "verify"


class MetadataError(ClientError):
    """Metadata was refused: signed by too few, older than what was seen, contradictory, or of a newer format."""

    exit_code, kind = 25, "refused"


class ExpiredError(MetadataError):
    """Metadata was valid once. What is installed goes on; nothing new is installed from it."""

    kind = "expired"


class UnknownReleaseError(ClientError):
    """The repository has no such channel or version, or nothing for this machine."""

    exit_code, kind = 27, "unknown"


class NoTrustError(ClientError):
    """There is no root to trust, or nothing has been fetched yet that could be served."""

    exit_code, kind = 40, "no-trust"


class StateError(ClientError):
    """The state folder cannot be used at all, and neither can a temporary one."""

    exit_code, kind = 41, "state"


class ClockError(ClientError):
    """The machine's clock contradicts what is known; only reported, never raised."""

    exit_code, kind = 42, "clock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Why a state is not fresh: ``kind`` is a word for programs, ``message`` and ``advice`` are sentences for people."""

    kind: str
    message: str
    advice: str = ""
    exit_code: int = 1

    @classmethod
    def of(cls, error: ClientError) -> Problem:
        """What an error says."""
        return cls(kind=error.kind, message=str(error), advice=error.advice, exit_code=error.exit_code)
