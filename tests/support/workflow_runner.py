"""Runs the jobs of a workflow on this machine as GitHub's runner would on a Linux one, as far as ours need it.

    run = WorkflowRun(repository, "ci.yml", folder, legs=lambda leg: leg if leg["os"] == "ubuntu-24.04" else None)
    run.job("gate")          what it needs first, each in a fresh clone of what is committed

A step sees what the workflow declares and what GitHub's runner adds, and of this machine only PATH's system folders and
:data:`MACHINE`. Actions are emulated from a small table; a key, an action or an option that is not in the tables is a
:class:`WorkflowError`: what cannot be tried here shall not look as if it had been.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from support.workflow_expressions import Scope, as_text, condition, render

MACHINE = (
    # Where packages come from and whom to trust on the way; GitHub's machines reach the default index directly.
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "PIP_DEFAULT_TIMEOUT", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "UV_DEFAULT_INDEX", "UV_INDEX", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "no_proxy",
    # The container engine, which GitHub's Linux machines have under its usual name.
    "FERRYMAN_ENGINE", "FERRYMAN_ENGINE_ARGS", "CIBW_CONTAINER_ENGINE", "DOCKER_HOST",
)  # fmt: skip
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LINUX = ("ubuntu-24.04",)
SHELLS = {
    None: ("bash", "-e"),
    "bash": ("bash", "--noprofile", "--norc", "-eo", "pipefail"),
    "sh": ("sh", "-e"),
}
JOB_KEYS = {"name", "runs-on", "needs", "if", "permissions", "timeout-minutes", "strategy", "outputs", "env",
            "defaults", "steps", "environment"}  # fmt: skip
STEP_KEYS = {"name", "id", "if", "uses", "with", "run", "env", "shell", "working-directory"}


class WorkflowError(AssertionError):
    """The workflow is wrong, or does something that cannot be tried here."""


class PythonMissingError(Exception):
    """This machine lacks a Python that a job asks for."""


class Loader(yaml.SafeLoader):
    """YAML 1.2's idea of a boolean: `on:` is a key and no truth."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path: Path) -> dict[str, Any]:
    """A workflow or an action."""
    loaded = yaml.load(path.read_text(encoding="utf-8"), Loader)
    assert isinstance(loaded, dict)
    return loaded


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A `run:` that was run: the line as the shell saw it, how it ended, and what it printed."""

    step: str
    command: str
    code: int
    output: str


@dataclass(kw_only=True)
class Job:
    """What became of a job: its result in GitHub's words, its outputs, the lines that ran, and where."""

    result: str
    outputs: dict[str, str] = field(default_factory=dict)
    ran: list[Ran] = field(default_factory=list)
    workspace: Path | None = None

    def check(self) -> Job:
        """Itself, if it ended well.

        Raises:
            WorkflowError: it did not; with the end of what its last line printed.
        """
        if self.result != "success":
            last = "\n".join(
                f"$ {ran.command}\n{ran.output[-4000:]}[exit code {ran.code}]" for ran in self.ran[-1:]
            )
            raise WorkflowError(f"the job ended as {self.result}\n{last}")
        return self


@dataclass(kw_only=True)
class Leg:
    """A job while it runs: contexts for expressions, and what steps leave to later ones."""

    definition: Mapping[str, Any]
    contexts: dict[str, Any]
    job: Job
    home: Path
    env: dict[str, str]
    added: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        assert self.job.workspace is not None
        return self.job.workspace

    def scope(self, **more: Any) -> Scope:
        """What expressions in a step can see."""
        functions = {**states(self.job.result == "success"), "hashfiles": self.hash_files}
        return Scope(
            contexts={**self.contexts, "env": {**self.env, **self.added}, **more}, functions=functions
        )

    def hash_files(self, *patterns: str) -> str:
        """hashFiles(); a pattern that matches nothing would be a key that never changes."""
        digest = hashlib.sha256()
        for pattern in patterns:
            files = sorted(path for path in self.workspace.glob(pattern) if path.is_file())
            if not files:
                raise WorkflowError(f"hashFiles: there is no {pattern}")
            for path in files:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


