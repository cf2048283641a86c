"""Every scenario of the local engine, given to promtool: both say the same of every look."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.alert_scenarios import INTERVAL, NAME, SCENARIOS, Scenario, expected, play
from support.debian import program
from watchkeeper.alerts import promrules

pytestmark = pytest.mark.integration


def promtool(*arguments: str | Path) -> str:
    tool = program("prometheus", "usr/bin/promtool")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def left_open() -> bool:
    """Whether this promtool leaves the beginning of a window out, as Prometheus does since version 3."""
    found = re.search(r"version (\d+)\.", promtool("--version"))
    assert found is not None
    return int(found[1]) >= 3


def pending(scenario: Scenario, *, open_: bool) -> list[dict[str, Any]]:
    """How many alerts are pending after each look, as a query of Prometheus's own ALERTS."""
    query = f'count(ALERTS{{alertname="{NAME}",alertstate="pending"}}) or vector(0)'
    return [
        {
            "expr": query,
            "eval_time": promrules.prometheus_duration(look.at),
            "exp_samples": [{"labels": "{}", "value": len(look.pending)}],
        }
        for look in play(scenario, left_open=open_)
    ]


def test_both_engines_agree(tmp_path: Path) -> None:
    """Which alerts are pending and which fire, with which labels and texts, after every look of every scenario."""
    open_ = left_open()
    for number, scenario in enumerate(SCENARIOS):
        folder = tmp_path / str(number)
        folder.mkdir()
        rules = promrules.rule_file({NAME: scenario.spec}, INTERVAL)
        (folder / "rules.yml").write_text(promrules.yaml(rules))
        test = promrules.test_case(
            INTERVAL, list(scenario.series.items()), expected(play(scenario, left_open=open_))
        )
        test["name"] = scenario.name
        test["promql_expr_test"] = pending(scenario, open_=open_)
        document = {
            "rule_files": ["rules.yml"],
            "evaluation_interval": promrules.prometheus_duration(INTERVAL),
            "tests": [test],
        }
        (folder / "tests.yml").write_text(promrules.yaml(document))
        promtool("check", "rules", folder / "rules.yml")
        promtool("test", "rules", folder / "tests.yml")
    assert number >= 20


def test_promtool_would_tell(tmp_path: Path) -> None:
    """The test above can fail: with one look told wrongly, promtool says so."""
    scenario = SCENARIOS[0]
    looks = play(scenario, left_open=left_open())
    looks[2].firing.clear()
    (tmp_path / "rules.yml").write_text(promrules.yaml(promrules.rule_file({NAME: scenario.spec}, INTERVAL)))
    test = promrules.test_case(INTERVAL, list(scenario.series.items()), expected(looks))
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [test]}
    (tmp_path / "tests.yml").write_text(promrules.yaml(document))
    with pytest.raises(AssertionError, match="alertname"):
        promtool("test", "rules", tmp_path / "tests.yml")
