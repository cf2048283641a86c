"""The .pyz: wheels and the agent's wheel in one zip application, made by shiv. It needs a Python on its machine.

Which wheels is decided by the lock, with markers evaluated for the target: pip's own cross-installation evaluates
them for the host, and a Windows-only dependency would be missing on Windows (pypa/pip#11664). So pip gets a finished
list with hashes and ``--no-deps``, and its platform arguments only choose among the wheels of each entry.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ferryman_build.cmd import Runner, environment
from ferryman_build.collect.environment import env_python
from ferryman_build.errors import ResolutionError
from ferryman_build.targets import Target
from ferryman_build.wheeltags import accepted_platforms
from ferryman_build.wrap.pyz_archive import Describe, finish
from ferryman_build.wrap.pyz_needs import PyzProgram, needs_of


def install_site_packages(
    requirements: str, target: Target, python: str, env: Path, into: Path, runner: Runner
) -> None:
    """Install ``requirements`` (text with hashes) for ``target`` and CPython ``python`` (X.Y) into ``into``/site.

    Raises:
        ResolutionError: a wheel is missing or has another hash.
    """
    listed = into / "requirements.txt"
    listed.write_text(requirements, encoding="utf-8")
    platforms = [word for tag in accepted_platforms(target) for word in ("--platform", tag)]
    abis = [word for abi in (f"cp{python.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    runner.run(
        [env_python(env), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--no-compile",
         "--only-binary", ":all:", *platforms, "--python-version", python, "--implementation", "cp", *abis,
         "--disable-pip-version-check", "--root-user-action", "ignore", "--target", into / "site", "-r", listed],
        name=f"site-{target}", env=environment(pip_sources(os.environ)), failure=ResolutionError,
        advice=f"`ferryman plan --target {target}` says which wheel is missing.",
    )  # fmt: skip
    (into / "site").mkdir(exist_ok=True)
    shutil.rmtree(into / "site" / "bin", ignore_errors=True)
    for record in (into / "site").glob("*.dist-info/RECORD"):
        _forget_missing(record)


def _forget_missing(record: Path) -> None:
    """Drop the rows of files that are not there: a script's row has the digest of the path of the Python that installed it."""
    with record.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    # pip names them relative to where they would be without --target: ../../bin/idna
    kept = [row for row in rows if row and ".." not in row[0] and (record.parent.parent / row[0]).exists()]
    if len(kept) < len(rows):
        with record.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(kept)


def pip_sources(given: Mapping[str, str]) -> dict[str, str]:
    """pip's variables for the places that uv's name: what was resolved there is installed from there, by its hash."""
    extra = [*given.get("UV_INDEX", "").split(), *given.get("UV_EXTRA_INDEX_URL", "").split()]
    found = {
        "PIP_INDEX_URL": given.get("UV_DEFAULT_INDEX") or given.get("UV_INDEX_URL", ""),
        "PIP_EXTRA_INDEX_URL": " ".join(_NAMED.sub("", index) for index in extra),
        "PIP_FIND_LINKS": given.get("UV_FIND_LINKS", "").replace(",", " "),
    }
    found["PIP_INDEX_URL"] = _NAMED.sub("", found["PIP_INDEX_URL"])
    return {name: value for name, value in found.items() if value}


_NAMED = re.compile(
    r"^[A-Za-z0-9_.-]+=(?=[A-Za-z][A-Za-z0-9+.-]*:)"
)  # uv lets an index have a name: name=url


class PyzJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a .pyz is made of.

    ``site`` holds the installed dependencies, ``app`` the unpacked wheel, ``data`` further files as (source, folder
    beside the packages). ``epoch`` (seconds since 1970) is the date of every member. ``target`` None: the archive asks for
    no platform. ``name`` is the program's, for messages and the cache (default: the file's, up to its first hyphen);
    ``cache_days``, ``interpreter``, ``sbom_option``: the settings of these names; ``free_threaded``: of the interpreter
    built for.
    """

    site: Path
    app: Path
    data: tuple[tuple[str, str], ...]
    entry_point: str
    python: str
    epoch: int
    env: Path
    output: Path
    target: Target | None = None
    name: str = ""
    version: str = ""
    cache_days: int = 30
    interpreter: bool = True
    free_threaded: bool = False
    sbom_option: str = ""


def write_pyz(job: PyzJob, runner: Runner, describe: Describe | None = None) -> bytes:
    """Write ``job.output``, which runs on CPython ``job.python`` (X.Y) and says so to any other.

    ``describe`` makes the SBOM that it carries and that is returned, from everything else in it. shiv gathers the packages and never packs bytecode; what starts the program is ours (docs/adr/0017).
    """
    with tempfile.TemporaryDirectory(prefix="pyz-", dir=job.output.parent) as temporary:
        joined = Path(temporary) / "site-packages"
        shutil.copytree(job.site, joined, symlinks=True, copy_function=_link_or_copy)
        shutil.copytree(job.app, joined, symlinks=True, copy_function=_link_or_copy, dirs_exist_ok=True)
        for source, folder in job.data:
            (joined / folder).mkdir(parents=True, exist_ok=True)
            place = joined / folder / Path(source).name
            place.unlink(missing_ok=True)  # it may be a link into the cache, which a copy would write through
            shutil.copy2(source, place)
        _plain_modes(joined)
        runner.run(
            [env_python(job.env), "-m", "shiv", "--site-packages", joined, "--entry-point", job.entry_point,
             "--python", f"/usr/bin/env python{job.python}", "--reproducible", "--uncompressed",
             "--output-file", Path(temporary) / "shiv.pyz"],
            name="shiv", env=environment({"SOURCE_DATE_EPOCH": str(job.epoch)}),
        )  # fmt: skip
        gathered = Path(temporary) / "shiv.pyz"
        return finish(
            gathered, needs_of(gathered, _program(job)), job.python, job.epoch, job.output, describe
        )


def _program(job: PyzJob) -> PyzProgram:
    return PyzProgram(
        name=job.name or job.output.stem.split("-")[0], version=job.version, python=job.python, target=job.target,
        entry=job.entry_point, days=job.cache_days, interpreter=job.interpreter, free_threaded=job.free_threaded,
        sbom_option=job.sbom_option,
    )  # fmt: skip


def _plain_modes(root: Path) -> None:
    """755 or 644, whatever the umask was when a file was installed: shiv keeps the modes that it finds."""
    for path in (root, *root.rglob("*")):
        if path.is_symlink():
            continue
        status = path.stat()
        mode = 0o755 if path.is_dir() or status.st_mode & 0o100 else 0o644
        if stat.S_IMODE(status.st_mode) == mode:
            continue
        if path.is_file() and status.st_nlink > 1:  # a mode belongs to the file, which the cache has too
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        path.chmod(mode)


def _link_or_copy(source: str, target: str) -> str:
    Path(target).unlink(missing_ok=True)  # it may be a link into the cache, which a copy would write through
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
