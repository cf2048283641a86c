"""Every failure of a release that a person can cause or has to mend, beside those of the build half.

Codes go on where :mod:`ferryman_build.errors` ends; docs/exit-codes.md lists both.
"""

from __future__ import annotations

from ferryman_build.errors import FerrymanError


class PreflightError(FerrymanError):
    """A release cannot begin; ``details`` has one line for each thing that is wrong."""

    exit_code = 20


class StoreError(FerrymanError):
    """The store did not answer, refused an operation, or does not keep its word."""

    exit_code = 21


class ConflictError(FerrymanError):
    """Somebody else has published meanwhile, or an object of that name holds other bytes."""

    exit_code = 22


class VerifyError(FerrymanError):
    """Something is not what its signature, its hash or its policy says."""

    exit_code = 23


class KeyProblemError(FerrymanError):
    """A key is missing, locked, of a kind that clients do not count, or not that of its role."""

    exit_code = 24


class MetadataError(FerrymanError):
    """Metadata in the repository is broken, expired, or signed by too few."""

    exit_code = 25


class ExpiresSoonError(FerrymanError):
    """Nothing is wrong yet: keys or metadata expire within an alarm's time."""

    exit_code = 26


class UnknownReleaseError(FerrymanError):
    """A version or a channel that the repository does not have."""

    exit_code = 27


class GithubError(FerrymanError):
    """GitHub refused a request, or has another release under this tag."""

    exit_code = 28


class SigningError(FerrymanError):
    """A program that signs (Authenticode, GPG, a token) ran and failed."""

    exit_code = 29
