"""What types cannot say about `[project]` and the entry point; settings_checks.py has the rest.

Each check takes the :class:`Subject` and yields the mistakes it sees; :data:`CHECKS` is the list. A check looks at what
could be read, so it has to ask :meth:`Subject.unclear` before it complains of something missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ferryman_build import pep_checks, settings_checks, smoke_checks
from ferryman_build.settings_checks import FERRYMAN
from ferryman_build.validate import Mistake
from ferryman_build.words import suggest

if TYPE_CHECKING:
    from pathlib import Path

    from ferryman_build.settings import Settings
    from ferryman_build.toml_positions import KeyPath


class ProjectTable(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """`[project]`, as far as we read it. Every standard key is here so that a slip such as `dependancies` is seen."""

    name: str = ""
    version: str = ""
    requires_python: str = ""
    dependencies: tuple[str, ...] = ()
    scripts: dict[str, str] = {}
    dynamic: tuple[str, ...] = ()
    optional_dependencies: dict[str, tuple[str, ...]] = {}
    entry_points: dict[str, dict[str, str]] = {}
    gui_scripts: dict[str, str] = {}
    description: Any = None
    readme: Any = None
    license: Any = None
    license_files: Any = None
    authors: Any = None
    maintainers: Any = None
    keywords: Any = None
    classifiers: Any = None
    urls: Any = None
    import_names: Any = None
    import_namespaces: Any = None

    @property
    def starts(self) -> dict[str, str]:
        """Every script by name; one of `gui-scripts` differs from the others on Windows alone."""
        return {**self.gui_scripts, **self.scripts}


class BuildSystem(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """`[build-system]` (PEP 518); the defaults are what the standard says of a project without one."""

    requires: tuple[str, ...] = ("setuptools>=40.8.0",)
    build_backend: str = "setuptools.build_meta:__legacy__"
    backend_path: tuple[str, ...] = ()


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked: the folder, its tables, and the paths that could not be read and are absent from them."""

    root: Path
    project: ProjectTable
    settings: Settings
    build_system: BuildSystem = BuildSystem()
    unread: frozenset[KeyPath] = frozenset()

    def unclear(self, *path: str) -> bool:
        """Whether a mistake was already found at ``path``, below it or above it."""
        return any(bad[: len(path)] == path or path[: len(bad)] == bad for bad in self.unread)


class Entry(NamedTuple):
    """How the program starts: the name of its executable and ``package.module:attribute``."""

    name: str
    reference: str


Check = Callable[[Subject], Iterator[Mistake]]

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\s*:\s*[^\W\d]\w*(\.[^\W\d]\w*)*", re.ASCII)


def all_mistakes(subject: Subject, *, lock_required: bool = True) -> Iterator[Mistake]:
    """Everything that the checks of both modules see, in no particular order."""
    for run in CHECKS:
        yield from run(subject)
    surroundings = settings_checks.Surroundings(
        root=subject.root,
        requires_python=subject.project.requires_python,
        unread=subject.unread,
        lock_required=lock_required,
    )
    for check in (*settings_checks.CHECKS, smoke_checks.smoke):
        yield from check(subject.settings, surroundings)


# --- [project] -----------------------------------------------------------------------------------------------------


def identity(subject: Subject) -> Iterator[Mistake]:
    """A name and a version, of the forms that the packaging standards ask for."""
    project = subject.project
    if not subject.unclear("project", "name"):
        yield from pep_checks.name_mistakes(project.name, ("project", "name"))
    if subject.unclear("project", "version") or subject.unclear("project", "dynamic"):
        return
    if project.version and "version" in project.dynamic:
        yield Mistake(("project", "version"), "written here and called dynamic as well — keep one of the two")
    elif project.version or "version" not in project.dynamic:
        yield from pep_checks.version_mistakes(project.version, ("project", "version"))


def dependencies(subject: Subject) -> Iterator[Mistake]:
    """PEP 508, and known before anything is built: `plan` asks the index for them, target by target."""
    for number, text in enumerate(subject.project.dependencies):
        yield from pep_checks.requirement_mistakes(text, ("project", "dependencies", number))
    if "dependencies" in subject.project.dynamic:
        number = subject.project.dynamic.index("dependencies")
        yield Mistake(
            ("project", "dynamic", number),
            "dependencies must be known before the build, for they are resolved for every target"
            " — list them in [project] dependencies",
        )
    yield from pep_checks.specifier_mistakes(subject.project.requires_python, ("project", "requires-python"))


def build_system(subject: Subject) -> Iterator[Mistake]:
    """What the backend is installed from is resolved as the dependencies are."""
    for number, text in enumerate(subject.build_system.requires):
        yield from pep_checks.requirement_mistakes(text, ("build-system", "requires", number))


def scripts(subject: Subject) -> Iterator[Mistake]:
    """Every script is an object reference."""
    for name, reference in subject.project.starts.items():
        yield from _reference(reference, (*_place(subject, name), name))


