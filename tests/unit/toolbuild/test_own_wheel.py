"""own_wheel: whether the project's own wheel holds machine code, seen from its files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferryman_build.errors import ConfigError
from ferryman_build.own_wheel import own_wheel, prebuilt_for, prebuilt_wheels
from ferryman_build.project import load_project
from ferryman_build.targets import parse_target

PROJECT = '[project]\nname = "demo"\nversion = "1.2"\nrequires-python = ">=3.11"\n[project.scripts]\ndemo = "demo:main"\n'
SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'


def agent(folder: Path, text: str, setup: str = "") -> Path:
    """A project with this pyproject.toml and setup.py."""
    (folder / "pyproject.toml").write_text(PROJECT + text, encoding="utf-8")
    if setup:
        (folder / "setup.py").write_text(setup, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "setup", "native", "obstacle"),
    [
        (SETUPTOOLS, "", False, ""),
        (SETUPTOOLS, "from setuptools import setup\nsetup()\n", False, ""),
        (SETUPTOOLS, "setup(ext_modules=[Extension('demo.x', ['x.c'])])\n", True, ""),
        (SETUPTOOLS, "setup(ext_modules=cythonize('x.pyx'))\n", True, ""),
        (SETUPTOOLS + '[[tool.setuptools.ext-modules]]\nname = "demo.x"\nsources = ["x.c"]\n', "", True, ""),
        (SETUPTOOLS.replace('["setuptools"]', '["setuptools", "setuptools-rust"]'),
         "setup(rust_extensions=[])\n", True, "Rust"),
        ('[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n', "", False, ""),
        ('[build-system]\nrequires = ["maturin"]\nbuild-backend = "maturin"\n', "", True, "built by maturin"),
        ('[build-system]\nrequires = ["meson-python"]\nbuild-backend = "mesonpy"\n', "", True, "mesonpy"),
        ("", "", False, ""),
        (SETUPTOOLS + '[tool.ferryman]\ncompiler = "system"\n', "setup(ext_modules=[])\n", True, "this machine alone"),
    ],
)  # fmt: skip
def test_machine_code_is_seen_without_building(
    text: str, setup: str, native: bool, obstacle: str, tmp_path: Path
) -> None:
    """By backend, by table, by the words of setup.py; what stands in zig's way is said."""
    found = own_wheel(load_project(agent(tmp_path, text, setup)))
    assert (found.native, found.crossable) == (native, not obstacle)
    assert obstacle in found.obstacle


def test_prebuilt_wheels_are_those_of_the_folder(tmp_path: Path) -> None:
    """Relative to the project, of its name and version; the best that fits a target, or none. A slip in it is said."""
    project = load_project(
        agent(tmp_path, SETUPTOOLS + '[tool.ferryman]\nwheels = "built"\n', "Extension('x')")
    )
    with pytest.raises(ConfigError, match="There is no folder"):
        own_wheel(project)
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "other-1.2-py3-none-any.whl").touch()
    (tmp_path / "built" / "demo-9.9-py3-none-any.whl").touch()
    with pytest.raises(ConfigError, match=r"There is no wheel of demo 1\.2 in") as caught:
        own_wheel(project)
    assert "cibuildwheel" in caught.value.advice
    names = (
        "demo-1.2-cp311-abi3-win_amd64.whl",
        "demo-1.2-cp311-cp311-manylinux_2_17_x86_64.whl",
        "notes.txt",
    )
    for name in names:
        (tmp_path / "built" / name).write_bytes(b"")
    assert [path.name for path in prebuilt_wheels(project)] == sorted(names[:2])
    assert own_wheel(project).prebuilt == tuple(sorted(names[:2]))
    fitting = prebuilt_for(project, "1.2", parse_target("windows-amd64"), "3.11")
    assert fitting is not None
    assert fitting.name == names[0]
    assert prebuilt_for(project, "1.3", parse_target("windows-amd64"), "3.11") is None
    assert prebuilt_for(project, "1.2", parse_target("linux-arm64"), "3.11") is None
