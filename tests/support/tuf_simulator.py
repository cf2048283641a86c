"""A whole repository in memory: keys, metadata, histories and artifacts, and a fetcher that reads from it.

    sim = Simulator()
    sim.release("1.0.0")                  # artifacts and release.json
    sim.promote("stable", "1.0.0")        # offers, history, signed metadata
    client = Client(sim.url, folder, root=sim.root_bytes, fetcher=sim, machine=sim.machine)

Everything is an attribute that a test may change before it calls :meth:`Simulator.publish`, which signs and stores what
there is; :attr:`Simulator.objects` are the stored bytes by their path, for tests that forge them. :meth:`Simulator.write`
puts them into a folder, for clients that run in another process.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api import exceptions
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import FetcherInterface

from ferryman_client import Machine

TARGETS = ("linux-amd64", "windows-amd64")
KINDS = ("archive", "executable")
RELEASED = "2026-11-01T00:00:00Z"
LIFETIMES = {"root": 365, "targets": 365, "channel": 90, "snapshot": 30, "timestamp": 7}  # days


class Simulator(FetcherInterface):
    """A repository that is its own server.

    ``requests`` are the paths that were asked for, ``sent`` the bytes that were answered. ``failing`` maps a path to the
    exception that asking for it raises; ``offline`` fails every request.
    """

    def __init__(self, channels: Sequence[str] = ("stable", "beta"), name: str = "lantern") -> None:
        self.name, self.url = name, "http://repository.invalid/agent/"
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.sent = 0
        self.offline = False
        self.failing: dict[str, Exception] = {}
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.lifetimes = dict(LIFETIMES)
        self.machine = Machine(
            target="linux-amd64", os="linux", arch="x86_64", libc="gnu", version="2.36", id="0" * 32
        )
        self.signers: dict[str, list[Signer]] = {}
        self.root = Root(consistent_snapshot=True)
        self.targets = Targets()
        self.channels: dict[str, Targets] = {}
        self.snapshot, self.timestamp = Snapshot(), Timestamp()
        self.root.version = self.targets.version = self.snapshot.version = self.timestamp.version = 0
        self.releases: dict[str, list[dict[str, Any]]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self._make_keys(channels)
        self.publish_root()
        self.publish()

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _make_keys(self, channels: Sequence[str]) -> None:
        offline = [CryptoSigner.generate_ed25519() for _ in range(3)]
        for role in ("root", "targets"):
            self.signers[role] = list(offline)
            self.root.roles[role].threshold = 2
            for signer in offline:
                self.root.add_key(signer.public_key, role)
        for role in ("snapshot", "timestamp"):
            self.add_signer(role)
        self.targets.delegations = Delegations({}, {})
        for channel in channels:
            self.add_channel(channel)

    def add_signer(self, role: str, signer: Signer | None = None) -> Signer:
        """One more key for a role, Ed25519 unless another is handed in; not published yet."""
        signer = signer or CryptoSigner.generate_ed25519()
        self.signers.setdefault(role, []).append(signer)
        owner: Root | Targets = self.targets if role in self.channels else self.root
        owner.add_key(signer.public_key, role)
        return signer

    def replace_signers(self, role: str) -> None:
        """A new key for a role instead of all that it had; not published yet."""
        owner: Root | Targets = self.targets if role in self.channels else self.root
        for signer in self.signers.pop(role):
            owner.revoke_key(signer.public_key.keyid, role)
        self.add_signer(role)

    def add_channel(self, channel: str) -> None:
        paths = [f"{channel}/{'/'.join('*' * depth)}" for depth in (1, 2, 3)]
        assert self.targets.delegations is not None
        assert self.targets.delegations.roles is not None
        self.targets.delegations.roles[channel] = DelegatedRole(channel, [], 1, True, paths)
        self.channels[channel] = Targets()
        self.channels[channel].version = 0
        self.history[channel] = []
        self.add_signer(channel)

    # --- releases -----------------------------------------------------------------------------------------------------

    def release(
        self,
        version: str,
        *,
        targets: Sequence[str] = TARGETS,
        kinds: Sequence[str] = KINDS,
        content: bytes | None = None,
        floor: dict[str, str] | None = None,
    ) -> None:
        """Artifacts, their release.json, and nothing in a channel yet."""
        artifacts = []
        for target in targets:
            for kind in kinds:
                file = f"{self.name}-{version}-{target}{'.tar.gz' if kind == 'archive' else ''}"
                data = f"{file}\n".encode() * 50 if content is None else content
                self.objects[f"artifacts/{self.name}/{version}/{file}"] = data
                needs = {"floor": floor} if floor else {}
                artifacts.append(
                    {"target": target, "kind": kind, "path": file, **_measure(data), "needs": needs}
                )
        self.releases[version] = artifacts
        assets = [
            {"path": one["path"], "kind": "artifact", "size": one["size"], "sha256": one["sha256"]}
            for one in artifacts
        ]
        document = {
            "schema-version": 1, "project": {"name": self.name, "version": version}, "source": {"commit": "3f" * 20},
            "released": RELEASED, "assets": assets, "artifacts": artifacts,
        }  # fmt: skip
        self.objects[f"artifacts/{self.name}/{version}/release.json"] = json.dumps(document).encode()

    def promote(
        self,
        channel: str,
        version: str,
        *,
        previous: str = "",
        rollout: dict[str, Any] | None = None,
        publish: bool = True,
        **about: Any,
    ) -> None:
        """Offer a release in a channel; ``about`` are further fields of the channel's own data (minimum, yanked …)."""
        self.record(channel, version)
        found = self._offers(channel, version, rollout)
        if previous:
            found |= {f"{path}/previous": one for path, one in self._offers(channel, previous, None).items()}
        found[f"{channel}/channel"] = self._channel(
            channel, {"version": version, "previous": previous, **about}
        )
        self.channels[channel].targets = found
        if publish:
            self.publish(channel)

    def record(self, channel: str, version: str) -> None:
        """A release in a channel's history, and nothing else: the past of a channel that has had many."""
        path = f"artifacts/{self.name}/{version}/release.json"
        entry = {"version": version, "released": RELEASED, "promoted": RELEASED, "path": path}
        self.history[channel].insert(0, entry | _measure(self.objects[path]))

    def _offers(self, channel: str, version: str, rollout: dict[str, Any] | None) -> dict[str, TargetFile]:
        found = {}
        for one in self.releases[version]:
            custom = {
                "format": 1, "name": self.name, "version": version, "target": one["target"], "kind": one["kind"],
                "path": f"{self.name}/{version}/{one['path']}", "released": RELEASED,
                "needs": one["needs"].get("floor", {}), "rollout": rollout,
            }  # fmt: skip
            path = f"{channel}/{one['target']}/{one['kind']}"
            found[path] = _target(path, one["size"], one["sha256"], custom)
        return found

    def _channel(self, channel: str, about: dict[str, Any]) -> TargetFile:
        history = {"format": 1, "name": self.name, "channel": channel, "releases": self.history[channel]}
        data = json.dumps(history).encode()
        seen = _measure(data)
        path = f"channels/{channel}/{seen['sha256']}.json"
        self.objects[path] = data
        custom = {"format": 1, "channel": channel, **about, "history": path}
        return _target(f"{channel}/channel", seen["size"], seen["sha256"], custom)

    # --- metadata -----------------------------------------------------------------------------------------------------

    @property
    def root_bytes(self) -> bytes:
        """The first root: what a program carries."""
        return self.objects["metadata/1.root.json"]

    def publish_root(self) -> None:
        """The root as it is, in a new version, signed by the keys of the last one and by its own."""
        old = self.objects.get(f"metadata/{self.root.version}.root.json")
        before = Metadata[Root].from_bytes(old).signed.roles["root"].keyids if old else []
        self._retired = [one for one in getattr(self, "_retired", []) if one.public_key.keyid in before]
        signers = {one.public_key.keyid: one for one in (*self.signers["root"], *self._retired)}
        self._store("root", self.root, list(signers.values()))
        self._retired = list(self.signers["root"])

    def publish(self, *channels: str) -> None:
        """The named channels (all, if none is named), targets, snapshot and timestamp, each in a new version."""
        for channel in channels or self.channels:
            self._store(channel, self.channels[channel], self.signers[channel])
        if not channels or self.targets.version == 0:
            self._store("targets", self.targets, self.signers["targets"])
        self.publish_snapshot()

    def publish_snapshot(self) -> None:
        """Snapshot and timestamp about what is there."""
        self.snapshot.meta = {
            f"{name}.json": MetaFile(version=role.version)
            for name, role in (("targets", self.targets), *self.channels.items())
        }
        self._store("snapshot", self.snapshot, self.signers["snapshot"])
        self.publish_timestamp()

    def publish_timestamp(self) -> None:
        """The pointer to the snapshot."""
        self.timestamp.snapshot_meta = MetaFile(version=self.snapshot.version)
        self._store("timestamp", self.timestamp, self.signers["timestamp"])

    def _store(self, role: str, signed: Any, signers: Sequence[Signer]) -> None:
        signed.version += 1
        self.store(role, signed, signers)

    def store(self, role: str, signed: Any, signers: Sequence[Signer], *, expires: bool = True) -> None:
        """Sign a role as it is and put it where a client looks for it."""
        if expires:
            signed.expires = self.now + timedelta(days=self.lifetimes.get(role, self.lifetimes["channel"]))
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        name = "timestamp" if role == "timestamp" else f"{signed.version}.{role}"
        self.objects[f"metadata/{name}.json"] = metadata.to_bytes()

    # --- serving ------------------------------------------------------------------------------------------------------

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(self.url)
        self.requests.append(path)
        if self.offline:
            raise exceptions.DownloadError(f"{url} is unreachable")
        if path in self.failing:
            raise self.failing[path]
        if path not in self.objects:
            raise exceptions.DownloadHTTPError(f"there is no {path}", 404)
        self.sent += len(self.objects[path])
        return iter([self.objects[path]])

    def forget_requests(self) -> None:
        self.requests, self.sent = [], 0

    def save(self) -> dict[str, bytes]:
        """The objects as they are, to be served again later by :meth:`restore`: what an attacker has kept."""
        return copy.copy(self.objects)

    def restore(self, saved: dict[str, bytes]) -> None:
        self.objects = dict(saved)

    def write(self, folder: Path) -> str:
        """The objects as files below ``folder``, and nothing else there; the URL of it."""
        have = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for gone in have - set(self.objects):
            (folder / gone).unlink()
        for path, data in self.objects.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return f"{folder.as_uri()}/"


def _measure(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _target(path: str, size: int, sha256: str, custom: dict[str, Any]) -> TargetFile:
    return TargetFile(size, {"sha256": sha256}, path, {"custom": custom})
