"""The verdict of a check, rule by rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.checks.gate import Gate, Verdict
from watchkeeper.config.model import Role
from watchkeeper.config.schema.checks import LONGEST_WINDOW

SUCCESS, FAILURE, UNKNOWN = Verdict.SUCCESS, Verdict.FAILURE, Verdict.UNKNOWN
OUTCOMES = {"+": True, "-": False, "?": None}
SHOWN = {SUCCESS: "S", FAILURE: "F", UNKNOWN: "U"}


def play(gate: Gate, outcomes: str) -> str:
    """The verdict after each outcome: + success, - failure, ? internal error."""
    text = ""
    for letter in outcomes:
        gate.observe(OUTCOMES[letter])
        text += SHOWN[gate.verdict]
    return text


@pytest.mark.parametrize(
    ("role", "verdict"), [(Role.READINESS, FAILURE), (Role.LIVENESS, SUCCESS), (Role.STARTUP, UNKNOWN)]
)
def test_the_first_verdict(role: Role, verdict: Verdict) -> None:
    """G1, and G5 for each new instance."""
    gate = Gate(role, 1, 3)
    assert gate.verdict is verdict
    gate.begin(1)
    play(gate, "---")
    gate.begin(2)
    assert (gate.verdict, gate.on_hold, gate.run) == (verdict, False, 0)


@pytest.mark.parametrize(
    ("role", "success", "failure", "outcomes", "verdicts"),
    [
        # G2: only a run of the threshold's length changes anything.
        (Role.READINESS, 1, 3, "+--+---", "SSSSSSF"),
        (Role.READINESS, 2, 1, "+-++-", "FFFSF"),
        (Role.READINESS, 3, 2, "++-+++--", "FFFFFSSF"),
        (Role.LIVENESS, 1, 3, "--+--+---", "SSSSSSSSF"),
        (Role.STARTUP, 1, 2, "-+", "US"),
        # G3: an internal error neither breaks nor feeds a run.
        (Role.READINESS, 1, 3, "+--??-", "SSSSSF"),
        (Role.LIVENESS, 1, 2, "-??+-", "SSSSS"),
        (Role.LIVENESS, 1, 1, "???", "SSS"),
        # G4: after a failure of liveness or startup nothing more counts.
        (Role.LIVENESS, 1, 2, "--+++", "SFFFF"),
        (Role.STARTUP, 1, 2, "--+++", "UFFFF"),
    ],
)
def test_runs(role: Role, success: int, failure: int, outcomes: str, verdicts: str) -> None:
    """G2, G3, G4."""
    gate = Gate(role, success, failure)
    gate.begin(1)
    assert play(gate, outcomes) == verdicts


def test_hold() -> None:
    """G4: on hold the run is 0; G7: a startup check that has passed is finished, a liveness check never by passing."""
    gate = Gate(Role.LIVENESS, 1, 1)
    gate.begin(1)
    gate.observe(True)
    assert not gate.finished
    assert gate.observe(False) is True
    assert (gate.on_hold, gate.run, gate.finished) == (True, 0, True)
    startup = Gate(Role.STARTUP, 1, 1)
    startup.begin(1)
    startup.observe(True)
    assert startup.finished
    assert not startup.on_hold


def test_a_change_is_reported_once() -> None:
    """What depends on a verdict is woken when it changes, not each time that it is confirmed."""
    gate = Gate(Role.READINESS, 1, 2)
    gate.begin(1)
    assert [gate.observe(each) for each in (True, True, False, False, False, True)] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("role", "verdict"), [(Role.READINESS, FAILURE), (Role.LIVENESS, SUCCESS), (Role.STARTUP, SUCCESS)]
)
def test_what_does_not_run_is_not_ready(role: Role, verdict: Verdict) -> None:
    """G6, and a run does not reach over it."""
    gate = Gate(role, 1, 3)
    gate.begin(1)
    gate.observe(True)
    assert gate.not_running() is (role is Role.READINESS)
    assert not gate.not_running()
    assert (gate.verdict, gate.run) == (verdict, 0)


@pytest.mark.parametrize(
    ("threshold", "window", "outcomes", "verdicts"),
    [
        # 3 times within 5 cycles: not in a row, and the verdict turns back when the window has fewer.
        (3, 5, "+-+-+-++", "SSSSSFSS"),
        (3, 5, "+--++--+", "SSSSSFFS"),
        (2, 2, "+--+-+--", "SSFSSSSF"),
        (1, 4, "+-++++-", "SFFFFSF"),
        # G3: an internal error is no outcome; it moves no window.
        (2, 3, "+-???-", "SSSSSF"),
    ],
)
def test_window(threshold: int, window: int, outcomes: str, verdicts: str) -> None:
    """G8: monit's `X times within Y cycles`."""
    gate = Gate(Role.READINESS, 1, threshold, window)
    gate.begin(1)
    assert play(gate, outcomes) == verdicts


def test_a_hold_and_a_new_instance_empty_the_window() -> None:
    """G8: what one process has failed is not held against the next."""
    gate = Gate(Role.LIVENESS, 1, 2, 4)
    gate.begin(1)
    assert play(gate, "-+-") == "SSF"
    gate.begin(2)
    assert play(gate, "-+++") == "SSSS"
    gate.begin(3)
    play(gate, "-")
    gate.not_running()
    assert play(gate, "-") == "S"


@pytest.mark.parametrize("role", [Role.LIVENESS, Role.STARTUP])
def test_a_check_that_restarts_nothing_goes_on(role: Role) -> None:
    """G9: its verdict follows the outcomes in both directions; a startup check still ends by passing."""
    gate = Gate(role, 1, 2, holds=False)
    gate.begin(1)
    assert play(gate, "---")[-1] == "F"
    assert (gate.on_hold, gate.finished) == (False, False)
    assert play(gate, "+") == "S"
    assert gate.finished is (role is Role.STARTUP)


@given(
    outcomes=st.lists(st.sampled_from([True, False, None]), max_size=200),
    success=st.integers(1, 4),
    failure=st.integers(1, 5),
    extra=st.integers(-5, 60),
)
def test_against_a_list_of_outcomes(
    outcomes: list[bool | None], success: int, failure: int, extra: int
) -> None:
    """G2, G3 and G8, worked out anew from all that came before at every step."""
    window = min(failure + extra, LONGEST_WINDOW) if extra >= 0 else 0
    gate = Gate(Role.READINESS, success, failure, window)
    gate.begin(1)
    verdict, seen = FAILURE, []
    for outcome in outcomes:
        changed = gate.observe(outcome)
        before = verdict
        if outcome is not None:
            seen.append(outcome)
            in_window = seen[-window:].count(False) >= failure if window else all_of(seen, failure, False)
            if outcome is False and in_window:
                verdict = FAILURE
            if outcome is True and all_of(seen, success, True) and not (window and in_window):
                verdict = SUCCESS
        assert (gate.verdict, changed) == (verdict, verdict is not before)


def all_of(seen: list[bool], count: int, value: bool) -> bool:
    """Whether the last so many are all the same."""
    return len(seen) >= count and all(each is value for each in seen[-count:])
