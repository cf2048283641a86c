"""What every store owes (tests/support/s3/laws.py), on a folder and on moto."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferryman_release.store.base import Store
from ferryman_release.store.file import FileStore
from support.s3.laws import LAWS, RACES, Law
from support.s3.moto import S3, moto_server, reset
from support.s3.stores import BUCKET, bucket_store


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with moto_server() as running:
        yield running


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is known of the server, so that it is asked only once."""
    return tmp_path_factory.mktemp("known") / "moto.json"


@pytest.fixture(params=["folder", "moto"])
def opener(request: pytest.FixtureRequest, server: S3, known: Path, tmp_path: Path) -> Callable[[], Store]:
    if request.param == "folder":
        return lambda: FileStore(tmp_path / "store")
    reset(server)
    server.make_bucket(BUCKET)
    return lambda: bucket_store(server, tmp_path, kept_in=known)


@pytest.mark.parametrize("law", [*LAWS.values(), *RACES.values()], ids=[*LAWS, *RACES])
def test_law(opener: Callable[[], Store], law: Law, tmp_path: Path) -> None:
    """A store keeps each law of the table; its docstring is the claim."""
    with opener() as store:
        law(store, opener, tmp_path)
