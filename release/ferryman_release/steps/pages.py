"""The step that makes the pages again (:mod:`ferryman_release.pages`)."""

from __future__ import annotations

from ferryman_release.job import Job
from ferryman_release.pages import local_page, write_pages


def run(job: Job) -> str:
    """Write what has changed."""
    written = write_pages(job.place, job.project, job.name)
    return f"{written} written, {local_page(job.place.public_url)}" if written else "nothing has changed"
