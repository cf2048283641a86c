"""What publishing costs: 1 GB in 200 artifacts over loopback, to radosgw with everything in memory.

1. At least 0.9 times the throughput of the best of `aws s3 cp --recursive` and boto3's own transfer with settings tuned by
   hand, although ours asks for conditions, checks every digest and has the digest kept beside the object.
2. Peak memory of the publisher under 200 MB.
3. Publishing the same again: under 2 s, and no object is written.

Needs radosgw (installed where apt and root are there). ``--size=MB`` and ``--runs=N`` for a shorter look.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from table import ROOT, Row, keep, row, show
from timing import pair

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "build"), str(ROOT / "release")]

from support.s3.faults import fault_proxy  # noqa: E402 - from the checkout, as it is
from support.s3.moto import S3  # noqa: E402
from support.s3.programs import program  # noqa: E402
from support.s3.radosgw import Ceph, ceph_cluster  # noqa: E402

ARTIFACTS = 200
BUCKET = "bench"

# Ours, in a process of its own: arguments are URL of the store, endpoint, list of files, folder for what it keeps.
OURS = """
import json, resource, sys, time
from pathlib import Path
from ferryman_build.settings import ReleaseSettings
from ferryman_release.store import Job, headers_for, open_store
url, endpoint, listed, root = sys.argv[1:]
jobs = []
for path, digest in json.loads(Path(listed).read_text()):
    key = "artifacts/bench/1/" + Path(path).name
    jobs.append(Job(key=key, source=Path(path), headers=headers_for(key), sha256=digest))
import os
with open_store(ReleaseSettings(url=url, endpoint=endpoint), Path(root), os.environ) as store:
    outcomes = store.create_many(jobs)
