"""The layout's traps, each met once in a trial of its own, as assertions (docs/adr/0001, docs/adr/0002)."""

from __future__ import annotations

import re
import runpy
import subprocess
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = ("build", "release", "release/client", "agent_src")
LONGEST_FILE, LONGEST_TEST = 600, 900

# In pieces, so that this file does not contain what it looks for.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "deb.debian" + ".org",
    "archive.ubuntu" + ".com",
    "npmjs" + ".org",
    "npmjs" + ".com",
    "crates" + ".io",
]
MACHINE_PATHS = [
    "/work/" + "main",
    "/work/" + "shared",
    "/opt/" + "pypi",
    "/opt/" + "wheels",
    "/tmp/" + "dev/",
    "/root/." + "pyenv",
]


@cache
def pyproject(folder: str = ".") -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def repository_files() -> tuple[Path, ...]:
    """What is tracked or would be: also a file that is not committed yet must keep the rules."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / name.decode() for name in listed.stdout.split(b"\0") if name)
    return tuple(path for path in paths if path.is_file())


def text_files() -> list[tuple[Path, str]]:
    texts = []
    for path in repository_files():
        data = path.read_bytes()
        if b"\0" not in data[:8000]:
            texts.append((path.relative_to(ROOT), data.decode("utf-8", errors="replace")))
    return texts


@pytest.mark.parametrize("folder", [*SOURCE_ROOTS, "tests"])
def test_source_roots_are_not_packages(folder: str) -> None:
    """A source root has no __init__.py: build/__init__.py breaks every `python -m build` from the root."""
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize(
    "name",
    [
        "build/ferryman_build/new_module.py",
        "release/ferryman_release/new_module.py",
        "agent_src/watchkeeper/build/new_module.py",
        "tests/unit/toolbuild/test_new.py",
        "tests/build/test_new.py",
        "docs/dist/page.md",
    ],
)
def test_sources_are_not_ignored(name: str) -> None:
    """git does not ignore a new source because its folder is called like somebody's output."""
    asked = subprocess.run(["git", "check-ignore", "--no-index", "--quiet", name], cwd=ROOT, check=False)

    assert asked.returncode == 1


@pytest.mark.parametrize(
    "name",
    [
        "out/x",
        "dist/x",
        ".cache/x",
        ".nox/x",
        ".venv/x",
        "agent_src/build/lib/x.py",
        "uv.lock",
        "a/x.egg-info/y",
    ],
)
def test_outputs_are_ignored(name: str) -> None:
    """What the tools write does not show up as a change."""
    asked = subprocess.run(["git", "check-ignore", "--no-index", "--quiet", name], cwd=ROOT, check=False)

    assert asked.returncode == 0


def test_ignore_lines_for_folders_are_anchored() -> None:
    """Only names that no source can have may be ignored everywhere."""
    everywhere = {"*.egg-info/", "__pycache__/", "*.py[cod]"}
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()

    loose = [line for line in lines if line and not line.startswith(("#", "/"))]
    assert set(loose) <= everywhere


def test_pytest_collects_folders_called_build(request: pytest.FixtureRequest) -> None:
    """pytest's own default would silently leave out tests/build."""
    assert "build" not in request.config.getini("norecursedirs")


def test_warnings_are_errors(request: pytest.FixtureRequest) -> None:
    """The suite has one place for exceptions to this: the test that needs one."""
    assert request.config.getini("filterwarnings")[0] == "error"


def test_wheel_packages_are_named() -> None:
    """hatchling is told each package; its discovery looks for a folder called after the project."""
    wheel = pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert set(wheel["packages"]) == {"build/ferryman_build", "release/ferryman_release"}


