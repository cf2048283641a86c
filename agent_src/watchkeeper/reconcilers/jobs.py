"""The reconciler of jobs: does what jobs/schedule.py decides."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from watchkeeper.config.schema.jobs import JobSpec
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.jobs.schedule import Do, Schedule
from watchkeeper.life.hooks import Rank
from watchkeeper.logs import get_logger
from watchkeeper.reconcile import Result
from watchkeeper.supervise.child import Child, LineReader, SpawnError, spawn
from watchkeeper.supervise.warden import warden_of
from watchkeeper.system import describe_exit

journal = get_logger("job")
STREAMS = {1: "stdout", 2: "stderr"}
POLL = 0.05
"""Seconds between two looks at a group whose first process has ended: nobody tells of the end of the others."""
END_LIMIT = 30.0


@dataclass
class Job:
    """One job at work."""

    schedule: Schedule = field(default_factory=Schedule)
    child: Child | None = None
    runs: int = 0
    failures: int = 0
    last_exit: str | None = None
    last_seconds: float | None = None
    overdue: bool = False


class JobReconciler:
    """Level-triggered: every call asks the schedule for the next step, and does that one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._jobs: dict[str, Job] = {}
        metrics = context.metrics
        self._runs = metrics.counter("job_runs_total", "Runs of a job that have ended.", "name", "result")
        self._skipped = metrics.counter(
            "job_skipped_total", "Slots that were left out because the job still ran.", "name"
        )
        self._duration = metrics.gauge("job_last_duration_seconds", "How long the last run took.", "name")
        context.hooks.add(Rank.WORK, "jobs", self._end_all, END_LIMIT)

    async def reconcile(self, key: Key) -> Result:
        wanted: JobSpec | None = self._context.snapshot.of(Kind.JOB).get(key.name)
        if self._context.observed.draining:
            wanted = None
        job = self._jobs.setdefault(key.name, Job())
        now = asyncio.get_running_loop().time()
        if wanted is not None and wanted != job.schedule.spec:
            job.schedule.plan(wanted, now, self._context.chance())
        elif wanted is None:
            job.schedule.spec = None
        self._settle(key, job, now)
        self._pass_over(key, job, now)
        do, again = job.schedule.decide(wanted is not None, now)
        again = await self._act(key, job, do, again, now)
        self._show(key, job, now)
        return Result(again, gone=wanted is None and again is None)

    async def _act(self, key: Key, job: Job, do: Do, again: float | None, now: float) -> float | None:
        if do is Do.START:
            return await self._start(key, job, now)
        if do is Do.STOP:
            self._stop(key, job, now)
        elif do is Do.KILL and job.child is not None:
            job.schedule.killed = True
            job.child.kill()
            return POLL
        elif do is Do.FORGET:
            self._forget(key)
            return None
        ended = job.child is not None and job.child.exit_code is not None
        return POLL if ended else again

    async def _start(self, key: Key, job: Job, now: float) -> float:
        spec = job.schedule.spec
        assert spec is not None
        job.schedule.began(now, self._context.chance())
        job.overdue = False
        output = _Output(key.name, spec.line_limit)
        try:
            job.child = await spawn(
                spec.command,
                environment=spec.environment | spec.secrets,
                working_directory=spec.working_directory,
                on_output=output,
                on_exit=lambda _child: self._context.add(key),
                prepare=warden_of(self._context).at_the_gate(spec.grace),
            )
        except SpawnError as error:
            job.schedule.ended()
            self._count(key, job, str(error), 0.0, ErrorClass.SERVICE_SPAWN_FAILED, "unstartable")
            return max(0.0, job.schedule.due - now)
        journal.debug(f"job {key.name} started", job=key.name, pid=job.child.pid)
        return min(spec.timeout, max(POLL, job.schedule.due - now))

    def _stop(self, key: Key, job: Job, now: float) -> None:
        job.schedule.stop_at = now
        job.overdue = job.schedule.spec is not None
        if job.child is not None:
            job.child.terminate()
        if job.overdue:
            journal.warning(
                f"job {key.name} takes longer than its timeout and is asked to end",
                job=key.name,
                error_class=ErrorClass.JOB_FAILED,
            )

    def _settle(self, key: Key, job: Job, now: float) -> None:
        """A run whose process has ended, and everybody that it has started in its group."""
        child, spec = job.child, job.schedule.running
        if child is None or spec is None or child.exit_code is None:
            return
        if child.group_alive():
            if job.schedule.stop_at is None:  # the job is done; who is left of it is not wanted
                job.schedule.stop_at = now
                child.terminate()
            return
        seconds = (child.exited_at or now) - job.schedule.started_at
        good = child.exit_code in spec.success and not job.overdue
        why = "it took longer than its timeout" if job.overdue else describe_exit(child.exit_code)
        child.close()
        warden_of(self._context).release(child.pid)
        job.child = None
        job.schedule.ended()
        self._count(
            key, job, why, seconds, None if good else ErrorClass.JOB_FAILED, "success" if good else "failure"
        )

    def _count(
        self, key: Key, job: Job, why: str, seconds: float, error_class: ErrorClass | None, result: str
    ) -> None:
        job.runs += 1
        job.last_exit, job.last_seconds = why, round(seconds, 3)
        job.failures = job.failures + 1 if error_class is not None else 0
        self._runs.labels(key.name, result).inc()
        self._duration.labels(key.name).set(seconds)
        self._context.events.note(key, result, why)
        if error_class is None:
            journal.info(f"job {key.name} done", job=key.name, duration=job.last_seconds)
            return
        self._context.metrics.error(error_class)
        journal.warning(
            f"job {key.name} failed: {why}", job=key.name, error_class=error_class, retry_count=job.failures
        )

    def _pass_over(self, key: Key, job: Job, now: float) -> None:
        before = job.schedule.skipped
        job.schedule.pass_over(now, self._context.chance())
        if job.schedule.skipped != before:
            self._skipped.labels(key.name).inc()

    def _show(self, key: Key, job: Job, now: float) -> None:
        if key.name not in self._jobs:
            return
        running = job.schedule.running is not None
        failed = bool(job.failures)
        self._context.show(
            key,
            "running" if running else "failing" if failed else "waiting",
            f"the last run: {job.last_exit}" if job.last_exit else "not run yet",
            last_error=job.last_exit if failed else None,
            runs=job.runs,
            failures_in_a_row=job.failures,
            skipped=job.schedule.skipped,
            last_duration=job.last_seconds,
            next_try_in=None if job.schedule.spec is None else round(max(0.0, job.schedule.due - now), 3),
        )

    def _forget(self, key: Key) -> None:
        del self._jobs[key.name]
        self._context.forget(key)
        for family in ("job_runs_total", "job_skipped_total", "job_last_duration_seconds"):
            self._context.metrics.drop(family, "name", key.name)

    async def _end_all(self) -> None:
        """Nothing is wanted any more; the queue does the rest."""
        while self._jobs:
            for name in list(self._jobs):
                self._context.add(Key(Kind.JOB, name))
            await asyncio.sleep(POLL)


class _Output:
    """What a run writes, as lines of the log."""

    def __init__(self, name: str, limit: int) -> None:
        self._journal = get_logger(f"output.{name}")
        self._name = name
        self._readers = {
            fd: LineReader(limit, lambda line, cut, fd=fd: self._line(fd, line, cut))  # type: ignore[misc]
            for fd in STREAMS
        }

    def __call__(self, stream: int, data: bytes) -> None:
        self._readers[stream].feed(data)

    def _line(self, stream: int, line: str, cut: bool) -> None:
        fields = {"truncated": True} if cut else {}
        self._journal.info(line, job=self._name, stream=STREAMS[stream], **fields)