def _place(subject: Subject, script: str) -> tuple[str, str]:
    return "project", "scripts" if script in subject.project.scripts else "gui-scripts"


# --- the entry point -----------------------------------------------------------------------------------------------


def entry(subject: Subject) -> Entry:
    """How the program starts: settings.entry-point, else the script that is chosen, alone, or named like the project.

    The reference is empty when none of these says it.
    """
    settings, available = subject.settings, subject.project.starts
    name = settings.script or _default_script(subject)
    if settings.entry_point:
        same = [
            script
            for script, reference in available.items()
            if _tight(reference) == _tight(settings.entry_point)
        ]
        return Entry(
            settings.script or (same[0] if same else subject.project.name), _tight(settings.entry_point)
        )
    return Entry(name, _tight(available.get(name, "")))


def entry_point(subject: Subject) -> Iterator[Mistake]:
    """There is exactly one way to start, and its module exists as far as the folder can tell."""
    settings, available = subject.settings, subject.project.starts
    unclear = [subject.unclear(*FERRYMAN, key) for key in ("entry-point", "script")]
    unclear += [subject.unclear("project", key) for key in ("scripts", "gui-scripts")]
    if any(unclear):
        return
    if settings.script and settings.script not in available:
        listed = (
            f" — the scripts are {', '.join(available)}" if available else " — [project.scripts] has none"
        )
        what = f"[project.scripts] has no {settings.script!r}{suggest(settings.script, available, otherwise=listed)}"
        yield Mistake((*FERRYMAN, "script"), what)
    elif settings.entry_point:
        yield from _reference(settings.entry_point, (*FERRYMAN, "entry-point"))
        yield from _module(subject, settings.entry_point, (*FERRYMAN, "entry-point"))
    elif not entry(subject).reference:
        yield _no_start(subject)
    else:
        chosen = entry(subject)
        yield from _module(subject, chosen.reference, (*_place(subject, chosen.name), chosen.name))


def _default_script(subject: Subject) -> str:
    available = subject.project.starts
    # The only one; a console script before a single gui-script beside it, which is one more way to start the same.
    for choice in (available, subject.project.scripts):
        if len(choice) == 1:
            return next(iter(choice))
    wanted = pep_checks.normalized(subject.project.name)
    return next((name for name in available if pep_checks.normalized(name) == wanted), "")


def _no_start(subject: Subject) -> Mistake:
    names = list(subject.project.starts)
    if names:
        what = f"[project.scripts] has {', '.join(names)}, and none is chosen — write script = {names[0]!r}"
        return Mistake(_place(subject, names[0]), what.replace("'", '"'))
    if "scripts" in subject.project.dynamic:
        cure = 'the scripts are dynamic, so write entry-point = "package.module:function"'
    else:
        cure = 'add a [project.scripts] table, or entry-point = "package.module:function"'
    return Mistake(("project",), f"nothing says how the program starts — {cure}")


def _reference(text: str, path: KeyPath) -> Iterator[Mistake]:
    if not _REFERENCE.fullmatch(text.partition("[")[0].strip()):
        yield Mistake(path, f'{text!r} is not an entry point — expected "package.module:function"')


def _tight(reference: str) -> str:
    """Without blanks, and without the extras that old tools allowed behind it."""
    return "".join(reference.partition("[")[0].split())


def _module(subject: Subject, reference: str, path: KeyPath) -> Iterator[Mistake]:
    """A module that is surely misspelled: its package is here and the module is not, or its name is nearly one here.

    A package may also come from elsewhere (a mapping of folders, a generated module), which is no mistake.
    """
    parts = _tight(reference).partition(":")[0].split(".")
    bases = [base for base in (subject.root, subject.root / "src") if base.is_dir()]
    home = next((base for base in bases if parts[0] in _modules(base)), None)
    if home is None:
        hint = suggest(parts[0], [name for base in bases for name in _modules(base)])
        if hint:
            yield Mistake(path, f"there is no module {parts[0]!r} here{hint}")
        return
    folder = home
    for depth, part in enumerate(parts):
        if part not in _modules(folder):
            package = ".".join(parts[:depth])
            hint = suggest(
                part, _modules(folder), otherwise=f" — {package} has {', '.join(_modules(folder))}"
            )
            yield Mistake(path, f"there is no module {part!r} in {package}{hint}")
            return
        folder /= part


def _modules(folder: Path) -> list[str]:
    """Names that could be modules: every file but data, since an extension may be .so, .pyx, .c and more."""
    if not folder.is_dir():
        return []
    return sorted(
        {
            item.name.partition(".")[0]
            for item in folder.iterdir()
            if item.name.partition(".")[0].isidentifier()
        }
    )


CHECKS: tuple[Check, ...] = (identity, dependencies, build_system, scripts, entry_point)
