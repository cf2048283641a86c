"""A folder as a public URL serves it: signed versions, channels' pointers, page and installers, in milliseconds.

The executables are shell scripts for the machine that runs the tests, so that an installer can really start them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ferryman_release.model import Yanked
from ferryman_release.signing.minisign import MinisignKey, MinisignSecret, minisign_sign
from ferryman_release.site import (
    Site,
    SiteChannel,
    SiteFile,
    SiteVersion,
    pointer,
    pointer_key,
    pointer_of,
    site_files,
)
from support.release_keys import private_key, signer

TARGETS = ("darwin-arm64", "linux-amd64", "linux-amd64-musl", "linux-arm64", "windows-amd64")
RELEASED = "2024-01-02T03:04:05Z"


def secret(name: str = "minisign") -> MinisignSecret:
    public = private_key(name).public_key().public_bytes_raw()
    return MinisignSecret(MinisignKey.of(public), signer(name))


def sign_as(name: str, comment: str = "a test") -> Callable[[bytes], bytes]:
    """What makes a signature file of a payload."""
    return lambda payload: minisign_sign(
        payload, secret(name), trusted_comment=comment, untrusted_comment="a test"
    )


def program(name: str, version: str, *, fails: bool = False) -> bytes:
    """What an executable of a test is."""
    line = "echo 'it cannot start' >&2; exit 3" if fails else f"echo {name} {version}"
    return f"#!/bin/sh\n# {'some weight ' * 300}\n{line}\n".encode()


def archive(folder: str, name: str, content: bytes) -> bytes:
    """A .tar.gz of one folder with the program and a file beside it."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, data, mode in ((name, content, 0o755), ("_internal/part one.txt", b"a part\n", 0o644)):
            entry = tarfile.TarInfo(f"{folder}/{path}")
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)


@dataclass
class Published:
    """What is served from ``root`` at ``url``; change ``site`` or the files, then :meth:`write` what follows."""

    root: Path
    url: str
    name: str = "lantern-agent"
    executable: str = "lantern"
    targets: Sequence[str] = TARGETS
    key: str = "minisign"
    expires: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(days=30))
    channels: dict[str, SiteChannel] = field(default_factory=dict)

    def add_version(
        self, version: str, *, fails: bool = False, contents: Mapping[str, bytes] | None = None
    ) -> tuple[SiteFile, ...]:
        """Write and sign the files of a version; ``contents`` maps file names to other bytes."""
        folder = self.root / "artifacts" / self.name / version
        folder.mkdir(parents=True)
        rows = []
        for target in self.targets:
            base = f"{self.executable}-{version}-{target}"
            windows = target.startswith("windows")
            content = program(self.executable, version, fails=fails)
            packed = archive(base, self.executable, content)
            for kind, path, data in (
                ("executable", base + (".exe" if windows else ""), content),
                ("archive", base + (".zip" if windows else ".tar.gz"), packed),
            ):
                given = (contents or {}).get(path, data)
                (folder / path).write_bytes(given)
                rows.append(self._row(version, target, kind, path, given))
        sums = "".join(f"{row.sha256}  {row.file_name}\n" for row in rows).encode()
        (folder / "SHA256SUMS").write_bytes(sums)
        comment = f"timestamp:1704164645\tfile:SHA256SUMS\tname:{self.name}\tversion:{version}"
        (folder / "SHA256SUMS.minisig").write_bytes(sign_as(self.key, comment)(sums))
        return tuple(rows)

    def _row(self, version: str, target: str, kind: str, path: str, data: bytes) -> SiteFile:
        floors = {"linux": {"glibc": "2.17"}, "darwin": {"macos": "11.0"}, "windows": {"windows": "10.0"}}
        folder = f"{self.name}/{version}"
        return SiteFile(
            target=target,
            kind=kind,
            path=f"{folder}/{path}",
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            floor={} if target.endswith("-musl") else floors[target.partition("-")[0]],
            sbom=f"{folder}/{path}.cdx.json",
            signature=f"{folder}/SHA256SUMS.minisig",
            provenance=f"{folder}/{path}.intoto.json",
        )

    def offer(self, channel: str, version: str, files: Sequence[SiteFile], **changes: object) -> None:
        """Put a version into a channel; its pointer gets the next serial."""
        before = self.channels.get(channel)
        sums = (self.root / "artifacts" / self.name / version / "SHA256SUMS").read_bytes()
        entry = SiteVersion(version=version, released=RELEASED, promoted=RELEASED)
        values = {
            "channel": channel,
            "version": version,
            "released": RELEASED,
            "expires": self.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "sums": hashlib.sha256(sums).hexdigest(),
            "serial": before.serial + 1 if before else 1,
            "files": tuple(files),
            "previous": before.version if before else "",
            "history": (entry, *(before.history if before else ())),
            "yanked": before.yanked if before else (),
            **changes,
        }
        self.channels[channel] = SiteChannel(**values)  # type: ignore[arg-type]
        self.write()

    def yank(self, channel: str, *versions: str) -> None:
        """Mark versions of a channel as withdrawn."""
        import msgspec

        yanked = tuple(Yanked(version=one, reason="It loses data.", date="2024-01-03") for one in versions)
        self.channels[channel] = msgspec.structs.replace(self.channels[channel], yanked=yanked)
        self.write()

    @property
    def site(self) -> Site:
        return Site(
            name=self.name,
            executable=self.executable,
            url=self.url,
            key=secret(self.key).key.line,
            default_channel="stable",
            channels=tuple(self.channels.values()),
            title="Lantern",
            description="Watches over lamps.",
            updated=RELEASED,
        )

    def write(self) -> None:
        """The pages and pointers of what is offered now."""
        for name, data in site_files(self.site).items():
            (self.root / name).write_bytes(data)
        (self.root / "channels").mkdir(exist_ok=True)
        for channel in self.channels.values():
            made = pointer(pointer_of(self.site, channel), sign_as(self.key))
            (self.root / pointer_key(channel.channel)).write_bytes(made)

    def at(self, url: str) -> Published:
        """The same folder, whose pages name another URL."""
        other = replace(self, url=url)
        other.write()
        return other


def publish(root: Path, url: str, version: str = "1.0.0", **changes: object) -> Published:
    """A folder with one version in the channel `stable`."""
    made = Published(root=root, url=url, **changes)  # type: ignore[arg-type]
    made.offer("stable", version, made.add_version(version))
    return made
