"""The state folder: what this machine has seen of a repository, safe from power cuts and from its other processes.

    lock                    held while metadata is refreshed
    metadata/               python-tuf's: roots, timestamp, snapshot, targets, channels
    trusted-<channel>.json  the last state that held: a digest, and what it is of
    documents/<sha256>      histories and release.json, named by what they must hash to
    machine-id              only where the operating system has no identifier

One folder belongs to one repository. All of it can be deleted but for `metadata`, which remembers the versions below
which nothing is accepted.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ferryman_client.errors import BusyError

FORMAT = 1
DOCUMENTS_KEPT = 16  # histories and release.json; older ones are fetched again when they are asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """A metadata file that was verified; ``expires`` in seconds since the epoch."""

    version: int
    expires: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a target path stands for: ``length`` in bytes, ``sha256``, and the publisher's own data about it."""

    length: int
    sha256: str
    custom: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trusted:
    """What held when it was checked; ``checked`` in seconds since the epoch, by this machine's clock."""

    channel: str
    checked: float
    roles: Mapping[str, Role] = field(default_factory=dict)
    targets: Mapping[str, Target] = field(default_factory=dict)

    @property
    def expires(self) -> float:
        """When the first of the roles expires."""
        return min((role.expires for role in self.roles.values()), default=0.0)

    @property
    def expiring(self) -> str:
        """The role that expires first."""
        return min(self.roles, key=lambda name: self.roles[name].expires, default="")


class StateDir:
    """Reads never fail, they find nothing; writes raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = path / "metadata"

    # --- trusted states -----------------------------------------------------------------------------------------------

    def load(self, channel: str) -> Trusted | None:
        """The last state; None when there is none, or a broken one."""
        try:
            digest, _, body = self._trusted(channel).read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest() != digest.decode():
                return None
            return _decode(json.loads(body))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def save(self, trusted: Trusted) -> None:
        body = json.dumps({"format": FORMAT, **asdict(trusted)}, sort_keys=True).encode()
        write(self._trusted(trusted.channel), hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def _trusted(self, channel: str) -> Path:
        return self.path / f"trusted-{channel}.json"

    # --- documents ----------------------------------------------------------------------------------------------------

    def document(self, sha256: str) -> bytes | None:
        """A document that was kept, if it still hashes to its name."""
        try:
            data = (self.path / "documents" / sha256).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def keep_document(self, sha256: str, data: bytes) -> None:
        folder = self.path / "documents"
        write(folder / sha256, data)
        newest = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest[DOCUMENTS_KEPT:]:
            path.unlink(missing_ok=True)

    # --- the lock -----------------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, timeout: float) -> Iterator[None]:
        """Keep other processes from the folder.

        Raises:
            BusyError: another holds it for longer than ``timeout`` seconds.
            OSError: nothing can be written there, or the file system has no locks.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "lock", timeout):
            yield


def _decode(data: Any) -> Trusted:
    if data["format"] != FORMAT:
        raise ValueError("written by another version")
    return Trusted(
        channel=data["channel"],
        checked=float(data["checked"]),
        roles={name: Role(**role) for name, role in data["roles"].items()},
        targets={name: Target(**target) for name, target in data["targets"].items()},
    )


def write(path: Path, data: bytes) -> None:
    """Replace a file so that a reader, and a machine that loses power, has the old bytes or the new ones."""
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


@contextmanager
def locked(path: Path, timeout: float, *, remove: bool = False, pause: float = 0.05) -> Iterator[None]:
    """Hold an advisory lock on ``path``; the system lets go of it when the process dies.

    Args:
        timeout: seconds to wait for another process.
        remove: delete the file at the end, where the system allows that of an open one.

    Raises:
        BusyError: another process still holds it.
        OSError: the file cannot be made, or its file system has no locks.
    """
    end = time.monotonic() + timeout
    while True:
        with path.open("ab") as stream:
            if _try_lock(stream):
                if not _is_still(stream, path):  # whoever held it before has deleted it meanwhile
                    continue
                try:
                    yield
                finally:
                    if remove:
                        with suppress(OSError):
                            path.unlink()
                    _unlock(stream)
                return
        if time.monotonic() >= end:
            raise BusyError(
                f"Another process holds {path}.",
                advice="Wait for it, or end it; the lock goes with the process.",
            )
        time.sleep(pause)


def _is_still(stream: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


if os.name == "nt":
    import msvcrt

    def _try_lock(stream: IO[bytes]) -> bool:
        try:
            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except PermissionError:
            return False
        return True

    def _unlock(stream: IO[bytes]) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]

else:
    import fcntl

    def _try_lock(stream: IO[bytes]) -> bool:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(stream: IO[bytes]) -> None:
        fcntl.flock(stream, fcntl.LOCK_UN)
