"""The effective configuration, where each value remembers who set it.

    default ◀ pyproject.toml ◀ [tool.ferryman.target.X] ◀ FERRYMAN_<OPTION> ◀ command line

What stands further right wins. :func:`effective` is the one place where this is decided. Only the options of
:data:`OPTIONS` can be set from outside a pyproject.toml: they say how and for whom to build on this occasion, the others
describe the program.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import UNSET

from ferryman_build.errors import ConfigError, FerrymanError, UsageError
from ferryman_build.project import Project, override_key
from ferryman_build.settings import Settings, TargetSettings
from ferryman_build.settings_checks import FERRYMAN, OPTION_CHECKS, Surroundings
from ferryman_build.toml_positions import KeyPath, format_key
from ferryman_build.validate import Mistake, check
from ferryman_build.words import suggest

if TYPE_CHECKING:
    from ferryman_build.targets import Target


class Origin(StrEnum):
    """Who set a value, weakest first."""

    DEFAULT = "default"
    PYPROJECT = "pyproject"
    TARGET = "target"
    ENVIRONMENT = "environment"
    COMMAND_LINE = "command line"


class Source(NamedTuple):
    """Who set a value, and where: ``pyproject.toml:12:3``, ``FERRYMAN_PYTHON``, ``--python``; nothing for a default."""

    origin: Origin
    where: str = ""

    def __str__(self) -> str:
        return f"{self.origin} {self.where}".rstrip()


class Option(NamedTuple):
    """A setting that the environment and the command line may set: its name, of one word, in TOML and in Settings."""

    field: str
    flag: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"FERRYMAN_{self.field.upper()}"


OPTIONS = (
    Option("targets", "--target"),
    Option("kinds", "--kind"),
    Option("python", "--python"),
    Option("collector", "--collector"),
    Option("bundle", "--bundle"),
    Option("runner", "--runner"),
    Option("runtime", "--runtime"),
    Option("runtimes", "--runtimes"),
    Option("wheels", "--wheels"),
    Option("floor", "--floor"),
    Option("optimize", "--optimize"),
    Option("strip", "--strip"),
)

OTHER_VARIABLES = ("FERRYMAN_CACHE", "FERRYMAN_INTERPRETER", "FERRYMAN_HOME", "FERRYMAN_ENGINE", "FERRYMAN_ENGINE_ARGS",
                   "FERRYMAN_IMAGE", "FERRYMAN_DEBIAN_MIRROR", "FERRYMAN_KEY_PASSPHRASE*")  # fmt: skip
"""Variables of that prefix with another reader (a built program, runners and runtimes); they are neither options nor slips.

