"""Everything into the store, under names that are made once. release.json goes last: a version that has one was whole.

Of such a version the names and sizes are listed, which is one request for a thousand files: what somebody has removed by hand
is sent again.
"""

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
    key = f"{job.prefix}/{RELEASE}"
    found = job.place.store.get(key)
    if found is not None and found[0] != job.release_content:
        raise ConflictError(f"{job.label} is in the store already, and is not this one.", advice=_advice(job))
    uploads = _uploads(job)
    if found is not None:
        uploads = _missing(job, uploads)
        return f"sent what was missing: {_send(job, uploads)}" if uploads else "everything is there"
    note = _send(job, uploads)
    digest = hashlib.sha256(job.release_content).hexdigest()
    job.place.store.create(key, job.release_content, headers_for(key), sha256=digest)
    return note


def _uploads(job: Job) -> list[Upload]:
    return [
        Upload(key=name, source=job.files / asset.path, headers=headers_for(name), sha256=asset.sha256)
        for asset in job.assets.values()
        for name in [f"{job.prefix}/{asset.path}"]
    ]


def _missing(job: Job, uploads: list[Upload]) -> list[Upload]:
    there = {entry.key for entry in job.place.store.list(f"{job.prefix}/")}
    return [one for one in uploads if one.key not in there]


def _send(job: Job, uploads: list[Upload]) -> str:
    job.sent = True
    total = sum(one.size for one in uploads)
    try:
        with watched("uploading", total, plain=job.options.plain) as progress:
            outcomes = job.place.store.create_many(uploads, progress=progress)
    except ConflictError as error:
        raise ConflictError(str(error), advice=_advice(job)) from error
    made = [one for one in uploads if outcomes[one.key] is Outcome.CREATED]
    there = len(uploads) - len(made)
    note = f"{len(made)} objects, {human_size(sum(one.size for one in made))}"
    return note + (f"; {there} were there" if there else "")


def _advice(job: Job) -> str:
    if job.options.snapshot:
        return f"Remove {job.options.out / 'snapshot'}, which nobody else has, and run it again."
    return (
        "A version is published once. Release this program under a new version, or with the files of the first run and the "
        "same steps left out with --skip."
    )
