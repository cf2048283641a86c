"""Preflight: everything that is in the way is said at once."""

from __future__ import annotations

import pytest

from ferryman_build.build import all_at_once
from ferryman_build.errors import BuildStepError, FerrymanError, SpaceError, ToolMissingError


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
