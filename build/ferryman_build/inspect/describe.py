"""`ferryman inspect`: one description of any file or folder, as text and as JSON."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Needs
from ferryman_build.errors import InspectError, UsageError
from ferryman_build.inspect.cpu import level_text
from ferryman_build.inspect.members import Member, members
from ferryman_build.inspect.native import Cpu, Native, Reason, Trait
from ferryman_build.inspect.onefile import payload_members
from ferryman_build.inspect.survey import Survey, survey_members

_MOST_FILES = 100
_MODELESS = {".whl", ".pyz"}  # what unpacks them gives files modes of its own
_QUIET_TRAITS = {Trait.GUI, Trait.AD_HOC, Trait.SIGNED}  # said in the file's row, and no warning


class Description(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What `ferryman inspect` prints, and what its ``--json`` holds. ``size`` in bytes; ``form`` is a word for people.

    ``natives`` has one entry per native file, with its architectures, C library, traits and processor features; a
    folder's or archive's ``needs`` are those of all of them together. ``modes`` (octal) are set-user-ID, set-group-ID
    and world-writable files, ``sources`` the absolute paths that bytecode names.
    """

    path: str
    form: str
    size: int
    natives: tuple[Native, ...] = ()
    needs: Needs = Needs()
    reasons: dict[str, Reason] = {}
    modes: dict[str, str] = {}
    sources: dict[str, str] = {}
    warnings: tuple[str, ...] = ()


def describe(path: Path) -> Description:
    """Measure any file, folder or archive; of an executable of Ferryman's also what it unpacks.

    Raises:
        UsageError: there is nothing at ``path``.
        InspectError: it cannot be read.
    """
    if not path.exists():
        raise UsageError(f"There is no {str(path)!r}.", advice="Name an existing file or folder.")
    try:
        return _describe(path)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise InspectError(
            f"{str(path)!r} cannot be read: {error}.", advice="See that it is whole and that you may read it."
        ) from error


def _describe(path: Path) -> Description:
    listed = list(members(path))
    inside = payload_members(path) if path.is_file() else None
    if inside is not None:
        listed += inside
    survey = survey_members(listed)
    found = survey.found
    return Description(
        path=str(path),
        form=_form(path, survey, listed, packed=inside is not None),
        size=_size(path),
        natives=survey.natives,
        needs=survey.needs,
        reasons=survey.reasons,
        modes={name: f"{mode:04o}" for name, mode in found.modes.items() if path.suffix not in _MODELESS},
        sources=found.compiled_in,
        warnings=(*survey.warnings, *_trait_warnings(survey)),
    )


def _form(path: Path, survey: Survey, listed: list[Member], *, packed: bool) -> str:
    if path.is_dir():
        return "folder"
    alone = len(listed) == 1 and listed[0].name == path.name
    if survey.natives and (alone or packed):
        native = survey.natives[0]
        kind = f"{native.format.upper()} {' + '.join(native.architectures)}".strip()
        return f"{kind} executable with {len(listed) - 1} files packed into it" if packed else kind
    if survey.found.bytecode and alone:
        return "Python bytecode"
    if tarfile.is_tarfile(path):
        return "tar archive"
    if zipfile.is_zipfile(path):
        return {".whl": "wheel", ".pyz": "zip application"}.get(path.suffix, "zip archive")
    return "no native code"


def _trait_warnings(survey: Survey) -> Iterator[str]:
    for native in survey.natives:
        for trait, where in native.traits.items():
            if trait not in _QUIET_TRAITS:
                yield f"{native.name}: {trait} ({where})"


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(
        entry.stat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink()
    )


def to_json(description: Description) -> str:
    """The description as JSON with a newline at the end; field names are those of :class:`Description`."""
    return msgspec.json.format(msgspec.json.encode(description), indent=2).decode() + "\n"


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
        yield from _processor(native)
    if len(description.natives) > 1:
        yield f"  {len(description.natives)} native files:"
        yield from (f"    {_row(native)}" for native in description.natives[:_MOST_FILES])
        if len(description.natives) > _MOST_FILES:
            yield f"    … and {len(description.natives) - _MOST_FILES} more"
    elif description.natives:
        yield f"  {_row(description.natives[0])}"
    yield from (f"  mode {mode}: {name}" for name, mode in description.modes.items())
    yield from _sources(description)
    yield from (f"  warning: {warning}" for warning in description.warnings)


def _processor(native: Native) -> Iterator[str]:
    for arch, cpu in native.cpu.items():
        if cpu.required not in ("", "x86-64-v1"):
            yield f"  {native.name} insists on {cpu.required}"
        if not cpu.features:
            continue
        level = level_text(arch, cpu.features)
        if cpu.chosen and not cpu.whole and not cpu.early:
            yield f"  {native.name} has code for up to {level}, chosen at run time ({', '.join(cpu.chosen)})"
        else:
            yield f"  {native.name} needs {level}: {_example(cpu)}"


def _example(cpu: Cpu) -> str:
    reasons = cpu.early or cpu.features
    reason = max(reasons.values(), key=lambda one: one.version)
    return f"{reason.label} in {reason.symbol}"


def _sources(description: Description) -> Iterator[str]:
    if description.sources:
        name, source = next(iter(description.sources.items()))
        more = f" (and {len(description.sources) - 1} more files)" if len(description.sources) > 1 else ""
        yield f"  bytecode names its source: {source} in {name}{more}"


def _row(native: Native) -> str:
    facts = [" + ".join(native.architectures), native.libc]
    facts += [f"{system} {reason.version}" for system, reason in native.floor.items()]
    facts += [text for arch, cpu in native.cpu.items() if (text := level_text(arch, cpu.features))]
    facts += [trait.value for trait in native.traits if trait in _QUIET_TRAITS]
    return f"{native.name} ({', '.join(fact for fact in facts if fact)})"
