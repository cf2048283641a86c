"""tests/support/workflow_expressions.py: what the workflows' expressions mean, and that nothing else passes."""

from __future__ import annotations

from typing import Any

import pytest

from support.workflow_expressions import ExpressionError, Scope, condition, evaluate, render

SCOPE = Scope(
    contexts={
        "matrix": {
            "os": "ubuntu-24.04",
            "kinds": ["pyz", "archive"],
            "container": "",
            "odd name": 1,
            "none": None,
        },
        "needs": {"lint": {"result": "success"}, "tests": {"result": "failure"}},
        "github": {"event_name": "push", "ref": "refs/heads/main", "sha": "0123"},
        "inputs": {"cache": True, "plan": '{"ci": [{"target": "linux-amd64"}]}'},
    },
    functions={"success": lambda: False, "always": lambda: True},
)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'it''s'", "it's"),
        ("12", 12),
        ("1.5", 1.5),
        ("null", None),
        ("matrix.os", "ubuntu-24.04"),
        ("matrix['odd name']", 1),
        ("matrix.os == 'UBUNTU-24.04'", True),
        ("matrix.container != '' && 'container' || 'auto'", "auto"),
        ("!(inputs.cache && true)", False),
        ("needs.*.result", ["success", "failure"]),
        ("contains(needs.*.result, 'failure')", True),
        ("contains(needs.*.result, 'skipped')", False),
        ("contains('Hello', 'hell')", True),
        ("join(matrix.kinds, ',')", "pyz,archive"),
        ("join('pyz', ',')", "pyz"),
        ("fromJSON(inputs.plan).ci", [{"target": "linux-amd64"}]),
        ("github.event_name == 'pull_request' && github.ref || github.sha", "0123"),
        ("false || true && false", False),
    ],
)
def test_value(expression: str, value: Any) -> None:
    """The value is the one that GitHub's rules give."""
    assert evaluate(expression, SCOPE) == value


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("matrix.arch", "there is no arch"),
        ("secrets.TOKEN", "there is no context secrets"),
        ("format('{0}', 1)", "the function format is not known here"),
        ("matrix.os == 1", "not of one kind"),
        ("matrix.os <= 'x'", "not understood"),
        ("matrix.os matrix.os", "not understood from 'matrix' on"),
        ("(matrix.os", r"a '\)' is missing"),
        ("matrix.", "a name is missing"),
        ("matrix.os &&", "ends too early"),
        ("contains('a' 'b')", r"a '\)' is missing"),
        ("== 1", "in the wrong place"),
    ],
)
def test_refused(expression: str, sentence: str) -> None:
    """What GitHub would turn into an empty text, or what is not understood, ends in an error that names it."""
    with pytest.raises(ExpressionError, match=sentence):
        evaluate(expression, SCOPE)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("plain", "plain"),
        (15, 15),
        ("${{ matrix.kinds }}", ["pyz", "archive"]),
        ("on ${{ matrix.os }}, ${{ inputs.cache }}${{ matrix.none }}", "on ubuntu-24.04, true"),
        ("${{ '}}' }}", "}}"),
    ],
)
def test_rendered(template: Any, value: Any) -> None:
    """A single expression keeps its kind; among text it becomes text."""
    assert render(template, SCOPE) == value


@pytest.mark.parametrize("template", ["${{ matrix.os }", "a ${{ matrix.kinds }}"])
def test_not_rendered(template: str) -> None:
    """An open expression and a list among text are errors."""
    with pytest.raises(ExpressionError):
        render(template, SCOPE)


@pytest.mark.parametrize(
    ("written", "holds"),
    [
        (None, False),
        ("true", False),
        ("${{ inputs.cache }}", False),
        ("${{ always() }}", True),
        ("always() && github.event_name == 'push'", True),
    ],
)
def test_condition_implies_success(written: str | None, holds: bool) -> None:
    """After a failure a step runs only if its condition asks for the state itself."""
    assert condition(written, SCOPE) is holds
