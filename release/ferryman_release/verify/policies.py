"""Every policy by its name, and what `--policy` selects.

    --policy all                                         every one; what has no evidence fails
    --policy signature,provenance                        these two, and no other
    --policy provenance:commit=3f1c2d:clean=yes          with parameters
    --policy sigstore:repository=harbour/lantern

The option may be repeated. A parameter is `name=value` behind a colon; a value may have colons in it, but no comma that a
policy's name follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ferryman_build.errors import UsageError
from ferryman_build.words import suggest
from ferryman_release.verify.authenticode import Authenticode
from ferryman_release.verify.beside import Checksums, ReleaseDocument, Sbom, Signature
from ferryman_release.verify.model import Parameters, Policy
from ferryman_release.verify.signed import Provenance, Sigstore, Tuf

POLICIES: Mapping[str, Policy] = {
    "checksums": Checksums(),  # SHA256SUMS lists it
    "signature": Signature(),  # the project's minisign key has signed SHA256SUMS
    "release": ReleaseDocument(),  # release.json agrees with all of it
    "sbom": Sbom(),  # what is said to be inside is about this artifact
    "provenance": Provenance(),  # the project's key says where it comes from
    "sigstore": Sigstore(),  # a workflow says so, without a key
    "tuf": Tuf(),  # a channel offers it, or has done so
    "authenticode": Authenticode(),  # what Windows looks at
}
ALL = "all"


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: ``required`` policies must hold; the ``optional`` ones may lack evidence. Both with parameters."""

    required: Mapping[str, Parameters] = {}
    optional: Mapping[str, Parameters] = {}

    @property
    def asked(self) -> Mapping[str, Parameters]:
        """All of them, in the order of :data:`POLICIES`."""
        both = {**self.optional, **self.required}
        return {name: both[name] for name in POLICIES if name in both}


def select(words: Sequence[str]) -> Selection:
    """What the values of `--policy` select; without any, everything that has evidence.

    Raises:
        UsageError: a policy or a parameter does not exist, or is empty: a variable that is not set must demand nothing less.
    """
    if not words:
        return Selection(optional={name: {} for name in POLICIES})
    if not all(word.strip() for word in words):
        raise UsageError("--policy names no policy.", advice=f"Policies are {', '.join(POLICIES)}, and all.")
    chosen = [part for word in words for part in _parts(word)]
    required: dict[str, Parameters] = {}
    for name, given in map(_parsed, chosen):
        names: Iterable[str] = POLICIES if name == ALL else (name,)
        for one in names:
            required[one] = {**required.get(one, {}), **given}
    return Selection(required=required)


def _parts(word: str) -> list[str]:
    """Split at commas behind which a policy begins."""
    names = "|".join((*POLICIES, ALL))
    return [
        part.strip() for part in re.split(rf",(?=\s*(?:{names}|[a-z]+)\s*(?:[,:]|$))", word) if part.strip()
    ]


def _parsed(part: str) -> tuple[str, dict[str, str]]:
    name, *pairs = re.split(r":(?=[a-z-]+=)", part)
    name = name.strip()
    if name not in POLICIES and name != ALL:
        raise UsageError(
            f"There is no policy {name!r}{suggest(name, (*POLICIES, ALL), otherwise='.')}",
            advice=f"Policies are {', '.join(POLICIES)}, and all.",
        )
    given = dict(pair.split("=", 1) for pair in pairs)
    known = POLICIES[name].parameters if name in POLICIES else frozenset[str]()
    if unknown := sorted(set(given) - known):
        there = f"It has {', '.join(sorted(known))}." if known else "It has none."
        raise UsageError(f"The policy {name} has no parameter {unknown[0]!r}.", advice=there)
    if empty := next((key for key, value in given.items() if not value.strip()), ""):
        raise UsageError(
            f"The parameter {empty!r} of {name} is empty.", advice="Say what it must be, or leave it out."
        )
    if given.get("clean", "yes") != "yes":
        raise UsageError("The parameter 'clean' is 'yes' or is not there.", advice="Leave it out.")
    return name, given
