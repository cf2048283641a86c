"""pipeline: the six rules in the head of the module, and what a person is told of each step."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from ferryman_build import pipeline
from ferryman_build.cache import Cache
from ferryman_build.cmd import Runner
from ferryman_build.errors import BuildStepError, SpaceError
from ferryman_build.pipeline import Finished, Pipeline, Step
from ferryman_build.ui import Mark


@dataclass
class FakeJob:
    """A job whose steps read ``facts`` and write down when they run."""

    label: str = "linux-amd64"
    facts: dict[str, object] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    results: dict[str, Finished] = field(default_factory=dict)


@dataclass
class FakeUi:
    """Remembers what it is told."""

    started: list[tuple[str, str]] = field(default_factory=list)
    ended: list[tuple[str, str, Mark, str]] = field(default_factory=list)

    def start(self, who: str, what: str) -> None:
        self.started.append((who, what))

    def end(self, who: str, what: str, mark: Mark, seconds: float, note: str = "") -> None:
        assert seconds >= 0
        self.ended.append((who, what, mark, note))

    def say(self, text: str) -> None: ...
    def table(self, title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None: ...
    def close(self) -> None: ...


def step(
    name: str,
    *after: str,
    inputs: Callable[[FakeJob], Mapping[str, object]] | None = None,
    run: Callable[[FakeJob, Path], str] | None = None,
    skip: Callable[[FakeJob], str | None] = lambda job: None,
) -> Step:
    """A step that leaves a file with its name; its inputs are the facts under its name and what came before."""

    def usual_inputs(job: FakeJob) -> Mapping[str, object]:
        before = [found.result.digest for name in after if (found := job.results[name]).result]
        return {"fact": job.facts.get(name), "before": before}

    def usual_run(job: FakeJob, into: Path) -> str:
        job.ran.append(name)
        (into / name).write_text(str(job.facts.get(name)))
        return f"{name} made"

    return Step(name=name, after=after, inputs=inputs or usual_inputs, run=run or usual_run, skip=skip)


@pytest.fixture
def ui() -> FakeUi:
    return FakeUi()


@pytest.fixture
def build(tmp_path: Path, ui: FakeUi, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runner]:
    """Run steps for jobs, each call with a new cache object and runner over the same folder."""
    monkeypatch.setattr(pipeline, "own_code", lambda: "code")

    def run(*steps: Step, jobs: Iterable[FakeJob], workers: int = 4) -> Runner:
        runner = Runner()
        work = [(job, steps) for job in jobs]
        Pipeline(Cache(tmp_path / "cache"), runner, ui, workers=workers).run(work)
        return runner

    return run


# --- order ------------------------------------------------------------------------------------------------------------


def test_order(build: Callable[..., Runner]) -> None:
    """A step runs after all that it comes after, whatever the order of the list."""
    job = FakeJob()

    build(
        step("last", "middle", "other"),
        step("middle", "first"),
        step("other", "first"),
        step("first"),
        jobs=[job],
    )

    assert (job.ran[0], set(job.ran[1:3]), job.ran[3]) == ("first", {"middle", "other"}, "last")
    assert set(job.results) == set(job.ran)
    assert all(found.folder and (found.folder / name).exists() for name, found in job.results.items())


def test_independent_steps_run_side_by_side(build: Callable[..., Runner]) -> None:
    """Two steps that do not wait for each other meet; two workers are enough."""
    meeting = threading.Barrier(2, timeout=20)

    def meet(job: FakeJob, into: Path) -> str:
        meeting.wait()
        return ""

    build(step("one", run=meet), step("two", run=meet), jobs=[FakeJob()], workers=2)


def test_no_more_than_workers(build: Callable[..., Runner]) -> None:
    """At most ``workers`` steps run at a time."""
    running: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def count(job: FakeJob, into: Path) -> str:
        with lock:
            running.append(1)
            most.append(len(running))
        time.sleep(0.005)
        with lock:
            running.pop()
        return ""

    build(*(step(f"s{number}", run=count) for number in range(8)), jobs=[FakeJob()], workers=2)

    assert len(most) == 8
    assert max(most) <= 2


@pytest.mark.parametrize("steps", [[step("a", "nobody")], [step("a", "b"), step("b", "a")], [step("a", "a")]])
def test_step_that_waits_for_nobody(build: Callable[..., Runner], steps: list[Step]) -> None:
    """A name that no step has, or a circle, is said and not waited for."""
    with pytest.raises(ValueError, match="linux-amd64 a"):
        build(*steps, jobs=[FakeJob()])


def test_nothing_to_do(build: Callable[..., Runner]) -> None:
    """No jobs and no steps are fine."""
    build(jobs=[])
    build(jobs=[FakeJob()])


# --- skipped ----------------------------------------------------------------------------------------------------------


def test_skipped_step_takes_its_followers_along(build: Callable[..., Runner], ui: FakeUi) -> None:
    """Rule 2: the reason is shown for each of them; what does not come after runs."""
    job = FakeJob()
    build(
        step("a", skip=lambda job: "no display"), step("b", "a", "free"), step("c", "b"), step("free"), jobs=[job]
    )  # fmt: skip

    assert job.ran == ["free"]
    assert {name: found.skipped for name, found in job.results.items()} == {
        "a": "no display", "b": "no display", "c": "no display", "free": "",
    }  # fmt: skip
    assert [row for row in ui.ended if row[2] is Mark.SKIPPED] == [
        ("linux-amd64", name, Mark.SKIPPED, "no display") for name in "abc"
    ]


# --- cached -----------------------------------------------------------------------------------------------------------


def test_second_run_runs_nothing(build: Callable[..., Runner], ui: FakeUi) -> None:
    """Rule 3: the results are those of the first run, and no step is even started."""
    steps = (step("a"), step("b", "a"))
    first, second = FakeJob(), FakeJob()
    build(*steps, jobs=[first])
    ui.started.clear()
    ui.ended.clear()
    build(*steps, jobs=[second])

    assert second.ran == []
    assert ui.started == []
    assert ui.ended == [("linux-amd64", name, Mark.CACHED, f"{name} made") for name in "ab"]
    assert [(found.cached, found.result, found.folder) for found in second.results.values()] == [
        (True, found.result, found.folder) for found in first.results.values()
    ]
    assert not any(found.cached for found in first.results.values())


def test_first_run_is_told(build: Callable[..., Runner], ui: FakeUi) -> None:
    """A step that runs is announced, and ends with its note."""
    build(step("a"), jobs=[FakeJob()])

    assert ui.started == [("linux-amd64", "a")]
    assert ui.ended == [("linux-amd64", "a", Mark.DONE, "a made")]


def test_changed_input_runs_what_depends_on_it(build: Callable[..., Runner]) -> None:
    """Another input is another key; a step whose inputs are as they were is not run."""
    steps = (step("a"), step("b", "a"), step("other"))
    build(*steps, jobs=[FakeJob(facts={"a": 1})])
    job = FakeJob(facts={"a": 2})
    build(*steps, jobs=[job])

    assert job.ran == ["a", "b"]


def test_change_without_effect_stops_there(build: Callable[..., Runner]) -> None:
    """A step that runs again and makes the same bytes leaves its followers' keys as they were."""
    steps = (
        step("a", inputs=lambda job: dict(job.facts), run=lambda job, into: job.ran.append("a") or "same"),
        step("b", "a"),
    )
    build(*steps, jobs=[FakeJob(facts={"comment": "old"})])
    job = FakeJob(facts={"comment": "new"})
    build(*steps, jobs=[job])

    assert job.ran == ["a"]


