"""wheel: built from a copy of the source and nothing else, unpacked as the format says."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.cmd import Completed, Runner
from ferryman_build.errors import BuildStepError
from ferryman_build.interpreter import Interpreter
from ferryman_build.wheel import build_wheel, read_wheel

PYTHON = Interpreter(path=Path("/x/python"), version="3.11.2", tag="t", identity="i", libpython=None)
METADATA = "Metadata-Version: 2.1\nName: My-Agent\nVersion: 1.2\n\nName: not a header\n"
MEMBERS = {
    "my_agent/__init__.py": "x = 1\n",
    "my_agent/data/text.txt": "text",
    "my_agent-1.2.dist-info/METADATA": METADATA,
    "my_agent-1.2.dist-info/WHEEL": "Wheel-Version: 1.0\n",
}


class Backend(Runner):
    """Stands in for `uv build`: writes a wheel with ``members``, and looks at the source that it is given."""

    def __init__(
        self, members: dict[str, str] | None = None, *, wheels: int = 1, fails: bool = False
    ) -> None:
        super().__init__()
        self.members = MEMBERS if members is None else members
        self.wheels = wheels
        self.fails = fails

    def run(self, args: Sequence[str | Path], *, env: Any = None, advice: str = "", **_: Any) -> Completed:
        self.words = [str(word) for word in args]
        self.env = env
        self.source = Path(self.words[-1])
        self.saw = sorted(
            p.relative_to(self.source).as_posix() for p in self.source.rglob("*") if not p.is_dir()
        )
        into = Path(self.words[self.words.index("--out-dir") + 1])
        (into / ".gitignore").write_text("*")
        (self.source / "build").mkdir(exist_ok=True)  # as setuptools leaves it
        if self.fails:
            raise BuildStepError("failed", advice=advice)
        for number in range(self.wheels):
            with zipfile.ZipFile(into / f"my_agent-1.2-cp311-abi3-linux_x8{number}.whl", "w") as archive:
                for name, content in self.members.items():
                    info = zipfile.ZipInfo(name)
                    info.external_attr = (0o755 if name.endswith(".sh") else 0o644) << 16
                    archive.writestr(info, content)
        return Completed(0, "", None)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without git, whose folder has a space, with what an earlier build left."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    root = tmp_path / "my agént"
    for name in ("pyproject.toml", "src/my_agent/__init__.py", "build/lib/stale.py", "dist/old.whl"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "draft").mkdir()
    return tmp_path / "draft"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_built_from_a_copy(project: Path, into: Path) -> None:
    """The backend sees the source alone, and nothing is left in the checkout; what remains is wheel and modules."""
    before = names(project)
    backend = Backend()
    build_wheel(project, ("setuptools>=61",), "setuptools==80\n", PYTHON, 123, into, backend)

    assert backend.source != project
    assert backend.saw == ["pyproject.toml", "src/my_agent/__init__.py"]
    assert names(project) == before
    assert names(into) == sorted(
        [*(f"app/{name}" for name in MEMBERS), "backend.txt", "my_agent-1.2-cp311-abi3-linux_x80.whl"]
    )
    assert backend.env["SOURCE_DATE_EPOCH"] == "123"
    assert backend.words[backend.words.index("--python") + 1] == "/x/python"
    pins = Path(backend.words[backend.words.index("--build-constraints") + 1])
    assert pins.read_text() == "setuptools==80\n"


@pytest.mark.parametrize(
    ("requires", "copied"),
    [
        ("hatchling", True),
        ("setuptools", True),
        ("setuptools-scm>=8", False),
        ("setuptools_scm[toml]", False),
        ("Setuptools.SCM", False),
        ("hatch-vcs", False),
        ("hatch_vcs", False),
        ("poetry-dynamic-versioning", False),
        ("versioneer[toml]==0.29", False),
    ],
)
def test_backend_that_asks_git(project: Path, into: Path, requires: str, copied: bool) -> None:
    """In a subfolder of a checkout the copy would have no history: such a backend gets the folder itself."""
    backend = Backend()
    build_wheel(project, ("wheel", requires), "", PYTHON, 1, into, backend)

    assert (backend.source != project) is copied
    assert (project / "pyproject.toml").exists()


@pytest.mark.parametrize(("requires", "linked"), [("hatchling", False), ("hatch-vcs", True)])
def test_copy_with_history(project: Path, into: Path, requires: str, linked: bool) -> None:
    """At the top of a checkout the backend gets a copy whose history is the checkout's."""
    (project / ".git").mkdir()
    backend = Backend()
    build_wheel(project, (requires,), "", PYTHON, 1, into, backend)

    assert backend.source != project
    assert (".git" in backend.saw) is linked


def test_failed_backend(project: Path, into: Path) -> None:
    """The copy is gone, and the advice names the compiler."""
    with pytest.raises(BuildStepError) as caught:
        build_wheel(project, (), "", PYTHON, 1, into, Backend(fails=True))

    assert "C compiler" in caught.value.advice
    assert not (into / "source").exists()


@pytest.mark.parametrize("wheels", [0, 2])
def test_one_wheel_is_needed(project: Path, into: Path, wheels: int) -> None:
    """No wheel or several are said with their number."""
    with pytest.raises(BuildStepError, match=f"made {wheels} wheels"):
        build_wheel(project, (), "", PYTHON, 1, into, Backend(wheels=wheels))


def test_read(project: Path, into: Path) -> None:
    """Name and version come from the headers of METADATA, the tag from the file's name."""
    vendored = {
        "vendor-9.dist-info/METADATA": "Name: vendor\nVersion: 9\n\n",
        "a-0.dist-info/METADATA": "Name: a\n\n",
    }
    build_wheel(project, (), "", PYTHON, 1, into, Backend({**MEMBERS, **vendored}))
    found = read_wheel(into)

    assert (found.name, found.version, found.tag) == ("My-Agent", "1.2", "cp311-abi3-linux_x80")
    assert (found.path.parent, found.app) == (into, into / "app")


def test_unpacked(project: Path, into: Path) -> None:
    """purelib and platlib join the root; scripts and the like do not; nothing leaves the folder; modes are plain."""
    data = "my_agent-1.2.data"
    members = {
        **MEMBERS,
        f"{data}/purelib/pure.py": "p",
        f"{data}/platlib/deep/native.so": "n",
        f"{data}/scripts/tool": "s",
        f"{data}/data/etc/x.conf": "d",
        f"{data}/headers/x.h": "h",
        f"{data}/purelib": "a file that is no folder",
        "my_agent/run.sh": "#!/bin/sh\n",
        "my_agent/../../outside.py": "o",
        f"{into}/absolute.py": "o",
        "folder/": "",
    }
    build_wheel(project, (), "", PYTHON, 1, into, Backend(members))

    assert names(into / "app") == sorted([*MEMBERS, "deep/native.so", "my_agent/run.sh", "pure.py"])
    assert not (into / "absolute.py").exists()
    assert not (into / "outside.py").exists()
    assert os.access(into / "app/my_agent/run.sh", os.X_OK)
    assert (into / "app/my_agent/__init__.py").stat().st_mode & 0o111 == 0
