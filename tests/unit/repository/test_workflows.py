"""The workflows in .github keep what docs/ci.md promises; what the checkers of `nox -s lint` cannot know is held here."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.targets import all_targets
from ferryman_release.cli import COMMANDS
from ferryman_release.github.bundles import FOLDER
from support.workflow_expressions import Scope, condition
from support.workflow_runner import load

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.y*ml"))
NAMES = [path.stem for path in WORKFLOWS]

# Who may do more than read the repository, and what.
WRITERS = {
    ("release", "attest"): {"id-token": "write", "attestations": "write", "contents": "read"},
    ("release", "publish"): {"id-token": "write", "contents": "write"},
    ("keys", "refresh"): {"id-token": "write", "contents": "read"},
}
# Who sees a secret, where a person may have to agree to that, and the one line that then runs.
HOLDERS = {
    ("release", "publish"): ("release", "python3 noxfile.py -s release -- --to canary"),
    ("keys", "refresh"): ("refresh", "python3 noxfile.py -s operator -- refresh"),
}
# What a job with credentials may use of others: GitHub's own actions, and the one that gets a role from AWS.
PUBLISHERS = r"(?:aws-)?actions"
# What starts a workflow; pull_request_target and workflow_run would run other people's code with our rights.
EVENTS = {"push", "pull_request", "schedule", "workflow_call", "workflow_dispatch"}
# The one line that is no command: a job cannot fail without one.
NOT_A_COMMAND = {("ci", "gate"): ["exit 1"]}


def workflow(name: str) -> dict[str, Any]:
    return load(ROOT / ".github" / "workflows" / f"{name}.yml")


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in NAMES:
        for job, definition in workflow(name)["jobs"].items():
            yield name, job, definition


JOBS = [pytest.param(name, job, definition, id=f"{name}-{job}") for name, job, definition in jobs()]
COMMANDS_OF_JOBS = [
    (name, job, step)
    for name, job, definition in jobs()
    for step in definition.get("steps", [])
    if "run" in step
]
LINES = [pytest.param(*line, id=f"{line[0]}-{line[1]}-{line[2]['name']}") for line in COMMANDS_OF_JOBS]


def pins() -> list[tuple[str, str]]:
    """Every `uses` that is not our own, with what stands behind it on its line."""
    lines = [
        line for path in (*WORKFLOWS, *ACTIONS) for line in path.read_text(encoding="utf-8").splitlines()
    ]
    found = [re.match(r"\s*(?:- )?uses:\s*(\S+)\s*(.*)", line) for line in lines]
    return [(match[1], match[2]) for match in found if match and not match[1].startswith("$/")]


def test_there_are_workflows() -> None:
    """The workflows are there; the tests below are about something."""
    assert NAMES == ["build", "ci", "keys", "release"]
    assert len(LINES) >= 8
    assert len(pins()) >= 10


def test_actions_are_pinned() -> None:
    """An action is named by its whole commit with its version behind it, and everywhere by the same."""
    loose = [uses for uses, comment in pins()
             if not re.fullmatch(PUBLISHERS + r"/[\w-]+@[0-9a-f]{40}", uses) or not re.fullmatch(r"# v\d+\.\d+\.\d+", comment)]  # fmt: skip
    versions = {uses.partition("@")[0]: set[tuple[str, str]]() for uses, _ in pins()}
    for uses, comment in pins():
        versions[uses.partition("@")[0]].add((uses, comment))

    assert loose == []
    assert {action: found for action, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", NAMES)
def test_workflow_head(name: str) -> None:
    """Nothing is allowed by default, harmless events alone start it, and its concurrency is its own.

    A called workflow has its caller's `github.workflow`: the literal word keeps the two from cancelling one another.
    """
    found = workflow(name)

    assert found["name"] == name
    assert found["permissions"] == {}
    assert set(found["on"]) <= EVENTS
    assert found["concurrency"]["group"].startswith(f"{name}-")
    assert "cancel-in-progress" in found["concurrency"]


@pytest.mark.parametrize(("name", "job", "definition"), JOBS)
def test_job_limits(name: str, job: str, definition: Mapping[str, Any]) -> None:
    """A job has its own permissions and a time limit, no container, and no step that may fail unseen."""
    assert definition["permissions"] == WRITERS.get((name, job), definition["permissions"])
    assert set(definition["permissions"].values()) <= {"read"} or (name, job) in WRITERS
    assert "container" not in definition
    assert "continue-on-error" not in definition
    if "steps" in definition:
        assert 0 < definition["timeout-minutes"] <= 90
        assert [
            step for step in definition["steps"] if "name" not in step or "continue-on-error" in step
        ] == []


@pytest.mark.parametrize(("name", "job", "definition"), JOBS)
def test_checkout_leaves_no_token(name: str, job: str, definition: Mapping[str, Any]) -> None:
    """The clone has no credentials that project code could read; only a job that runs none of it has no clone."""
    checkouts = [step for step in definition.get("steps", []) if "actions/checkout" in step.get("uses", "")]
    commands = [step["run"] for step in definition.get("steps", []) if "run" in step]

    assert [step["with"] for step in checkouts if step["with"] != {"persist-credentials": False}] == []
    assert len(checkouts) == (1 if commands != NOT_A_COMMAND.get((name, job), []) else 0)


SECRET = r"secrets\b|github\.token|github\.[a-z_]*token"


def test_secrets_are_read_by_their_holders_alone() -> None:
    """No other job reads a secret or the token, nor does a workflow for all of its jobs, nor an action of ours."""
    reading = {(name, job) for name, job, definition in jobs() if re.search(SECRET, str(definition))}
    elsewhere = [path.name for path in ACTIONS if re.search(SECRET, path.read_text("utf-8"))]
    elsewhere += [name for name in NAMES if re.search(SECRET, str({**workflow(name), "jobs": {}}))]

    assert reading == set(HOLDERS)
    assert elsewhere == []


@pytest.mark.parametrize(("name", "job"), HOLDERS)
def test_a_job_with_credentials_runs_one_command(name: str, job: str) -> None:
    """It runs that line and nothing else, sees its secrets in that step alone, and uses nothing of an earlier run."""
    definition = workflow(name)["jobs"][job]
    environment, line = HOLDERS[name, job]
    steps = {step["name"]: step for step in definition["steps"]}
    lines = [step for step in definition["steps"] if "run" in step]
    used = [step["uses"].partition("@")[0] for step in definition["steps"] if "uses" in step]

    assert definition["environment"] == environment
    assert [step["run"] for step in lines] == [line]
    assert [found for found, step in steps.items() if re.search(SECRET, str(step))] == [lines[0]["name"]]
    assert "env" not in definition
    assert definition["steps"][-1] is lines[0]
    assert steps["Prepare"]["with"]["cache"] is False
    assert set(used) <= {"actions/checkout", "$/.github/actions/prepare", "actions/download-artifact",
                         "aws-actions/configure-aws-credentials"}  # fmt: skip


@pytest.mark.parametrize("line", [line for _, line in HOLDERS.values()])
def test_a_job_with_credentials_installs_with_hashes(line: str) -> None:
    """Its session installs locks/release.txt by hash and then the checkout, from what the lock brought, and runs ferryman."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    first, second = functions[line.split()[3]].body[1:]
    installing = [ast.unparse(node) for node in functions["install"].body[1:]]

    assert ast.unparse(first) == "install(session, 'release', '.', 'release/client')"
    assert ast.unparse(second).startswith("session.run('ferryman', ")
    assert installing[0] == "session.install('--require-hashes', '-r', 'locks/{}.txt'.format(lock))"
    assert installing[-1] == "session.install('--no-deps', '--no-build-isolation', *editable)"
    assert len(installing) == 3


