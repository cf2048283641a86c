"""Stores for tests: from a server to an open store, and what a test hands to it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from ferryman_build.settings import Compat, ReleaseSettings
from ferryman_release.store.base import Job, headers_for
from ferryman_release.store.bucket import BucketStore
from ferryman_release.store.s3 import connector, open_bucket
from support.s3.moto import S3

BUCKET, PREFIX = "releases", "some/agent"
URL = f"s3://{BUCKET}/{PREFIX}"


def settings_for(server: S3, endpoint: str = "", compat: Compat = Compat.AUTO) -> ReleaseSettings:
    return ReleaseSettings(url=URL, endpoint=endpoint or server.url, compat=compat)


def bucket_store(
    server: S3, root: Path, *, endpoint: str = "", compat: Compat = Compat.AUTO, **more: Any
) -> BucketStore:
    """An open store; ``more`` are arguments of BucketStore, such as the terms of its lease."""
    settings = settings_for(server, endpoint, compat)
    if not more:
        return open_bucket(settings, root, server.environ)
    known = {
        "url": URL,
        "prefix": f"{PREFIX}/",
        "endpoint": settings.endpoint,
        "compat": compat,
        "connect": connector(settings, URL, server.environ),
        "kept_in": root / "kept.json",
    }
    return BucketStore(**(known | more))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def job(key: str, source: bytes | Path, sha256: str = "") -> Job:
    data = source if isinstance(source, bytes) else source.read_bytes()
    return Job(key=key, source=source, headers=headers_for(key), sha256=sha256 or digest(data))


def create(store: Any, key: str, source: bytes | Path, **more: Any) -> Any:
    """`create` with the headers and the digest that belong to it."""
    fields = msgspec.structs.asdict(job(key, source, more.pop("sha256", "")))
    return store.create(fields["key"], fields["source"], fields["headers"], sha256=fields["sha256"], **more)


def replace(store: Any, key: str, data: bytes, etag: str | None) -> str:
    return str(store.replace(key, data, headers_for(key), etag=etag))
