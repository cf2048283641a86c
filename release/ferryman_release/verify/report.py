"""The results for people, as a table, and for programs, as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from ferryman_build.ui import Ui
from ferryman_release.verify.model import Failed, Held, Result, Skipped, Verdict
from ferryman_release.verify.policies import POLICIES


class Word(StrEnum):
    """How a policy ended."""

    HELD = "held"
    FAILED = "FAILED"
    SKIPPED = "skipped"
    NOT_ASKED = "not asked"


class Row(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", omit_defaults=True):
    """One line of the report."""

    subject: str
    policy: str
    result: Word
    why: str
    advice: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`ferryman verify --json`: ``held`` is the answer, one row per file and policy the reasons.

    ``unlisted`` are files of the folder that no document names, and that nobody has looked at.
    """

    held: bool
    results: tuple[Row, ...]
    unlisted: tuple[str, ...] = ()


def report(results: Sequence[Result], unlisted: Sequence[str] = ()) -> Report:
    """What programs read."""
    return Report(held=holds(results), results=tuple(_row(one) for one in results), unlisted=tuple(unlisted))


def holds(results: Sequence[Result]) -> bool:
    """Whether nothing has failed and something was verified."""
    return any(isinstance(one.verdict, Held) for one in results) and not failures(results)


def failures(results: Sequence[Result]) -> list[Result]:
    """Those that failed."""
    return [one for one in results if isinstance(one.verdict, Failed)]


def _row(one: Result) -> Row:
    word, why, advice = _words(one.verdict)
    return Row(
        subject=harmless(one.subject),
        policy=one.policy,
        result=word,
        why=harmless(why),
        advice=harmless(advice),
    )


def harmless(text: str) -> str:
    """``text`` on one line that moves no cursor: much of it comes from documents that nobody has verified."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def remarks(results: Sequence[Result], unlisted: Sequence[str]) -> Iterator[str]:
    """What the table does not say, and a person should know."""
    if unlisted:
        names = ", ".join(map(harmless, unlisted[:8])) + (" …" if len(unlisted) > 8 else "")
        yield f"not looked at, since nothing lists it: {names}"
    if results and not any(one.cryptographic for one in results):
        yield "nothing that is signed was asked: files that fit together may be anybody's"


def _words(verdict: Verdict) -> tuple[Word, str, str]:
    match verdict:
        case Held(note):
            return Word.HELD, note, ""
        case Failed(why, advice):
            return Word.FAILED, why, advice
        case Skipped(why):
            return Word.SKIPPED, why, ""


def show(results: Sequence[Result], ui: Ui, what: str, unlisted: Sequence[str] = ()) -> None:
    """A table: each policy of a single file; of several, what they have in common and each failure; then remarks."""
    rows = list(_table(results))
    asked = {one.policy for one in results}
    rows += [(name, str(Word.NOT_ASKED), "", "") for name in POLICIES if name not in asked]
    several = len({one.subject for one in results}) > 1
    columns = ("policy", "result", "why", "files") if several else ("policy", "result", "why")
    ui.table(what, columns, [row if several else row[:3] for row in rows])
    for line in remarks(results, unlisted):
        ui.say(line)


def _table(results: Sequence[Result]) -> Iterator[tuple[str, str, str, str]]:
    """(policy, result, reason, files); results that differ in the file alone share a row, but for failures."""
    shared: dict[tuple[str, Word], list[Row]] = {}
    for row in map(_row, results):
        shared.setdefault((row.policy, row.result), []).append(row)
    for (policy, word), rows in shared.items():
        if word is Word.FAILED or len(rows) == 1:
            yield from ((policy, str(word), row.why, row.subject) for row in rows)
            continue
        reasons = list(dict.fromkeys(row.why for row in rows))
        yield policy, str(word), reasons[0] if len(reasons) == 1 else f"{reasons[0]} …", f"{len(rows)} files"
