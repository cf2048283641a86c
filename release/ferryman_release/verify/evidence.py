"""What lies beside the files: on this disk or behind a URL, read once, with limits, and never more than is asked for."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import msgspec
from securesystemslib.signer import Key

from ferryman_build.artifacts import Manifest
from ferryman_build.checksums import parse_sums
from ferryman_build.errors import ManifestError
from ferryman_build.manifest import MANIFEST, SUMS, parse_manifest
from ferryman_client.errors import UnreachableError
from ferryman_client.fetch import Source
from ferryman_release.errors import StoreError, VerifyError
from ferryman_release.keys.minisign import MinisignKey
from ferryman_release.model import RELEASE, Release

LONGEST_DOCUMENT = 64_000_000
"""Bytes of a document; a large SBOM has a few millions."""

LONGEST_FILE = 16_000_000_000
"""Bytes of an artifact."""

_FETCH_AGAIN = "Take it again from where the release was published; if that does not help, do not use it."
_ABSENT = (403, 404, 410)  # a bucket that may not be listed answers 403 for what it does not have


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller trusts: public keys, the root of the metadata, and channels to look in.

    ``origin`` says to people where that came from, when they have not said so themselves.
    """

    minisign: tuple[MinisignKey, ...] = ()
    provenance: tuple[Key, ...] = ()
    root: bytes | None = None
    channels: tuple[str, ...] = ("stable",)
    origin: str = ""


class Place(Protocol):
    """A folder of files, here or elsewhere; ``where`` is what people are told."""

    where: str

    def read(self, name: str) -> bytes | None:
        """A document; None when there is none.

        Raises:
            VerifyError: it is longer than any document.
            StoreError: it cannot be read.
        """

    def file(self, name: str) -> Path | None:
        """The path of a file on this disk, fetched if need be; None when there is none."""


