"""The two agents that the matrix is shown with, and what a build of one of them leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.ferryman import LANTERN, ROOT, Outcome, Workshop

OUT = ROOT / "out" / "e2e-matrix"  # by content: a second run of these tests finds what the first one made
AGENTS = {"lantern": LANTERN, "agent": ROOT / "agent_src"}
_FAR = 3000


@dataclass(frozen=True)
class Machine:
    """This machine, ready; ``env`` is what `ferryman` is told."""

    env: dict[str, str]

    def run(self, workshop: Workshop, *words: str, **env: str) -> Outcome:
        """`ferryman WORDS` on the project of ``workshop``."""
        return workshop.run(*words, env={**self.env, **env}, timeout=_FAR)


@dataclass(frozen=True)
class Built:
    """What one `ferryman build` left in dist/."""

    workshop: Workshop
    outcome: Outcome

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The artifacts of the manifest."""
        assert self.outcome.code == 0, self.outcome.err
        found: list[dict[str, Any]] = self.workshop.manifest()["artifacts"]
        return found


def workshop(agent: str, dist: Path) -> Workshop:
    """The project where it lies in this checkout."""
    return Workshop(project=AGENTS[agent], out=OUT / agent, dist=dist)
