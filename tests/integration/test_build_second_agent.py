"""An agent of another team is built and run with nothing but its own pyproject."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferryman_build.collect.pyinstaller import inside
from ferryman_build.inspect.members import members
from ferryman_build.inspect.survey import scan, search_leaks
from support.ferryman import Workshop, lantern

REPORT = {
    "motto": "Keep it burning.",
    "checks": {"oil": {"lit": True, "colour": "green"}, "wick": {"lit": True, "colour": "amber"}},
}


def without_windows_trees(workshop: Workshop) -> Workshop:
    """The same, with the .pyz alone for Windows: a tree for it would want a runtime of the network."""
    with (workshop.project / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('\n[tool.ferryman.target.windows-amd64]\nkinds = ["pyz"]\n')
    return workshop


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shared_out: Path) -> Workshop:
    """The second agent, built for this machine and, as .pyz, for Windows; the folder's name is awkward on purpose."""
    workshop = without_windows_trees(lantern(tmp_path_factory.mktemp("mes agents é 灯"), shared_out))
    outcome = workshop.run("build", "--target", "host,windows-amd64")
    assert outcome.code == 0, outcome.err
    return workshop


@pytest.fixture(scope="module")
def tree(built: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executable of the unpacked archive."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built.artifact("archive", built.manifest()["artifacts"][0]["target"])) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python has none
        archive.extractall(folder)
    return next(folder.glob("*/lantern"))


def run(command: list[str | Path], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload, no-any-return]


def forms(built: Workshop, tree: Path) -> Iterator[list[str | Path]]:
    yield [tree]
    yield [built.artifact("executable")]
    yield [sys.executable, built.artifact("pyz", built.manifest()["artifacts"][0]["target"])]


def test_every_form_finds_plugins_data_hidden_imports_and_the_compiled_dependency(
    built: Workshop, tree: Path
) -> None:
    """What lantern's analysis cannot see (plugins, a module imported by name, package data) is in all three forms."""
    for command in forms(built, tree):
        done = run([*command, "check"], env={"HOME": tempfile.gettempdir(), "PATH": os.defpath})

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == REPORT


def test_the_tree_holds_neither_the_build_tools_nor_what_was_excluded(tree: Path) -> None:
    """Only the program is in the tree: no PyInstaller, pip or setuptools, nothing of `exclude-modules`."""
    names = {path.relative_to(tree.parent / "_internal").parts[0] for path in tree.parent.rglob("*.pyc")}

    assert {"lantern", "yaml", "msgspec"} <= names
    assert not names & {"PyInstaller", "pip", "setuptools", "shiv", "pkg_resources", "ftplib.pyc", "tkinter"}


def test_nothing_in_the_tree_names_the_build_machine(built: Workshop, tree: Path) -> None:
    """Bytecode and metadata carry no path of the machine that built them."""
    suspects = [str(built.project), str(built.out), sys.prefix]
    for path in tree.parent.rglob("*"):
        if path.suffix == ".pyc" or ".dist-info" in str(path):
            content = path.read_bytes() if path.is_file() else b""
            assert not [place for place in suspects if place.encode() in content], path


def test_children_get_the_environment_that_the_program_got(
    built: Workshop, tree: Path, tmp_path: Path
) -> None:
    """Every variable, and no other: nothing that the launcher or a bootloader sets for itself (pyinstaller#2237)."""
    script = tmp_path / "probe.py"
    script.write_text("import json, os; print(json.dumps(dict(os.environ)))", encoding="utf-8")
    given = {"PATH": "", "LD_LIBRARY_PATH": "/nowhere", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    for program in (tree, built.artifact("executable")):
        done = run([program, "child", sys.executable, script], env=given)

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == given


def test_multiprocessing_spawns_from_tree_and_one_file(built: Workshop, tree: Path) -> None:
    """A pool with the spawn method works although sys.executable is the program itself."""
    for program in (tree, built.artifact("executable")):
        done = run([program, "pool"])

        assert (done.returncode, done.stdout.strip()) == (0, "[1, 4, 9]"), done.stderr


LOAD = """
import importlib, os, sys
root = sys.argv[1]
for folder, _, names in os.walk(root):
    for name in sorted(names):
        place = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
        if ".cpython-" in name or ".abi3." in name:
            importlib.import_module(place.partition("lib-dynload/")[2].split(".")[0] or place.split(".")[0].replace("/", "."))
with open("/proc/self/maps") as file:
    print("\\n".join(sorted({line.split(None, 5)[5].strip() for line in file if "/" in line})))
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="how a process tells what it has loaded")
def test_libraries_are_those_of_the_tree(tree: Path) -> None:
    """Every extension module loads, in one process, and whatever the tree has is loaded from nowhere else."""
    contents = tree.parent / "_internal"
    done = run([tree, "-I", "-c", LOAD, contents], env={"FERRYMAN_INTERPRETER": "1"})
    assert done.returncode == 0, done.stderr

    loaded = [Path(line) for line in done.stdout.splitlines()]
    names = {path.name for path in contents.rglob("*.so*")}
    assert [path for path in loaded if path.name in names and not path.is_relative_to(contents)] == []
    assert len([path for path in loaded if path.is_relative_to(contents)]) > 30


def test_no_library_looks_into_the_build_machine(tree: Path) -> None:
    """No RUNPATH or RPATH leads out of the tree, although the interpreter's own modules came with one."""
    natives, _, _ = scan(members(tree.parent))

    assert len(natives) > 30
    assert search_leaks(natives) == []


def test_every_runtime_hook_that_ships_is_classified(built: Workshop) -> None:
    """What PyInstaller and its collection of hooks would run is in the table, and the table names nothing else."""
    found = built.out.glob("cache/env/*/env/lib/*/site-packages/PyInstaller/hooks/rthooks.dat")
    site = next(found).parents[2]  # every environment has the same PyInstaller
    places = ("PyInstaller/hooks/rthooks.dat", "_pyinstaller_hooks_contrib/rthooks.dat")
    listed = [ast.literal_eval((site / place).read_text(encoding="utf-8")) for place in places]
    shipped = {Path(name).stem for table in listed for names in table.values() for name in names}
    rules = tomllib.loads(inside("../../resources/runtime_hooks.toml").read_text(encoding="utf-8"))

    assert rules["drop"].keys() | rules["run"].keys() == shipped


def test_the_manifest_says_what_was_built_and_what_was_not_run(built: Workshop) -> None:
    """Sizes and hashes are those of the files; the Windows .pyz is listed as untested with a reason."""
    manifest = built.manifest()

    assert manifest["project"] == {"name": "lantern-keeper", "version": "2.3.0"}
    assert manifest["source"]["commit"] == ""  # a folder without git is no failure
    for row in manifest["artifacts"]:
        content = (built.dist / row["path"]).read_bytes()
        assert (row["size"], row["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    smoke = {(row["target"], row["kind"]): row["smoke"] for row in manifest["artifacts"]}
    assert smoke["windows-amd64", "pyz"]["status"] == "untested"
    assert smoke["windows-amd64", "pyz"]["reason"]
    starters = {row["kind"]: row["bundler"] for row in manifest["artifacts"]}
    assert starters == {"archive": "ferryman", "executable": "ferryman", "pyz": "shiv"}
    tested = [value for (target, _), value in smoke.items() if target != "windows-amd64"]
    assert [value["status"] for value in tested] == ["passed"] * 3
    assert all(len(value["checks"]) >= 4 for value in tested)


def test_markers_are_evaluated_for_the_target(built: Workshop) -> None:
    """A dependency for Windows alone is in the Windows .pyz and not in this machine's."""
    import zipfile

    names = {
        target: {
            name.split("/")[1]
            for name in zipfile.ZipFile(built.artifact("pyz", target)).namelist()
            if "/" in name
        }
        for target in {row["target"] for row in built.manifest()["artifacts"]}
    }
    windows = names.pop("windows-amd64")
    (host,) = names.values()

    assert "colorama" in windows
    assert "colorama" not in host


def test_sha256sums_is_what_sha256sum_reads(built: Workshop) -> None:
    """`sha256sum -c SHA256SUMS` holds in dist/."""
    if not shutil.which("sha256sum"):
        pytest.skip("no sha256sum here")
    done = run(["sha256sum", "-c", "SHA256SUMS"], cwd=built.dist)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": OK") == 2 * len(built.manifest()["artifacts"])  # each with its SBOM


def test_a_second_build_runs_no_step_and_a_third_elsewhere_gives_the_same_bytes(
    built: Workshop, make_lantern: Callable[..., Workshop], tmp_path: Path
) -> None:
    """Nothing changed: no step. Another path and another out/ with an empty cache: the same bytes."""
    again = built.run("build", "--target", "host,windows-amd64")
    elsewhere = without_windows_trees(make_lantern("elsewhere"))
    fresh = Workshop(project=elsewhere.project, out=tmp_path / "fresh", dist=tmp_path / "fresh dist")
    outcome = fresh.run("build", "--target", "host,windows-amd64", env={"TZ": "Asia/Tokyo"})

    assert "no step run" in again.err
    assert outcome.code == 0, outcome.err
    assert fresh.delivered() | {"manifest.json": ""} == built.delivered() | {"manifest.json": ""}


def test_an_edited_line_makes_the_tree_again_without_an_analysis(
    built: Workshop, make_lantern: Callable[..., Workshop]
) -> None:
    """The program has the new line, and PyInstaller was not started for it; a new import starts it."""
    workshop = make_lantern()
    workshop.edit("src/lantern/checks/oil.py", "return True", "return False")
    edited = workshop.run("build", "--kind", "executable")
    seen = json.loads(run([workshop.artifact("executable"), "check"]).stdout)
    workshop.edit("src/lantern/checks/oil.py", "class Oil", "import graphlib\n\n\nclass Oil")
    imported = workshop.run("build", "--kind", "executable")

    assert edited.code == 0, edited.err
    assert seen["checks"]["oil"]["lit"] is False
    assert "analyse" not in [line.split()[2] for line in edited.err.splitlines() if line.startswith("✓")]
    assert "analyse" in [line.split()[2] for line in imported.err.splitlines() if line.startswith("✓")]
