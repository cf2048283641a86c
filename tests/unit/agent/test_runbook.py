"""The runbook knows every error class."""

from __future__ import annotations

import json

import pytest

from watchkeeper.cli import main
from watchkeeper.errors import ErrorClass
from watchkeeper.runbook import RUNBOOK, Domain, entry


@pytest.mark.parametrize("error_class", ErrorClass)
def test_every_class_has_an_action(error_class: ErrorClass) -> None:
    """One sentence or two that a person can act on, and a domain."""
    found = RUNBOOK[error_class]
    assert found.domain in Domain
    assert found.action.endswith(".")
    assert len(found.action) > 20
    assert entry(error_class.value) is found


def test_an_unknown_class_is_a_defect() -> None:
    """A line of another version is no reason to fail."""
    assert entry("FLUX_CAPACITOR").domain is Domain.AGENT


def test_people_can_ask(capsys: pytest.CaptureFixture[str]) -> None:
    """`explain` with the class that a log line has; no agent has to run."""
    with pytest.raises(SystemExit) as ended:
        main(["explain", "CHECK_TIMEOUT"])
    assert (ended.value.code, capsys.readouterr().out) == (
        0,
        f"CHECK_TIMEOUT (app): {RUNBOOK[ErrorClass.CHECK_TIMEOUT].action}\n",
    )
    with pytest.raises(SystemExit):
        main(["explain", "NETWORK_FAILURE", "--json"])
    assert json.loads(capsys.readouterr().out)["domain"] == "infra:network"
