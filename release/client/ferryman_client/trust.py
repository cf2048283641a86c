"""The one module that imports python-tuf: from a repository's bytes to what can be trusted.

The workflow of a TUF client is python-tuf's (`tuf.ngclient.Updater`, its public interface). What is added here:

* Only Ed25519 counts. A client without the package `cryptography` cannot check ECDSA or RSA; one that has it must not
  trust what the other refuses. So during a refresh such keys are of a class whose signatures never hold.
* python-tuf's own fetcher, and urllib3 with it, is not loaded until somebody asks for it: it is half of the import.
* Target paths are fixed names, so no list of targets is needed: see :func:`names`.
"""

from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from ferryman_client.errors import (
    ClientError,
    ExpiredError,
    MetadataError,
    StateError,
    UnknownReleaseError,
    UnreachableError,
)
from ferryman_client.fetch import Answer, Source
from ferryman_client.state import Role, Target


@contextmanager
def _without_urllib3() -> Iterator[None]:
    """Let `tuf.ngclient` be imported with a stand-in for its fetcher, which becomes the real one when it is called."""
    name = "tuf.ngclient.urllib3_fetcher"
    if "tuf.ngclient" in sys.modules or name in sys.modules:
        yield
        return
    stand_in = types.ModuleType(name)

    class Urllib3Fetcher:
        def __new__(cls, *args: Any, **options: Any) -> Any:
            from importlib import import_module

            return import_module(name).Urllib3Fetcher(*args, **options)

    vars(stand_in)["Urllib3Fetcher"] = Urllib3Fetcher
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


with _without_urllib3():
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, Key, SSlibKey
    from tuf.api import exceptions
    from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

CONFIG = UpdaterConfig(
    targets_max_length=2_000_000, snapshot_max_length=1_000_000, prefix_targets_with_hash=False
)
"""Limits in bytes: a channel of 12 targets has 20 kB; endless data ends here."""
TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")


def names(channel: str, targets: Iterable[str], kinds: Sequence[str]) -> list[str]:
    """Every path that a channel may have for these targets (docs/release.md), that of the channel itself first."""
    offers = [f"{channel}/{target}/{kind}" for target in targets for kind in kinds]
    return [f"{channel}/channel", *(path for offer in offers for path in (offer, f"{offer}/previous"))]


def refresh(
    folder: Path, url: str, fetcher: FetcherInterface, root: bytes | None, channel: str, paths: Sequence[str]
) -> tuple[dict[str, Role], dict[str, Target]]:
    """Bring ``folder`` up to date with the repository at ``url`` and answer its roles and the targets of ``paths``.

    Raises:
        ClientError: UnreachableError, ExpiredError, MetadataError, UnknownReleaseError or StateError.
    """
    try:
        with _ed25519_only():
            updater = Updater(str(folder), f"{url}metadata/", fetcher=fetcher, config=CONFIG, bootstrap=root)
            updater.refresh()
            wanted = paths if _has_document(folder, channel) else ()
            found = {path: info for path in wanted if (info := updater.get_targetinfo(path)) is not None}
    except ClientError:
        raise
    except Exception as error:  # hostile bytes reach this call; whatever they cause becomes a sentence
        raise translated(error, getattr(fetcher, "asked", "") or url) from error
    if f"{channel}/channel" not in found:
        raise UnknownReleaseError(
            f"The repository has no channel {channel}, or nothing is released in it.",
            advice="Check the channel's name.",
        )
    targets = {
        path: Target(length=info.length, sha256=info.hashes.get("sha256", ""), custom=info.custom)
        for path, info in found.items()
    }
    return roles(folder, channel), targets


def _has_document(folder: Path, channel: str) -> bool:
    """Whether the verified snapshot lists the channel: one that has its keys and no release yet is no contradiction."""
    snapshot = json.loads((folder / "snapshot.json").read_bytes())
    return f"{channel}.json" in snapshot["signed"]["meta"]


def roles(folder: Path, channel: str) -> dict[str, Role]:
    """Version and expiry of the metadata that python-tuf has verified and kept."""
    found = {}
    for name in (*TOP_LEVEL, channel):
        signed = json.loads((folder / f"{quote(name, safe='')}.json").read_bytes())["signed"]
        expires = datetime.fromisoformat(signed["expires"]).timestamp()
        found[name] = Role(version=int(signed["version"]), expires=expires)
    return found


# --- errors -----------------------------------------------------------------------------------------------------------


