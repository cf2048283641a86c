"""The job with the credentials, run as the workflow has it: from what was built and attested to the store and to GitHub.

    nox -s e2e -- workflows -k publish

The clone is what is committed, with keys and settings as a repository has them after its ceremony. GitHub is the server of
tests/support/github_server.py, the store a folder; AWS and the platform's signature are not there.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from ferryman_build.artifacts import Manifest
from ferryman_build.manifest import MANIFEST, manifest_bytes
from support.attestations import write
from support.dist_factory import make_dist
from support.github_server import TOKEN, GithubServer, Repository
from support.release_keys import TestKeys, make_keys
from support.workflow_runner import Job, PythonMissingError, WorkflowRun, clone, git

REPOSITORY = Path(__file__).resolve().parents[3]
VARIABLES = {"FERRYMAN_RELEASES": "true", "FERRYMAN_AWS_ROLE": "", "FERRYMAN_AWS_REGION": ""}
ROLES = ("snapshot", "timestamp", "canary", "minisign", "provenance")
TARGETS = ("linux-amd64", "windows-amd64")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.network,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() != "x86_64",
        reason="what is run is the leg of ubuntu-24.04",
    ),
]


@dataclass(frozen=True)
class Scene:
    """``repository`` is where the workflow comes from, ``dist`` what was built, ``secrets`` what its environment has."""

    folder: Path
    repository: Path
    keys: TestKeys
    manifest: Manifest
    tag: str
    secrets: dict[str, str]
    github: GithubServer

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def hub(self) -> Repository:
        return self.github.repositories["owner/watchkeeper"]

    def run(self, name: str, workflow: str, job: str) -> Job:
        """The job, ended well; what it left for others is taken for done."""
        run = WorkflowRun(
            self.repository, workflow, self.folder / name, legs=lambda leg: leg, event="push", variables=VARIABLES,
            secrets=self.secrets, machine={"GITHUB_API_URL": self.github.api},
        )  # fmt: skip
        attested = {"dist": self.folder / "dist", "attestation": self.folder / "attestation"}
        run.stand_in("attest", attested)
        try:
            return run.job(job)
        except PythonMissingError as missing:
            pytest.skip(str(missing))


def settings(scene: Path, keys: TestKeys) -> str:
    """`[tool.ferryman.release]` as docs/ci.md describes it, with a folder for a bucket."""
    signers = "\n".join(f'{role} = "env:FERRYMAN_KEY_{role.upper()}"' for role in ROLES)
    return f"""
[tool.ferryman.release]
url = "{(scene / "store").as_uri()}"
github = "owner/watchkeeper"
channels = ["{'", "'.join(keys.channels)}"]
changelog = ""
[tool.ferryman.release.signers]
{signers}
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("publish")
    repository = clone(REPOSITORY, folder / "repository")
    agent = repository / "agent_src"
    keys = make_keys(agent / "keys", clock=lambda: datetime.now(UTC), private=folder / "private")
    with (agent / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(settings(folder, keys))
    version = re.findall(r'"(.+)"', (agent / "watchkeeper" / "_version.py").read_text(encoding="utf-8"))[-1]
    git(repository, "add", "-A")
    git(
        repository,
        "-c",
        "user.name=T",
        "-c",
        "user.email=t@example.org",
        "commit",
        "-q",
        "-m",
        "After the ceremony",
    )
    git(repository, "tag", f"v{version}")
    made = make_dist(folder / "dist", version, name="watchkeeper", targets=TARGETS)
    source = msgspec.structs.replace(
        made.source, commit=git(repository, "rev-parse", "HEAD").strip(), dirty=False
    )
    manifest = msgspec.structs.replace(made, source=source)
    (folder / "dist" / MANIFEST).write_bytes(manifest_bytes(manifest))
    contents = [(folder / "dist" / one.path).read_bytes() for one in manifest.artifacts]
    write(folder / "attestation" / "attestation.json", *contents)
    texts = keys.environ()
    secrets = {f"FERRYMAN_KEY_{role.upper()}": texts[f"TEST_KEY_{role.upper()}"] for role in ROLES}
    with GithubServer() as github:
        github.repository("owner/watchkeeper", immutable=True).tags[f"v{version}"] = source.commit
        yield Scene(folder=folder, repository=repository, keys=keys, manifest=manifest, tag=f"v{version}", github=github,
                    secrets={**secrets, "FERRYMAN_KEY_PASSPHRASE": "none of these keys has one", "GITHUB_TOKEN": TOKEN})  # fmt: skip


@pytest.fixture(scope="module")
def published(scene: Scene) -> Job:
    return scene.run("publish", "release.yml", "publish").check()


def test_publish_brings_the_release_out(scene: Scene, published: Job) -> None:
    """The store and GitHub have the same files, and each artifact its copy of the workflow's statement."""
    folder = scene.store / "artifacts" / "watchkeeper" / scene.tag.removeprefix("v")
    stored = {path.name: path.read_bytes() for path in folder.iterdir()}

    assert scene.hub.anonymous(scene.tag) == stored
    assert {one.path for one in scene.manifest.artifacts} < set(stored)
    assert {f"{one.path}.sigstore.json" for one in scene.manifest.artifacts} < set(stored)
    assert (scene.store / "metadata" / "timestamp.json").is_file()
    assert scene.github.complaints == []


def test_publish_shows_no_secret(scene: Scene, published: Job) -> None:
    """Nothing that the job printed has a key or the token in it."""
    printed = "".join(ran.output for ran in published.ran)
    pieces = {
        line
        for text in scene.secrets.values()
        for line in text.splitlines()
        if len(line) > 20 and "-----" not in line
    }

    assert "Publish" in [ran.step for ran in published.ran]
    assert [piece for piece in pieces if piece in printed] == []


def test_publish_leaves_its_clone_clean(published: Job) -> None:
    """What is released and how stays as git made it."""
    assert published.workspace is not None
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=published.workspace, capture_output=True, check=True
    )
    assert status.stdout == b""


def test_publish_again_changes_nothing(scene: Scene, published: Job) -> None:
    """Re-running the job: no object of the store and nothing on GitHub is written."""
    before = {path: path.stat().st_mtime_ns for path in scene.store.rglob("*") if path.is_file()}
    asked = len(scene.github.requests)
    scene.run("again", "release.yml", "publish").check()

    assert {path: path.stat().st_mtime_ns for path in scene.store.rglob("*") if path.is_file()} == before
    assert {one.method for one in scene.github.requests[asked:]} == {"GET"}


def test_refresh_signs_a_new_timestamp(scene: Scene, published: Job) -> None:
    """The daily job, with the keys of snapshot and timestamp alone, makes the timestamp new; the alarm then finds nothing."""
    before = (scene.store / "metadata" / "timestamp.json").read_bytes()
    scene.run("refresh", "keys.yml", "refresh").check()
    after = (scene.store / "metadata" / "timestamp.json").read_bytes()
    scene.run("alarm", "keys.yml", "alarm").check()

    assert after != before
