"""Preflight: everything that is in the way is said at once, and what is blocked is passed over or refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ferryman_build.artifacts import Kind, ProjectInfo
from ferryman_build.errors import BlockedError, BuildStepError, FerrymanError, SpaceError, ToolMissingError
from ferryman_build.plan import Plan, Row, Status
from ferryman_build.preflight import Options, all_at_once, ready_kinds
from ferryman_build.targets import parse_target
from ferryman_build.ui import PlainUi

HOST, ARM, S390X = map(parse_target, ("linux-amd64", "linux-arm64", "linux-s390x"))


def fail(error: FerrymanError) -> None:
    """Raise it."""
    raise error


def test_one_failure_is_raised_as_it_is() -> None:
    """Its class, sentence and cure stay; the other checks were run."""
    error = SpaceError("Full.", advice="Free some.")
    ran = []
    with pytest.raises(SpaceError) as caught:
        all_at_once(lambda: fail(error), lambda: ran.append("second"))

    assert (caught.value, ran) == (error, ["second"])


def test_several_failures_are_told_together() -> None:
    """The first one's exit code; every sentence, detail and cure."""
    with pytest.raises(ToolMissingError) as caught:
        all_at_once(
            lambda: fail(ToolMissingError("No ldd.", advice="Install it.")),
            lambda: None,
            lambda: fail(SpaceError("Full.", advice="Free some.", details=["7 MB"])),
        )

    assert str(caught.value) == "2 things are in the way of this build."
    assert caught.value.details == ("No ldd.", "  Install it.", "Full.", "7 MB", "  Free some.")


def test_a_defect_is_not_collected() -> None:
    """An exception without a cure passes at once."""
    with pytest.raises(ZeroDivisionError):
        all_at_once(lambda: fail(BuildStepError("x")), lambda: 1 / 0)


def row(target: str, kind: Kind, status: Status) -> Row:
    """A row of a plan, as far as it matters here."""
    return Row(target=target, kind=kind, status=status, reason="no wheel", cure="Add one.", collector="", python="3.11",
               file="", floor="", ci_runner="", on_runner=status)  # fmt: skip


PLAN = Plan(
    project=ProjectInfo(name="lamp", version="1"), host="linux-amd64",
    rows=(
        row("linux-amd64", Kind.ARCHIVE, Status.READY), row("linux-amd64", Kind.PYZ, Status.READY),
        row("linux-arm64", Kind.ARCHIVE, Status.BLOCKED), row("linux-arm64", Kind.PYZ, Status.READY),
        row("linux-s390x", Kind.ARCHIVE, Status.BLOCKED), row("linux-s390x", Kind.PYZ, Status.BLOCKED),
    ),
)  # fmt: skip


def options(*targets: object, named: bool = True, strict: bool = False) -> Options:
    """What the command line said."""
    return Options(
        targets=targets, kinds=None, out=Path("out"), dist=Path("dist"), named=named, strict=strict
    )  # type: ignore[arg-type]


def test_all_builds_what_can_be_built() -> None:
    """What is blocked is passed over with its reason, whole targets as well."""
    said = io.StringIO()
    ready = ready_kinds(PLAN, options(HOST, ARM, S390X, named=False), PlainUi(said))

    assert ready == {HOST: (Kind.ARCHIVE, Kind.PYZ), ARM: (Kind.PYZ,)}
    assert said.getvalue().count("BLOCKED, no wheel") == 3


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (options(HOST, S390X), "Nothing can be built here for linux-s390x."),
        (options(S390X, named=False), "Nothing can be built here for linux-s390x."),
        (options(HOST, ARM, strict=True), "Part of what was asked for is blocked."),
    ],
)
def test_what_is_refused(asked: Options, said: str) -> None:
    """A named target without anything to build, nothing to build at all, and with --strict every blocked row."""
    with pytest.raises(BlockedError) as caught:
        ready_kinds(PLAN, asked, PlainUi(io.StringIO()))

    assert (str(caught.value), caught.value.advice) == (said, "Add one.")


def test_a_part_of_a_named_target_may_be_blocked() -> None:
    """The other part is built."""
    assert ready_kinds(PLAN, options(ARM), PlainUi(io.StringIO())) == {ARM: (Kind.PYZ,)}
