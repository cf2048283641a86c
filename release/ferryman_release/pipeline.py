"""A release on one screen: what is done, in which order. Each step takes the job and says in a few words what it did.

Rules:

1. A step that was given the same before is not run again, unless it looks at what can change by itself.
2. A skipped step has a reason, and the reason is shown.
3. Nothing is sent before preflight has found nothing wrong; nothing is visible before the flip.
4. A step that fails leaves everything that was finished: the next run goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from ferryman_build.ui import Mark
from ferryman_release.job import Done, Job
from ferryman_release.steps import collect, describe, flip, github, pages, preflight, sign, stage, verify


class Step(msgspec.Struct, frozen=True):
    """``run`` returns a note; ``key`` is the digest of what the step is given, '' when it has to look each time (rule 1).

    ``anew`` tells to run although it was done before; ``skip`` returns the reason not to run, or ''.
    """

    name: str
    run: Callable[[Job], str]
    key: Callable[[Job], str] = lambda _: ""
    skip: Callable[[Job], str] = lambda _: ""
    anew: Callable[[Job], bool] = lambda _: False


STEPS: tuple[Step, ...] = (
    Step("collect", collect.run),  # the artifacts of dist/, as its manifest lists them
    Step("preflight", preflight.run),  # everything that is wrong, before a byte is sent
    Step("checksums", describe.checksums),  # every file is what the manifest says
    Step("sbom", describe.sboms, skip=describe.no_sboms),  # what is inside of each artifact
    Step("provenance", describe.provenance),  # where each artifact comes from, signed
    Step("sign", sign.run),  # SHA256SUMS over all of it, its signature, and release.json
    Step("stage", stage.run),  # into the store, under names that nothing ever overwrites
    Step(
        "verify", verify.run, key=verify.key, anew=verify.anew
    ),  # fetched back as anyone would, and compared
    Step("flip", flip.run, skip=flip.why_not),  # one pointer: the channel offers the release
    Step("pages", pages.run),  # what is made from the metadata: download page, installers, index
    Step("github", github.run, skip=github.why_not),  # the same files as a GitHub release
)


def run_steps(job: Job, steps: tuple[Step, ...] = STEPS) -> int:
    """Run what has to be run; the number of steps that did something.

    Raises:
        FerrymanError: of the step that failed (rule 4).
    """
    return sum(_run(job, step) for step in steps)


def _run(job: Job, step: Step) -> bool:
    reason = "left out with --skip" if step.name in job.options.skip else step.skip(job)
    if reason:  # rule 2
        job.skipped[step.name] = reason
        job.ui.end(job.label, step.name, Mark.SKIPPED, 0.0, reason)
        return False
    key = step.key(job)
    if key and not step.anew(job) and (found := job.done(step.name, key)):  # rule 1
        job.ui.end(job.label, step.name, Mark.CACHED, 0.0, found.note)
        return False
    started = time.monotonic()
    job.ui.start(job.label, step.name)
    try:
        note = step.run(job)
    except BaseException:
        job.ui.end(job.label, step.name, Mark.FAILED, time.monotonic() - started)
        raise
    job.ui.end(job.label, step.name, Mark.DONE, time.monotonic() - started, note)
    job.record(step.name, Done(key=key, note=note))
    return True
