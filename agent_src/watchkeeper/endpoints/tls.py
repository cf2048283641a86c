"""How a listener is encrypted, with files that others replace while it runs.

Rules:
    F1  The files are looked at every `check_interval`; when modification time, inode or size of one differs, all are read.
    F2  A new context is made from all of them or not at all: a pair that does not fit together, as between two writes, leaves
        the old one in place, is reported, and is tried again at every look.
    F3  A new context is for new connections. One that was made with an older one gets its answer and `Connection: close`, so
        that its next request comes with what holds now; no request fails.
    F4  Sessions are not resumed: what a certificate has opened ends with it.
    F5  A client whose own certificate has ended while he was connected has to come again with another.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from watchkeeper.checks.x509 import read_pem
from watchkeeper.config.schema.listeners import ServerTls, TlsMode
from watchkeeper.endpoints.peers import Identity
from watchkeeper.endpoints.spiffe import identity_of, matches_any
from watchkeeper.errors import AgentError, ErrorClass
from watchkeeper.trust import Stamp, files, no_password, stamp

T = TypeVar("T")
FILE_LIMIT = 1 << 20


class TlsError(AgentError):
    """The files of a listener cannot be used; nothing has changed."""

    error_class = ErrorClass.LISTEN_FAILED


@dataclass(frozen=True)
class Loaded:
    """What was made of the files."""

    context: ssl.SSLContext
    expires: float
    """When the listener's own certificate ends, in seconds since the epoch."""
    stamp: Stamp


class ServerContexts:
    """The context of one listener, and what it is made from."""

    def __init__(self, settings: ServerTls) -> None:
        self.settings = settings
        self._loaded: Loaded | None = None
        self.error: TlsError | None = None
        """Why what the files hold now is not in use."""

    @property
    def current(self) -> ssl.SSLContext:
        """For the next connection."""
        assert self._loaded is not None
        return self._loaded.context

    @property
    def expires(self) -> float:
        assert self._loaded is not None
        return self._loaded.expires

    async def load(self) -> None:
        """Read the files for the first time.

        Raises:
            TlsError: they cannot be used.
        """
        self._loaded = await asyncio.to_thread(load, self.settings)

    async def look(self) -> bool:
        """Whether there is a new context (F1, F2)."""
        assert self._loaded is not None
        try:
            if await asyncio.to_thread(stamp, files(self.settings)) == self._loaded.stamp:
                self.error = None
                return False
            self._loaded = await asyncio.to_thread(load, self.settings)
        except TlsError as error:
            self.error = error
            return False
        self.error = None
        return True

    def identity(self, found: ssl.SSLObject | None) -> Identity | None:
        """Who the other end is; None: it has shown nothing, or nothing that may come."""
        told: dict[str, Any] = (found.getpeercert() if found is not None else None) or {}
        if not told:
            return None
        identity = identity_in(told)
        allowed = self.settings.spiffe
        if allowed and (identity.spiffe is None or not matches_any(identity.spiffe, allowed)):
            return None
        return identity


def identity_in(told: dict[str, Any]) -> Identity:
    """From what `getpeercert` tells."""
    others = told.get("subjectAltName", ())
    common = [value for part in told.get("subject", ()) for name, value in part if name == "commonName"]
    return Identity(
        identity_of([value for kind, value in others if kind == "URI"]),
        (*common, *(value for kind, value in others if kind == "DNS")),
        float(ssl.cert_time_to_seconds(told["notAfter"])),
    )


def load(settings: ServerTls) -> Loaded:
    """The files as a context.

    Raises:
        TlsError: one is missing or is not what it should be, they do not fit together, or they were replaced meanwhile.
    """
    before = stamp(files(settings))
    cert, key = settings.cert_file or "", settings.key_file or ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION  # F4
    context.num_tickets = 0
    _attempt(cert, lambda: context.load_cert_chain(cert, key, password=no_password))
    if settings.ca_file:
        _attempt(settings.ca_file, lambda: context.load_verify_locations(settings.ca_file))
        asked = settings.mode is TlsMode.STRICT and not settings.exempt
        context.verify_mode = ssl.CERT_REQUIRED if asked else ssl.CERT_OPTIONAL
    expires = _attempt(cert, lambda: _expiry(cert))
    if stamp(files(settings)) != before:
        raise TlsError(
            "the files were replaced while they were read", "They are read again at the next look."
        )
    return Loaded(context, expires, before)


def _attempt(file: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except ssl.SSLError as error:
        reason = (
            "it does not fit its key" if error.reason == "KEY_VALUES_MISMATCH" else error.reason or str(error)
        )
        raise TlsError(
            f"{file} cannot be used: {reason}", "Write certificate and key anew, both in PEM."
        ) from None
    except (OSError, ValueError) as error:
        missing = getattr(error, "filename", None) or file
        reason = getattr(error, "strerror", None) or str(error)
        raise TlsError(
            f"{missing} cannot be used: {reason}", "Look at tls.cert_file, tls.key_file and tls.ca_file."
        ) from None


def _expiry(file: str) -> float:
    with open(file, "rb") as stream:
        return read_pem(stream.read(FILE_LIMIT))[0].ends