def test_other_code_is_another_key(build: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed Ferryman does not find what the old one made."""
    build(step("a"), jobs=[FakeJob()])
    monkeypatch.setattr(pipeline, "own_code", lambda: "other code")
    job = FakeJob()
    build(step("a"), jobs=[job])

    assert job.ran == ["a"]


def test_own_code_is_stable() -> None:
    """The digest of the code is a SHA-256, and the same while the code is."""
    assert pipeline.own_code() == pipeline.own_code.__wrapped__()
    assert len(pipeline.own_code()) == 64


def test_steps_of_one_input_have_different_keys(build: Callable[..., Runner]) -> None:
    """The step's name takes part in the key."""
    job = FakeJob()
    build(*(step(name, inputs=lambda job: {}) for name in "ab"), jobs=[job])

    assert sorted(job.ran) == ["a", "b"]
    assert job.results["a"].key != job.results["b"].key


def test_same_key_for_two_jobs_runs_once(build: Callable[..., Runner]) -> None:
    """Two targets that want the same wheel at the same time share it."""
    inside = []

    def slow(job: FakeJob, into: Path) -> str:
        inside.append(job.label)
        time.sleep(0.05)
        return ""

    jobs = [FakeJob(label=label) for label in ("one", "two", "three")]
    build(step("wheel", inputs=lambda job: {}, run=slow), jobs=jobs)

    assert len(inside) == 1
    assert len({job.results["wheel"].folder for job in jobs}) == 1
    assert sorted(job.results["wheel"].cached for job in jobs) == [False, True, True]


# --- failures ---------------------------------------------------------------------------------------------------------


def failing(error: BaseException) -> Callable[[FakeJob, Path], str]:
    def fail(job: FakeJob, into: Path) -> str:
        raise error

    return fail


def test_failure_stops_what_has_not_started(build: Callable[..., Runner], ui: FakeUi, tmp_path: Path) -> None:
    """Rule 5: the error is raised as it is, followers and waiting steps do not run, what was finished is kept."""
    error = BuildStepError("broken", advice="mend")
    job = FakeJob()
    with pytest.raises(BuildStepError) as caught:
        build(
            step("a"),
            step("b", "a", run=failing(error)),
            step("c", "b"),
            step("d", "b"),
            jobs=[job],
            workers=1,
        )

    assert caught.value is error
    assert job.ran == ["a"]
    assert [row[1:3] for row in ui.ended] == [("a", Mark.DONE), ("b", Mark.FAILED)]
    again = FakeJob()
    build(step("a"), jobs=[again])
    assert again.ran == []
    assert not list(tmp_path.glob("cache/*/.draft-*"))


def test_failure_ends_children(tmp_path: Path, ui: FakeUi) -> None:
    """Rule 5: a child that another step is waiting for does not outlive the failure, which is what is raised."""
    runner = Runner()
    ready = tmp_path / "ready"

    def wait_for_child(job: FakeJob, into: Path) -> str:
        runner.run(
            ["sh", "-c", f"echo $$ > {ready}.draft; mv {ready}.draft {ready}; exec sleep 60"], name="child"
        )
        raise AssertionError("it was not ended")

    def fail(job: FakeJob, into: Path) -> str:
        end = time.monotonic() + 20
        while not ready.exists():
            assert time.monotonic() < end
            time.sleep(0.005)
        raise BuildStepError("the first")

    with pytest.raises(BuildStepError, match=r"^the first$"):
        Pipeline(Cache(tmp_path / "cache"), runner, ui, workers=2).run(
            [(FakeJob(), (step("long", run=wait_for_child), step("short", run=fail)))]
        )
    with pytest.raises(ProcessLookupError):
        os.kill(int(ready.read_text()), 0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(build: Callable[..., Runner], ui: FakeUi, number: int) -> None:
    """A step that cannot write is a SpaceError with a cure, and its line says that it failed."""
    with pytest.raises(SpaceError, match="tree for linux-amd64") as caught:
        build(step("tree", run=failing(OSError(number, "full"))), jobs=[FakeJob()])

    assert "Free some space" in caught.value.advice
    assert [row[1:3] for row in ui.ended] == [("tree", Mark.FAILED)]


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), RuntimeError("odd")])
def test_unexpected_error(build: Callable[..., Runner], ui: FakeUi, error: Exception) -> None:
    """What nobody foresaw passes unchanged, after the step's line was ended."""
    with pytest.raises(type(error)) as caught:
        build(step("a", run=failing(error)), jobs=[FakeJob()])

    assert caught.value is error
    assert [row[1:3] for row in ui.ended] == [("a", Mark.FAILED)]


