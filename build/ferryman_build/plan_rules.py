"""What blocks an artifact, and what would cure that: the rules of the plan, each a function from a case to an objection.

Adding a rule is adding a function to :data:`RULES`; the first that objects gives the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ferryman_build.artifacts import Kind
from ferryman_build.errors import ResolutionError
from ferryman_build.locking import check_python
from ferryman_build.plan_facts import Block, OwnWheel, RunnerFact, RuntimeFact
from ferryman_build.settings import Bundler
from ferryman_build.targets import Libc, Os, Target, all_targets
from ferryman_build.ways import Way, keeps, way_of
from ferryman_build.wheeltags import (
    LockedPackage,
    compatible_wheels,
    fitting_wheels,
    full_python,
    other_pythons,
    short_python,
    tag_ranks,
    wheel_rank,
)

if TYPE_CHECKING:
    from ferryman_build.project import Project
    from ferryman_build.settings import Settings

_FROM_TREE = (Kind.ARCHIVE, Kind.EXECUTABLE)
# Where the wheels that resources/locks/zig.txt pins run.
_COMPILER_HOSTS = {
    Os.LINUX: frozenset({"386", "amd64", "arm64", "armv7", "ppc64le", "riscv64", "s390x"}),
    Os.WINDOWS: frozenset({"386", "amd64", "arm64"}),
    Os.DARWIN: frozenset({"amd64", "arm64"}),
}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the rules may look at for one row. ``alternatives`` as in :data:`Alternatives`."""

    project: Project
    settings: Settings
    target: Target
    kind: Kind
    host: Target
    python: str
    packages: tuple[LockedPackage, ...]
    alternatives: Mapping[str, str]
    own: OwnWheel = OwnWheel()
    runtime: RuntimeFact = RuntimeFact()
    runner: RunnerFact = RunnerFact()
    here: Mapping[str, str] = {}

    @property
    def from_tree(self) -> bool:
        """Whether the artifact wraps a tree."""
        return self.kind in _FROM_TREE

    @property
    def way(self) -> Way:
        """How its tree is made."""
        return way_of(self.settings, self.target, self.host, self.here)

    @property
    def prebuilt(self) -> str:
        """The prebuilt wheel of the project that fits, best first; empty when none does."""
        ranks = tag_ranks(self.target, short_python(self.python))
        ranked = {name: wheel_rank(name, ranks) for name in self.own.prebuilt}
        fitting = [(rank, name) for name, rank in ranked.items() if rank is not None]
        return min(fitting)[1] if fitting else ""

    @property
    def missing(self) -> tuple[LockedPackage, ...]:
        """Dependencies that cannot be installed: nothing is built from an sdist, whose build no lock describes."""
        return tuple(
            package for package in self.packages if not compatible_wheels(package, self.target, self.python)
        )


# --- the rules --------------------------------------------------------------------------------------------------------


def _python_allowed(case: Case) -> Block | None:
    try:
        check_python(case.python, case.project.requires_python)
    except ResolutionError as error:
        return Block(str(error), error.advice)
    return None


def _bootloader_is_at_home(case: Case) -> Block | None:
    if not case.from_tree or case.settings.bundle is not Bundler.PYINSTALLER or case.way is Way.HERE:
        return None
    return Block(
        f"PyInstaller's bootloader is packed by PyInstaller on its own machine, and this tree is made {_made(case.way)}.",
        f'Set bundle = "{Bundler.FERRYMAN}" in [tool.ferryman.target.{case.target}], or build {_machine(case.target)} and '
        "join the results with `ferryman merge`.",
    )


def _made(way: Way) -> str:
    return "from a standalone runtime" if way is Way.STANDALONE else "through a runner"


def _analysis_runs_somewhere(case: Case) -> Block | None:
    if not case.from_tree or case.way is not Way.THROUGH or case.runner.problem is None:
        return None
    problem = case.runner.problem
    return Block(
        f"PyInstaller's analysis runs where the target's Python runs, and this machine is {case.host}. {problem.reason}",
        f'{problem.cure} Or set collector = "standalone" in [tool.ferryman.target.{case.target}], or build '
        f"{_machine(case.target)} and join the results with `ferryman merge`.",
    )


def _runtime_exists(case: Case) -> Block | None:
    return case.runtime.problem if case.from_tree and case.way is Way.STANDALONE else None


def _python_is_old_enough(case: Case) -> Block | None:
    if not case.from_tree:
        return None
    here = case.way is Way.HERE
    for system, version in (case.here if here else case.runtime.floor).items():
        if keeps({system: version}, case.target):
            continue
        who = (
            "This machine's Python"
            if here
            else f"The runtime ({case.runtime.origin}, Python {case.runtime.python})"
        )
        promised = case.target.floor.get(system) or f"no {system}"
        return Block(
            f"{who} needs {system} {version}, and {case.target} promises {promised}.",
            f'Take a runtime that was built on an older system{_instead(here)}, or promise less: floor = "{system} {version}" '
            f"in [tool.ferryman.target.{case.target}].",
        )
    return None


