"""Rules of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, environment_rule
from watchkeeper.config.schema.jobs import JobSpec


def _job(path: Path, job: JobSpec) -> Iterator[Finding]:
    if job.jitter >= job.every:
        yield (*path, "jitter"), "the jitter is not shorter than the time between two runs"
    if not job.success:
        yield (*path, "success"), "expected at least one exit status"
    yield from environment_rule((*path, "environment"), job.environment)
    yield from environment_rule((*path, "secrets"), job.secrets)


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {JobSpec: _job}
