"""Whole releases on real servers: radosgw over http and https, and rclone, which ignores every condition."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferryman_release.errors import ConflictError
from ferryman_release.metadata.channels import promoted
from ferryman_release.operate import find_release_in
from ferryman_release.steps.sign import entry_asset
from support.releasing import Clock, Transaction, World, make_world
from support.s3.certificate import make_certificate
from support.s3.liars import rclone_server
from support.s3.moto import S3
from support.s3.radosgw import ceph_cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

SERVERS = ("radosgw-http", "radosgw-https", "rclone")
BUCKET = "releases"
Make = Callable[[Path], tuple[S3, str]]


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, S3]]:
    """One cluster behind two doors."""
    folder = tmp_path_factory.mktemp("ceph")
    certificate = make_certificate(folder / "certificate.pem")
    with ceph_cluster(folder / "cluster") as cluster:
        yield {"http": cluster.gateway(), "https": cluster.gateway(certificate=certificate)}


@pytest.fixture(params=SERVERS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A project whose store is that server; everyone reads radosgw over http, and rclone's own folder."""
    made = make_world(tmp_path / "project")
    made.clock = Clock(running=True)
    if request.param == "rclone":
        with rclone_server(tmp_path / "served") as server:
            server.make_bucket(BUCKET)
            (served,) = [path for path in (tmp_path / "served").rglob(BUCKET) if path.is_dir()]
            yield _at(made, server, f"{served.as_uri()}/agent/")
        return
    gateways: dict[str, S3] = request.getfixturevalue("gateways")
    bucket = f"releases-{abs(hash(request.node.name)) % 10**9}"
    _public(gateways["http"], bucket)
    scheme = request.param.partition("-")[2]
    yield _at(made, gateways[scheme], f"{gateways['http'].url}/{bucket}/agent/", bucket)


def _at(world: World, server: S3, public: str, bucket: str = BUCKET) -> World:
    world.environ = dict(server.environ)
    world.settings = {"url": f"s3://{bucket}/agent", "endpoint": server.url, "public_url": public}
    return world


def _public(server: S3, bucket: str) -> None:
    client = server.client()
    client.create_bucket(Bucket=bucket)
    rule = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/*"],
    }
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [rule]}))
    client.close()


def run(world: World, *words: str, version: str) -> tuple[int, str]:
    process = world.publisher(*words, version=version)
    said = process.communicate(timeout=300)[0].decode()
    return process.returncode, said


def test_releases_arrive(world: World) -> None:
    """Two of them, each seen whole by everyone; a run that is complete says that everything is there."""
    for version in ("1.0.0", "1.1.0"):
        code, said = run(world, "release", version=version)
        assert code == 0, said
        assert world.look() == version
    code, said = run(world, "release", version="1.1.0")
    assert (code, "everything is there" in said) == (0, True), said


def test_a_promotion_and_the_way_back(world: World) -> None:
    """The commands that change channels work on it as on a folder."""
    for version in ("1.0.0", "1.1.0"):
        assert run(world, "release", version=version)[0] == 0
    for words, seen in (
        (("promote", "1.0.0", "--to", "stable"), "1.0.0"),
        (("promote", "1.1.0", "--to", "stable"), "1.1.0"),
        (("rollback", "stable"), "1.0.0"),
    ):
        code, said = run(world, *words, version="1.1.0")
        assert code == 0, said
        assert world.look("stable") == seen


def test_two_publishers_at_once(world: World) -> None:
    """Each ends well, or is told that another one publishes and ends well afterwards; both releases are there."""
    assert run(world, "release", version="1.0.0")[0] == 0
    for number in (1, 2, 3):
        versions = [f"2.{number}.0", f"3.{number}.0"]
        running = {
            v: world.publisher("release", "--out", str(world.root / f"out-{v}"), version=v) for v in versions
        }
        said = {v: process.communicate(timeout=300)[0].decode() for v, process in running.items()}
        codes = {v: process.returncode for v, process in running.items()}
        assert set(codes.values()) <= {0, ConflictError.exit_code}, said
        for version in [v for v, code in codes.items() if code]:
            code, again = run(world, "release", "--out", str(world.root / f"out-{version}"), version=version)
            assert code == 0, again
        client = world.client(state="history")
        client.strict_refresh()
        assert set(versions) <= {entry.version for entry in client.history().releases}
        assert world.look() in versions


def test_a_publisher_that_loses_changes_nothing(world: World) -> None:
    """In one process, in the worst order: the second flips while the first is about to."""
    assert run(world, "release", version="1.0.0")[0] == 0

    def promote(transaction: Transaction, channel: str) -> None:
        entry, release = find_release_in(transaction, "1.0.0")
        state = transaction.state(channel)
        transaction.set(promoted(state, release, entry_asset(entry), moment="2026-11-21T12:00:00Z"))

    place = world.place()
    with place.store:
        repository = place.repository("lantern")
        with repository.edit() as first:
            promote(first, "beta")
        if world.settings["public_url"].startswith(
            "file:"
        ):  # a lease keeps the rival out from the first write on
            code, said = run(world, "promote", "1.0.0", "--to", "stable", version="1.0.0")
            assert (code, world.look("stable")) == (ConflictError.exit_code, ""), said
            first.flip()
            assert world.look("beta") == "1.0.0"
            return
        assert run(world, "promote", "1.0.0", "--to", "stable", version="1.0.0")[0] == 0
        with pytest.raises(ConflictError):
            first.flip()
    assert world.look("stable") == "1.0.0"
