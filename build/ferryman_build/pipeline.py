"""Running steps: their order, their cache, what a person sees of them, and what happens when one fails.

Rules:

1. A step knows its job (one target) and the results of the steps it comes ``after``; it knows no other step.
2. A step that has a reason to be skipped is skipped, and so is everything that comes after it; the reason is shown.
3. A step whose key has a finished result is not run. The key is made of the step's name, the content of Ferryman's own
   code and what ``inputs`` answers; time stamps never take part.
4. Steps that do not wait for each other run side by side, at most ``workers`` at a time.
5. The first failure stops what has not started and ends the children of what has; the first error is what is raised.
6. A result that says so (a smoke test that lost a runner) serves this build alone: the next one runs the step again.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ferryman_build.cache import Cache, Result, digest, tree_digest
from ferryman_build.checkout import NO_SPACE
from ferryman_build.cmd import Runner
from ferryman_build.errors import SpaceError
from ferryman_build.ui import Mark, Ui


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a pipeline.

    Args:
        inputs: everything that the result depends on, as JSON-able values.
        run: fills an empty folder with the result and returns a note for people.
        skip: the reason not to run, or None.
        keep: whether the result in this folder is an answer for the next build as well.
    """

    name: str
    after: tuple[str, ...] = ()
    inputs: Callable[[Any], Mapping[str, object]]
    run: Callable[[Any, Path], str]
    skip: Callable[[Any], str | None] = lambda _: None
    keep: Callable[[Path], bool] = lambda _: True


class Job(Protocol):
    """What one target's steps share. ``results`` is filled by the pipeline alone, under each step's name."""

    results: dict[str, Finished]

    @property
    def label(self) -> str:
        """What a person sees: the target's id."""
        ...


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a step: a folder, or a reason why there is none."""

    folder: Path | None = None
    result: Result | None = None
    skipped: str = ""
    cached: bool = False
    key: str = ""


class Pipeline:
    """Runs ``steps`` for each job. One instance per build."""

    def __init__(self, cache: Cache, runner: Runner, ui: Ui, *, workers: int) -> None:
        self._cache = cache
        self._runner = runner
        self._ui = ui
        self._workers = workers
        self._keys: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def run(self, work: Sequence[tuple[Job, Sequence[Step]]]) -> None:
        """Run every step of every job (rules 1 to 5).

        Raises:
            FerrymanError: what the first failing step raised.
            KeyboardInterrupt: Ctrl-C; children have been ended.
        """
        waiting = [(job, step) for job, steps in work for step in steps]
        running: dict[Future[Finished], tuple[Job, Step]] = {}
        with ThreadPoolExecutor(self._workers, thread_name_prefix="step") as pool:
            try:
                while waiting or running:
                    self._start_ready(pool, waiting, running)
                    done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                    for future in done:
                        job, step = running.pop(future)
                        job.results[step.name] = future.result()  # rule 5: raises here
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._runner.end_all()
                raise

    def _start_ready(
        self,
        pool: ThreadPoolExecutor,
        waiting: list[tuple[Job, Step]],
        running: dict[Future[Finished], tuple[Job, Step]],
    ) -> None:
        for job, step in tuple(waiting):
            if all(name in job.results for name in step.after):
                waiting.remove((job, step))
                running[pool.submit(self._one, job, step)] = (job, step)
        if not running:
            names = ", ".join(f"{job.label} {step.name}" for job, step in waiting)
            raise ValueError(f"these steps wait for a step that nobody runs: {names}")

    def _one(self, job: Job, step: Step) -> Finished:
        started = time.monotonic()
        reason = _skipped_before(job, step) or step.skip(job)
        if reason:  # rule 2
            self._ui.end(job.label, step.name, Mark.SKIPPED, 0.0, reason)
            return Finished(skipped=reason)
        try:
            return self._cached_or_made(job, step, started)
        except Exception as error:
            self._ui.end(job.label, step.name, Mark.FAILED, time.monotonic() - started)
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise SpaceError(
                    f"No space left while writing {step.name} for {job.label}.",
                    advice="Free some space or move the cache with --out; what was finished is kept.",
                ) from error
            raise

    def _cached_or_made(self, job: Job, step: Step, started: float) -> Finished:
        key = digest({"step": step.name, "code": own_code(), "inputs": dict(step.inputs(job))})
        with self._keys[key]:  # two targets may want the same wheel at the same time
            return self._find_or_make(job, step, key, started)

    def _find_or_make(self, job: Job, step: Step, key: str, started: float) -> Finished:
        found = self._cache.find(step.name, key)
        if found is not None:  # rule 3
            self._ui.end(job.label, step.name, Mark.CACHED, 0.0, found[1].note)
            return Finished(folder=found[0], result=found[1], cached=True, key=key)
        self._ui.start(job.label, step.name)
        folder, result = self._cache.make(
            step.name, key, lambda into: step.run(job, into), clock=time.monotonic
        )
        if not step.keep(folder):  # rule 6
            self._cache.forget(folder)
        self._ui.end(job.label, step.name, Mark.DONE, time.monotonic() - started, result.note)
        return Finished(folder=folder, result=result, key=key)


def _skipped_before(job: Job, step: Step) -> str:
    return next((job.results[name].skipped for name in step.after if job.results[name].skipped), "")


@functools.cache
def own_code() -> str:
    """Digest of Ferryman's build half itself: a changed step must not find what the old one made."""
    root = Path(__file__).parent
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return tree_digest(root, files)
