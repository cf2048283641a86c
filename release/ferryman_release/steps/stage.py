"""Everything into the store, under names that are made once. release.json goes last: a version that has one is whole."""

from __future__ import annotations

import hashlib

from ferryman_build.ui import human_size
from ferryman_release.errors import ConflictError
from ferryman_release.job import Job
from ferryman_release.model import RELEASE
from ferryman_release.progress import watched
from ferryman_release.store.base import Job as Upload
from ferryman_release.store.base import Outcome, headers_for


def run(job: Job) -> str:
    """Upload what is not there yet.

    Raises:
        ConflictError: the version was published before with other bytes.
        StoreError: the store refuses or is not there.
    """
    store, key = job.place.store, f"{job.prefix}/{RELEASE}"
    if (found := store.get(key)) is not None:
        if found[0] == job.release_content:
            return "everything is there"
        raise _other_bytes(job)
    uploads = [
        Upload(key=name, source=job.files / asset.path, headers=headers_for(name), sha256=asset.sha256)
        for asset in job.assets.values()
        for name in [f"{job.prefix}/{asset.path}"]
    ]
    total = sum(one.size for one in uploads)
    with watched("uploading", total, plain=job.options.plain) as progress:
        outcomes = store.create_many(uploads, progress=progress)
    digest = hashlib.sha256(job.release_content).hexdigest()
    store.create(key, job.release_content, headers_for(key), sha256=digest)
    job.sent = True
    made = [one for one in uploads if outcomes[one.key] is Outcome.CREATED]
    there = len(uploads) - len(made)
    note = f"{len(made)} objects, {human_size(sum(one.size for one in made))}"
    return note + (f"; {there} were there" if there else "")


def _other_bytes(job: Job) -> ConflictError:
    return ConflictError(
        f"{job.label} is in the store already, and is not this one.",
        advice="A version is published once. Release this program under a new version, or with the files of the first run.",
    )