def test_the_lock_of_a_release_has_hashes() -> None:
    """Each package that such a job installs is there by version and hash, and none by address."""
    text = (ROOT / "locks" / "release.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    rows = [row for row in text.splitlines() if row.strip() and not row.lstrip().startswith("#")]

    assert len(rows) > 10
    assert [row for row in rows if not re.match(r"[\w.-]+==[^\s;]+ .*--hash=sha256:[0-9a-f]{64}", row)] == []


def test_keys_of_environments() -> None:
    """The job that runs each day, with nobody looking, sees no keys but those of snapshot and timestamp."""
    read = {
        (name, job): set(re.findall(r"secrets\.(\w+)", str(workflow(name)["jobs"][job])))
        for name, job in HOLDERS
    }

    assert read["keys", "refresh"] == {
        "FERRYMAN_KEY_SNAPSHOT",
        "FERRYMAN_KEY_TIMESTAMP",
        "FERRYMAN_KEY_PASSPHRASE",
    }
    assert read["keys", "refresh"] < read["release", "publish"]


def test_nothing_is_published_without_the_alarm() -> None:
    """The same variable lets releases out, refreshes their timestamp, and switches on the alarm."""
    conditions = {job: workflow(name)["jobs"][job]["if"] for name, job in [*HOLDERS, ("keys", "alarm")]}
    switch = "vars.FERRYMAN_RELEASES == 'true'"

    assert conditions["publish"] == conditions["refresh"] == f"${{{{ {switch} }}}}"
    assert conditions["alarm"] == f"${{{{ always() && {switch} }}}}"
    assert list(workflow("keys")["on"]) == ["schedule", "workflow_dispatch"]


@pytest.mark.parametrize(("refreshed", "switched", "runs"), [("failure", "true", True), ("success", "true", True),
                                                            ("skipped", "", False)])  # fmt: skip
def test_the_alarm_does_not_wait_for_success(refreshed: str, switched: str, runs: bool) -> None:
    """A refresh that failed is a reason to look at the keys; a repository without releases has none."""
    functions = {"always": lambda: True, "success": lambda: refreshed == "success"}
    scope = Scope(contexts={"vars": {"FERRYMAN_RELEASES": switched}}, functions=functions)

    assert condition(workflow("keys")["jobs"]["alarm"]["if"], scope) is runs


def test_the_statement_goes_where_publish_looks() -> None:
    """attest hands on the bundle that its action wrote, and publish puts it where `ferryman release` finds it."""
    found = workflow("release")["jobs"]
    attest = {step["name"]: step for step in found["attest"]["steps"]}
    publish = {step["name"]: step for step in found["publish"]["steps"]}

    assert found["publish"]["needs"] == ["attest"]
    assert (
        attest["Upload"]["with"]["path"] == f"${{{{ steps.{attest['Attest']['id']}.outputs.bundle-path }}}}"
    )
    assert publish["Attestation"]["with"]["name"] == attest["Upload"]["with"]["name"]
    assert publish["Attestation"]["with"]["path"] == f"{publish['Artifacts']['with']['path']}/{FOLDER}"
    assert publish["Artifacts"]["with"] == attest["Artifacts"]["with"]


@cache
def sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body
            if isinstance(node, ast.FunctionDef) and any("session" in ast.unparse(mark) for mark in node.decorator_list)}  # fmt: skip


