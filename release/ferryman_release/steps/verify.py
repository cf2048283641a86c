"""Everything fetched back through the public address, as anyone would, and compared: what the store has is what was sent."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from ferryman_build.ui import human_size
from ferryman_client import ClientError
from ferryman_client.fetch import Source
from ferryman_release.errors import VerifyError
from ferryman_release.job import Job
from ferryman_release.model import Asset

_AT_ONCE = 8


def key(job: Job) -> str:
    """What was verified once is not fetched again: its names are never written a second time."""
    return hashlib.sha256(job.release_content + job.place.public_url.encode()).hexdigest()


def anew(job: Job) -> bool:
    """Whatever an earlier run has seen: something had to be sent (again)."""
    return job.sent


def run(job: Job) -> str:
    """Fetch and compare every file of the version.

    Raises:
        VerifyError: a file is missing or has other bytes; all of them are named.
    """
    from ferryman_release.steps.sign import release_asset

    assets = (*job.assets.values(), release_asset(job.release_content))
    folder = (
        f"{job.place.public_url}{quote(job.prefix)}"  # as clients do: a bare + is a blank to some servers
    )
    fetcher = job.place.fetcher()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="verify") as pool:
        problems = list(
            pool.map(lambda asset: compare(fetcher, f"{folder}/{quote(asset.path)}", asset), assets)
        )
    if wrong := [problem for problem in problems if problem]:
        raise VerifyError(
            f"{len(wrong)} files do not come back from {job.place.public_url} as they were sent.",
            advice="See that everyone may read the bucket and that public-url is its address; nothing is visible yet, run it again.",
            details=wrong,
        )
    return f"{len(assets)} files fetched back, {human_size(sum(asset.size for asset in assets))}"


def compare(fetcher: Source, url: str, asset: Asset) -> str:
    """'' or what is wrong with what ``url`` gives; no more is read than the asset has."""
    digest, size = hashlib.sha256(), 0
    try:
        with fetcher.open(url) as answer:
            for chunk in answer.body:
                digest.update(chunk)
                size += len(chunk)
                if size > asset.size:
                    return f"{url}: more than {asset.size} bytes"
    except (ClientError, OSError) as error:
        return f"{url}: {error}"
    if size != asset.size:
        return f"{url}: {size} bytes instead of {asset.size}"
    return "" if digest.hexdigest() == asset.sha256 else f"{url}: other bytes ({digest.hexdigest()[:12]}…)"
