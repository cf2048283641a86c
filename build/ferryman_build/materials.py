"""What went into an artifact, by hash: what its provenance lists beside the source.

    wheel           the project's own, as it was built or found in `wheels`
    dependencies    the lock: the project's own file, or the one that `ferryman lock` would write
    runtime         the archive of the interpreter in a standalone tree
    interpreter     this machine's own Python, where PyInstaller took it
    build tools     Ferryman's lock of what takes part in every build
    zig, zstd       what the launcher was compiled with, and the decoder in it

A build that is told the same makes the same list: no path of this machine is in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from ferryman_build.artifacts import Kind, Material
from ferryman_build.cache import file_digest
from ferryman_build.collect.environment import tools_lock
from ferryman_build.lockfile import lock_text
from ferryman_build.settings import Bundler
from ferryman_build.steps.job import TargetJob
from ferryman_build.toolchain import read_recipe, zig_lock
from ferryman_build.ways import Way

_LOCKS = "ferryman_build/resources/locks"


def materials(job: TargetJob, kind: Kind) -> tuple[Material, ...]:
    """The materials of one artifact of a job that has run."""
    return tuple(_found(job, kind))


def _found(job: TargetJob, kind: Kind) -> Iterator[Material]:
    wheel = job.wheel.path
    yield Material(name="wheel", uri=wheel.name, sha256=file_digest(wheel))
    yield _lock(job)
    if kind is not Kind.PYZ:
        yield from _interpreter(job)
    yield Material(name="build tools", uri=f"{_LOCKS}/tools.txt", sha256=_text_digest(tools_lock()))
    if kind is not Kind.PYZ and job.settings.bundle is Bundler.FERRYMAN:
        zstd = read_recipe().zstd
        yield Material(name="zig", uri=f"{_LOCKS}/zig.txt", sha256=_text_digest(zig_lock()))
        yield Material(name="zstd", uri=f"pkg:pypi/{zstd.distribution}@{zstd.version}", sha256=zstd.sha256)


def _lock(job: TargetJob) -> Material:
    own = job.project.settings.lock
    digest = file_digest(job.project.root / own) if own else _text_digest(lock_text(job.lock))
    return Material(name="dependencies", uri=own, sha256=digest)


def _interpreter(job: TargetJob) -> Iterator[Material]:
    if job.way is Way.STANDALONE and job.runtime and job.runtime.sha256:
        runtime = job.runtime
        uri = _public(runtime.address) if runtime.remote else runtime.file_name
        yield Material(name="runtime", uri=uri, sha256=runtime.sha256)
    elif job.way is Way.HERE:
        library = job.interpreter.libpython or job.interpreter.path
        yield Material(name="interpreter", uri=library.name, sha256=file_digest(library))


def _public(url: str) -> str:
    """The URL without what somebody logs in with: the statement is for everyone."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
