"""The second way: how publishers exclude each other on a store that ignores conditions.

Each publisher writes a claim of its own, under a name that nobody else uses, and then lists all claims. Whoever sees
another living claim takes the own one back and says so; whoever sees none goes on. Of two publishers the one that
wrote later lists later, so it sees the other: at most one goes on, whatever their clocks say, on any store that lists
at once what was written (the probe looks; a store that does not is refused). A time to settle is waited between the
two, for stores whose front doors lag behind each other.

A claim is a lease. Its owner renews it while it works and stops before it ends; others take it for dead only when the
store's own clock has passed its end, or when its process on the same machine is gone. What a lease cannot exclude is a
publisher that is frozen between its last look at the clock and its next request, for longer than the lease; therefore
everything written under it is read back.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Struct
from ferryman_release.errors import ConflictError, StoreError
from ferryman_release.store.base import Entry, Headers
from ferryman_release.store.wire import Wire

CLAIMS = ".claims/"
_HEADERS = Headers(content_type="application/json", cache_control="no-store")
_CLOCK_GRAIN = 2.0  # seconds; a store tells times in whole ones


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """``seconds`` that a claim holds, ``settle`` seconds between writing and looking, how many ``tries``."""

    seconds: float = 60.0
    settle: float = 1.0
    tries: int = 3


class Claim(Struct, frozen=True, kw_only=True):
    """What stands in a claim. ``machine`` and ``process`` let the same machine see that a publisher has died."""

    owner: str
    machine: str
    process: str
    seconds: float


class Lease:
    """Not held until `hold` is called. ``clock`` counts seconds and never goes back."""

    def __init__(
        self,
        wire: Wire,
        prefix: str,
        terms: Terms,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._wire = wire
        self._folder = f"{prefix}{CLAIMS}"
        self._terms = terms
        self._clock = clock
        self._sleep = sleep
        self._key = ""
        self._begun = self._written = 0.0  # the clock before and after the claim was last written
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._renewer: threading.Thread | None = None

    def hold(self) -> None:
        """Take the lease, or make sure that it is still ours: called before every write.

        Raises:
            ConflictError: another publisher has it, or it ran out while this one stood still.
        """
        with self._lock:
            if not self._key:
                self._acquire()
            elif self._clock() - self._begun > self._terms.seconds * 0.8:
                raise ConflictError(
                    "This publisher stood still for longer than its lease of the store lasts.",
                    advice="Nothing of yours is lost: run the same command again, and it goes on where it stopped.",
                )

    def renew(self) -> None:
        """Write the claim again; nothing happens when it has run out."""
        with self._lock:
            if self._key and self._clock() - self._begun <= self._terms.seconds * 0.8:
                self._write(self._key)

    def release(self) -> None:
        """Give the lease back."""
        self._ended.set()
        if self._renewer is not None:
            self._renewer.join()
            self._renewer = None
        with self._lock:
            key, self._key = self._key, ""
        if key:
            with contextlib.suppress(StoreError):  # then it ends by itself
                self._wire.delete(key)

    # -- how ----------------------------------------------------------------------------------------------------------

    def _acquire(self) -> None:
        owners: list[str] = []
        for attempt in range(self._terms.tries):
            if attempt:  # two that met withdraw both, and come back at different times
                self._sleep(self._terms.settle * random.uniform(0.5, 4))  # noqa: S311 - no secret
            key = f"{self._folder}{secrets.token_hex(16)}.json"
            self._write(key)
            try:
                self._sleep(self._terms.settle)
                owners = self._others(key)
            except BaseException:
                self._wire.delete(key)
                raise
            if not owners:
                self._key = key
                self._start_renewing()
                return
            self._wire.delete(key)
        raise ConflictError(
            f"Another publisher is at work on this store: {', '.join(owners)}.",
            advice=f"Run the same command again when it has finished; if it was killed, in {self._terms.seconds:.0f} s.",
        )

    def _write(self, key: str) -> None:
        data = msgspec.json.encode(own_claim(self._terms.seconds))
        begun = self._clock()
        self._wire.put(key, data, _HEADERS, sha256="")
        self._begun, self._written = begun, self._clock()

    def _others(self, own: str) -> list[str]:
        """Owners of other living claims; dead ones are cleared away."""
        entries = {entry.key: entry for entry in self._wire.list(self._folder)}
        if own not in entries:
            raise StoreError(
                "The store does not list what was just written, so publishers cannot exclude each other.",
                advice="Publish to a store that honours conditions, or that lists at once (docs/stores.md).",
            )
        # Later than the store's own clock it is not, so that nobody is taken for dead too early.
        now = entries.pop(own).modified + self._clock() - self._written
        living = []
        for entry in entries.values():
            found = self._wire.get(entry.key)
            if found is None:
                continue
            claim = _decoded(found[0])
            if _dead(claim, entry, now):
                self._wire.delete(entry.key)
            else:
                living.append(claim.owner)
        return living

    def _start_renewing(self) -> None:
        self._ended.clear()
        self._renewer = threading.Thread(target=self._keep_renewing, name="store-lease", daemon=True)
        self._renewer.start()

    def _keep_renewing(self) -> None:
        while not self._ended.wait(self._terms.seconds / 4):
            with contextlib.suppress(StoreError):  # the next one may succeed; `hold` sees when none did
                self.renew()


def _decoded(data: bytes) -> Claim:
    try:
        return msgspec.json.decode(data, type=Claim)
    except msgspec.DecodeError:
        return Claim(owner="unknown", machine="", process="", seconds=Terms().seconds)


def _dead(claim: Claim, entry: Entry, now: float) -> bool:
    if claim.machine and claim.machine == machine_name() and not is_running(claim.process):
        return True
    return now > entry.modified + claim.seconds + _CLOCK_GRAIN


def own_claim(seconds: float) -> Claim:
    """The claim of this process."""
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    return Claim(owner=owner, machine=machine_name(), process=process_name(os.getpid()), seconds=seconds)


def machine_name() -> str:
    """This start of this machine, and in it this space of process numbers; empty where neither can be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def process_name(number: int) -> str:
    """A process by its number and the moment of its start, which no later one shares; empty when there is none."""
    try:
        facts = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = facts.rpartition(")")[2].split()  # the name before it may hold anything
    return "" if fields[0] in "ZX" else f"{number} {fields[19]}"


def is_running(process: str) -> bool:
    """Whether that very process is there."""
    number = process.partition(" ")[0]
    return number.isdigit() and process_name(int(number)) == process
