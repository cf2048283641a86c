"""The launcher's bytes for the targets that the default suite leaves out (tests/integration/test_launcher_targets.py)."""

from __future__ import annotations

import pytest

from support.launcher_targets import OTHERS, Check, make, rows

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(("target", "check"), rows(OTHERS))
def test_target(target: str, check: Check) -> None:
    """What the check's own docstring says."""
    check(make(target))