def translated(error: Exception, url: str) -> ClientError:
    """What python-tuf raises about the document at ``url``, in a sentence of ours."""
    if isinstance(error, exceptions.DownloadLengthMismatchError):
        return MetadataError(f"{url} is longer than it may be: {error}.", advice=_ATTACK)
    if isinstance(error, exceptions.DownloadHTTPError):
        return UnreachableError(
            f"{url} answered {error.status_code}.", advice=_LATER, status=error.status_code
        )
    if isinstance(error, exceptions.DownloadError):
        cause = error.__cause__
        return (
            cause if isinstance(cause, ClientError) else UnreachableError(f"{url}: {error}.", advice=_LATER)
        )
    if isinstance(error, exceptions.ExpiredMetadataError):
        what = str(error).removeprefix("Final ").removeprefix("New ").partition(" ")[0].removesuffix(".json")
        return ExpiredError(
            f"The repository's {what} metadata has expired.",
            advice="Check this machine's clock; if it is right, whoever publishes has to sign again.",
        )
    if isinstance(error, OSError):
        return StateError(
            f"The state folder cannot be written: {error.strerror or error}.",
            advice="Make room, or check who owns it.",
        )
    return MetadataError(
        f"{url} was refused: {str(error).rstrip('.') or type(error).__name__}.", advice=_ATTACK
    )


_LATER = "Check the network and the URL; it is tried again."
_ATTACK = (
    "Nothing was taken from it. If it stays so, tell whoever publishes: the repository is broken or forged."
)


# --- only Ed25519 counts ----------------------------------------------------------------------------------------------


class UncountedKey(SSlibKey):
    """A key that exists and whose signatures do not count, wherever it is read."""

    def verify_signature(self, signature: Any, data: bytes) -> None:
        raise UnverifiedSignatureError(f"{self.keytype} keys do not count")


_ED25519 = ("ed25519", "ed25519")
_guard = threading.Lock()
_users = 0
_usual: dict[tuple[str, str], type[Key]] = {}


@contextmanager
def _ed25519_only() -> Iterator[None]:
    """securesystemslib's table of keys, changed for as long as any refresh of this process runs."""
    global _users  # noqa: PLW0603 - the table is one for the process, so the count of its users is
    table = cast("dict[tuple[str, str], type[Key]]", KEY_FOR_TYPE_AND_SCHEME)
    with _guard:
        if _users == 0:
            _usual.update(table)
            table.update({kind: UncountedKey for kind in table if kind != _ED25519})
        _users += 1
    try:
        yield
    finally:
        with _guard:
            _users -= 1
            if _users == 0:
                table.update(_usual)


# --- fetchers ---------------------------------------------------------------------------------------------------------


class Bridge(FetcherInterface):
    """A :class:`Source` as python-tuf wants its fetchers; documents are held in memory, not in a temporary file.

    ``asked`` is the URL of the last document: the one that is refused when something is.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.asked = ""

    def _fetch(self, url: str) -> Iterator[bytes]:
        with self.source.open(url) as answer:
            yield from answer.body

    def download_bytes(self, url: str, max_length: int) -> bytes:
        got = bytearray()
        self.asked = url
        try:
            for chunk in self._fetch(url):
                got += chunk
                if len(got) > max_length:
                    raise exceptions.DownloadLengthMismatchError(f"more than {max_length} bytes at {url}")
        except UnreachableError as error:
            if error.status:
                raise exceptions.DownloadHTTPError(str(error), error.status) from error
            raise exceptions.DownloadError(str(error)) from error
        return bytes(got)


class Foreign:
    """A fetcher of python-tuf as a :class:`Source`; it knows no ranges, so every answer is whole."""

    def __init__(self, fetcher: FetcherInterface) -> None:
        self.fetcher = fetcher

    @contextmanager
    def open(self, url: str, *, start: int = 0, etag: str = "") -> Iterator[Answer]:
        try:
            yield Answer(status=200, body=iter(self.fetcher.fetch(url)))
        except exceptions.DownloadHTTPError as error:
            raise UnreachableError(
                f"{url} answered {error.status_code}.", advice=_LATER, status=error.status_code
            ) from error
        except exceptions.DownloadError as error:
            raise UnreachableError(f"{url}: {error}.", advice=_LATER) from error


def as_bridge(fetcher: Source | FetcherInterface) -> FetcherInterface:
    """Either kind of fetcher for python-tuf."""
    return fetcher if isinstance(fetcher, FetcherInterface) else Bridge(fetcher)
