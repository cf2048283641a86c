"""What a release is made of: the documents beside the artifacts, in the one form that every step reads.

    <prefix>/artifacts/<name>/<version>/<file>        created once, never overwritten
    <prefix>/artifacts/<name>/<version>/release.json  the last of them: a version that has one is whole
    <prefix>/channels/<channel>/<sha256>.json         the history of a channel; its digest stands in signed metadata
    <prefix>/metadata/...                             TUF, consistent snapshots; timestamp.json is the pointer

Field names are kebab-case in JSON. Paths are those of URLs, relative to the prefix or to the version's folder.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from ferryman_build.artifacts import Artifact, ProjectInfo, Source, Struct

SCHEMA_VERSION = 1
RELEASE = "release.json"
ARTIFACTS = "artifacts"
CHANNELS = "channels"
METADATA = "metadata"
TIMESTAMP = f"{METADATA}/timestamp.json"


class AssetKind(StrEnum):
    """What a file of a release is."""

    ARTIFACT = "artifact"
    CHECKSUMS = "checksums"
    MANIFEST = "manifest"
    PROVENANCE = "provenance"
    SBOM = "sbom"
    SIGNATURE = "signature"


class Asset(Struct, frozen=True, kw_only=True):
    """One file of a release: ``path`` is its name, ``size`` in bytes, ``about`` the file that it describes or signs."""

    path: str
    kind: AssetKind
    size: int
    sha256: str
    about: str = ""
    media_type: str = "application/octet-stream"


class Release(Struct, frozen=True, kw_only=True):
    """release.json: all files of a version, and what the build said of the artifacts.

    ``released`` is the moment of the commit (ISO 8601, UTC): the same for whoever makes the release again.
    """

    schema_version: int = SCHEMA_VERSION
    project: ProjectInfo
    source: Source
    released: str
    assets: tuple[Asset, ...]
    artifacts: tuple[Artifact, ...]

    @property
    def folder(self) -> str:
        """Where its files are, relative to the prefix."""
        return f"{ARTIFACTS}/{self.project.name}/{self.project.version}"

    def asset(self, path: str) -> Asset | None:
        """The asset of that name."""
        return next((asset for asset in self.assets if asset.path == path), None)


class Yanked(Struct, frozen=True, kw_only=True):
    """A version that nobody should have; ``date`` is the day (ISO 8601)."""

    version: str
    reason: str
    date: str


class Sunset(Struct, frozen=True, kw_only=True):
    """A platform that gets no newer version than ``last``: a target, or those of it that are ``below`` a floor."""

    target: str
    last: str
    reason: str
    below: dict[str, str] = msgspec.field(default_factory=dict)


class Rollout(Struct, frozen=True, kw_only=True):
    """Which part of the machines gets an offer; docs/channels.md says how a machine finds out whether it is in.

    ``percent`` is a whole number: canonical JSON, which is what is signed, has no others.
    """

    percent: int
    seed: str


class Offer(Struct, frozen=True, kw_only=True):
    """The custom data of the target `<channel>/<target>/<kind>`: what this channel offers such a machine.

    ``path`` is the artifact's, relative to `<prefix>/artifacts`. Without ``rollout`` the offer is for everyone.
    """

    format: int = 1
    name: str
    version: str
    target: str
    kind: str
    path: str
    released: str
    needs: dict[str, str] = msgspec.field(default_factory=dict)
    rollout: Rollout | None = None


class Channel(Struct, frozen=True, kw_only=True):
    """The custom data of the target `<channel>/channel`: what holds for the channel as a whole.

    ``previous`` is offered to machines outside of a rollout; ``withdrawn`` are versions that a rollback took back: a
    machine that has one goes to what is offered, although that is older. ``history`` is the path of the document whose
    digest the target has.
    """

    format: int = 1
    channel: str
    version: str
    previous: str = ""
    minimum: str = ""
    withdrawn: tuple[str, ...] = ()
    yanked: tuple[Yanked, ...] = ()
    sunset: tuple[Sunset, ...] = ()
    history: str = ""


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """A release that the channel has had; ``path`` is that of its release.json, relative to the prefix."""

    version: str
    released: str
    promoted: str
    path: str
    size: int
    sha256: str


class History(Struct, frozen=True, kw_only=True):
    """All releases of a channel, newest first."""

    format: int = 1
    name: str
    channel: str
    releases: tuple[HistoryEntry, ...] = ()


def to_json(value: msgspec.Struct) -> bytes:
    """The bytes of a document: fields in the schema's order, mappings sorted, two blanks of indent."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"


VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*")
"""What may stand as a version in a path."""

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_~-]*")
"""What clients and installers take as the name of a file (`safe_path` in ferryman_client/reading.py)."""
