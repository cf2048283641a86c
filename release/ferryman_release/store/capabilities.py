"""What a store was seen to do, and where that is kept: `out/stores/`, a file for each store, with its date."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Struct

FORMAT = 1
GOOD_FOR = 7 * 24 * 3600.0  # seconds; after a week a store is asked again


class Capabilities(Struct, frozen=True, kw_only=True):
    """What :mod:`ferryman_release.store.probe` found; ``checked`` in seconds since 1970, 0: nobody asked.

    ``create``: a PUT with `If-None-Match: *` is refused when there is an object, also when several come at once.
    ``create_multipart``: so is the completion of a multipart upload; ``multipart``: there are such. ``replace``: a PUT with `If-Match` is refused for
    a stale tag and accepted for the right one; with ``bare_etag`` only without its quotes. ``trailers``: checksums may
    come behind the body. ``consistent``: what was written is read and listed at once. ``versioned``: the bucket keeps
    old versions (None: it does not say).
    """

    format: int = FORMAT
    url: str
    endpoint: str = ""
    checked: float
    create: bool
    create_multipart: bool
    multipart: bool = True
    replace: bool
    bare_etag: bool = False
    trailers: bool = True
    consistent: bool = True
    versioned: bool | None = None

    @property
    def needs_lease(self) -> bool:
        """Whether publishing here takes the second way (docs/stores.md)."""
        return not (self.create and self.replace)

    def rows(self) -> tuple[tuple[str, str], ...]:
        """For people: what was asked, and what was seen."""
        if not self.checked:
            return (("what the store keeps of its word", "not asked yet, since that writes"),)
        versions = {True: "kept", False: "not kept", None: "not told"}[self.versioned]
        tag = " (tag without quotes)" if self.bare_etag else ""
        return (
            ("If-None-Match on PUT", _honoured(self.create)),
            ("If-None-Match on multipart completion", _honoured(self.create_multipart)),
            ("If-Match on PUT", _honoured(self.replace) + (tag if self.replace else "")),
            ("read and listed after write", "at once" if self.consistent else "LATER"),
            ("checksums behind the body", "taken" if self.trailers else "refused: compat is relaxed"),
            ("old versions", versions),
            ("publishers exclude each other by", "a lease" if self.needs_lease else "conditions"),
        )


def _honoured(value: bool) -> str:
    return "honoured" if value else "IGNORED"


def kept_path(root: Path, url: str, endpoint: str) -> Path:
    """Where the answer for a store is kept; ``root`` is the folder of pyproject.toml."""
    name = hashlib.sha256(f"{url}\n{endpoint}".encode()).hexdigest()[:16]
    return root / "out" / "stores" / f"{name}.json"


def kept(path: Path, url: str, endpoint: str, now: float | None = None) -> Capabilities | None:
    """The kept answer; None when there is none, or it is old, of another store, or unreadable."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Capabilities)
    except (OSError, msgspec.DecodeError):
        return None
    age = (time.time() if now is None else now) - found.checked
    same = (found.format, found.url, found.endpoint) == (FORMAT, url, endpoint)
    return found if same and 0 <= age < GOOD_FOR else None


def keep(path: Path, found: Capabilities) -> None:
    """Write the answer; whoever cannot keep it asks again the next time."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