@pytest.mark.parametrize(("name", "job", "step"), LINES)
def test_line_is_one_command(name: str, job: str, step: Mapping[str, Any]) -> None:
    """A line is one nox session, or one ferryman command in one, and needs no more than its own variables."""
    line = step["run"].strip()
    if line in NOT_A_COMMAND.get((name, job), []):
        return
    words = shlex.split(line)
    plain = re.sub(r'"\$[A-Z]+"|"out/parts/\$[A-Z]+"', "", line)

    assert words[:3] == ["python3", "noxfile.py", "-s"]
    assert words[4:5] in ([], ["--"])
    if words[3] in ("ferryman", "operator"):
        assert words[5] in COMMANDS
    assert re.search(r"[\n;|&<>`$(){}]", plain) is None
    assert set(re.findall(r"\$([A-Z]+)", line)) <= set(step.get("env", {}))


def test_sessions_are_there() -> None:
    """Every session that a line names is in noxfile.py."""
    named = {step["run"].split()[3] for _, _, step in COMMANDS_OF_JOBS if "noxfile.py" in step["run"]}

    assert named - sessions() == set()


@pytest.mark.parametrize("name", ["ci", "build"])
def test_lines_run_in_the_same_shell_everywhere(name: str) -> None:
    """bash on Windows too: a line means the same on every machine."""
    assert workflow(name)["defaults"] == {"run": {"shell": "bash"}}


