"""`ferryman inspect`: one description of any file or folder, and its text."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Needs
from ferryman_build.errors import InspectError, UsageError
from ferryman_build.inspect.formats import read_native
from ferryman_build.inspect.members import members
from ferryman_build.inspect.native import Native, Reason
from ferryman_build.inspect.survey import scan, search_leaks, summarize

_MOST_FILES = 100


class Description(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What `ferryman inspect` prints, and what its ``--json`` holds. ``size`` in bytes; ``form`` is a word for people.

    ``natives`` has one entry per native file; a folder's or archive's ``needs`` are those of all of them together.
    """

    path: str
    form: str
    size: int
    natives: tuple[Native, ...] = ()
    needs: Needs = Needs()
    reasons: dict[str, Reason] = {}
    warnings: tuple[str, ...] = ()


def describe(path: Path) -> Description:
    """Measure any file, folder or archive.

    Raises:
        UsageError: there is nothing at ``path``.
        InspectError: it cannot be read.
    """
    if not path.exists():
        raise UsageError(f"There is no {str(path)!r}.", advice="Name an existing file or folder.")
    try:
        return _describe_one(path) if path.is_file() else _describe_many(path, "folder")
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise InspectError(
            f"{str(path)!r} cannot be read: {error}.", advice="See that it is whole and that you may read it."
        ) from error


def _describe_one(path: Path) -> Description:
    with path.open("rb") as file:
        native = read_native(path.name, file)
    if native is None:
        return _describe_many(path, _archive_form(path))
    survey = summarize([native], ())
    return Description(
        path=str(path),
        form=f"{native.format.upper()} {' + '.join(native.architectures)}".strip(),
        size=path.stat().st_size,
        natives=(native,),
        needs=survey.needs,
        reasons=survey.reasons,
        warnings=native.notes,
    )


def _archive_form(path: Path) -> str:
    if tarfile.is_tarfile(path):
        return "tar archive"
    return "zip archive" if zipfile.is_zipfile(path) else "no native code"


def _describe_many(path: Path, form: str) -> Description:
    natives, names, warnings = scan(members(path))
    warnings += [f"{native.name}: {note}" for native in natives for note in native.notes]
    warnings += search_leaks(natives)
    survey = summarize([native for native in natives if native.loadable], names, warnings)
    return Description(
        path=str(path),
        form=form,
        size=_size(path),
        natives=survey.natives,
        needs=survey.needs,
        reasons=survey.reasons,
        warnings=survey.warnings,
    )


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(
        entry.stat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink()
    )


def render(description: Description) -> str:
    """The description as lines of plain text, with a newline at the end."""
    return "\n".join(_lines(description)) + "\n"


def _lines(description: Description) -> Iterator[str]:
    yield f"{description.path}: {description.form}, {description.size:,} bytes"
    for system, version in description.needs.floor.items():
        reason = description.reasons.get(system, Reason(version))
        why = " ".join(part for part in (reason.label, reason.symbol and f"({reason.symbol})") if part)
        yield f"  needs {system} {version}" + (f": {why} in {reason.file}" if why else "")
    if description.needs.libraries:
        yield f"  libraries from outside: {', '.join(description.needs.libraries)}"
    for native in description.natives:
        if native.search:
            yield f"  {native.name} looks for libraries in {', '.join(native.search)}"
    if len(description.natives) > 1:
        yield f"  {len(description.natives)} native files:"
        yield from (f"    {_row(native)}" for native in description.natives[:_MOST_FILES])
        if len(description.natives) > _MOST_FILES:
            yield f"    … and {len(description.natives) - _MOST_FILES} more"
    yield from (f"  warning: {warning}" for warning in description.warnings)


def _row(native: Native) -> str:
    floor = ", ".join(f"{system} {reason.version}" for system, reason in native.floor.items())
    return f"{native.name} ({' + '.join(native.architectures)}{', ' if floor else ''}{floor})"