A star stands for the rest of a name: passphrases are by role.
"""

# Options that name a place: on the command line and in a variable it is relative to the working directory, as everywhere.
_PLACES = ("runtime", "runtimes", "wheels")

_WORDS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """What holds after all sources were heard.

    ``project`` carries the final settings, so that ``project.for_target`` answers what is built. ``sources`` maps each
    leaf (``optimize``, ``smoke.timeout``, ``target.linux-arm64.python``) to its source; a value that adds to another
    (a target's hidden imports) has the source of what was added. ``warnings`` are sentences.
    """

    project: Project
    sources: Mapping[str, Source]
    warnings: tuple[str, ...] = ()
    target: Target | None = None

    @property
    def settings(self) -> Settings:
        """The final settings; those of ``target`` when there is one."""
        return self.project.for_target(self.target) if self.target else self.project.settings


def effective(
    project: Project,
    environ: Mapping[str, str],
    cli: Mapping[str, object],
    *,
    target: Target | None = None,
    other_variables: Iterable[str] = OTHER_VARIABLES,
) -> Effective:
    """The cascade. ``cli`` maps fields of :data:`OPTIONS` to values; None and a missing key both mean "not given".

    A list may be given as such or as text with commas. With ``target`` the answer is for that target alone.

    Raises:
        ConfigError: a variable has a wrong value; ``details`` names each of them.
        UsageError: only the command line has wrong values.
        ValueError: ``cli`` has a key that is no option (a defect of the caller).
    """
    given = {**_from_environment(environ), **_from_command_line(cli)}
    changes = _converted(project, given)
    final = msgspec.structs.replace(project, settings=_with(project.settings, changes))
    sources = {**_written(project, target), **{field: source for field, (_, source) in given.items()}}
    settings = final.for_target(target) if target else final.settings
    return Effective(
        project=final,
        sources={
            leaf: sources.get(leaf, Source(Origin.DEFAULT)) for leaf in leaves(msgspec.to_builtins(settings))
        },
        warnings=tuple(_unknown_variables(environ, other_variables)),
        target=target,
    )


# --- the environment and the command line --------------------------------------------------------------------------

_Given = Mapping[str, tuple[object, Source]]


def _from_environment(environ: Mapping[str, str]) -> _Given:
    """An empty variable is not set: CI systems export what they have no value for."""
    return {
        option.field: (environ[option.variable], Source(Origin.ENVIRONMENT, option.variable))
        for option in OPTIONS
        if environ.get(option.variable)
    }


def _from_command_line(cli: Mapping[str, object]) -> _Given:
    flags = {option.field: option.flag for option in OPTIONS}
    if unknown := sorted(set(cli) - set(flags)):
        raise ValueError(f"not an option: {', '.join(unknown)}")
    return {
        field: (value, Source(Origin.COMMAND_LINE, flags[field]))
        for field, value in cli.items()
        if value is not None
    }


def _converted(project: Project, given: _Given) -> dict[str, Any]:
    """The given values as Settings has them, every mistake of them found before any is used."""
    raw = {field: _plain(field, value) for field, (value, _) in given.items()}
    mistakes = check(raw, Settings, FERRYMAN)
    wrong = {mistake.path[len(FERRYMAN)] for mistake in mistakes}
    converted = msgspec.convert({field: raw[field] for field in raw if field not in wrong}, Settings)
    around = Surroundings(root=project.root, requires_python=project.requires_python)
    mistakes += [mistake for run in OPTION_CHECKS for mistake in run(converted, around)]
    if mistakes:
        raise _error(mistakes, {field: source for field, (_, source) in given.items()})
    return {field: getattr(converted, field) for field in given}


def _plain(field: str, value: object) -> object:
    """Text as the type of ``field`` would be written in TOML; what is not understood is left for the check."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, tuple) else value
    default = getattr(Settings(), field)
    if field in _PLACES:
        return value if not value or "://" in value else os.path.abspath(value)  # noqa: PTH100 - text with a fragment
    if isinstance(default, tuple):
        return [part for part in (piece.strip() for piece in value.split(",")) if part]
    if isinstance(default, bool):
        return _WORDS.get(value.strip().lower(), value)
    if isinstance(default, int):
        return int(value) if value.strip().isdecimal() else value
    return value.strip()


def _error(mistakes: Iterable[Mistake], sources: Mapping[str, Source]) -> FerrymanError:
    lines, origins = [], set()
    for mistake in mistakes:
        source = sources[str(mistake.path[len(FERRYMAN)])]
        lines.append(f"{source.where}: {mistake.message}")
        origins.add(source.origin)
    if origins == {Origin.COMMAND_LINE}:
        return UsageError(
            "The command line has a wrong value.", advice="Correct what is listed.", details=lines
        )
    return ConfigError(
        "The environment has a wrong value.", advice="Correct or unset what is listed.", details=lines
    )


def _unknown_variables(environ: Mapping[str, str], others: Iterable[str]) -> Iterator[str]:
    known = (*(option.variable for option in OPTIONS), *others)
    for name in sorted(environ):
        if name.startswith("FERRYMAN_") and not any(fnmatchcase(name, one) for one in known):
            # Without the prefix, which all of them share and which would make all of them near.
            short = [variable.removeprefix("FERRYMAN_") for variable in known]
            listed = f" — after FERRYMAN_ may stand {', '.join(short)}"
            hint = suggest(name.removeprefix("FERRYMAN_"), short, otherwise=listed)
            yield f"{name} has no meaning and was ignored{hint}".replace(" '", " 'FERRYMAN_")


def _with(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with ``changes``, which also take the place of what targets' tables say of the same fields."""
    overridden = {field: UNSET for field in changes if field in TargetSettings.__struct_fields__}
    tables = {key: msgspec.structs.replace(table, **overridden) for key, table in settings.target.items()}
    return msgspec.structs.replace(settings, **changes, target=tables)


# --- sources -------------------------------------------------------------------------------------------------------


def _written(project: Project, target: Target | None) -> dict[str, Source]:
    """A source for each leaf that pyproject.toml has; with ``target``, its table's leaves stand for the project's."""
    document = project.document
    if document is None:
        return {}
    table = document.table(*FERRYMAN)
    sources = {
        leaf: Source(Origin.PYPROJECT, document.where((*FERRYMAN, *path)))
        for leaf, path in leaves(table).items()
        if path[0] not in ("target", "workspace")
    }
    for key, override in document.table(*FERRYMAN, "target").items():
        for leaf, path in leaves(override).items():
            source = Source(Origin.TARGET, document.where((*FERRYMAN, "target", key, *path)))
            if target is None:
                sources[format_key(("target", key, *path))] = source
            elif key == override_key(project.settings, target):
                sources[leaf] = source
    return sources


def leaves(table: Mapping[str, Any], path: KeyPath = ()) -> dict[str, KeyPath]:
    """Every value below ``table`` that is not a table, as its key path in text and in parts."""
    found: dict[str, KeyPath] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= leaves(value, (*path, key))
        elif value is not None:
            found[format_key((*path, key))] = (*path, key)
    return found
