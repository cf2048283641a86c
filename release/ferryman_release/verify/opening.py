"""From what stands on the command line to subjects and evidence: a file, a folder, or a URL of either."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ferryman_build.cache import file_digest
from ferryman_build.errors import UsageError
from ferryman_build.manifest import MANIFEST, SUMS
from ferryman_client.errors import UsageError as ClientUsageError
from ferryman_client.fetch import Source, file_path
from ferryman_release.model import METADATA, RELEASE
from ferryman_release.verify.evidence import (
    ABOUT,
    MINISIG,
    Evidence,
    Folder,
    Place,
    Remote,
    Trust,
    artifact_names,
)
from ferryman_release.verify.model import Subject

# <prefix>/artifacts/<name>/<version>/<file>, as the store has it (ferryman_release.model).
_VERSION = re.compile(r"(?P<prefix>.*/)artifacts/(?P<name>[^/]+)/(?P<version>[^/]+)/(?P<file>[^/]*)")
_PLAIN = re.compile(r"[^/\\:\0]+")


class Opened(NamedTuple):
    """The files in question, those that are listed and not there, and what lies beside them.

    ``unlisted``: what a whole folder has besides; nobody says anything of it, so nobody has looked at it.
    """

    subjects: Sequence[Subject]
    missing: Sequence[str]
    evidence: Evidence
    unlisted: Sequence[str] = ()


@contextmanager
def opened(word: str, trust: Trust, source: Source | None) -> Iterator[Opened]:
    """What ``word`` names; files behind a URL are fetched into a folder that is gone at the end.

    Args:
        source: what reads URLs; None when there is to be no network.

    Raises:
        UsageError: there is no such file or folder, or no network for a URL.
        StoreError: a server did not answer.
        VerifyError: a folder lists nothing, or something that cannot be read.
    """
    with TemporaryDirectory(prefix="ferryman-verify-") as scratch:
        place, name, where = _place(word, Path(scratch), source)
        match = _VERSION.fullmatch(where)
        expected = (unquote(match["name"]), unquote(match["version"])) if match else ("", "")
        prefix = match["prefix"] if match else ""
        if prefix.startswith("file:") and not (file_path(prefix) / METADATA).is_dir():
            prefix = ""  # a copy of the folder, not of the repository
        evidence = Evidence(place, trust, expected=expected, prefix=prefix, source=source)
        names = [name] if name else artifact_names(evidence)
        found = [(one, place.file(_plain(one))) for one in names]
        subjects = [_subject(one, path) for one, path in found if path is not None]
        missing = [one for one, path in found if path is None]
        yield Opened(subjects, missing, evidence, () if name else _unlisted(place, names, evidence))


def _unlisted(place: Place, names: Sequence[str], evidence: Evidence) -> Sequence[str]:
    if not isinstance(place, Folder):
        return ()  # a server says what it has when it is asked for it
    about = [f"{one}{suffix}" for one in names for suffix in ABOUT]
    known = {*names, *about, *(evidence.sums or {}), SUMS, MINISIG, MANIFEST, RELEASE}
    return sorted(path.name for path in place.path.iterdir() if path.name not in known)


def _place(word: str, scratch: Path, source: Source | None) -> tuple[Place, str, str]:
    """The folder, the name of the file in it ('' for all of them), and both as a URL."""
    scheme = urlsplit(word).scheme
    if scheme in ("http", "https"):
        if source is None:
            raise UsageError(
                f"{word} would have to be fetched, and --offline was given.",
                advice="Fetch it with everything that lies beside it, and verify the folder.",
            )
        folder, name = _split(word)
        return Remote(folder, scratch, source), unquote(name), folder + name
    path = _local(word) if scheme == "file" else Path(word)
    if path.is_dir():
        return Folder(path), "", path.resolve().as_uri().rstrip("/") + "/"
    if path.is_file():
        return Folder(path.parent), path.name, path.resolve().as_uri()
    raise UsageError(f"There is no {word}.", advice="Name a file, a folder, or a URL of one.")


def _local(word: str) -> Path:
    try:
        return file_path(word)
    except ClientUsageError as error:
        raise UsageError(str(error), advice=error.advice) from error


def _split(url: str) -> tuple[str, str]:
    """The URL of the folder, ending in a slash, and the file's name; a version's folder needs no slash at its end."""
    plain = url.partition("#")[0].partition("?")[0]
    if re.search(r"/artifacts/[^/]+/[^/]+$", plain):
        return f"{plain}/", ""
    folder, _, name = plain.rpartition("/")
    return f"{folder}/", name


def _plain(name: str) -> str:
    """``name``, if it is the name of a file and nothing more: it comes from a document that nobody has verified yet."""
    if _PLAIN.fullmatch(name) is None or name in (".", "..") or not name.isprintable():
        raise UsageError(f"{name!r} is no name of a file.", advice="Do not use what this folder holds.")
    return name


def _subject(name: str, path: Path) -> Subject:
    return Subject(name=name, path=path, size=path.stat().st_size, sha256=file_digest(path))