def test_wheel_contains_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel made from the root has every file of the two packages, data files among them."""
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder
    # hatchling imports the build's own modules by name; the root must not be in their way.
    monkeypatch.chdir(ROOT)
    (made,) = builder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])

    names = set(zipfile.ZipFile(made).namelist())
    sources = {
        path.relative_to(ROOT / base).as_posix()
        for base in ("build", "release")
        for path in repository_files()
        if path.is_relative_to(ROOT / base / f"ferryman_{base}")
    }
    assert sources - names == set()
    assert "ferryman_build/resources/targets.toml" in names


def test_build_frontend_is_asked_for_by_its_metadata() -> None:
    """`import build` succeeds on our own folder: code asks importlib.metadata whether the frontend is installed."""
    pattern = re.compile(
        r"""find_spec\(\s*["']build["']|^\s*(?:import build|from build import)\b""", re.MULTILINE
    )
    asking = [str(path) for path, text in text_files() if path.suffix == ".py" and pattern.search(text)]

    assert [name for name in asking if name != "tests/test_layout.py"] == []


def test_toolchain_does_not_know_the_agent() -> None:
    """The agent of this repository is a default that pyproject.toml names, not a special case in the code."""
    word = "watch" + "keeper"
    knowing = [
        str(path)
        for path, text in text_files()
        if path.parts[0] in ("build", "release") and (word in text.lower() or word in str(path).lower())
    ]

    assert knowing == []


@pytest.mark.parametrize("word", REGISTRIES + MACHINE_PATHS)
def test_no_file_names_a_registry_or_a_machine(word: str) -> None:
    """The repository works behind any mirror and on any machine."""
    naming = [str(path) for path, text in text_files() if word in text]

    assert naming == []


def test_files_stay_readable() -> None:
    """A source file that outgrows its limit wants to be two."""
    long = {
        str(path): lines
        for path, text in text_files()
        if path.suffix in (".py", ".c", ".h", ".sh")
        and (lines := text.count("\n")) > (LONGEST_TEST if path.parts[0] == "tests" else LONGEST_FILE)
    }

    assert long == {}


def test_readme_and_ci_run_the_same_command() -> None:
    """CI runs the README's test command and no other."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^```sh\n(python3 noxfile\.py .*)\n```$", readme, re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert commands == ["python3 noxfile.py -s build", "python3 noxfile.py -s tests"]
    assert [line for line in script.splitlines() if "python3" in line] == [f"exec {commands[1]} </dev/null"]


def test_scripts_are_executable() -> None:
    """A clone can run what is meant to be run."""
    listed = subprocess.run(
        ["git", "ls-files", "--stage", "--", ".ci/run", "noxfile.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["100755", "100755"]


def test_agent_is_a_workspace_member_with_its_own_dependencies() -> None:
    """The agent is its own distribution: what ships with it is its few dependencies and none of the toolchain's."""
    assert pyproject()["tool"]["uv"]["workspace"]["members"] == ["agent_src", "release/client"]
    assert pyproject()["tool"]["ferryman"]["workspace"]["project"] == "agent_src"
    assert pyproject("agent_src")["project"]["name"] != pyproject()["project"]["name"]


def test_links_between_pages_lead_somewhere() -> None:
    """A relative link in a page names a file that is there."""
    broken = [
        f"{path}: {target}"
        for path, text in text_files()
        if path.suffix == ".md"
        for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)
        if not (ROOT / path.parent / target).exists()
    ]

    assert broken == []


def test_every_decision_is_listed() -> None:
    """The index of decision records has each one, once, and no two share a number."""
    index = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    records = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))

    assert [name for name in records if index.count(f"({name})") != 1] == []
    assert len({name[:4] for name in records}) == len(records)


# -- locks ------------------------------------------------------------------------------------------------------------


@cache
def locks() -> dict[str, Any]:
    """The table of tools/lock.py: what each lock is made from."""
    return cast("dict[str, Any]", runpy.run_path(str(ROOT / "tools" / "lock.py"))["LOCKS"])


LOCKS = ("nox", "ferryman", "release", "dev", "tools", "wheels", "zig", "bench", "stores")


def lock_text(name: str) -> str:
    return (ROOT / locks()[name].path).read_text(encoding="utf-8")


def locked(name: str) -> dict[str, Version]:
    pins = re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", lock_text(name), re.MULTILINE)
    return {package: Version(version) for package, version in pins}


def direct_requirements(source: str) -> list[Requirement]:
    """What one source asks for: the dependencies of a project, or the lines of a requirements file."""
    if Path(source).name == "pyproject.toml":
        lines = pyproject(str(Path(source).parent))["project"].get("dependencies", [])
    else:
        lines = (ROOT / source).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("name", LOCKS)
def test_lock_satisfies_what_it_is_made_from(name: str) -> None:
    """Every direct requirement is in the lock, in range; `nox -s locks` writes the locks again."""
    have = locked(name)
    missing = [
        str(requirement)
        for source in locks()[name].sources
        for requirement in direct_requirements(source)
        if (found := have.get(re.sub(r"[-_.]+", "-", requirement.name).lower())) is None
        or not requirement.specifier.contains(found, prereleases=True)
    ]

    assert missing == []


def test_locks_agree() -> None:
    """A package has one version, whichever lock of the checkout it is installed from."""
    versions: dict[str, set[Version]] = {}
    for name in ("nox", "ferryman", "release", "dev"):
        for package, version in locked(name).items():
            versions.setdefault(package, set()).add(version)

    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", LOCKS)
def test_lock_names_no_place_and_hashes_everything(name: str) -> None:
    """A lock holds behind any mirror, and every package in it has hashes."""
    text = lock_text(name)
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]

    assert "://" not in text
    assert "--index" not in text
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_every_lock_is_in_the_table() -> None:
    """`nox -s locks` writes every lock that the repository has; none is made by hand."""
    there = {path.relative_to(ROOT).as_posix() for path in repository_files() if path.parent.name == "locks"}
    known = {lock.path for lock in locks().values()}
    sources = {source for lock in locks().values() for source in lock.sources}

    assert set(LOCKS) == set(locks())
    assert there <= known | sources


def test_noxfile_header_and_bootstrap_ask_for_the_same_nox() -> None:
    """The PEP 723 header, nox.needs_version, the bootstrap and the lock's source agree on the oldest nox."""
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    bootstrap = (ROOT / "tools" / "bootstrap.py").read_text(encoding="utf-8")
    oldest = re.findall(r"OLDEST_NOX = \((\d+), (\d+), (\d+)\)", bootstrap)[0]
    asked = set(re.findall(r"(?:nox|needs_version = \")>=([\d.]+)", noxfile))

    assert asked == {".".join(oldest)}
    assert f"nox>={'.'.join(oldest)}" in (ROOT / "locks" / "nox.in").read_text(encoding="utf-8")
