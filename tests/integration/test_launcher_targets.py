"""The launcher's bytes for one target of each format; tests/e2e/launcher/test_targets.py has the others.

The first run after a change of zig compiles the C libraries of the targets into .cache/: minutes for Windows.
"""

from __future__ import annotations

import pytest

from ferryman_build.targets import all_targets
from support.launcher_targets import DEFAULT, OTHERS, Check, make, rows

pytestmark = [pytest.mark.integration, pytest.mark.network, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(("target", "check"), rows(DEFAULT))
def test_target(target: str, check: Check) -> None:
    """What the check's own docstring says."""
    check(make(target))


def test_every_row_is_checked_somewhere() -> None:
    """A target that joins targets.toml is compiled and read by this suite or by `nox -s e2e -- launcher`."""
    assert sorted((*DEFAULT, *OTHERS)) == sorted(target.id for target in all_targets())
