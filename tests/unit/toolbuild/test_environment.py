"""environment: the tools' lock is whole, and what only the tools brought is known by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ferryman_build.cmd import Completed, Runner
from ferryman_build.collect import environment
from ferryman_build.collect.environment import (
    canonical,
    env_python,
    make_environment,
    run_inside,
    tool_modules,
    tool_requirements,
    tool_version,
    tools_lock,
)
from ferryman_build.errors import BuildStepError, ResolutionError
from ferryman_build.interpreter import Interpreter

LOCK = dict(environment._blocks(tools_lock()))
WANTED = [
    Requirement(line)
    for line in resources.files("ferryman_build")
    .joinpath("resources/locks/tools.in")
    .read_text()
    .splitlines()
    if line and not line.startswith("#")
]


class Recorder(Runner):
    """Remembers how children would have been started."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[list[str], dict[str, Any]]] = []

    def run(self, args: Sequence[str | Path], **options: Any) -> Completed:
        self.calls.append(([str(word) for word in args], options))
        return Completed(0, "", None)


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_blocks() -> None:
    """Comments, markers, hashes over several lines and spellings of names."""
    text = (
        "# a comment == not an entry\n\n"
        "Foo_Bar==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "    # via something\n"
        "plain==2\n"
    )

    assert dict(environment._blocks(text)) == {
        "foo-bar": "Foo_Bar==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via something\n",
        "plain": "plain==2\n",
    }


def test_every_entry_has_hashes() -> None:
    """Each distribution is pinned to one version and to wheels by their SHA-256."""
    assert LOCK
    for name, block in LOCK.items():
        assert re.match(rf"{name}==\d[\w.]* ", block), name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), name
        assert Requirement(block.split("\\")[0].split("--hash")[0]).name == name


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_lock_satisfies_its_input(wanted: Requirement) -> None:
    """What tools.in asks for is in tools.txt, in a version that fits."""
    assert tool_version(canonicalize_name(wanted.name)) in wanted.specifier


def test_every_tool_has_its_modules() -> None:
    """A distribution that joins the lock must say which modules it brings, or they end up in programs."""
    assert environment._TOOL_MODULES.keys() == LOCK.keys()
    assert all(environment._TOOL_MODULES.values())


@pytest.mark.parametrize("name", sorted(LOCK))
def test_version(name: str) -> None:
    """The version alone, without marker and line continuation."""
    assert re.fullmatch(r"\d+(\.\d+)*", tool_version(name))
    assert f"{name}=={tool_version(name)}" in LOCK[name]


def test_version_of_what_is_no_tool() -> None:
    """A name that is not in the lock is a mistake of ours."""
    with pytest.raises(KeyError, match="requests"):
        tool_version("requests")


@pytest.mark.parametrize("name", ["Foo-Bar", "foo_bar", "FOO.BAR", "foo-_-bar", "foo..bar"])
def test_canonical(name: str) -> None:
    """PEP 503, as packaging does it."""
    assert canonical(name) == canonicalize_name(name) == "foo-bar"


# --- what the project locks itself ------------------------------------------------------------------------------------


def names_of(requirements: str) -> set[str]:
    return {name for name, _ in environment._blocks(requirements)}


@pytest.mark.parametrize(
    ("own", "dropped"),
    [
        ((), set()),
        (("requests",), set()),
        (("click",), {"click"}),
        (("Click", "PACKAGING"), {"click", "packaging"}),
        (("PyInstaller_Hooks.contrib",), {"pyinstaller-hooks-contrib"}),
    ],
)
def test_projects_version_serves_both(own: tuple[str, ...], dropped: set[str]) -> None:
    """What the project locks, however it spells it, is not required a second time, and its modules are the project's."""
    assert names_of(tool_requirements(own)) == LOCK.keys() - dropped
    kept = {module for name in LOCK.keys() - dropped for module in environment._TOOL_MODULES[name]}
    assert set(tool_modules(own)) == kept
    assert list(tool_modules(own)) == sorted(tool_modules(own))


def test_all_entries_are_kept_whole() -> None:
    """Nothing but comments between the entries gets lost."""
    assert tool_requirements(()) == tools_lock()


# --- starting things --------------------------------------------------------------------------------------------------


def test_make_environment(tmp_path: Path) -> None:
    """Made for the given interpreter; only wheels, only with hashes, no resolution, no configuration."""
    runner = Recorder()
    python = Interpreter(path=Path("/x/python"), version="3.11.2", tag="t", identity="i", libpython=None)
    make_environment(tmp_path, python, "a==1 --hash=sha256:00\n", runner)

    (venv, first), (install, second) = runner.calls
    assert venv[1] == "venv"
    assert venv[-1] == str(tmp_path / "env")
    assert venv[venv.index("--python") + 1] == "/x/python"
    assert install[1:3] == ["pip", "install"]
    assert install[install.index("--python") + 1] == str(env_python(tmp_path / "env"))
    assert {"--require-hashes", "--no-deps"} <= set(install)
    assert install[install.index("--only-binary") + 1] == ":all:"
    assert Path(install[install.index("-r") + 1]).read_text() == "a==1 --hash=sha256:00\n"
    assert first.get("failure", BuildStepError) is BuildStepError
    assert second["failure"] is ResolutionError


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({}, {}), ({"path": "/only"}, {"PATH": "/only"}), ({"EXTRA": "1"}, {"EXTRA": "1"})],
)
def test_run_inside(
    tmp_path: Path, options: dict[str, str], wanted: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script of collect/inside gets its request by name, in the environment of a build tool."""
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    runner = Recorder()
    run_inside(tmp_path, Path("s.py"), Path("r.json"), runner, name="n", **options)  # type: ignore[arg-type]

    ((words, given),) = runner.calls
    assert words == [str(env_python(tmp_path)), "-X", "utf8", "s.py"]
    assert (given["name"], given["env"]["FERRYMAN_REQUEST"]) == ("n", "r.json")
    assert wanted.items() <= given["env"].items()
    assert "PYTHONPATH" not in given["env"]
