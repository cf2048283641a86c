"""What the journeys of a release share: a world whose store is a bucket behind a proxy that hurts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.releasing import Clock, World, make_world
from support.s3.faults import Proxy, fault_proxy
from support.s3.moto import S3, make_public, moto_server

BUCKET, PREFIX = "releases", "agent"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with moto_server() as found:
        yield found


@pytest.fixture
def proxy(server: S3) -> Iterator[Proxy]:
    with fault_proxy(server.url) as found:
        yield found


@pytest.fixture
def world(tmp_path: Path, server: S3, proxy: Proxy, request: pytest.FixtureRequest) -> World:
    """Publishers go through the proxy, readers to the server itself."""
    bucket = f"{BUCKET}-{abs(hash(request.node.name)) % 10**9}"
    make_public(server, bucket)
    made = make_world(tmp_path)
    made.clock = Clock(running=True)
    made.environ = dict(server.environ)
    made.settings = {
        "url": f"s3://{bucket}/{PREFIX}",
        "endpoint": proxy.url,
        "public_url": f"{server.url}/{bucket}/{PREFIX}/",
    }
    return made