def test_a_result_for_this_build_alone(build: Callable[..., Runner]) -> None:
    """Rule 6: its folder serves the run that made it; the next run makes it again, until it is one to keep."""
    wanted = msgspec.structs.replace(
        step("trial"), keep=lambda folder: (folder / "trial").read_text() == "whole"
    )
    first, second, third = FakeJob(facts={}), FakeJob(facts={}), FakeJob(facts={})

    build(wanted, jobs=[first])
    assert (first.results["trial"].folder or Path()).joinpath("trial").is_file()
    build(wanted, jobs=[second])
    kept = msgspec.structs.replace(wanted, keep=lambda _: True)
    build(kept, jobs=[third])
    fourth = FakeJob(facts={})
    build(kept, jobs=[fourth])

    assert [job.ran for job in (first, second, third, fourth)] == [["trial"], ["trial"], ["trial"], []]


def test_inputs_that_fail(build: Callable[..., Runner], ui: FakeUi) -> None:
    """Asking a step for its inputs may fail like the step itself."""

    def fail(job: FakeJob) -> Mapping[str, object]:
        raise BuildStepError("no wheel")

    with pytest.raises(BuildStepError, match="no wheel"):
        build(step("a", inputs=fail), jobs=[FakeJob()])

    assert [row[1:3] for row in ui.ended] == [("a", Mark.FAILED)]


def test_interrupt(tmp_path: Path, ui: FakeUi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches the waiting main thread: children are ended, nothing is started any more, the signal passes."""
    runner = Runner()
    ready = tmp_path / "ready"
    job = FakeJob()

    def child(job: FakeJob, into: Path) -> str:
        runner.run(
            ["sh", "-c", f"echo $$ > {ready}.draft; mv {ready}.draft {ready}; exec sleep 60"], name="child"
        )
        return ""

    def interrupted(*_: object, **__: object) -> None:
        end = time.monotonic() + 20
        while not ready.exists():
            assert time.monotonic() < end
            time.sleep(0.005)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Pipeline(Cache(tmp_path / "cache"), runner, ui, workers=1).run(
            [(job, (step("a", run=child), step("b")))]
        )

    assert job.ran == []
    assert job.results == {}
    with pytest.raises(ProcessLookupError):
        os.kill(int(ready.read_text()), 0)
