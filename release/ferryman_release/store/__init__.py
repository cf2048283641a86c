"""Where releases are kept: a folder or a bucket, behind one Protocol (:mod:`ferryman_release.store.base`)."""

from ferryman_release.store.base import Entry, Headers, Job, Outcome, Progress, Store, headers_for
from ferryman_release.store.opening import open_store, public_url

__all__ = [
    "Entry",
    "Headers",
    "Job",
    "Outcome",
    "Progress",
    "Store",
    "headers_for",
    "open_store",
    "public_url",
]
