"""What the site of a release is made from: one frozen value, put together by whoever publishes.

Paths are those of URLs. Nothing here reads a clock or a store: the same :class:`Site` gives the same files.
"""

from __future__ import annotations

import msgspec

from ferryman_build.artifacts import Artifact, Struct
from ferryman_release.model import AssetKind, Release, Yanked

SUMS = "SHA256SUMS"
SUMS_SIGNATURE = f"{SUMS}.minisig"


class SiteFile(Struct, frozen=True, kw_only=True):
    """An artifact that can be had: ``path`` and those of its companions are relative to `<prefix>/artifacts`.

    ``size`` in bytes; ``floor`` maps glibc/macos/windows to the lowest version that it runs on; ``libraries``,
    ``python`` and ``runtime`` are as in :class:`ferryman_build.artifacts.Needs`. A companion that does not exist is "".
    """

    target: str
    kind: str
    path: str
    size: int
    sha256: str
    floor: dict[str, str] = msgspec.field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    python: str = ""
    runtime: tuple[str, ...] = ()
    sbom: str = ""
    signature: str = ""
    provenance: str = ""

    @property
    def file_name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


class SiteVersion(Struct, frozen=True, kw_only=True):
    """A version that a channel has had; ``released`` and ``promoted`` are ISO 8601, UTC."""

    version: str
    released: str
    promoted: str = ""


class SiteChannel(Struct, frozen=True, kw_only=True):
    """What a channel offers: ``version`` and its ``files``.

    ``sums`` is the SHA-256 of the version's SHA256SUMS; ``expires`` the moment after which nobody should trust the
    pointer; ``serial`` grows with each pointer of the channel (the version of its TUF role), so that a machine knows
    an older one again. ``history`` is newest first.
    """

    channel: str
    version: str
    released: str
    expires: str
    sums: str
    serial: int = 0
    previous: str = ""
    minimum: str = ""
    percent: float = 100.0
    yanked: tuple[Yanked, ...] = ()
    files: tuple[SiteFile, ...] = ()
    history: tuple[SiteVersion, ...] = ()


class Site(Struct, frozen=True, kw_only=True):
    """All that the pages and the installers say.

    ``name`` is the project's, ``executable`` what is run; ``title`` and ``description`` are for people; ``url`` is the
    public prefix; ``key`` the base64 line of the minisign public key; ``default_channel`` what an installer takes
    when nobody names one; ``updated`` when the site was made (ISO 8601, UTC).
    """

    name: str
    executable: str
    url: str
    key: str
    default_channel: str
    channels: tuple[SiteChannel, ...]
    title: str = ""
    description: str = ""
    homepage: str = ""
    updated: str = ""

    def channel(self, name: str) -> SiteChannel | None:
        """The channel of that name."""
        return next((one for one in self.channels if one.channel == name), None)


def files_of(release: Release) -> tuple[SiteFile, ...]:
    """The artifacts of a release with their companions, sorted by target and kind."""
    folder = f"{release.project.name}/{release.project.version}"
    found = (_file(artifact, release, folder) for artifact in release.artifacts)
    return tuple(sorted(found, key=lambda one: (one.target, one.kind)))


def _file(artifact: Artifact, release: Release, folder: str) -> SiteFile:
    def companion(kind: AssetKind) -> str:
        about = (one.path for one in release.assets if one.kind is kind and one.about == artifact.path)
        return next((f"{folder}/{path}" for path in sorted(about)), "")

    needs = artifact.needs
    signed = release.asset(SUMS_SIGNATURE) is not None
    return SiteFile(
        target=artifact.target,
        kind=artifact.kind,
        path=f"{folder}/{artifact.path}",
        size=artifact.size,
        sha256=artifact.sha256,
        floor=dict(needs.floor),
        libraries=needs.libraries,
        python=needs.python,
        runtime=needs.runtime,
        sbom=companion(AssetKind.SBOM),
        signature=f"{folder}/{SUMS_SIGNATURE}" if signed else "",
        provenance=companion(AssetKind.PROVENANCE),
    )
