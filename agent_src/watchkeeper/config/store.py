"""Which configuration is in force: the last good one, in memory and on disk.

A wrong configuration never gets here as such: it is noted as the last error, and what is in force stays. The copy on
disk is what the agent starts with when the file it was given is wrong at that moment.
"""

from __future__ import annotations

import os
import pathlib
import time

from watchkeeper.config.load import READERS, Loaded, parse
from watchkeeper.config.snapshot import Key, Snapshot, changed_keys, make_snapshot
from watchkeeper.errors import AgentError, StateError

LAST_GOOD = "last-good"


class Store:
    """The snapshot in force; it is replaced by one assignment, never changed."""

    def __init__(self, state_dir: str | None = None) -> None:
        self.snapshot = Snapshot()
        self.last_error: AgentError | None = None
        self.last_success: float | None = None
        """Wall clock, seconds since the epoch."""
        self.from_last_good = False
        """Whether what is in force came from the copy on disk."""
        self.state_dir = pathlib.Path(state_dir) if state_dir else None

    def apply(self, loaded: Loaded) -> list[Key]:
        """Put a good configuration in force; the keys that changed."""
        old = self.snapshot
        self.last_error = None
        self.last_success = time.time()
        self.from_last_good = False
        if loaded.digest == old.digest:
            return []
        self.snapshot = make_snapshot(loaded.config, old.generation + 1, loaded.digest)
        return changed_keys(old, self.snapshot)

    def refuse(self, error: AgentError) -> None:
        """Note a configuration that could not be used; what is in force stays."""
        self.last_error = error

    def prepare(self) -> None:
        """Make sure that the state directory can be written.

        Raises:
            StateError: it cannot.
        """
        if self.state_dir is None:
            return
        probe = self.state_dir / f".{LAST_GOOD}.{os.getpid()}"
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StateError(
                f"the state directory {self.state_dir} cannot be written: {error.strerror}",
                "Give --state-dir a directory that this user owns, or leave the option out.",
            ) from None

    def save(self, loaded: Loaded) -> None:
        """Keep a copy of what is in force: beside its place, flushed, and renamed into it.

        Raises:
            StateError: the disk is full or has become unwritable; the earlier copy is still there.
        """
        if self.state_dir is None:
            return
        target = self.state_dir / (LAST_GOOD + loaded.suffix)
        partial = self.state_dir / f".{LAST_GOOD}.{os.getpid()}"
        try:
            with partial.open("wb") as stream:
                partial.chmod(0o600)  # before anything is in it
                stream.write(loaded.content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(target)
            for suffix in READERS:
                if suffix != loaded.suffix:
                    target.with_suffix(suffix).unlink(missing_ok=True)
        except OSError as error:
            raise StateError(
                f"the last good configuration could not be kept in {self.state_dir}: {error.strerror}",
                "Look at the free space and the owner of the directory; the agent goes on without the copy.",
            ) from None

    def last_good(self) -> Loaded | None:
        """The copy on disk, if there is one and it still holds."""
        for suffix in READERS if self.state_dir else ():
            file = self.state_dir / (LAST_GOOD + suffix)  # type: ignore[operator]
            try:
                return parse(file.read_bytes(), file=str(file))
            except (OSError, AgentError):
                continue
        return None
