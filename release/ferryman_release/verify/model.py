"""The words of a verification: the subject, what a policy answers, and what a policy is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from ferryman_release.verify.evidence import Evidence


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The file in question: its ``name`` where it was published, where it lies here, ``size`` in bytes, ``sha256`` in hex."""

    name: str
    path: Path
    size: int
    sha256: str


class Held(msgspec.Struct, frozen=True):
    """The evidence says that all is well; ``note`` says who vouches, or for what.

    ``vouches``: it was held against something that the caller trusts, and not merely against itself or against whoever this
    machine trusts for anything. Only of policies that are cryptographic.
    """

    note: str
    vouches: bool = True


class Failed(msgspec.Struct, frozen=True):
    """Something is not as it must be: ``why`` names the object, ``advice`` says what to do."""

    why: str
    advice: str = ""


class Skipped(msgspec.Struct, frozen=True):
    """Nothing was found out. ``missing``: there is no evidence, or no key; otherwise the policy is not about such a file."""

    why: str
    missing: bool = True


Verdict = Held | Failed | Skipped
Parameters = Mapping[str, str]


class Policy(Protocol):
    """One question. It may raise a VerifyError in place of returning Failed.

    ``parameters`` are those that it takes; ``cryptographic`` tells whether it can vouch by itself (rule 2).
    """

    parameters: frozenset[str]
    cryptographic: bool

    def verify(self, subject: Subject, evidence: Evidence, given: Parameters) -> Verdict: ...


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy says of one file; ``cryptographic`` as the policy's."""

    subject: str
    policy: str
    verdict: Verdict
    cryptographic: bool = False
