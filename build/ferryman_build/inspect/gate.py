"""The compat gate: what was measured of a tree, compared with what its target promises.

:func:`judge` is pure and gives one :class:`Finding` for each file and reason. Which codes stop a build and what helps
against each is the table :data:`CODES`; docs/gate.md explains them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ferryman_build.errors import InspectError
from ferryman_build.inspect import gate_cpu, gate_files
from ferryman_build.inspect.gate_codes import CODES, Code, Finding, Severity, finding
from ferryman_build.inspect.libraries import policies
from ferryman_build.inspect.native import Native, Reason, version_key
from ferryman_build.inspect.survey import FORMATS, Survey, machine
from ferryman_build.targets import Target

__all__ = ["CODES", "Code", "Finding", "Severity", "judge", "raise_for_findings"]

_MOST_DETAILS = 20


def judge(survey: Survey, target: Target, allow: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Everything in ``survey`` that ``target`` does not promise, errors first, then by code; of one code what is worst first.

    Args:
        survey: of a tree, made with ``refuse_foreign=False``, or of a .pyz.
        target: with the promise put in (:func:`ferryman_build.targets.with_promise`).
        allow: ``code:path`` of what is known and accepted, where ``*`` is any text and nothing else has a meaning of its
            own; such a finding becomes a note.
    """
    rules = (_machines, _floors, _libraries, gate_cpu.findings, gate_files.findings)
    found = dict.fromkeys(_accepted(one, allow) for rule in rules for one in rule(survey, target))
    return tuple(sorted(found, key=lambda one: (one.severity is not Severity.ERROR, one.code)))


def raise_for_findings(findings: Iterable[Finding], target: Target) -> None:
    """Raise for the errors among ``findings``; notes pass.

    Raises:
        InspectError: with the first one's message and way out; ``details`` has one line for each.
    """
    errors = [one for one in findings if one.severity is Severity.ERROR]
    if not errors:
        return
    first = errors[0]
    lines = _lines(errors)
    shown = lines[:_MOST_DETAILS]
    shown += [f"… and {len(lines) - _MOST_DETAILS} more"] if len(lines) > _MOST_DETAILS else []
    shown += [f"way out of {code}: {cure}" for code, cure in _other_cures(errors)]
    raise InspectError(
        f"The tree does not keep what {target} promises: {first.message}.", advice=first.cure, details=shown
    )


def _lines(errors: Iterable[Finding]) -> list[str]:
    """One line for each kind and what shows it; the first file speaks for all that need the same."""
    groups: dict[tuple[Code, str], list[Finding]] = {}
    for one in errors:
        groups.setdefault((one.code, one.what), []).append(one)
    return [
        f"{code}: {found[0].message}" + (f" (and {len(found) - 1} more files)" if len(found) > 1 else "")
        for (code, _), found in groups.items()
    ]


def _other_cures(errors: Sequence[Finding]) -> list[tuple[Code, str]]:
    """The way out of each further kind, once."""
    cures = {one.code: one.cure for one in reversed(errors) if one.code != errors[0].code}
    return sorted(cures.items())


def _accepted(one: Finding, allow: Sequence[str]) -> Finding:
    if not any(_like(f"{one.code}:{one.path}", pattern) for pattern in allow):
        return one
    return msgspec.structs.replace(one, severity=Severity.NOTE, message=f"{one.message} (allowed)")


def _like(text: str, pattern: str) -> bool:
    """Names of files have brackets and question marks: what a cure prints must fit the file that it is about."""
    return (
        re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), text, re.DOTALL) is not None
    )


def _machines(survey: Survey, target: Target) -> Iterator[Finding]:
    for native in survey.foreign:
        text = f"{native.name} is code for {machine(native)}, but the tree is for {target}"
        yield finding(Code.FOREIGN, native.name, machine(native), text, target)
    expected = {id(native) for native in (*survey.natives, *survey.foreign)}
    for native in survey.found.natives:
        if native.loadable and id(native) not in expected:
            text = f"{native.name}: {machine(native)} in a tree for {target}; it will not run there"
            yield finding(Code.FOREIGN_DATA, native.name, machine(native), text, target)
        elif native.format is FORMATS[target.os]:
            yield from gate_files.noted(native, target)


def _floors(survey: Survey, target: Target) -> Iterator[Finding]:
    above: list[tuple[str, Reason, Native]] = []
    for native in survey.natives:
        if native.libc and target.libc and native.libc != _LIBCS[target.libc]:
            text = f"{native.name} is made for {native.libc}, but {target} promises {target.floor_text}"
            yield finding(Code.LIBC, native.name, native.libc, text, target)
        else:
            above += [
                (system, reason, native)
                for system, reason in native.floor.items()
                if version_key(reason.version) > version_key(target.floor.get(system, ""))
            ]
    above.sort(key=lambda row: version_key(row[1].version), reverse=True)
    for system, reason, native in above:
        yield _above(
            system,
            reason,
            native,
            target,
            max(version_key(row[1].version) for row in above if row[0] == system),
        )


def _above(system: str, reason: Reason, native: Native, target: Target, highest: tuple[int, ...]) -> Finding:
    """``highest`` is what would do for all files: the way out must not lead to the next error."""
    because = f"{reason.label}: {reason.symbol}" if reason.symbol else reason.label
    promised = target.floor.get(system) or f"no {system}"
    text = f"{native.name} needs {system} {reason.version} ({because}), but {target} promises {promised}"
    enough = f"{system} {'.'.join(map(str, highest))}"
    return finding(Code.FLOOR, native.name, reason.symbol or reason.label, text, target, floor=enough)


_LIBCS = {"gnu": "glibc", "musl": "musl"}


def _libraries(survey: Survey, target: Target) -> Iterator[Finding]:
    policy = policies().get(target.libraries)
    if policy is None:
        return
    outside = set(survey.needs.libraries)
    for native in survey.natives:
        for library in _needed(native, outside):
            since = policy.first_version(library)
            if since is None:
                text = f"{native.name} needs {library}, which is neither in the tree nor promised by {target}"
                yield finding(Code.LIBRARY, native.name, library, text, target)
            elif since and all(version_key(has) < version_key(since) for has in target.floor.values()):
                text = f"{native.name} needs {library}, which came with {since}, but {target} promises {target.floor_text}"
                yield finding(Code.LIBRARY, native.name, library, text, target)
            elif policy.may_be_missing(library):
                text = f"{native.name} needs {library}, which small machines may lack"
                yield finding(Code.LIBRARY_SOMETIMES, native.name, library, text, target)
        for prefix, reason in native.versions.items():
            highest = policy.highest(prefix, target.floor.get("glibc", ""))
            if reason.symbol in outside and highest and version_key(reason.version) > version_key(highest):
                text = (
                    f"{native.name} needs {reason.label} of {reason.symbol}, but a machine with {target.floor_text} may"
                    f" have no more than {prefix}_{highest}"
                )
                yield finding(Code.SYMBOL_VERSION, native.name, reason.label, text, target)


def _needed(native: Native, outside: set[str]) -> list[str]:
    names = [*native.needed, *([posixpath.basename(native.interpreter)] if native.interpreter else [])]
    return [name for name in dict.fromkeys(names) if name in outside]
