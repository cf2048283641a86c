"""What the steps of one release share: where things are, and what earlier steps have found.

    out/release/<name>-<version>/files/     every file of the version, as it will lie in the store
    out/release/<name>-<version>/run.json   what each step has done, by the digest of what it was given

The folder can be removed at any time: a release that is published is not made again without it, only looked at again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Manifest, Struct
from ferryman_build.checkout import draft_copy
from ferryman_build.project import Project
from ferryman_build.settings import ReleaseSettings
from ferryman_build.ui import Ui
from ferryman_release.model import ARTIFACTS, RELEASE, Asset, AssetKind, Release
from ferryman_release.place import Place

RUN = "run.json"


class Done(Struct, frozen=True, kw_only=True):
    """A step that has run: ``key`` is the digest of what it was given, ``note`` what people were told."""

    key: str
    note: str


class Run(Struct, frozen=True, kw_only=True):
    """run.json. ``hashes`` maps a file to (size, mtime in ns, sha256), so that nothing is read twice."""

    done: dict[str, Done] = msgspec.field(default_factory=dict)
    hashes: dict[str, tuple[int, int, str]] = msgspec.field(default_factory=dict)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    ``percent`` of the machines get the release, ``snapshot`` publishes nothing, ``plain`` draws no bars.
    """

    dist: Path
    out: Path
    channel: str = ""
    percent: int = 100
    snapshot: bool = False
    dry_run: bool = False
    plain: bool = False
    skip: frozenset[str] = frozenset()


class Job:
    """One release. Steps read what earlier ones have put here; ``assets`` grows until release.json lists them all."""

    def __init__(
        self,
        project: Project,
        options: Options,
        place: Place,
        ui: Ui,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.project = project
        self.options = options
        self.place = place
        self.ui = ui
        self.environ = os.environ if environ is None else environ
        self.now = place.now
        self.manifest: Manifest = _NO_MANIFEST
        self.assets: dict[str, Asset] = {}
        self.release: Release | None = None
        self.release_content = b""
        self.sent = False  # something of it, by this run
        self.skipped: dict[str, str] = {}
        self._run = Run()

    @property
    def settings(self) -> ReleaseSettings:
        """`[tool.ferryman.release]`."""
        return self.place.settings

    @property
    def name(self) -> str:
        """The program's."""
        return self.manifest.project.name

    @property
    def version(self) -> str:
        """The release's."""
        return self.manifest.project.version

    @property
    def label(self) -> str:
        """What a person sees."""
        return f"{self.name} {self.version}".strip() or self.project.name

    @property
    def prefix(self) -> str:
        """Where the version's files lie in the store."""
        return f"{ARTIFACTS}/{self.name}/{self.version}"

    @property
    def channel(self) -> str:
        """Where the release goes: as asked, else the first channel."""
        return self.options.channel or self.settings.channels[0]

    @property
    def folder(self) -> Path:
        """out/release/<name>-<version>, or that of snapshots."""
        kind = "snapshot" if self.options.snapshot else "release"
        return self.options.out / kind / f"{self.name}-{self.version}"

    @property
    def files(self) -> Path:
        """Every file of the version."""
        return self.folder / "files"

    # -- the run's memory ----------------------------------------------------------------------------------------------

    def open_run(self) -> None:
        """Remember what an earlier run of this version did; what cannot be read was never written."""
        self.files.mkdir(parents=True, exist_ok=True)
        try:
            self._run = msgspec.json.decode((self.folder / RUN).read_bytes(), type=Run)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            self._run = Run()

    def done(self, step: str, key: str) -> Done | None:
        """What an earlier run says of the step, if it was given the same."""
        found = self._run.done.get(step)
        return found if found and found.key == key else None

    def record(self, step: str, done: Done) -> None:
        """Remember it, on the disk."""
        self._run.done[step] = done
        self._save()

    def _save(self) -> None:
        content = msgspec.json.format(msgspec.json.encode(self._run), indent=1)
        draft_copy(content, self.folder / RUN, False).replace(self.folder / RUN)

    def sha256(self, path: Path) -> str:
        """Of a file of the release, in hex; read once for as long as size and time of change stay the same."""
        from ferryman_build.cache import file_digest

        status = path.stat()
        known = self._run.hashes.get(path.name)
        if known and known[:2] == (status.st_size, status.st_mtime_ns):
            return known[2]
        found = file_digest(path)
        self._run.hashes[path.name] = (status.st_size, status.st_mtime_ns, found)
        return found

    # -- files of the release ------------------------------------------------------------------------------------------

    def add(self, path: str, kind: AssetKind, *, about: str = "", media_type: str = "") -> Asset:
        """List a file that lies in :attr:`files` as a part of the release."""
        place = self.files / path
        asset = Asset(
            path=path, kind=kind, size=place.stat().st_size, sha256=self.sha256(place), about=about,
            media_type=media_type or _MEDIA_TYPES.get(kind, "application/octet-stream"),
        )  # fmt: skip
        self.assets[path] = asset
        return asset

    def write(
        self, path: str, content: bytes, kind: AssetKind, *, about: str = "", media_type: str = ""
    ) -> Asset:
        """The same for a file that is made here; one that has these bytes already is left alone."""
        place = self.files / path
        if not (place.is_file() and place.read_bytes() == content):
            draft_copy(content, place, False).replace(place)
        return self.add(path, kind, about=about, media_type=media_type)

    def write_release(self) -> Path:
        """release.json as a file beside the others, which it does not list itself."""
        place = self.files / RELEASE
        draft_copy(self.release_content, place, False).replace(place)
        return place

    @property
    def released(self) -> str:
        """The moment of the commit, ISO 8601 in UTC."""
        return datetime.fromtimestamp(self.manifest.source.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_MEDIA_TYPES = {
    AssetKind.CHECKSUMS: "text/plain",
    AssetKind.MANIFEST: "application/json",
    AssetKind.PROVENANCE: "application/vnd.in-toto+dsse",
    AssetKind.SBOM: "application/vnd.cyclonedx+json",
    AssetKind.SIGNATURE: "text/plain",
}


def _no_manifest() -> Manifest:
    from ferryman_build.artifacts import ProjectInfo, Source

    return Manifest(project=ProjectInfo(name="", version=""), source=Source(), tools={})


_NO_MANIFEST = _no_manifest()