class WorkflowRun:
    """One run of one workflow.

    Args:
        repository: what is committed there is what runs, workflows included.
        workflow: its name in .github/workflows.
        folder: for clones, artifacts and what was printed.
        legs: the leg to run for a leg of a matrix, None to leave it to another machine; at least one must run here.
        machine: variables that say what this machine has in place of what GitHub's can reach.
        inputs: of workflow_dispatch or workflow_call; the others have their defaults.
        event: what started it.
        variables: the repository's `vars`.
        secrets: those of every environment; `github.token` is the one that is called GITHUB_TOKEN.
    """

    def __init__(
        self,
        repository: Path,
        workflow: str,
        folder: Path,
        *,
        legs: Callable[[Mapping[str, Any]], Mapping[str, Any] | None],
        machine: Mapping[str, str] | None = None,
        inputs: Mapping[str, Any] | None = None,
        event: str = "workflow_dispatch",
        variables: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.artifacts = folder / "artifacts"
        self._legs = legs
        self._machine = machine or {}
        self._repository = repository
        self._source = clone(repository, folder / "source")
        self._workflow = load(self._source / ".github" / "workflows" / workflow)
        self._jobs: dict[str, Job] = {}
        self._github = {
            "event_name": event, "ref": "refs/heads/main", "ref_name": "main", "run_id": "1",
            "repository": "owner/repository", "workflow": self._workflow["name"],
            "sha": git(self._source, "rev-parse", "HEAD").strip(),
        }  # fmt: skip
        self._vars = dict(variables or {})
        self._secrets = dict(secrets or {})
        self._inputs = {**defaults((self._workflow["on"].get(event) or {}).get("inputs")), **(inputs or {})}

    def stand_in(self, name: str, artifacts: Mapping[str, Path]) -> None:
        """Take a job for done that cannot run here: these folders are what it would have uploaded."""
        for artifact, folder in artifacts.items():
            keep(folder, self.artifacts / artifact)
        self._jobs[name] = Job(result="success")

    def job(self, name: str) -> Job:
        """Run a job, and before it those that it needs; each once."""
        if name not in self._jobs:
            definition = self._workflow["jobs"][name]
            needs = definition.get("needs", [])
            done = {need: self.job(need) for need in ([needs] if isinstance(needs, str) else needs)}
            self._jobs[name] = self._run(name, definition, done)
        return self._jobs[name]

    def _run(self, name: str, definition: Mapping[str, Any], done: Mapping[str, Job]) -> Job:
        known(definition, JOB_KEYS, f"job {name}")
        contexts = {
            "github": {**self._github, "job": name, "token": self._secrets.get("GITHUB_TOKEN", "")},
            "inputs": self._inputs,
            "vars": self._vars,
            "secrets": self._secrets,
            "needs": {need: {"result": job.result, "outputs": job.outputs} for need, job in done.items()},
        }
        well = all(job.result == "success" for job in done.values())
        scope = Scope(contexts=contexts, functions=states(well))
        if not condition(definition.get("if"), scope):
            return Job(result="skipped")
        jobs = [self._leg(name, number, definition, {**contexts, **matrix})
                for number, matrix in enumerate(self._matrix(name, definition, scope))]  # fmt: skip
        failed = [job for job in jobs if job.result != "success"]
        return (failed or jobs)[0]

    def _matrix(self, name: str, definition: Mapping[str, Any], scope: Scope) -> Iterator[dict[str, Any]]:
        """The contexts of the legs to run: one without a matrix where the job has none."""
        matrix = definition.get("strategy", {}).get("matrix")
        if matrix is None:
            yield {}
            return
        legs = [leg for leg in map(self._legs, combinations(matrix, scope)) if leg is not None]
        if not legs:
            raise WorkflowError(f"job {name}: no leg of its matrix runs here")
        yield from ({"matrix": leg} for leg in legs)

    def _leg(self, name: str, number: int, definition: Mapping[str, Any], contexts: dict[str, Any]) -> Job:
        home = self.folder / f"{name}-{number}"
        workspace = home / "work" / "repository"
        for place in (workspace, home / "temp", home / "home"):
            place.mkdir(parents=True)
        contexts["github"] = {**contexts["github"], "workspace": str(workspace)}
        contexts["runner"] = {"os": "Linux", "arch": {"x86_64": "X64", "aarch64": "ARM64"}[platform.machine()],
                              "temp": str(home / "temp")}  # fmt: skip
        contexts["steps"] = {}
        leg = Leg(definition=definition, contexts=contexts, home=home, env={},
                  job=Job(result="success", workspace=workspace))  # fmt: skip
        if render(definition["runs-on"], leg.scope()) not in LINUX:
            raise WorkflowError(f"job {name} runs on another machine: {definition['runs-on']}")
        for declared in (self._workflow.get("env", {}), definition.get("env", {})):
            leg.env.update({key: as_text(render(value, leg.scope())) for key, value in declared.items()})
        for step in definition["steps"]:
            self._step(step, leg, {})
        if leg.job.result == "success":
            declared = definition.get("outputs", {})
            leg.job.outputs = {key: as_text(render(value, leg.scope())) for key, value in declared.items()}
        return leg.job

    def _step(self, step: Mapping[str, Any], leg: Leg, more: Mapping[str, Any]) -> None:
        """Run a step if it is its turn; ``more`` are the contexts of the composite action that it belongs to."""
        name = str(step.get("name") or step.get("uses") or step.get("run"))
        known(step, STEP_KEYS, f"step {name}")
        if not condition(step.get("if"), leg.scope(**more)):
            return
        if "run" in step:
            outputs = self._line(name, step, leg, more)
        else:
            given = {key: render(value, leg.scope(**more)) for key, value in step.get("with", {}).items()}
            outputs = self._action(step["uses"], given, leg)
        if "id" in step:
            leg.contexts["steps"][step["id"]] = {"outputs": outputs}

    def _action(self, uses: str, given: dict[str, Any], leg: Leg) -> dict[str, str]:
        if uses.startswith("$/"):
            action = load(self._source / uses[2:] / "action.yml")
            inputs = {
                key: as_text(value) for key, value in {**defaults(action.get("inputs")), **given}.items()
            }
            known(inputs, set(action.get("inputs", {})), uses)
            for step in action["runs"]["steps"]:
                self._step(step, leg, {"inputs": inputs})
            return {}
        emulation = ACTIONS.get(uses.partition("@")[0])
        if emulation is None:
            raise WorkflowError(f"{uses} cannot be tried here")
        emulate, options = emulation
        known(given, options, uses)
        emulate(self, leg, given)
        return {}

    def _line(self, name: str, step: Mapping[str, Any], leg: Leg, more: Mapping[str, Any]) -> dict[str, str]:
        scope = leg.scope(**more)
        command = str(render(step["run"], scope))
        shell = step.get("shell", default_of("shell", self._workflow, leg.definition))
        folder = step.get(
            "working-directory", default_of("working-directory", self._workflow, leg.definition) or "."
        )
        files = {
            word: leg.home / "temp" / f"{word}-{len(leg.job.ran)}"
            for word in ("OUTPUT", "ENV", "PATH", "STEP_SUMMARY")
        }
        for path in files.values():
            path.touch()
        declared = {key: as_text(render(value, scope)) for key, value in step.get("env", {}).items()}
        env = {
            **self._environment(leg),
            **{f"GITHUB_{word}": str(path) for word, path in files.items()},
            **declared,
        }
        script = leg.home / "temp" / f"script-{len(leg.job.ran)}.sh"
        script.write_text(command, encoding="utf-8")
        minutes = float(leg.definition.get("timeout-minutes", 360))
        code, output = call([*SHELLS[shell], str(script)], leg.workspace / folder, env, minutes * 60)
        leg.job.ran.append(Ran(step=name, command=command, code=code, output=output))
        leg.added.update(pairs(files["ENV"].read_text(encoding="utf-8")))
        leg.path[:0] = files["PATH"].read_text(encoding="utf-8").splitlines()[::-1]
        if code:
            leg.job.result = "failure"
        return pairs(files["OUTPUT"].read_text(encoding="utf-8"))

    def _environment(self, leg: Leg) -> dict[str, str]:
        """What GitHub's runner adds, what the machine is, and what workflow, job and earlier steps declare."""
        github = {key: leg.contexts["github"][key] for key in (*self._github, "job", "workspace")}
        return {
            **{name: os.environ[name] for name in MACHINE if name in os.environ},
            **self._machine,
            "PATH": os.pathsep.join([*leg.path, SYSTEM_PATH]),
            "HOME": str(leg.home / "home"),
            "LANG": "C.UTF-8",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            **{f"GITHUB_{key.upper()}": value for key, value in github.items()},
            **{f"RUNNER_{key.upper()}": value for key, value in leg.contexts["runner"].items()},
            **leg.env,
            **leg.added,
        }

    # -- actions ----------------------------------------------------------------------------------------------------

    def check_out(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        """A clone with the one commit, as deep as the action makes it."""
        clone(self._repository, leg.workspace)

    def set_up_python(self, leg: Leg, given: Mapping[str, Any]) -> None:
        """A folder with `python` and `python3`, first on PATH."""
        tools = leg.home / "tools"
        tools.mkdir()
        for name in ("python", "python3"):
            (tools / name).symlink_to(find_python(str(given["python-version"])))
        leg.path.insert(0, str(tools))

    def forget(self, _leg: Leg, _given: Mapping[str, Any]) -> None:
        """A cache that has nothing yet: what must work without one is tried without one."""

    def upload(self, leg: Leg, given: Mapping[str, Any]) -> None:
        """Keep a folder under a name that no job has used."""
        folder, kept = leg.workspace / given["path"], self.artifacts / given["name"]
        if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
            raise WorkflowError(f"{given['path']}: no folder with files to upload")
        if kept.exists():
            raise WorkflowError(f"the artifact {given['name']} exists already")
        keep(folder, kept)

    def download(self, leg: Leg, given: Mapping[str, Any]) -> None:
        """Each artifact in a folder of its name; but flat when named, merged, or the only one that matches."""
        found = [path for path in sorted(self.artifacts.iterdir())
                 if path.name == given.get("name") or fnmatch.fnmatchcase(path.name, given.get("pattern", ""))]  # fmt: skip
        if not found:
            raise WorkflowError(f"there is no such artifact: {given}")
        into = leg.workspace / given["path"]
        for artifact in found:
            flat = len(found) == 1 or given.get("merge-multiple")
            shutil.copytree(artifact, into if flat else into / artifact.name, dirs_exist_ok=True)


# What stands for an action, and the options that this honours.
ACTIONS: dict[str, tuple[Callable[[WorkflowRun, Leg, Mapping[str, Any]], None], set[str]]] = {
    "actions/checkout": (WorkflowRun.check_out, {"persist-credentials"}),
    "actions/setup-python": (WorkflowRun.set_up_python, {"python-version"}),
    "actions/cache": (WorkflowRun.forget, {"path", "key"}),
    "actions/upload-artifact": (WorkflowRun.upload, {"name", "path", "if-no-files-found", "retention-days"}),
    "actions/download-artifact": (WorkflowRun.download, {"name", "pattern", "merge-multiple", "path"}),
}


# -- parts ------------------------------------------------------------------------------------------------------------


def states(well: bool) -> dict[str, Callable[..., Any]]:
    """The functions that ask how it went so far."""
    answers = {"always": True, "success": well, "failure": not well, "cancelled": False}
    return {name: partial(bool, answer) for name, answer in answers.items()}


def known(given: Mapping[str, Any], allowed: set[str], what: str) -> None:
    """Refuse what nobody here would honour."""
    if strange := set(given) - allowed:
        raise WorkflowError(f"{what}: {', '.join(sorted(strange))} cannot be tried here")


def defaults(inputs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The inputs of a workflow or an action that have a default."""
    return {name: rules["default"] for name, rules in (inputs or {}).items() if "default" in rules}


def default_of(key: str, *levels: Mapping[str, Any]) -> Any:
    """`defaults.run`, the nearest level last."""
    found = [
        level["defaults"]["run"][key] for level in levels if key in level.get("defaults", {}).get("run", {})
    ]
    return found[-1] if found else None


def combinations(matrix: Mapping[str, Any], scope: Scope) -> list[dict[str, Any]]:
    """The legs of a matrix: the product of its lists, or the list that stands under `include` alone."""
    rendered = {key: render(values, scope) for key, values in matrix.items()}
    if set(rendered) == {"include"}:
        return list(rendered["include"])
    if {"include", "exclude"} & set(rendered):
        raise WorkflowError("a matrix of lists with include or exclude cannot be tried here")
    legs: list[dict[str, Any]] = [{}]
    for key, values in rendered.items():
        legs = [{**leg, key: render(value, scope)} for leg in legs for value in values]
    return legs


def pairs(text: str) -> dict[str, str]:
    """What is written to GITHUB_OUTPUT or GITHUB_ENV: lines `name=value`; the form with an end mark is not known here."""
    found = {}
    for line in filter(None, text.splitlines()):
        name, sign, value = line.partition("=")
        if not sign or "<<" in name:
            raise WorkflowError(f"not of the form name=value: {line}")
        found[name] = value
    return found


def keep(folder: Path, artifact: Path) -> None:
    """Copy what an upload takes: no hidden files, and without their permissions, which artifacts do not carry."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            (artifact.joinpath(*parts)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, artifact.joinpath(*parts))


def git(folder: Path, *words: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout


def clone(repository: Path, into: Path) -> Path:
    """A clone with the last commit alone."""
    into.mkdir(parents=True, exist_ok=True)
    git(into, "clone", "--quiet", "--depth", "1", f"file://{repository}", ".")
    return into


def find_python(version: str) -> Path:
    """An interpreter of this version, X.Y, below whatever environment offers it.

    Raises:
        PythonMissingError: there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    offered: list[str | Path | None] = [
        sys.executable,
        shutil.which(f"python{version}"),
        *sorted(pyenv.glob(f"{version}.*/bin/python{version}")),
    ]
    question = "import sys; print('%d.%d' % sys.version_info[:2], sys._base_executable)"
    for candidate in [one for one in offered if one]:
        asked = subprocess.run([candidate, "-c", question], capture_output=True, text=True, check=False)
        found, _, path = asked.stdout.strip().partition(" ")
        if asked.returncode == 0 and found == version:
            return Path(path).resolve()
    raise PythonMissingError(f"there is no Python {version} on this machine")


def call(words: list[str], folder: Path, env: Mapping[str, str], seconds: float) -> tuple[int, str]:
    """(exit code, what it printed); what runs for too long is ended with everything that it started."""
    process = subprocess.Popen(
        words, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output
    except BaseException as ended:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        if isinstance(ended, subprocess.TimeoutExpired):
            return 124, f"{output}\nended after {seconds:.0f} s, as the workflow says\n"
        raise
