"""tests/support/workflow_runner.py: jobs run as declared, and what cannot be tried here is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.workflow_runner import PythonMissingError, WorkflowError, WorkflowRun, find_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it runs the Linux leg")

CHECKOUT = {"uses": "actions/checkout@0", "with": {"persist-credentials": False}}
Start = Callable[..., WorkflowRun]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Commit a workflow of these jobs, with these further top-level keys, and start it."""

    def begin(jobs: Mapping[str, Any], files: Mapping[str, str] | None = None, **top: Any) -> WorkflowRun:
        for job in jobs.values():
            job.setdefault("runs-on", "ubuntu-24.04")
        inputs = top.pop("inputs", {})
        document = {"name": "trial", "on": {"workflow_dispatch": {"inputs": inputs}}, **top, "jobs": jobs}
        home = tmp_path / "repository"
        written = {".github/workflows/trial.yml": yaml.safe_dump(document), **(files or {})}
        for name, text in written.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text, encoding="utf-8")
        commit(home)
        return WorkflowRun(
            home,
            "trial.yml",
            tmp_path / "run",
            legs=lambda leg: leg if leg.get("os", "here") == "here" else None,
            machine={"INDEX": "nearby"},
        )

    return begin


def commit(home: Path) -> None:
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.invalid"]
    for words in (
        ["init", "--quiet"],
        ["add", "."],
        [*who, "commit", "--quiet", "--no-gpg-sign", "-m", "first"],
    ):
        subprocess.run(
            ["git", *words], cwd=home, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
        )


def steps(*lines: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"steps": [{"run": line} if isinstance(line, str) else dict(line) for line in lines]}


