"""The step of a release that goes to GitHub: the files of the store, once, after everything else is visible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman_release.errors import GithubError, PreflightError
from ferryman_release.github import find_token, look
from ferryman_release.job import Job
from ferryman_release.pipeline import run_steps
from support.attestations import write
from support.dist_factory import COMMIT
from support.github_server import TOKEN, Fault, GithubServer, method
from support.releasing import World, make_world


@pytest.fixture
def github() -> Iterator[GithubServer]:
    with GithubServer() as server:
        server.repository("owner/lantern").tags["v1.0.0"] = COMMIT
        yield server
        assert server.complaints == []


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, settings={"github": "owner/lantern"})


def job_of(world: World, github: GithubServer, **environ: str) -> Job:
    job = world.job()
    job.environ = {"GITHUB_API_URL": github.api, "GITHUB_TOKEN": TOKEN, **environ}
    return job


def release(world: World, github: GithubServer) -> Job:
    job = job_of(world, github)
    run_steps(job)
    return job


def test_the_same_files_as_in_the_store(world: World, github: GithubServer) -> None:
    """Every file of the version's folder is on GitHub, byte for byte, and no other."""
    job = release(world, github)
    folder = world.store / job.prefix

    there = github.repositories["owner/lantern"].anonymous("v1.0.0")
    assert there == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert there is not None
    assert {"release.json", "SHA256SUMS", "SHA256SUMS.minisig", "manifest.json"} < set(there)


def test_a_second_run_sends_nothing(world: World, github: GithubServer) -> None:
    """The step says that all of it was there."""
    release(world, github)
    before = len(github.requests)
    world.said.truncate(0)
    release(world, github)

    assert {one.method for one in github.requests[before:]} == {"GET"}
    assert "had all of" in world.said.getvalue()


def test_the_statement_of_the_workflow_goes_with_each_artifact(world: World, github: GithubServer) -> None:
    """One bundle about all files becomes `<artifact>.sigstore.json` of each."""
    job = job_of(world, github)
    contents = [path.read_bytes() for path in job.options.dist.iterdir() if path.name.startswith("lantern")]
    bundle = write(job.options.dist / "attestations" / "attestation.json", *contents)
    run_steps(job)

    there = github.repositories["owner/lantern"].anonymous("v1.0.0") or {}
    copies = {name: data for name, data in there.items() if name.endswith(".sigstore.json")}
    assert {name.removesuffix(".sigstore.json") for name in copies} == {
        one.path for one in job.manifest.artifacts
    }
    assert set(copies.values()) == {bundle.read_bytes()}


def test_preflight_asks_github(world: World, github: GithubServer) -> None:
    """A tag that is elsewhere stops the release before a byte is sent, to GitHub or to the store."""
    github.repositories["owner/lantern"].tags["v1.0.0"] = "aa" * 20
    with pytest.raises(PreflightError) as refused:
        release(world, github)

    (line,) = refused.value.details
    assert "is about commit aaaaaaaaaaaa" in line
    assert "--skip github" in line
    assert github.count("POST") == 0
    assert not [path for path in world.store.rglob("*") if "artifacts" in path.parts]


def test_preflight_wants_a_token(world: World, github: GithubServer) -> None:
    """Without a token the release does not begin."""
    job = job_of(world, github, GITHUB_TOKEN="")
    with pytest.raises(PreflightError) as refused:
        run_steps(job)

    assert ["no token for GitHub" in line for line in refused.value.details] == [True]
    assert github.requests == []


def test_a_release_that_github_refused_is_there_all_the_same(world: World, github: GithubServer) -> None:
    """GitHub comes last: when it fails, the channel offers the release, and the next run brings it to GitHub."""
    github.fail(
        Fault("status", status=403, message="Resource not accessible", when=method("POST", "/releases"))
    )
    with pytest.raises(GithubError, match="may not create the draft"):
        release(world, github)
    client = world.client()
    client.strict_refresh()
    seen = github.repositories["owner/lantern"].anonymous("v1.0.0")
    release(world, github)

    assert client.channel().version == "1.0.0"
    assert seen is None
    assert github.repositories["owner/lantern"].anonymous("v1.0.0")


def test_look_changes_nothing(github: GithubServer) -> None:
    """The questions of the preflight are questions; a name that GitHub would change is found without any."""
    token = find_token({"GITHUB_TOKEN": TOKEN})
    look("owner/lantern", "v1.0.0", COMMIT, ["lantern"], token=token, api=github.api)
    asked = len(github.requests)
    with pytest.raises(GithubError, match="would not take"):
        look("owner/lantern", "v1.0.0", COMMIT, ["lantern 1"], token=token, api=github.api)

    assert {one.method for one in github.requests} == {"GET"}
    assert len(github.requests) == asked == 2
