"""What a release shall have, what it has, and the difference."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ferryman_release.errors import GithubError
from ferryman_release.github.answers import RemoteAsset

MOST = 1000
"""Files of one release."""
LARGEST = 2 * 1024**3 - 1  # bytes; "under 2 GiB"
UPLOADED = "uploaded"

# GitHub renames what has other characters, or periods at an end or in a row. A renamed file is not the one that
# SHA256SUMS and the signed documents name, so that it is refused instead.
_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_+-](?:[A-Za-z0-9._+-]{0,250}[A-Za-z0-9_+-])?", re.ASCII)

Digest = Callable[[RemoteAsset], str]
"""The sha256 of a remote file, in hex."""


class Upload(msgspec.Struct, frozen=True):
    """A file of the release: its name there, where it is here, ``size`` in bytes, ``sha256`` in hex."""

    name: str
    path: Path
    media_type: str
    size: int
    sha256: str


class Difference(msgspec.Struct, frozen=True):
    """What has to be sent, what is in the way (half a file, another one, one too many), and what is right."""

    missing: tuple[Upload, ...]
    wrong: tuple[RemoteAsset, ...]

    def lines(self) -> list[str]:
        """For people: one line each."""
        absent = {one.name for one in self.missing}
        wrong = {one.name for one in self.wrong}
        said = [f"{name}: {'other bytes' if name in wrong else 'missing'}" for name in sorted(absent)]
        return said + [f"{name}: not of this release" for name in sorted(wrong - absent)]


def check(uploads: Sequence[Upload]) -> None:
    """See that GitHub takes all of it, before it is asked.

    Raises:
        GithubError: with one line per file that it would refuse or rename.
    """
    problems = [f"{one.name}: {problem}" for one in uploads if (problem := _problem(one))]
    _refuse([*bad_names([one.name for one in uploads]), *problems])


def check_names(names: Sequence[str]) -> None:
    """The same for files that are not there yet.

    Raises:
        GithubError: with one line per name that GitHub would refuse or change.
    """
    _refuse(bad_names(names))


def bad_names(names: Sequence[str]) -> list[str]:
    """One line for each name that cannot be, and one when there are too many."""
    problems = [f"{name}: GitHub would rename it" for name in names if _NAME.fullmatch(name) is None]
    problems += sorted(f"{name}: there are two of that name" for name in set(names) if names.count(name) > 1)
    if len(names) > MOST:
        problems.append(f"{len(names)} files, and a release takes {MOST}")
    return problems


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise GithubError(
            "GitHub would not take these files as they are.",
            details=problems,
            advice="Rename or leave out what is listed; names have ASCII letters, digits and . _ + - in them.",
        )


def _problem(upload: Upload) -> str:
    if not 0 < upload.size <= LARGEST:
        return f"{upload.size} bytes; GitHub takes 1 to {LARGEST}"
    try:
        size = upload.path.stat().st_size
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if size == upload.size else f"has {size} bytes now, and had {upload.size}"


def is_same(upload: Upload, remote: RemoteAsset, digest: Digest) -> bool:
    """Whether that file is there, whole and byte for byte; ``digest`` is asked last, since it may have to download."""
    return (
        remote.state == UPLOADED
        and remote.name == upload.name
        and remote.size == upload.size
        and digest(remote) == upload.sha256
    )


def compare(wanted: Sequence[Upload], there: Sequence[RemoteAsset], digest: Digest) -> Difference:
    """What has to be done so that a draft has exactly these files."""
    by_name = {one.name: one for one in wanted}
    right = {one.id: one.name for one in there
             if one.name in by_name and is_same(by_name[one.name], one, digest)}  # fmt: skip
    return Difference(
        missing=tuple(one for one in wanted if one.name not in right.values()),
        wrong=tuple(one for one in there if one.id not in right),
    )