def test_gate_needs_every_job() -> None:
    """No job of ci.yml can fail without the gate."""
    found = workflow("ci")["jobs"]

    assert set(found["gate"]["needs"]) == set(found) - {"gate"}
    assert found["gate"]["if"] == "${{ always() }}"


@pytest.mark.parametrize(
    ("results", "fails"),
    [
        (("success", "success"), False),
        (("success", "failure"), True),
        (("cancelled", "success"), True),
        (("skipped", "success"), True),
    ],
)
def test_gate_fails_unless_all_ended_well(results: tuple[str, ...], fails: bool) -> None:
    """The step that fails runs for every result but success."""
    (step,) = workflow("ci")["jobs"]["gate"]["steps"]
    needs = {str(number): {"result": result} for number, result in enumerate(results)}
    scope = Scope(contexts={"needs": needs}, functions={"success": lambda: True})

    assert condition(step["if"], scope) is fails


# -- nothing drifts ---------------------------------------------------------------------------------------------------


@cache
def pyproject() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def pythons() -> list[str]:
    found = [
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line)
        for line in pyproject()["classifiers"]
    ]
    return [match[1] for match in found if match]


def test_pythons_are_the_supported_ones() -> None:
    """ci.yml tests every Python that pyproject.toml promises, and checks types and style with the oldest."""
    found = workflow("ci")["jobs"]
    prepared = [step["with"]["python"] for job in ("lint", "types") for step in found[job]["steps"] if "with" in step
                and "python" in step["with"]]  # fmt: skip

    assert found["tests"]["strategy"]["matrix"]["python"] == pythons()
    assert prepared == [pythons()[0]] * 2
    assert pyproject()["requires-python"] == f">={pythons()[0]}"


def test_build_uses_a_python_that_has_runtimes() -> None:
    """build.yml builds with one Python, a supported one that Ferryman has standalone runtimes of."""
    rows = tomllib.loads((ROOT / "build/ferryman_build/resources/runtimes.toml").read_text(encoding="utf-8"))[
        "runtime"
    ]
    prepared = {step["with"]["python"] for job in workflow("build")["jobs"].values() for step in job["steps"]
                if "python" in step.get("with", {})}  # fmt: skip

    assert len(prepared) == 1
    assert prepared <= set(pythons())
    assert prepared <= {row["python"].rpartition(".")[0] for row in rows}


