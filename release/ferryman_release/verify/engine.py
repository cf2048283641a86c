"""Ask every policy that is selected, of every file; see the rules in :mod:`ferryman_release.verify`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ferryman_build.errors import FerrymanError
from ferryman_client.errors import ClientError
from ferryman_release.verify.evidence import Evidence
from ferryman_release.verify.model import Failed, Held, Parameters, Policy, Result, Skipped, Subject, Verdict
from ferryman_release.verify.opening import Opened
from ferryman_release.verify.policies import POLICIES, Selection

FILE = "file"
"""The name under which a missing file is reported."""
VOUCHED = "vouched for"
"""The name under which rule 2 is reported."""


def verify_all(
    opened: Opened, selection: Selection, policies: Mapping[str, Policy] = POLICIES
) -> tuple[Result, ...]:
    """What every policy says of every file; a policy that was not asked has no result."""
    return (
        *(
            Result(subject=name, policy=FILE, verdict=Failed(f"{name} is listed and not there"))
            for name in opened.missing
        ),
        *(
            result
            for subject in opened.subjects
            for result in verify(subject, opened.evidence, selection, policies)
        ),
    )


def verify(
    subject: Subject, evidence: Evidence, selection: Selection, policies: Mapping[str, Policy] = POLICIES
) -> tuple[Result, ...]:
    """What every policy says of one file."""
    results = [
        Result(
            subject=subject.name, policy=name, cryptographic=policies[name].cryptographic,
            verdict=_required(_asked(policies[name], subject, evidence, given), name in selection.required),
        )
        for name, given in selection.asked.items()
    ]  # fmt: skip
    return (*results, *_unvouched(subject, results, selection))


def _asked(policy: Policy, subject: Subject, evidence: Evidence, given: Parameters) -> Verdict:
    """The answer; an object that cannot be read or does not hold is a failure of the policy that looked at it."""
    try:
        return policy.verify(subject, evidence, given)
    except (FerrymanError, ClientError) as error:
        details = getattr(error, "details", ())
        return Failed(f"{error}" + (f" ({'; '.join(details[-2:])})" if details else ""), error.advice)
    except RecursionError:  # brackets in brackets, as no document of ours has them
        return Failed("a document beside it is nested too deeply to be read")


def _required(verdict: Verdict, required: bool) -> Verdict:
    if required and isinstance(verdict, Skipped) and verdict.missing:  # rule 3
        return Failed(f"it was asked for, and {verdict.why}")
    return verdict


def _unvouched(subject: Subject, results: Sequence[Result], selection: Selection) -> Iterator[Result]:
    """Rule 2: without a selection, and with one that asks nothing cryptographic in vain."""
    if any(one.cryptographic and isinstance(one.verdict, Held) and one.verdict.vouches for one in results):
        return
    if selection.required and not any(one.cryptographic for one in results):
        return  # a person asked for no more than that
    if any(isinstance(one.verdict, Failed) for one in results):
        return  # it fails already, and says why
    yield Result(
        subject=subject.name, policy=VOUCHED,
        verdict=Failed(
            f"nothing that is signed vouches for {subject.name}",
            "Give what the project's keys are (--key, --root, --keys), and have its signatures beside the file.",
        ),
    )  # fmt: skip
