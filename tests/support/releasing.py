"""A whole world for releases, in milliseconds: a project with keys, a folder as its store, and dist/ folders."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ferryman_build.errors import FerrymanError
from ferryman_build.project import Project, load_project
from ferryman_build.ui import PlainUi
from ferryman_client import Client, UnknownReleaseError, UnreachableError
from ferryman_release.job import Job, Options
from ferryman_release.metadata.repository import Transaction
from ferryman_release.operate import Edit, change
from ferryman_release.pages import write_pages
from ferryman_release.pipeline import STEPS, Step, run_steps
from ferryman_release.place import Place, open_place
from support.dist_factory import make_dist
from support.release_factory import sbom
from support.release_keys import TestKeys, make_keys

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from ferryman_release.cli import main; sys.exit(main())"
PYPROJECT = """\
[project]
name = "lantern"
dynamic = ["version"]
description = "Keeps a light on."
requires-python = ">=3.11"
[project.scripts]
lantern = "lantern:main"
[tool.ferryman]
targets = [{targets}]
kinds = ["archive", "executable"]
[tool.ferryman.release]
{release}
"""


class Clock:
    """A clock that begins at the real time, which python-tuf's client looks at as well, and that a test moves.

    One that is ``running`` goes on by itself, too.
    """

    def __init__(self, *, running: bool = False) -> None:
        self.moment = datetime.now(UTC)
        self._begun = time.monotonic() if running else None

    def __call__(self) -> datetime:
        since = time.monotonic() - self._begun if self._begun is not None else 0.0
        return self.moment + timedelta(seconds=since)

    def forward(self, **span: float) -> None:
        self.moment += timedelta(**span)


@dataclass
class World:
    """``root`` is the project's folder; ``said`` is what the steps have told people.

    ``settings`` are further lines of `[tool.ferryman.release]`, ``environ`` what the publisher finds in its environment,
    ``contents`` the bytes of artifacts that are not to be small.
    """

    root: Path
    keys: TestKeys
    clock: Clock = field(default_factory=Clock)
    targets: Sequence[str] = ("linux-amd64", "windows-amd64")
    settings: dict[str, Any] = field(default_factory=dict)
    said: io.StringIO = field(default_factory=io.StringIO)
    environ: dict[str, str] = field(default_factory=dict)
    url: str = ""
    contents: Callable[[str], Mapping[str, bytes]] = lambda _: {}

    def project(self, version: str = "1.0.0") -> Project:
        lines = "\n".join(
            f"{key.replace('_', '-')} = {_toml(value)}" for key, value in self._release().items()
        )
        named = ", ".join(f'"{target}"' for target in self.targets)
        text = PYPROJECT.format(version=version, targets=named, release=lines)
        (self.root / "pyproject.toml").write_text(text, encoding="utf-8")
        return load_project(self.root, lock_required=False)

    def _release(self) -> dict[str, Any]:
        given = {"keys": str(self.keys.folder.path), "changelog": "", "tag": "", "channels": list(self.keys.channels),
                 "signers": dict(self.keys.signers)}  # fmt: skip
        return {**given, **self.settings}

    def place(self, version: str = "1.0.0") -> Place:
        return open_place(
            self.project(version),
            environ=self.environ,
            secrets=self.keys.secrets,
            keys=self.keys.folder.path,
            now=self.clock,
        )

    def job(self, version: str = "1.0.0", *, place: Place | None = None, **options: Any) -> Job:
        """With a dist/ of its own, made if need be."""
        dist = self.root / f"dist-{version}"
        if not dist.exists():
            make_dist(dist, version, targets=self.targets, sbom=sbom, contents=self.contents(version))
        chosen = Options(dist=dist, out=self.root / "out", **options)
        return Job(
            self.project(version), chosen, place or self.place(version), PlainUi(self.said), environ={}
        )

    def release(self, version: str = "1.0.0", *, steps: tuple[Step, ...] = STEPS, **options: Any) -> Job:
        """Publish it; the job afterwards."""
        job = self.job(version, **options)
        try:
            run_steps(job, steps)
        except FerrymanError as error:
            for line in error.details:
                error.add_note(line)
            raise
        return job

    def change(self, edit: Edit) -> None:
        place = self.place()
        change(place, "lantern", edit)
        write_pages(place, self.project(), "lantern")

    def client(self, channel: str = "canary", *, state: str = "state", **options: Any) -> Client:
        """Of a machine that knows the first root."""
        first = next(iter(self.keys.folder.roots().values()))
        given = {"clock": lambda: self.clock().timestamp(), **options}
        self.url = self.url or self.place().public_url
        return Client(self.url, self.root / state, root=first, channel=channel, **given)

    def publisher(self, *words: str, version: str = "1.0.0", **options: Any) -> subprocess.Popen[bytes]:
        """`ferryman` with these words as a process of its own, in the project's folder, with dist/ of this version."""
        dist = self.root / f"dist-{version}"
        if not dist.exists():
            make_dist(dist, version, targets=self.targets, sbom=sbom, contents=self.contents(version))
        self.project(version)
        where = ["--dist", str(dist)] if words[0] == "release" else []
        path = os.pathsep.join(str(ROOT / name) for name in ("build", "release", "release/client"))
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, *words, *where, "--plain"], cwd=self.root,
            env={"PATH": os.environ["PATH"], "HOME": str(self.root), "PYTHONPATH": path, **self.environ},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **options,
        )  # fmt: skip

    def look(self, channel: str = "canary", *, state: str = "") -> str:
        """What an anonymous client sees: the version, every artifact of which came whole. '' when nothing is published.

        Raises:
            ClientError: it sees something that is not whole.
        """
        with tempfile.TemporaryDirectory(dir=self.root) as fresh:
            client = self.client(channel, state=state or fresh)
            try:
                client.strict_refresh()
            except UnreachableError as error:
                if error.status in (403, 404):
                    return ""
                raise
            except UnknownReleaseError:
                return ""
            return self.taken(client, Path(fresh))

    def taken(self, client: Client, into: Path) -> str:
        """The version of the channel, after every artifact of it has come whole, and the list of its files."""
        version = client.channel().version
        for target in self.targets:
            for offer in client.offers(target):
                client.download(offer, into)
        client.release(version)
        return version

    @property
    def store(self) -> Path:
        """The folder that is the store."""
        return self.root / "out" / "repository"

    def objects(self) -> dict[str, bytes]:
        """Everything that is published."""
        found = (path for path in self.store.rglob("*") if path.is_file() and ".ferryman" not in str(path))
        return {path.relative_to(self.store).as_posix(): path.read_bytes() for path in found}

    def commit(self, *, tag: str = "") -> str:
        """Make the project's folder a repository with one commit; its id."""
        git = ["git", "-C", str(self.root), "-c", "user.name=T", "-c", "user.email=t@example.org"]
        for words in (
            ["init", "-q"],
            ["add", "pyproject.toml"],
            ["commit", "-q", "-m", "first"],
            *([["tag", tag]] if tag else []),
        ):
            subprocess.run([*git, *words], check=True, capture_output=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        return done.stdout.strip()


def make_world(root: Path, **options: Any) -> World:
    """In the folder ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    return World(root=root, keys=make_keys(root / "keys", clock=clock), clock=clock, **options)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


__all__ = ["Clock", "Transaction", "World", "make_world"]
