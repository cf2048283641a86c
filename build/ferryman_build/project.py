"""An agent, as its pyproject.toml describes it: `[project]` and `[tool.ferryman]`, read and checked.

    path ─▶ Document ─▶ check (types) ─▶ prune ─▶ convert ─▶ checks (meaning) ─▶ Project

Everything wrong is reported at once: values of the wrong type are taken out, so that what remains can still be
checked for its meaning, and the project is only made when neither walk found a mistake.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import UNSET

from ferryman_build import project_checks
from ferryman_build.errors import ConfigError
from ferryman_build.project_checks import BuildSystem, ProjectTable, Subject
from ferryman_build.settings import Settings, TargetSettings, WorkspaceSettings
from ferryman_build.settings_checks import FERRYMAN, near_path
from ferryman_build.targets import Target, parse_target
from ferryman_build.toml_document import Document, label, missing, read_document
from ferryman_build.validate import Mistake, check, prune

if TYPE_CHECKING:
    from pathlib import Path

    from ferryman_build.toml_positions import KeyPath

PYPROJECT = "pyproject.toml"
_Table = TypeVar("_Table", ProjectTable, BuildSystem, Settings)

ADDED = ("hidden_imports", "exclude_modules")
"""Fields of a target's table that add to the project's; all others take its place."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """An agent: its `[project]` table and its `[tool.ferryman]`, read and checked.

    ``root`` is the folder of pyproject.toml, absolute. ``entry_point`` is "module:attribute", resolved from
    settings.entry_point or the script. ``dependencies`` are PEP 508 strings of `[project.dependencies]`.
    ``version`` is None when `[project] dynamic` has it: then it is read from the built wheel. ``executable`` is the
    file name without a target's suffix. ``document`` is the file read, for messages; None in a project made by hand.
    """

    root: Path
    name: str
    version: str | None
    requires_python: str
    dependencies: tuple[str, ...]
    entry_point: str
    executable: str
    settings: Settings
    build_requires: tuple[str, ...] = BuildSystem().requires
    document: Document | None = None

    @property
    def service_name(self) -> str:
        """What a service manager calls the agent."""
        return self.settings.service_name or self.executable

    def for_target(self, target: Target) -> Settings:
        """The settings that hold for ``target``: what its own table says laid over the project's.

        ``hidden-imports`` and ``exclude-modules`` of the table are added. The answer has no target tables any more.
        """
        override = self.settings.target.get(override_key(self.settings, target), TargetSettings())
        changes: dict[str, Any] = {
            field: _merged(self.settings, field, value)
            for field in TargetSettings.__struct_fields__
            if (value := getattr(override, field)) is not UNSET
        }
        return msgspec.structs.replace(self.settings, **changes, target={})


def _merged(settings: Settings, field: str, value: Any) -> Any:
    if field not in ADDED:
        return value
    return tuple(dict.fromkeys((*getattr(settings, field), *value)))


def override_key(settings: Settings, target: Target) -> str:
    """The key under which ``settings.target`` holds what is said of ``target``; its id when nothing is."""
    return next((key for key in settings.target if parse_target(key) == target), target.id)


def find_project(start: Path, explicit: Path | None = None) -> Path:
    """The folder of the agent to build: ``explicit``, else where start's workspace points, else ``start`` itself.

    Raises:
        ConfigError: there is no pyproject.toml, it has no [project] table, or a workspace points to nothing.
    """
    if explicit is not None:
        return _agent_folder(read_document(_file(explicit)))
    document = read_document(start.absolute() / PYPROJECT)
    workspace = document.table(*FERRYMAN).get("workspace")
    if workspace is None:
        return _agent_folder(document)
    if mistakes := check(workspace, WorkspaceSettings, (*FERRYMAN, "workspace")):
        raise document.error(mistakes)
    pointer = msgspec.convert(workspace, WorkspaceSettings).project
    folder = document.path.parent / pointer
    if not (folder / PYPROJECT).is_file():
        what = f"{pointer!r} is not a folder with a {PYPROJECT}{near_path(document.path.parent, pointer)}"
        raise document.error([Mistake((*FERRYMAN, "workspace", "project"), what)])
    return _agent_folder(
        document if folder.resolve() == document.path.parent.resolve() else read_document(folder / PYPROJECT)
    )


def load_project(path: Path, *, lock_required: bool = True) -> Project:
    """Read and check one agent. ``path`` is its folder or its pyproject.toml.

    With ``lock_required`` false a lock file that is not there is no mistake: whoever writes it has to read the
    project first.

    Raises:
        ConfigError: the file is missing or wrong; ``details`` has one line per mistake, all of them at once.
    """
    document = read_document(_file(path))
    _agent_folder(document)
    subject, mistakes = _read(document)
    found = [*mistakes, *project_checks.all_mistakes(subject, lock_required=lock_required)]
    if found:
        raise document.error(found)
    start = project_checks.entry(subject)
    project = subject.project
    return Project(
        root=subject.root,
        name=project.name,
        version=project.version or None,
        requires_python=project.requires_python,
        dependencies=project.dependencies,
        entry_point=start.reference,
        executable=subject.settings.name or start.name,
        settings=subject.settings,
        build_requires=subject.build_system.requires,
        document=document,
    )


def _file(path: Path) -> Path:
    """The pyproject.toml that ``path``, a file or a folder, means; absolute."""
    path = path.absolute()
    if path.name == PYPROJECT and not path.is_dir():
        return path
    if not path.is_dir():
        raise ConfigError(
            f"{label(path)} is not a folder with a {PYPROJECT}.",
            advice="Name the folder of an agent with --project.",
        )
    return path / PYPROJECT


def _agent_folder(document: Document) -> Path:
    """The folder of a document that has a [project] table."""
    if not document.path.is_file():
        raise missing(document.path)
    if "project" in document.data:
        return document.path.parent
    pointer = document.table(*FERRYMAN, "workspace").get("project")
    advice = "Add a [project] table with a name and a version, or name an agent's folder with --project."
    if isinstance(pointer, str) and pointer not in ("", "."):
        advice = f"It is a workspace whose agent is in {pointer}: name that folder with --project."
    elif document.table("tool", "poetry"):
        advice = "Move name, version, dependencies and scripts from [tool.poetry] to [project], which Poetry 2 reads as well."
    raise ConfigError(
        f"{document.label} has no [project] table: it does not describe an agent.", advice=advice
    )


def _read(document: Document) -> tuple[Subject, list[Mistake]]:
    """The document as typed tables, without the keys that have mistakes, and those mistakes."""
    tool = document.data.get("tool", {})
    ferryman: Any = tool.get("ferryman", {}) if isinstance(tool, dict) else {}
    workspace: object = {}
    if isinstance(ferryman, dict):
        workspace = ferryman.get("workspace", {})
        ferryman = {key: value for key, value in ferryman.items() if key != "workspace"}
    project, project_mistakes = _typed(document.data["project"], ProjectTable, ("project",))
    build_system, build_mistakes = _typed(
        document.data.get("build-system", {}), BuildSystem, ("build-system",)
    )
    settings, mistakes = _typed(ferryman, Settings, FERRYMAN)
    mistakes += [*project_mistakes, *build_mistakes]
    mistakes += check(workspace, WorkspaceSettings, (*FERRYMAN, "workspace"))
    unread = frozenset(mistake.path for mistake in mistakes)
    subject = Subject(
        root=document.path.parent,
        project=project,
        settings=settings,
        build_system=build_system,
        unread=unread,
    )
    return subject, mistakes


def _typed(value: object, kind: type[_Table], path: KeyPath) -> tuple[_Table, list[Mistake]]:
    """``value`` as ``kind``, without what is wrong in it, and what is wrong."""
    if kind.__struct_config__.forbid_unknown_fields:
        # The usual case, 5 ms faster. An open table has to be walked: a slip in a key is no error to msgspec.
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(value, kind), []
    mistakes = check(value, kind, path)
    return _convert_valid(
        value, kind, [Mistake(found[len(path) :], what) for found, what in mistakes]
    ), mistakes


def _convert_valid(value: object, kind: type[_Table], mistakes: list[Mistake]) -> _Table:
    """The rest of ``value``; taking a key out may lay open that another is missing, so it is looked at again."""
    while mistakes and isinstance(value, dict):
        value = prune(value, mistakes)
        mistakes = check(value, kind)
    return msgspec.convert(value, kind) if isinstance(value, dict) else kind()
