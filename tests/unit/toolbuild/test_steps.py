"""steps: which of them run for which kinds and bundlers, and that none waits for one that nobody runs."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from ferryman_build.artifacts import Kind
from ferryman_build.preflight import compiles
from ferryman_build.settings import Bundler, Settings
from ferryman_build.steps import steps_for, trees
from ferryman_build.ways import Way

EVERY = [kinds for number in range(1, len(Kind) + 1) for kinds in itertools.combinations(Kind, number)]


# A bootloader is packed where PyInstaller runs.
JOBS = [
    (bundler, way) for bundler in Bundler for way in Way if bundler is Bundler.FERRYMAN or way is Way.HERE
]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("bundler", "way"), JOBS)
@pytest.mark.parametrize("kinds", EVERY, ids=",".join)
def test_each_step_finds_those_before_it(
    kinds: tuple[Kind, ...], bundler: Bundler, way: Way, native: bool
) -> None:
    """For every choice: one step a name, each behind those that it waits for, a product and a smoke test of each kind."""
    steps = steps_for(kinds, bundler, way, native=native)
    names = [step.name for step in steps]

    assert len(set(names)) == len(names)
    for number, step in enumerate(steps):
        assert set(step.after) <= set(names[:number]), step.name
    assert set(kinds) <= set(names)
    assert {f"smoke-{kind}" for kind in kinds} <= set(names)


@pytest.mark.parametrize(
    ("kinds", "bundler", "compiled"),
    [
        ((Kind.ARCHIVE,), Bundler.FERRYMAN, True),
        ((Kind.PYZ, Kind.EXECUTABLE), Bundler.FERRYMAN, True),
        ((Kind.PYZ,), Bundler.FERRYMAN, False),
        ((Kind.ARCHIVE, Kind.EXECUTABLE), Bundler.PYINSTALLER, False),
    ],
)
def test_the_launcher_is_compiled_only_where_it_starts_something(
    kinds: tuple[Kind, ...], bundler: Bundler, compiled: bool
) -> None:
    """A .pyz or PyInstaller's bootloader needs neither a compiler nor headers."""
    names = {step.name for step in steps_for(kinds, bundler, Way.HERE)}

    assert (names >= {"toolchain", "objects"}, bool(names & {"toolchain", "objects"})) == (compiled, compiled)
    assert compiles(Settings(bundle=bundler), kinds) is compiled


@pytest.mark.parametrize(
    ("settings", "python", "wanted"),
    [
        (Settings(), "3.10", ("runpy", "site")),
        (Settings(hidden_imports=("a.b",)), "3.12", ("a.b", "runpy", "site")),
        (Settings(), "3.13", ("runpy", "site", "_pyrepl.__main__", "rlcompleter")),
        (Settings(hidden_imports=("a.b",), interpreter=False), "3.13", ("a.b",)),
        (Settings(bundle=Bundler.PYINSTALLER), "3.13", ()),
    ],
)
def test_a_plain_interpreter_has_what_it_needs(
    settings: Settings, python: str, wanted: tuple[str, ...]
) -> None:
    """What it imports by itself is in the tree, where the launcher can be one and the project lets it."""
    job: Any = SimpleNamespace(settings=settings, python=python)

    assert trees.hidden_imports(job) == wanted


def test_what_is_compiled_waits_for_nothing_of_the_project() -> None:
    """So it runs beside the wheel, the environment and the analysis."""
    after = {step.name: step.after for step in steps_for(tuple(Kind), Bundler.FERRYMAN, Way.HERE)}

    assert (after["toolchain"], after["objects"], after["launcher"]) == ((), ("toolchain",), ("objects",))
