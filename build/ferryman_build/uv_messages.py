"""What uv says when a question has no answer, in one sentence and a cure.

uv tells three things with the same exit code: the index did not answer, nothing satisfies the requirements, the
requirements are malformed. The words are uv's own (tests/unit/toolbuild/test_locking.py holds samples).
"""

from __future__ import annotations

import re

from ferryman_build.errors import FerrymanError, PackageIndexError, ResolutionError

_URL = re.compile(r"https?://[^\s`)'\"]+")
_CAUSE = re.compile(r"^\s*(?:cause|Caused by): ?", re.MULTILINE)
_FOREGONE = re.compile(r",? ?we can conclude that your requirements are unsatisfiable\.?$")
_CHAIN = re.compile(r"\.? And because ")

# (what uv says, what that means to the reader); the first that occurs wins.
_SILENT_INDEX = (
    (
        re.compile(r"network was disabled"),
        "uv is told to stay offline and its cache does not have the answer",
    ),
    (
        re.compile(r"lack of valid authentication credentials \((.+?)\)"),
        "it wants a user name and a password: {}",
    ),
    (re.compile(r"Received some unexpected (\w+) from"), "what it sent is not valid {}"),
    (
        re.compile(
            r"Because there are no versions of ([A-Za-z0-9._-]+) and you require \1(?:,|$)", re.MULTILINE
        ),
        "its page for {} lists no file (is that a login page or a proxy's answer?)",
    ),
    (re.compile(r"HTTP status \w+ error \((.+?)\)"), "HTTP status {}"),
    (re.compile(r"(Connection refused)"), "{}"),
    (re.compile(r"(dns error)"), "its name has no address ({})"),
    (re.compile(r"(timed out|timeout)", re.IGNORECASE), "{}"),
    (re.compile(r"(certificate[^\n]*)"), "{}"),
    (re.compile(r"Request failed after|Failed to fetch|error sending request"), "the request failed"),
)
_CURES = (
    (
        "was not found in the package registry",
        "Check the spelling, or name the index that has it in UV_INDEX.",
    ),
    (
        "requested Python version",
        "Choose another Python in [tool.ferryman] python, or an older release of the package.",
    ),
    ("only ", "Loosen the requirement to a version that exists."),
    ("arse requirement", "Write the dependency as PEP 508 has it, such as 'name>=1.2'."),
)


def explain(output: str, question: str) -> FerrymanError:
    """The error that uv's ``output`` stands for; ``question`` names what was resolved ("the dependencies for …").

    Returns:
        PackageIndexError when the index gave no usable answer, ResolutionError otherwise; ``details`` is uv's own text.
    """
    details = tuple(line for line in output.splitlines() if line.strip())[-20:]
    silence = _silence(output)
    if silence is not None:
        url = _URL.search(output)
        where = f" at {url.group().rstrip('/.,')}" if url else ""
        return PackageIndexError(
            f"The package index{where} did not answer for {question}: {silence}.",
            advice="Check the network, the proxy and UV_DEFAULT_INDEX, then run the same command again.",
            details=details,
        )
    reason = shorten(output)
    return ResolutionError(
        f"There is no solution for {question}: {reason}.", advice=_cure(reason), details=details
    )


def _silence(output: str) -> str | None:
    flat = re.sub(r"[ \t]*\n[ \t]+(?!cause)", " ", output)
    for pattern, meaning in _SILENT_INDEX:
        found = pattern.search(flat)
        if found:
            return meaning.format(*found.groups())
    return None


def shorten(output: str) -> str:
    """The derivation of uv reduced to its last step: what is required, and the fact that contradicts it."""
    text = output.split("\nhint:", maxsplit=1)[0]
    causes = _CAUSE.split(text)
    flat = " ".join((causes[1] if len(causes) > 1 else text.removeprefix("error: ")).split())
    *earlier, last = _CHAIN.split(_FOREGONE.sub("", flat).removeprefix("Because "))
    last = _FOREGONE.sub("", last).split(", we can conclude that ")[0]
    if not earlier:
        return last.rstrip(".")
    premise, _, conclusion = earlier[-1].rpartition("we can conclude that ")
    # "x cannot be used" does not say why; what it was concluded from does.
    fact = premise if conclusion.rstrip(".").endswith("cannot be used") else conclusion
    return f"{fact.rstrip(' ,.')}, and {last.rstrip('.')}"


def _cure(reason: str) -> str:
    for words, cure in _CURES:
        if words in reason:
            return cure
    return "Loosen one of the named requirements in [project] dependencies, or drop it."
