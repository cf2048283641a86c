"""The examples of docs/agent/checks.md are configurations, and say what the page says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from watchkeeper.checks import Word
from watchkeeper.config.load import parse
from watchkeeper.config.model import Config
from watchkeeper.config.schema.checks import Action, CheckSpec, HttpCheck, Role
from watchkeeper.config.schema.services import ProcessService, StopBy

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "agent" / "checks.md").read_text(encoding="utf-8")


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """All of them; the one secret comes from a file."""
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    texts = [block.replace("/etc/watchkeeper/probe-password", str(secret)) for block in blocks]
    return [parse(text.encode(), file="f.yaml").config for text in texts]


def test_examples(examples: list[Config]) -> None:
    """check-config takes each."""
    assert [config.check_count for config in examples] == [9, 1, 1, 2]


def test_profiles(examples: list[Config]) -> None:
    """Seed rows 5, 6 and 7, number by number."""
    killer, teller, pod = examples[1], examples[2], examples[3]
    service = killer.services["app"]
    assert isinstance(service, ProcessService)
    check = service.checks["health"]
    assert isinstance(check, HttpCheck)
    assert (service.stop, check.status, check.period, check.failure_threshold) == (
        StopBy.KILL,
        (200,),
        5.0,
        1,
    )
    assert (check.effect, check.timeout) == (Action.RESTART, 2.0)
    told = teller.checks["health"]
    assert (told.period, told.effect, told.role) == (10.0, Action.LOG, Role.READINESS)
    liveness = pod.services["app"].checks["liveness"]
    assert (liveness.initial_delay, liveness.period, liveness.timeout) == (30.0, 10.0, 1.0)
    assert (liveness.success_threshold, liveness.failure_threshold, liveness.role) == (1, 3, Role.LIVENESS)


def test_the_page_knows_every_kind_and_word() -> None:
    """None is left out."""
    tags = {str(kind.__struct_config__.tag) for kind in CheckSpec.__subclasses__()}
    rows = set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE))
    assert tags <= rows
    assert {word.value for word in Word} <= rows
    assert {action.value for action in Action} <= rows