def _instead(here: bool) -> str:
    return ' (collector = "standalone")' if here else ""


def _compiler_runs_here(case: Case) -> Block | None:
    if not case.from_tree or case.settings.bundle is not Bundler.FERRYMAN:
        return None
    if case.host.arch in _COMPILER_HOSTS[case.host.os]:
        return None
    return Block(
        f"The launcher is compiled with zig, of which there is no wheel for {case.host}.",
        f'Set bundle = "{Bundler.PYINSTALLER}" in [tool.ferryman] or [tool.ferryman.target.{case.target}].',
    )


def _own_wheel_fits(case: Case) -> Block | None:
    own = case.own
    if not own.native or case.target.id == case.host.id or case.prebuilt or own.crossable:
        return None
    listed = f"; among {len(own.prebuilt)} prebuilt ones none fits" if own.prebuilt else ""
    return Block(
        f"The project's own wheel holds machine code for {case.host}, and there is none for "
        f"{case.target} and CPython {short_python(case.python)}{listed}. {own.obstacle}".rstrip(),
        f"Add {case.target} to the cibuildwheel matrix and name the folder with `wheels`, or build {_machine(case.target)} "
        "and join the results with `ferryman merge`, or drop the target.",
    )


def _wheels_exist(case: Case) -> Block | None:
    missing = case.missing
    if not missing:
        return None
    return Block(" ".join(_lack(package, case) for package in missing), _wheel_cure(missing, case))


RULES: tuple[Callable[[Case], Block | None], ...] = (
    _python_allowed,
    _bootloader_is_at_home,
    _analysis_runs_somewhere,
    _runtime_exists,
    _python_is_old_enough,
    _compiler_runs_here,
    _own_wheel_fits,
    _wheels_exist,
)


def _machine(target: Target) -> str:
    """Where to build ``target``."""
    if not target.runner:
        return f"on {_a(target.id)} machine"
    hosted = f"on {_a(target.runner)} machine"
    return f"in {_a(target.id)} container {hosted}" if contained(target) else hosted


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def contained(target: Target) -> bool:
    """Whether the hosted machine of ``target`` needs a container to be it: those with Linux have glibc."""
    return target.libc is Libc.MUSL


def _lack(package: LockedPackage, case: Case) -> str:
    if fitting_wheels(package, case.target, case.python):
        return f"the wheel of {package} for {case.target} does not have a hash of the project's lock file."
    where = f"{case.target} and CPython {short_python(case.python)}"
    having = [target.id for target in all_targets() if compatible_wheels(package, target, case.python)]
    rest = f"it has ones for {', '.join(having)}" if having else "it has none for any target"
    return f"{package} has no wheel for {where}; {rest}."


def _wheel_cure(missing: Sequence[LockedPackage], case: Case) -> str:
    specific = {package.name: _specific_cure(package, case) for package in missing}
    found = [cure for cure in specific.values() if cure]
    rest = ", ".join(package.name for package in missing if not specific[package.name])
    general = f"Build the wheel of {rest} {_machine(case.target)} and name its folder in UV_FIND_LINKS, or drop the target."
    return " ".join([*found, *([general] if rest else [])])


def _specific_cure(package: LockedPackage, case: Case) -> str:
    if fitting_wheels(package, case.target, case.python):
        return "If the index is trusted, write the lock file anew with `ferryman lock`."
    other = case.alternatives.get(package.name)
    if other and other != package.version:
        sign = "<=" if Version(other) < Version(package.version) else ">="
        return f"{package.name} {other} has one: constrain {package.name}{sign}{other}."
    pythons = _allowed(other_pythons(package, case.target, case.python), case.project.requires_python)
    if pythons:
        return f"{package} has one for CPython {', '.join(pythons)}: build with one of them (python in [tool.ferryman])."
    return ""


def _allowed(pythons: Sequence[str], requires_python: str) -> list[str]:
    wanted = SpecifierSet(requires_python)
    return [python for python in pythons if wanted.contains(full_python(python), prereleases=True)]


def first_block(case: Case) -> Block | None:
    """What :data:`RULES` object to; of several, all sentences, so that nobody mends one to find the next."""
    blocks = list(_blocks(case))
    if len(blocks) < 2:
        return blocks[0] if blocks else None
    return Block(" ".join(block.reason for block in blocks), " ".join(block.cure for block in blocks))


def _blocks(case: Case) -> Iterator[Block]:
    for rule in RULES:
        block = rule(case)
        if block is not None:
            yield block
            if rule is _python_allowed:  # for a Python that is not allowed there is no lock
                return


def lacks_wheel(case: Case) -> bool:
    """Whether a missing wheel blocks ``case``: then it pays to ask for other versions."""
    return _python_allowed(case) is None and _wheels_exist(case) is not None
