"""From single outcomes to a verdict: the kubelet's prober, as a state machine without input or output.

Rules (kubernetes pkg/kubelet/prober/worker.go):
    G1  Before the first verdict a readiness check counts as failed, a liveness check as passed, a startup check as
        unknown.
    G2  The verdict changes only after success_threshold successes or failure_threshold failures in a row.
    G3  An outcome that says nothing about the target (an internal error) is discarded: no run ends or grows by it.
    G4  When a liveness or startup check has failed it is on hold, and its run begins at 0: nothing is checked until
        the service runs as a new instance.
    G5  A new instance begins with G1.
    G6  What does not run is not ready; liveness and startup have nothing to say about it.
    G7  A startup check that has passed is not made again for this instance.
    G8  With a failure_window of Y, the failures of G2 need not be in a row but among the last Y outcomes, and the verdict
        turns to success only when they are not (monit's `X times within Y cycles`). A new instance and a hold empty the
        window.
    G9  A check that restarts nothing is never on hold: it goes on looking, whatever its role.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from watchkeeper.config.model import Role


class Verdict(enum.StrEnum):
    """What a check says about its target."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


INITIAL = {Role.READINESS: Verdict.FAILURE, Role.LIVENESS: Verdict.SUCCESS, Role.STARTUP: Verdict.UNKNOWN}


@dataclass(slots=True)
class Gate:
    """The verdict of one check on one instance of its target."""

    role: Role
    success_threshold: int
    failure_threshold: int
    window: int = 0
    holds: bool = True
    """Whether a failure is acted upon, and nothing more is asked until then."""
    instance: int = -1
    verdict: Verdict = Verdict.UNKNOWN
    on_hold: bool = False
    run: int = 0
    """How many outcomes in a row were the same; positive for successes, negative for failures."""
    recent: int = 0
    """The outcomes in the window, one bit each: 1 a failure, the lowest bit the last one."""

    def __post_init__(self) -> None:
        self.verdict = INITIAL[self.role]  # G1

    def begin(self, instance: int) -> None:
        """The target runs as a new instance."""
        self.instance = instance
        self.verdict = INITIAL[self.role]  # G5
        self.on_hold = False
        self.run = self.recent = 0

    def observe(self, success: bool | None) -> bool:
        """Take one outcome, None for an internal error; whether the verdict changed."""
        if success is None or self.on_hold:  # G3, G4
            return False
        self.run = max(self.run, 0) + 1 if success else min(self.run, 0) - 1
        self.recent = ((self.recent << 1) | (not success)) & ((1 << self.window) - 1)
        if not self._reached(success):  # G2
            return False
        verdict = Verdict.SUCCESS if success else Verdict.FAILURE
        changed, self.verdict = verdict is not self.verdict, verdict
        if verdict is Verdict.FAILURE and self.holds and self.role is not Role.READINESS:
            self.on_hold, self.run, self.recent = True, 0, 0  # G4, G8, G9
        return changed

    def _reached(self, success: bool) -> bool:
        """Whether there are enough outcomes of this kind."""
        if not self.window:
            return self.run >= self.success_threshold if success else -self.run >= self.failure_threshold
        enough = self.recent.bit_count() >= self.failure_threshold  # G8
        return enough if not success else not enough and self.run >= self.success_threshold

    def not_running(self) -> bool:
        """The target does not run; whether that has changed the verdict."""
        before = self.verdict
        if self.role is Role.READINESS:
            self.verdict = Verdict.FAILURE  # G6
        self.run = self.recent = 0
        return self.verdict is not before

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to check on this instance."""
        return self.on_hold or (self.role is Role.STARTUP and self.verdict is Verdict.SUCCESS)  # G4, G7