class Folder:
    """Files on this disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)

    def read(self, name: str) -> bytes | None:
        path = self.path / name
        if not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(LONGEST_DOCUMENT + 1)
        if len(data) > LONGEST_DOCUMENT:
            raise _too_long(name, LONGEST_DOCUMENT)
        return data

    def file(self, name: str) -> Path | None:
        path = self.path / name
        return path if path.is_file() else None


class Remote:
    """Files below a URL that ends with a slash; fetched ones are kept in ``into``."""

    def __init__(self, url: str, into: Path, source: Source) -> None:
        self.where = url
        self.into = into
        self.source = source

    def read(self, name: str) -> bytes | None:
        pieces: list[bytes] = []
        there = self._fetch(name, pieces.append, LONGEST_DOCUMENT)
        return b"".join(pieces) if there else None

    def file(self, name: str) -> Path | None:
        path = self.into / name
        with path.open("wb") as file:
            there = self._fetch(name, file.write, LONGEST_FILE)
        return path if there else None

    def _fetch(self, name: str, take: Callable[[bytes], object], limit: int) -> bool:
        got = 0
        try:
            with self.source.open(f"{self.where}{quote(name)}") as answer:
                for piece in answer.body:
                    if (got := got + len(piece)) > limit:
                        raise _too_long(name, limit)
                    take(piece)
        except UnreachableError as error:
            if error.status in _ABSENT:
                return False
            raise StoreError(str(error), advice=error.advice) from error
        return True


def _too_long(name: str, limit: int) -> VerifyError:
    return VerifyError(f"{name} has more than {limit} bytes, which are too many.", advice=_FETCH_AGAIN)


class Evidence:
    """Everything that policies may look at.

    Args:
        place: where the subject lies; documents lie beside it.
        expected: (name, version) as the URL or the folder says them; '' when it does not.
        prefix: URL of the repository that the files belong to, ending in a slash; '' when it is not known.
        source: what reads URLs; None when there is to be no network.
    """

    def __init__(
        self,
        place: Place,
        trust: Trust,
        *,
        expected: tuple[str, str] = ("", ""),
        prefix: str = "",
        source: Source | None = None,
    ) -> None:
        self.place = place
        self.trust = trust
        self.expected = expected
        self.prefix = prefix
        self.source = source
        self.document: Callable[[str], bytes | None] = functools.cache(place.read)

    @property
    def offline(self) -> bool:
        """Whether nothing may be fetched."""
        return self.source is None

    @functools.cached_property
    def sums(self) -> dict[str, str] | None:
        """SHA256SUMS: file name → hex; None when there is none.

        Raises:
            VerifyError: it is not of that format.
        """
        data = self.document(SUMS)
        if data is None:
            return None
        try:
            return parse_sums(data.decode("utf-8"))
        except (ManifestError, UnicodeDecodeError) as error:
            raise VerifyError(f"{SUMS} is not of sha256sum's format: {error}", advice=_FETCH_AGAIN) from error

    @functools.cached_property
    def manifest(self) -> Manifest | None:
        """manifest.json; None when there is none.

        Raises:
            VerifyError: it is none.
        """
        data = self.document(MANIFEST)
        if data is None:
            return None
        try:
            return parse_manifest(data, MANIFEST)
        except ManifestError as error:
            raise VerifyError(str(error), advice=_FETCH_AGAIN, details=error.details) from error
        except RecursionError as error:
            raise VerifyError(f"{MANIFEST} is nested too deeply to be read.", advice=_FETCH_AGAIN) from error

    @functools.cached_property
    def release(self) -> Release | None:
        """release.json; None when there is none.

        Raises:
            VerifyError: it is none, or has fields that nobody knows.
        """
        data = self.document(RELEASE)
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=Release)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise VerifyError(f"{RELEASE} is not one of Ferryman: {error}.", advice=_FETCH_AGAIN) from error

    def project(self) -> tuple[str, str]:
        """(name, version) that the files are to be of: as expected, else as the manifest says; '' for what is not known."""
        name, version = self.expected
        said = self.manifest.project if self.manifest else None
        return name or (said.name if said else ""), version or (said.version if said else "")

    def wrong(self, name: str) -> str:
        """Why the document ``name`` is not what SHA256SUMS lists; '' when it is, or there is no such document."""
        data = self.document(name)
        if data is None or self.sums is None:
            return ""
        if name not in self.sums:
            # A release lists everything; the sums of dist/ list the artifacts alone.
            return f"{name} is not listed in {SUMS}" if MANIFEST in self.sums else ""
        same = hashlib.sha256(data).hexdigest() == self.sums[name]
        return "" if same else f"{name} is not the file that {SUMS} lists"


MINISIG = f"{SUMS}.minisig"

ABOUT = (".cdx.json", ".spdx.json", ".intoto.json", ".sigstore.json")
"""What the documents about an artifact are called: its name and one of these."""


def artifact_names(evidence: Evidence) -> Sequence[str]:
    """The artifacts of a folder: as its manifest lists them, else release.json, else SHA256SUMS.

    Raises:
        VerifyError: none of the three is there, or the one that is lists nothing: then nothing would be verified.
    """
    if (names := _listed(evidence)) is None:
        raise VerifyError(
            f"{evidence.place.where} lists no artifacts: it has neither {MANIFEST} nor {RELEASE} nor {SUMS}.",
            advice="Name a file, the dist/ folder of a build, or the folder of a version.",
        )
    if not names:
        raise VerifyError(
            f"{evidence.place.where} has a list without an artifact in it.", advice=_FETCH_AGAIN
        )
    return names


def _listed(evidence: Evidence) -> Sequence[str] | None:
    if evidence.manifest is not None:
        return [artifact.path for artifact in evidence.manifest.artifacts]
    if evidence.release is not None:
        return [artifact.path for artifact in evidence.release.artifacts]
    if evidence.sums is not None:
        return [name for name in evidence.sums if not name.endswith((*ABOUT, ".minisig"))]
    return None
