"""The reconciler of listeners: opens them, closes them, and looks whether their certificates have been replaced.

Rules:
    R1  A definition that cannot be used leaves the old listener in place, and is tried again after 1 s * 2^n, at most 30 s.
    R2  A new definition is prepared whole before the old listener goes. Where both want one port or path, the old one goes
        first, and comes back when the new one cannot be.
    R3  What was connected under an old definition is ended with it: its role came from there.
    R4  A listener that cannot come up takes nothing else down.
    R5  The token is read again every TOKEN_INTERVAL. One that was replaced gives nothing any more; a file that cannot be
        read leaves the one before it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from watchkeeper.config.schema.listeners import Listener
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.endpoints.exposition import read_token
from watchkeeper.endpoints.listening import Listening
from watchkeeper.errors import AgentError
from watchkeeper.logs import get_logger
from watchkeeper.reconcile import Result
from watchkeeper.status import rfc3339

journal = get_logger("endpoints")

FIRST_DELAY = 1.0
MAX_DELAY = 30.0
TOKEN_INTERVAL = 2.0
RELOADS = "tls_reloads_total"
EXPIRY = "tls_certificate_expiry_timestamp_seconds"
METRICS = {
    RELOADS: "Certificates of a listener that were read anew, by what became of it.",
    EXPIRY: "When the certificate of a listener ends, since the epoch.",
}


@dataclass
class Failure:
    """A definition that could not be used."""

    wanted: Listener
    error: AgentError
    count: int = 1


class ListenerReconciler:
    """Level-triggered: every call compares what is wanted with what is open."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._failures: dict[str, Failure] = {}
        self._token_errors: dict[str, str] = {}
        self._reloads = context.metrics.counter(RELOADS, METRICS[RELOADS], "listener", "result")
        self._expiry = context.metrics.gauge(EXPIRY, METRICS[EXPIRY], "listener")

    async def reconcile(self, key: Key) -> Result:
        exposition = self._context.exposition
        if exposition is None or self._context.observed.draining:
            return Result()
        wanted = self._context.snapshot.of(Kind.LISTENER).get(key.name)
        listening = exposition.listening(key.name)
        if wanted is None:
            await exposition.close(key.name)
            self._forget(key)
            return Result()
        if listening is None or listening.listener != wanted:
            return await self._open(key, wanted)
        if listening.tls is not None:
            await self._look(key)
        if wanted.token_file is not None:
            await self._look_at_token(key, wanted.token_file, listening)
        return self._show(key, wanted)

    async def _open(self, key: Key, wanted: Listener) -> Result:
        """R1, R2."""
        exposition = self._context.exposition
        assert exposition is not None
        try:
            listening = await exposition.open(key.name, wanted)
        except AgentError as error:
            return self._failed(key, wanted, error)
        self._failures.pop(key.name, None)
        journal.info(f"listener {key.name} is up", address=listening.address, tls=wanted.tls.mode.value)
        return self._show(key, wanted)

    def _failed(self, key: Key, wanted: Listener, error: AgentError) -> Result:
        """R1, R4."""
        before = self._failures.get(key.name)
        again = before is not None and before.wanted == wanted
        failure = Failure(wanted, error, before.count + 1 if before is not None and again else 1)
        self._failures[key.name] = failure
        self._context.metrics.error(error.error_class)
        if before is None or str(before.error) != str(error):
            journal.error(f"listener {key.name}: {error}", advice=error.advice, error_class=error.error_class)
        old = self._context.exposition.listening(key.name) if self._context.exposition else None
        state = "failed" if old is None else "degraded"
        why = str(error) if old is None else f"the new definition is not in use: {error}"
        self._context.show(key, state, why, last_error=str(error), advice=error.advice)
        return Result(min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(failure.count - 1, 10)))

    async def _look(self, key: Key) -> None:
        """Whether the certificate was replaced."""
        assert self._context.exposition is not None
        listening = self._context.exposition.listening(key.name)
        assert listening is not None
        assert listening.tls is not None
        before = listening.tls.error
        if await listening.tls.look():
            self._reloads.labels(key.name, "success").inc()
            until = rfc3339(listening.tls.expires)
            journal.info(f"listener {key.name} has a new certificate", expires=until)
        error = listening.tls.error
        if error is not None and (before is None or str(before) != str(error)):
            self._reloads.labels(key.name, "failure").inc()
            self._context.metrics.error(error.error_class)
            journal.error(
                f"listener {key.name} keeps its certificate: {error}",
                advice=error.advice,
                error_class=error.error_class,
            )

    async def _look_at_token(self, key: Key, file: str, listening: Listening) -> None:
        """R5."""
        try:
            listening.use_token(await asyncio.to_thread(read_token, Path(file)))
        except AgentError as error:
            if self._token_errors.get(key.name) != str(error):
                self._token_errors[key.name] = str(error)
                journal.error(
                    f"listener {key.name} keeps its token: {error}",
                    advice=error.advice,
                    error_class=error.error_class,
                )
            return
        self._token_errors.pop(key.name, None)

    def _show(self, key: Key, wanted: Listener) -> Result:
        assert self._context.exposition is not None
        listening = self._context.exposition.listening(key.name)
        assert listening is not None
        details = {"address": listening.address, "tls": wanted.tls.mode.value}
        if listening.tls is None:
            self._context.show(key, "listening", "", last_error=self._token_errors.get(key.name), **details)
            return Result(None if wanted.token_file is None else TOKEN_INTERVAL)
        tls = listening.tls
        self._expiry.labels(key.name).set(tls.expires)
        details["certificate_expires"] = rfc3339(tls.expires)
        if tls.error is None:
            self._context.show(key, "listening", "", **details)
        else:
            why = f"the old certificate is in use: {tls.error}"
            self._context.show(key, "degraded", why, last_error=str(tls.error), **details)
        return Result(wanted.tls.check_interval)

    def _forget(self, key: Key) -> None:
        self._failures.pop(key.name, None)
        self._token_errors.pop(key.name, None)
        for name in METRICS:
            self._context.metrics.drop(name, "listener", key.name)
        self._context.forget(key)
