"""What types cannot say about `[tool.ferryman]`: names that must exist, values that must agree with each other.

Each check takes the settings and their :class:`Surroundings` and yields the mistakes that it sees; :data:`CHECKS` is the
list. :data:`OPTION_CHECKS` are those that also hold for a value from the environment or the command line.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from ferryman_build import pep_checks
from ferryman_build.data_files import data_files
from ferryman_build.errors import UsageError
from ferryman_build.settings import OLDEST_PYTHON, Settings
from ferryman_build.targets import parse_target
from ferryman_build.validate import Mistake, check
from ferryman_build.words import suggest

if TYPE_CHECKING:
    from ferryman_build.toml_positions import KeyPath

FERRYMAN: tuple[str, ...] = ("tool", "ferryman")


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings are measured against: their folder, `requires-python`, and the paths that could not be read."""

    root: Path
    requires_python: str = ""
    unread: frozenset[KeyPath] = frozenset()
    lock_required: bool = True


Check = Callable[[Settings, Surroundings], Iterator[Mistake]]


# --- targets, kinds, Python ----------------------------------------------------------------------------------------


def targets(settings: Settings, _: Surroundings) -> Iterator[Mistake]:
    """Known names, each target once. `host` is not resolved: it is another target on every machine."""
    if not settings.targets:
        yield Mistake((*FERRYMAN, "targets"), 'empty — expected at least one target, such as "host"')
    seen: dict[str, str] = {}
    for number, name in enumerate(settings.targets):
        path: KeyPath = (*FERRYMAN, "targets", number)
        try:
            meant = _meant(name)
        except UsageError as error:
            yield _unknown_target(error, path)
            continue
        if meant in seen:
            yield Mistake(path, f"{name!r} is {seen[meant]!r} again — name each target once")
        elif "all" in seen or (meant == "all" and seen):
            yield Mistake(path, "'all' holds every other target — name it alone")
        seen.setdefault(meant, name)


def target_tables(settings: Settings, _: Surroundings) -> Iterator[Mistake]:
    """Every `[tool.ferryman.target.X]` is for one target, and no two are for the same."""
    seen: dict[str, str] = {}
    for name in settings.target:
        path: KeyPath = (*FERRYMAN, "target", name)
        try:
            meant = _meant(name)
        except UsageError as error:
            yield _unknown_target(error, path)
            continue
        if meant in ("host", "all"):
            yield Mistake(path, f"{name!r} is not one target — name the target itself, such as 'linux-amd64'")
        elif meant in seen:
            yield Mistake(path, f"the table {seen[meant]!r} is for {meant} as well — make them one")
        seen.setdefault(meant, name)


def _meant(name: str) -> str:
    plain = name.strip().lower()
    return plain if plain in ("host", "all") else parse_target(name).id


def _unknown_target(error: UsageError, path: KeyPath) -> Mistake:
    message = str(error).replace("There is", "there is").rstrip(".")
    return Mistake(path, f"{message} — {error.advice[:1].lower()}{error.advice[1:]}".rstrip("."))


def kinds(settings: Settings, _: Surroundings) -> Iterator[Mistake]:
    """At least one kind, each once; the same in a target's table."""
    for path, chosen in _each(settings, "kinds"):
        if not chosen:
            yield Mistake(path, 'empty — expected at least one kind, such as "archive"')
        for number, kind in enumerate(chosen):
            if kind in chosen[:number]:
                yield Mistake((*path, number), f"{kind.value!r} is here twice")


def pythons(settings: Settings, around: Surroundings) -> Iterator[Mistake]:
    """Each Python has the form of the project's, and is one that requires-python allows."""
    for path, python in _each(settings, "python"):
        malformed = check(python, _python_type(), path) if python else []
        yield from malformed
        if python.startswith("3.") and tuple(map(int, python.split("."))) < OLDEST_PYTHON:
            oldest = ".".join(map(str, OLDEST_PYTHON))
            yield Mistake(path, f"Python {python} is too old to be frozen — {oldest} is the oldest")
        elif not malformed and not pep_checks.allows_python(around.requires_python, python):
            yield Mistake(
                path, f"Python {python} is not allowed by requires-python = {around.requires_python!r}"
            )


@functools.cache
def _python_type() -> msgspec.inspect.Type:
    """The type of ``Settings.python`` with its pattern, which the targets' tables do not repeat."""
    table = msgspec.inspect.type_info(Settings)
    assert isinstance(table, msgspec.inspect.StructType)
    return next(field.type for field in table.fields if field.name == "python")