def documented_machines() -> dict[str, set[str]]:
    """The table of docs/ci.md: machine to the targets that it builds."""
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.-]+)` \| ((?:[a-z0-9]+-[a-z0-9-]+(?:, )?)+) \|$", text, re.MULTILINE)
    return {machine: set(targets.split(", ")) for machine, targets in rows}


def test_machines_are_documented() -> None:
    """Each target of the first tier is built on the machine that docs/ci.md says, and no machine is left over."""
    rows: dict[str, set[str]] = {}
    for target in all_targets():
        if target.tier == 1:
            rows.setdefault(target.runner, set()).add(target.id)

    assert documented_machines() == rows


def test_every_machine_builds_its_wheels() -> None:
    """The extension is compiled natively wherever a target of the first tier is built."""
    assert set(workflow("build")["jobs"]["wheels"]["strategy"]["matrix"]["runner"]) == set(
        documented_machines()
    )


@pytest.mark.parametrize(("name", "job", "definition"), JOBS)
def test_jobs_run_on_documented_machines(name: str, job: str, definition: Mapping[str, Any]) -> None:
    """A job names a machine of the table, or leaves the choice to its matrix."""
    machines = {*documented_machines(), "${{ matrix.runner }}", "${{ matrix.os }}"}

    assert definition.get("runs-on", "ubuntu-24.04") in machines
    assert set(definition.get("strategy", {}).get("matrix", {}).get("os", [])) <= machines


def test_plan_is_the_matrix() -> None:
    """What build runs comes from the plan, and each field of a leg is used."""
    build = workflow("build")["jobs"]["build"]
    used = set(
        re.findall(r"matrix\.(\w+)", (ROOT / ".github/workflows/build.yml").read_text(encoding="utf-8"))
    )

    assert build["strategy"]["matrix"] == {"include": "${{ fromJSON(needs.plan.outputs.plan).ci }}"}
    assert used == {"target", "runner", "kinds", "collector", "smoke", "image"}


@pytest.mark.parametrize(
    ("leg", "pulled"),
    [({"smoke": "container", "image": "alpine:3"}, True), ({"smoke": "native", "image": ""}, False)],
)
def test_the_image_of_a_leg_is_there_before_it_is_needed(leg: Mapping[str, str], pulled: bool) -> None:
    """Ferryman pulls nothing by itself: without this step nothing would be tried, and the job would be green."""
    steps = {step["name"]: step for step in workflow("build")["jobs"]["build"]["steps"]}
    image, names = steps["Image"], list(steps)

    assert names.index("Prepare") < names.index("Image") < names.index("Build")
    assert (
        condition(image["if"], Scope(contexts={"matrix": leg}, functions={"success": lambda: True})) is pulled
    )
    assert image["run"].split(" -- ")[1] == 'runners setup container --target "$TARGET"'
    assert image["env"] == {name: steps["Build"]["env"][name] for name in ("TARGET", "FERRYMAN_IMAGE")}


def test_build_runs_unasked() -> None:
    """What changes the products starts it, and so does every week: images and machines change without us."""
    events = workflow("build")["on"]
    paths = events["push"]["paths"]

    assert events["push"]["branches"] == ["main"]
    assert set(paths) >= {"build/**", "agent_src/**", ".github/**"}
    assert [pattern for pattern in paths if not (ROOT / pattern.removesuffix("/**")).exists()] == []
    assert [re.fullmatch(r"\d+ \d+ \* \* [0-6]", row["cron"]) is not None for row in events["schedule"]] == [
        True
    ]


def test_caches_follow_the_locks() -> None:
    """The key of the downloads has every lock file in it, so that a new lock begins a new cache."""
    (cache_step,) = [step for step in load(ACTIONS[0])["runs"]["steps"] if "actions/cache@" in step["uses"]]
    patterns = re.findall(r"'([^']+\.(?:txt|toml))'", cache_step["with"]["key"])
    hashed = {path for pattern in patterns for path in ROOT.glob(pattern)}
    locks = {*(ROOT / "locks").glob("*.txt"), *(ROOT / "build/ferryman_build/resources/locks").glob("*.txt")}

    assert locks <= hashed
    assert "restore-keys" not in cache_step["with"]
    kept = {said: condition(cache_step["if"], Scope(contexts={"inputs": {"cache": said}}, functions={"success": lambda: True}))
            for said in ("true", "", "false")}  # fmt: skip
    assert kept == {"true": True, "": True, "false": False}, (
        "nothing is said where no inputs are, as by a push"
    )


def test_release_keeps_nothing() -> None:
    """A release checks and builds anew, without what other runs left, and signs what came of both."""
    found = workflow("release")["jobs"]

    assert workflow("release")["on"] == {"push": {"tags": ["v*"]}}
    assert found["check"]["uses"] == "$/.github/workflows/ci.yml"
    assert (found["build"]["uses"], found["build"]["with"]) == (
        "$/.github/workflows/build.yml",
        {"cache": False},
    )
    assert set(found["attest"]["needs"]) == {"check", "build"}


def test_docs_list_every_job() -> None:
    """The table of docs/ci.md has each workflow with its jobs, in order."""
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    rows = {name: re.findall(r"`([a-z]+)`", cell)
            for name, cell in re.findall(r"^\| `(\w+)\.yml` \|[^|]+\| ([^|]+) \|$", text, re.MULTILINE)}  # fmt: skip

    assert rows == {name: list(workflow(name)["jobs"]) for name in ("ci", "build", "release", "keys")}


def test_updates_are_proposed_for_actions() -> None:
    """A bot looks after the pins, ours in actions among them."""
    (update,) = load(ROOT / ".github" / "dependabot.yml")["updates"]

    assert update["package-ecosystem"] == "github-actions"
    assert update["directories"] == ["/", "/.github/actions/*"]