made = sum(outcome == "created" for outcome in outcomes.values())
print(json.dumps({"made": made, "kB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""

# boto3's transfer, as a person would tune it: files in parallel, and parts of a file.
TUNED = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
bucket, prefix, endpoint, folder, files, parts, size = sys.argv[1:]
client = boto3.client("s3", endpoint_url=endpoint, config=Config(
    signature_version="s3v4", s3={"addressing_style": "path"}, max_pool_connections=64))
config = TransferConfig(multipart_threshold=int(size) << 20, multipart_chunksize=int(size) << 20,
                        max_concurrency=int(parts), use_threads=int(parts) > 1)
def send(path):
    client.upload_file(str(path), bucket, prefix + path.name, Config=config)
with ThreadPoolExecutor(int(files)) as pool:
    list(pool.map(send, sorted(Path(folder).iterdir())))
"""
SETTINGS = ((4, 1, 16), (8, 1, 16), (16, 1, 16), (4, 4, 8))  # files at once, parts at once, MB of a part


class Bench:
    """Artifacts in a folder, and a radosgw; each upload goes under a prefix of its own and is removed again."""

    def __init__(self, work: Path, ceph: Ceph, size: int) -> None:
        self.work = work
        self.ceph = ceph
        self.server: S3 = ceph.gateway()
        self.server.make_bucket(BUCKET)
        self.counter = itertools.count()
        self.files = work / "files"
        self.files.mkdir()
        listed = []
        for number in range(ARTIFACTS):
            data = os.urandom((size << 20) // ARTIFACTS)
            path = self.files / f"bench-1-{number:03}.tar.gz"
            path.write_bytes(data)
            listed.append((str(path), hashlib.sha256(data).hexdigest()))
        self.listed = work / "listed.json"
        self.listed.write_text(json.dumps(listed), encoding="utf-8")
        self.peak = 0
        paths = [str(ROOT / "build"), str(ROOT / "release")]
        self.env = {
            **os.environ, **self.server.environ, "PYTHONPATH": os.pathsep.join(paths),
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(work / "aws.conf"),
        }  # fmt: skip
        (work / "aws.conf").write_text("[default]\ns3 =\n  addressing_style = path\n", encoding="utf-8")

    def ours(self, prefix: str = "ours", endpoint: str = "") -> tuple[float, dict[str, Any]]:
        """Seconds of the whole process, and what it said of itself."""
        url = f"s3://{BUCKET}/{prefix}"
        words = [
            sys.executable,
            "-c",
            OURS,
            url,
            endpoint or self.server.url,
            str(self.listed),
            str(self.work),
        ]
        seconds, said = self.timed(words)
        facts = json.loads(said)
        self.peak = max(self.peak, facts["kB"])
        return seconds, facts

    def aws(self) -> float:
        words = [
            str(program("aws")), "s3", "cp", "--recursive", "--only-show-errors", "--endpoint-url", self.server.url,
            str(self.files), f"s3://{BUCKET}/{next(self.counter)}/",
        ]  # fmt: skip
        return self.timed(words)[0]

    def tuned(self, files: int, parts: int, size: int) -> float:
        prefix = f"{next(self.counter)}/"
        words = [sys.executable, "-c", TUNED, BUCKET, prefix, self.server.url, str(self.files)]
        return self.timed([*words, str(files), str(parts), str(size)])[0]

    def timed(self, words: list[str]) -> tuple[float, str]:
        started = time.perf_counter()
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"{words[:3]} failed:\n{done.stdout}\n{done.stderr}")
        return seconds, done.stdout

    def clean(self) -> None:
        """Remove what was uploaded: the server has it in memory."""
        client = self.server.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for found in page.get("Contents", ()):
                client.delete_object(Bucket=BUCKET, Key=found["Key"])
        client.close()
        self.ceph.run(
            "radosgw-admin", "-c", str(self.ceph.conf), "--id", "rgw", "gc", "process", "--include-all"
        )

    def cleanly(self, seconds: float) -> float:
        self.clean()
        return seconds


def rows(bench: Bench, runs: int) -> Iterator[Row]:
    bench.ours()  # the store is asked what it can do, once in a week
    bench.clean()
    peers = {"aws s3 cp --recursive": lambda: bench.cleanly(bench.aws())}
    for files, parts, size in SETTINGS:
        name = f"boto3, {files} files of {parts} parts"
        peers[name] = lambda chosen=(files, parts, size): bench.cleanly(bench.tuned(*chosen))  # type: ignore[misc]
    seconds = {name: run() for name, run in peers.items()}
    yield from (row(f"a first look: {name}, s", taken, None, "") for name, taken in seconds.items())
    best = min(seconds, key=seconds.__getitem__)
    measured = pair(lambda: bench.cleanly(bench.ours()[0]), peers[best], runs=runs, warmup=0)
    seen = f"{measured.ours:.1f} s against {measured.theirs:.1f} s, {runs} pairs"
    yield row(f"time beside the best of them ({best})", measured.ratio, 1 / 0.9, seen)
    yield row("peak memory of the publisher, MB", bench.peak / 1000, 200, "")
    yield from again(bench)


def again(bench: Bench) -> Iterator[Row]:
    """The same release once more, through a proxy that counts."""
    bench.ours()
    quick = min(bench.ours()[0] for _ in range(3))
    with fault_proxy(bench.server.url) as proxy:
        bench.ours("counted", proxy.url)
        before = len(proxy.requests)
        facts = bench.ours("counted", proxy.url)[1]
        written = [one for one in proxy.requests[before:] if one[0] in ("PUT", "POST", "DELETE")]
        asked = len(proxy.requests) - before
    yield row("the same again, s", quick, 2, f"{asked} requests")
    yield row("objects that the same again writes", len(written), 0, "", also=facts["made"] == 0)


def main(arguments: list[str]) -> int:
    given = dict(word.removeprefix("--").split("=") for word in arguments)
    size, runs = int(given.get("size", 1000)), int(given.get("runs", 3))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-release-") as name:
        work = Path(name)
        with ceph_cluster(work / "ceph") as ceph:
            shown = show(rows(Bench(work, ceph, size), runs))
    more = {
        "MB": size,
        "artifacts": ARTIFACTS,
        "own peak kB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
    return keep("release", shown, time.monotonic() - started, more)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