def _each(settings: Settings, field: str) -> Iterator[tuple[KeyPath, Any]]:
    """The project's value and that of every target's table that has one, with their paths."""
    yield (*FERRYMAN, field), getattr(settings, field)
    for name, table in settings.target.items():
        if (value := getattr(table, field)) is not UNSET:
            yield (*FERRYMAN, "target", name, field), value


# --- files and names -----------------------------------------------------------------------------------------------


def data(settings: Settings, around: Surroundings) -> Iterator[Mistake]:
    """Every source matches a file, and everything stays inside the tree."""
    for number, row in enumerate(settings.data):
        path: KeyPath = (*FERRYMAN, "data", number)
        if what := _not_portable(row.into) or ("it leaves the tree" if ".." in Path(row.into).parts else ""):
            yield Mistake((*path, "into"), f"{row.into!r} is not a folder of the tree: {what}")
        if what := _not_portable(row.source) or _matches_nothing(around.root, row):
            yield Mistake((*path, "source"), f"{row.source!r} {what}")


def _not_portable(text: str) -> str:
    if not text:
        return "is empty"
    if "\\" in text:
        return "has a backslash — write / between folders"
    if PurePosixPath(text).is_absolute() or re.match("[A-Za-z]:", text):
        return "is absolute — expected a path relative to the project"
    return ""


def _matches_nothing(root: Path, row: Any) -> str:
    try:
        found = data_files(root, row)
    except (ValueError, NotImplementedError) as error:
        return f"is not a glob: {str(error).rstrip('.').lower()}"
    return "" if found else f"matches no file in {root.name}{near_path(root, row.source)}"


def lock(settings: Settings, around: Surroundings) -> Iterator[Mistake]:
    """The lock file exists, unless whoever reads the project is about to write it."""
    if not settings.lock or not around.lock_required or (around.root / settings.lock).is_file():
        return
    hint = near_path(around.root, settings.lock) or " — `ferryman lock` writes it"
    yield Mistake((*FERRYMAN, "lock"), f"there is no file {settings.lock!r}{hint}")


def near_path(root: Path, wanted: str) -> str:
    """A suggestion of something beside what ``wanted`` names; empty when nothing is near."""
    parts = PurePosixPath(wanted).parts
    folder = root
    for number, part in enumerate(parts):
        if not (folder / part).exists():
            beside = [item.name for item in folder.iterdir()] if folder.is_dir() else []
            spelled = {"/".join((*parts[:number], name, *parts[number + 1 :])): name for name in beside}
            return suggest(wanted, [path for path in spelled if (root / path).exists() or "*" in path])
        folder /= part
    return ""


_FILE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def names(settings: Settings, _: Surroundings) -> Iterator[Mistake]:
    """Names that are file names on every system; the suffix belongs to the target."""
    for key, name in (("name", settings.name), ("service-name", settings.service_name)):
        path = (*FERRYMAN, key)
        if not name:
            continue
        if not _FILE_NAME.fullmatch(name):
            yield Mistake(
                path, f"{name!r} is not a file name everywhere — use ASCII letters, digits, '.', '_' and '-'"
            )
        elif _RESERVED.fullmatch(name):
            yield Mistake(path, f"{name!r} is a device on Windows — choose another name")
        elif name.lower().endswith(".exe"):
            yield Mistake(path, f"{name!r}: the suffix comes from the target — write {name[:-4]!r}")


def modules(settings: Settings, _: Surroundings) -> Iterator[Mistake]:
    """Nothing is both left out and asked for; metadata names are names of distributions."""
    for key in ("hidden_imports", "keep_modules", "collect_data", "collect_submodules"):
        for number, module in enumerate(getattr(settings, key)):
            for excluded in settings.exclude_modules:
                if f"{module}.".startswith(f"{excluded}."):
                    what = f"exclude-modules leaves out {excluded!r} with all below it — take one of the two away"
                    yield Mistake(
                        (*FERRYMAN, key.replace("_", "-"), number), f"{module!r} is asked for, but {what}"
                    )
    for number, name in enumerate(settings.metadata):
        yield from pep_checks.name_mistakes(name, (*FERRYMAN, "metadata", number))


OPTION_CHECKS: tuple[Check, ...] = (targets, kinds, pythons)
CHECKS: tuple[Check, ...] = (*OPTION_CHECKS, target_tables, data, lock, names, modules)