def test_environment_is_what_is_declared(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workflow, job and step add variables, the nearest wins; of this machine only what was said is seen."""
    monkeypatch.setenv("SOMEBODYS", "own")
    line = {
        "run": 'echo "$A $B $C ${SOMEBODYS-unset} $GITHUB_JOB $CI $INDEX"',
        "env": {"C": "${{ inputs.word }}"},
    }
    jobs = {"one": {"env": {"B": "job", "C": "job"}, **steps(line)}}
    run = start(jobs, env={"A": True, "B": "workflow"}, inputs={"word": {"default": "step"}})

    assert run.job("one").check().ran[0].output == "true job step unset one true nearby\n"


def test_files_lead_to_later_steps(start: Start) -> None:
    """GITHUB_ENV, GITHUB_PATH and GITHUB_OUTPUT are heard: by later steps, as outputs of the job, by the next job."""
    first = {
        "id": "first",
        "run": 'echo "SAID=a=b" >> $GITHUB_ENV; echo "$PWD/tools" >> $GITHUB_PATH; echo "word=hello" >> $GITHUB_OUTPUT\n'
        'mkdir tools; printf "#!/bin/sh\necho mine" > tools/tool; chmod +x tools/tool',
    }
    one = {"outputs": {"word": "${{ steps.first.outputs.word }}"}, **steps(first, 'echo "$SAID $(tool)"')}
    two = {"needs": ["one"], **steps("echo ${{ needs.one.outputs.word }}")}
    run = start({"one": one, "two": two})

    assert run.job("two").check().ran[0].output == "hello\n"
    assert run.job("one").ran[1].output == "a=b mine\n"


@pytest.mark.parametrize(("shell", "result"), [(None, "success"), ("bash", "failure"), ("sh", "success")])
def test_shell(start: Start, shell: str | None, result: str) -> None:
    """`bash` named means pipefail as on GitHub, and `bash` by default does not."""
    more = {"defaults": {"run": {"shell": shell}}} if shell else {}

    assert start({"one": steps("false | true")}, **more).job("one").result == result


def test_failure_ends_a_job_and_skips_what_needs_it(start: Start) -> None:
    """After a failure only what asks for it runs, and a gate that always runs sees the results."""
    gate = {
        "run": "exit 1",
        "if": "${{ contains(needs.*.result, 'failure') || contains(needs.*.result, 'skipped') }}",
    }
    run = start(
        {
            "broken": {
                "outputs": {"word": "${{ steps.nobody.outputs.word }}"},
                **steps("exit 3", "echo never", {"run": "echo always", "if": "always()"}),
            },
            "after": {"needs": "broken", **steps("echo never")},
            "gate": {"needs": ["broken", "after"], "if": "${{ always() }}", **steps(gate)},
        }
    )

    assert run.job("gate").result == "failure"
    assert run.job("after").result == "skipped"
    assert [(ran.command, ran.code) for ran in run.job("broken").ran] == [("exit 3", 3), ("echo always", 0)]
    with pytest.raises(WorkflowError, match=r"\$ echo always\nalways"):
        run.job("broken").check()


def test_matrix_and_composite_action(start: Start) -> None:
    """The legs for this machine run, from lists or from another job's JSON; an action of ours gets its inputs."""
    action = {
        "name": "Say",
        "inputs": {"word": {"required": True}, "end": {"default": "!"}},
        "runs": {
            "using": "composite",
            "steps": [{"run": "echo ${{ inputs.word }}${{ inputs.end }}", "shell": "bash"}],
        },
    }
    legs = json.dumps({"ci": [{"os": "here", "n": 1}, {"os": "elsewhere", "n": 2}]})
    say = {"uses": "$/.github/actions/say", "with": {"word": "${{ matrix.n }}"}}
    plan = {"outputs": {"plan": "${{ steps.plan.outputs.plan }}"},
            **steps({"id": "plan", "run": f"echo 'plan={legs}' >> $GITHUB_OUTPUT"})}  # fmt: skip
    run = start(
        {
            "plan": plan,
            "given": {"needs": "plan",
                      "strategy": {"matrix": {"include": "${{ fromJSON(needs.plan.outputs.plan).ci }}"}}, **steps(say)},
            "lists": {"strategy": {"matrix": {"os": ["here", "elsewhere"], "n": [3]}}, **steps(say)},
        },
        files={".github/actions/say/action.yml": yaml.safe_dump(action)},
    )  # fmt: skip

    assert [ran.output for ran in run.job("given").check().ran] == ["1!\n"]
    assert [ran.output for ran in run.job("lists").check().ran] == ["3!\n"]


def test_artifacts_travel_without_permissions(start: Start) -> None:
    """Uploads lose modes and hidden files; a download by pattern makes a folder each, but none for a single match."""

    def upload(name: str) -> dict[str, Any]:
        return {"uses": "actions/upload-artifact@0", "with": {"name": name, "path": "made"}}

    def download(pattern: str, into: str) -> dict[str, Any]:
        return {"uses": "actions/download-artifact@0", "with": {"pattern": pattern, "path": into}}

    make = "mkdir made; touch made/tool made/.hidden; chmod 755 made/tool"
    run = start(
        {
            "one": steps(make, upload("part-a"), upload("part-b")),
            "two": {"needs": "one", **steps(download("part-*", "all"), download("part-a", "single"),
                                            "find all single -type f -printf '%p %m\\n' | sort")},
        }
    )  # fmt: skip

    found = run.job("two").check().ran[0].output.splitlines()
    assert found == ["all/part-a/tool 644", "all/part-b/tool 644", "single/tool 644"]


def test_stand_in(start: Start, tmp_path: Path) -> None:
    """A job that cannot run here is taken for done, with what it would have uploaded."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "x.whl").touch()
    fetch = {"uses": "actions/download-artifact@0", "with": {"name": "wheels", "path": "in"}}
    run = start({"wheels": steps("exit 1"), "build": {"needs": "wheels", **steps(fetch, "ls in")}})
    run.stand_in("wheels", {"wheels": tmp_path / "made"})

    assert run.job("build").check().ran[0].output == "x.whl\n"


def test_checkout_is_a_clone_and_python_is_on_path(start: Start) -> None:
    """A job sees nothing of the repository before it checks out, and the Python that it asks for."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = {"uses": "actions/setup-python@0", "with": {"python-version": version}}
    ask = "python3 -c \"import sys; print('%d.%d' % sys.version_info[:2], sys.prefix == sys.base_prefix)\""
    run = start({"one": steps("ls", CHECKOUT, python, "git status --porcelain; ls", ask)}, files={"file": ""})

    assert [ran.output for ran in run.job("one").check().ran] == ["", "file\n", f"{version} True\n"]


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (steps({"uses": "somebody/action@0"}), "somebody/action@0 cannot be tried here"),
        (steps({"uses": "actions/checkout@0", "with": {"submodules": True}}), "submodules cannot be tried here"),
        (steps({"run": "true", "continue-on-error": True}), "continue-on-error cannot be tried here"),
        ({"container": "alpine", **steps("true")}, "container cannot be tried here"),
        ({"runs-on": "windows-2025", **steps("true")}, "runs on another machine"),
        ({"strategy": {"matrix": {"os": ["elsewhere"]}}, **steps("true")}, "no leg of its matrix runs here"),
        ({"strategy": {"matrix": {"os": ["here"], "exclude": []}}, **steps("true")}, "cannot be tried here"),
        (steps("echo 'a<<END' >> $GITHUB_OUTPUT"), "not of the form name=value"),
        (steps({"uses": "actions/download-artifact@0", "with": {"name": "x", "path": "."}}), "no such artifact"),
        (steps({"uses": "actions/upload-artifact@0", "with": {"name": "x", "path": "y"}}), "no folder with files"),
        (steps({"uses": "actions/cache@0", "with": {"path": "x", "key": "${{ hashFiles('no/*') }}"}}), "there is no no"),
    ],
)  # fmt: skip
def test_refused(start: Start, job: dict[str, Any], sentence: str) -> None:
    """What has no emulation is an error and no silence."""
    run = start({"one": job})
    run.artifacts.mkdir(exist_ok=True)

    with pytest.raises(WorkflowError, match=sentence):
        run.job("one")


def test_time_limit(start: Start) -> None:
    """A job's time limit ends a line with all that it started."""
    job = start({"one": {"timeout-minutes": 0.01, **steps("sleep 60 & sleep 60")}}).job("one")

    assert (job.result, job.ran[0].code) == ("failure", 124)
    assert "as the workflow says" in job.ran[0].output


def test_python_that_is_not_here() -> None:
    """A Python that the machine lacks is said by its version."""
    with pytest.raises(PythonMissingError, match=r"no Python 3\.99"):
        find_python("3.99")
