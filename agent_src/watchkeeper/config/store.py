"""Which configuration is in force: the last good one, in memory and on disk.

A wrong configuration never gets here as such: it is noted as the last error, and what is in force stays. The copy on
disk is what the agent starts with when the file it was given is wrong at that moment.

What happens when a new configuration comes into force, in this order:
    1. The snapshot is replaced by one assignment: whoever reads it sees the old one or the new one.
    2. Subscribers are called with both, in the order in which they subscribed. One that raises is logged, and is not the
       next one's business.
    3. The keys that changed go to the queue, in the order of Kind.
"""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable

from watchkeeper.config.copies import OWN, Copies
from watchkeeper.config.load import Loaded, assemble
from watchkeeper.config.snapshot import Key, Snapshot, changed_keys, make_snapshot
from watchkeeper.errors import AgentError, ErrorClass, StateError
from watchkeeper.logs import get_logger

journal = get_logger("config")

CLAIM_LIMIT = 1.0
"""Seconds. A child of an agent that was killed has what that one had open, until its own program begins."""
Subscriber = Callable[[Snapshot, Snapshot], None]


class Store:
    """The snapshot in force; it is replaced by one assignment, never changed."""

    def __init__(self, state_dir: str | None = None) -> None:
        self.snapshot = Snapshot()
        self.last_error: AgentError | None = None
        self.last_success: float | None = None
        """Wall clock, seconds since the epoch; likewise `last_refusal`."""
        self.last_refusal: float | None = None
        self.from_last_good = False
        """Whether what is in force came from the copy on disk."""
        self.state_dir = pathlib.Path(state_dir) if state_dir else None
        self.copies = Copies(self.state_dir)
        self._subscribers: list[Subscriber] = []

    def apply(self, loaded: Loaded) -> list[Key]:
        """Put a good configuration in force; the keys that changed."""
        old = self.snapshot
        self.last_error = None
        self.last_success = time.time()
        self.from_last_good = False
        # The digest is of what was written; what a reference to a secret stands for changes without it.
        if loaded.digest == old.digest and loaded.config == old.config:
            return []
        self.snapshot = make_snapshot(loaded.config, old.generation + 1, loaded.digest)
        self._tell(old)
        return changed_keys(old, self.snapshot)

    def refuse(self, error: AgentError) -> None:
        """Note a configuration that could not be used; what is in force stays."""
        self.last_error, self.last_refusal = error.bare(), time.time()

    def prepare(self) -> None:
        """Make sure that the state directory can be written, and that no other agent uses it.

        Raises:
            StateError: it cannot, or one does: each would take the services of the other for what a dead agent has left.
        """
        if self.state_dir is None:
            return
        probe = self.state_dir / f".probe.{os.getpid()}"
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
            probe.write_bytes(b"")
            probe.unlink()
            self._claim(self.state_dir)
        except OSError as error:
            raise StateError(
                f"the state directory {self.state_dir} cannot be written: {error.strerror}",
                "Give --state-dir a directory that this user owns, or leave the option out.",
            ) from None

    @staticmethod
    def _claim(state_dir: pathlib.Path) -> None:
        from watchkeeper import system  # it imports asyncio, and check-config does not

        deadline = time.monotonic() + CLAIM_LIMIT
        while not system.claim(str(state_dir)):
            if time.monotonic() > deadline:
                raise StateError(
                    f"another agent uses the state directory {state_dir}",
                    "Stop that one first, or give this one a --state-dir of its own.",
                )
            time.sleep(0.05)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Hear of every later change: the snapshot before, and the one now in force."""
        self._subscribers.append(subscriber)

    def save(self, loaded: Loaded) -> None:
        """Keep a copy of the file or folder that is in force.

        Raises:
            StateError: the disk is full or has become unwritable; the earlier copy is still there.
        """
        self.copies.save(OWN, _plain(loaded.origin), loaded.fragments)

    def last_good(self, path: str) -> Loaded | None:
        """The copy on disk, if there is one of this file or folder and it still holds.

        Who has mistyped the path gets a sentence, and not what another file said once.
        """
        fragments = self.copies.load(OWN, lambda origin: _plain(origin) == _plain(path))
        try:
            return assemble(fragments, origin=fragments[0].name) if fragments else None
        except AgentError:
            return None

    def _tell(self, old: Snapshot) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(old, self.snapshot)
            except Exception as error:  # noqa: BLE001 - rule 2
                journal.crash(
                    f"a subscriber to the configuration failed: {error}", error_class=ErrorClass.INTERNAL
                )


def _plain(path: str) -> str:
    """A path from the root on. Links stay: where they lead may change with each delivery, as a mounted ConfigMap's do."""
    return os.path.abspath(path)  # noqa: PTH100 - pathlib's keeps every ..
