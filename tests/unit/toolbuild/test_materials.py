"""The materials of an artifact: what its provenance lists, and that no path of this machine is among it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ferryman_build.artifacts import Kind, Material
from ferryman_build.lockfile import lock_text, sealed
from ferryman_build.materials import materials
from ferryman_build.runtimes.index import Runtime
from ferryman_build.settings import Bundler
from ferryman_build.steps.job import TargetJob
from ferryman_build.ways import Way

LOCK = sealed("3.11", ())


def job(root: Path, **more: Any) -> TargetJob:
    """A job that has run, as far as the materials ask: a wheel in ``root``, this machine's Python beside it."""
    (root / "lantern-1.0-py3-none-any.whl").write_bytes(b"wheel")
    (root / "libpython3.11.so.1.0").write_bytes(b"library")
    given: dict[str, Any] = {
        "wheel": SimpleNamespace(path=root / "lantern-1.0-py3-none-any.whl"),
        "project": SimpleNamespace(root=root, settings=SimpleNamespace(lock="")),
        "interpreter": SimpleNamespace(path=root / "python3", libpython=root / "libpython3.11.so.1.0"),
        "settings": SimpleNamespace(bundle=Bundler.FERRYMAN), "lock": LOCK, "way": Way.HERE, "runtime": None,
    }  # fmt: skip
    return cast("TargetJob", SimpleNamespace(**{**given, **more}))


def named(found: tuple[Material, ...]) -> dict[str, Material]:
    return {one.name: one for one in found}


def test_an_executable_of_this_machine(tmp_path: Path) -> None:
    """Wheel, lock, interpreter and tools, each with the hash of its bytes."""
    found = named(materials(job(tmp_path), Kind.EXECUTABLE))

    assert set(found) == {"wheel", "dependencies", "interpreter", "build tools", "zig", "zstd"}
    assert found["wheel"].sha256 == hashlib.sha256(b"wheel").hexdigest()
    assert found["interpreter"] == Material(
        name="interpreter", uri="libpython3.11.so.1.0", sha256=hashlib.sha256(b"library").hexdigest()
    )
    assert found["dependencies"].sha256 == hashlib.sha256(lock_text(LOCK).encode()).hexdigest()
    assert all(len(one.sha256) == 64 for one in found.values())


def test_a_pyz_has_neither_interpreter_nor_launcher(tmp_path: Path) -> None:
    """A .pyz is modules alone."""
    assert set(named(materials(job(tmp_path), Kind.PYZ))) == {"wheel", "dependencies", "build tools"}


def test_pyinstallers_own_bootloader_needs_no_compiler(tmp_path: Path) -> None:
    """What the launcher is made of is listed only where there is one."""
    found = named(
        materials(job(tmp_path, settings=SimpleNamespace(bundle=Bundler.PYINSTALLER)), Kind.ARCHIVE)
    )

    assert {"zig", "zstd"}.isdisjoint(found)


@pytest.mark.parametrize(
    ("url", "base", "uri"),
    [
        ("https://example.org/cpython.tar.gz", "", "https://example.org/cpython.tar.gz"),
        (
            "https://me:secret@example.org:8443/cpython.tar.gz?token=secret",
            "",
            "https://example.org:8443/cpython.tar.gz",
        ),
        ("cpython.tar.gz", "/home/me/runtimes", "cpython.tar.gz"),
    ],
)
def test_a_runtime_is_named_by_its_address(tmp_path: Path, url: str, base: str, uri: str) -> None:
    """The URL without its password; of a file on this machine the name alone."""
    runtime = Runtime(python="3.11.13", target="linux-arm64", url=url, sha256="7" * 64, base=base)

    found = named(materials(job(tmp_path, way=Way.STANDALONE, runtime=runtime), Kind.ARCHIVE))

    assert found["runtime"].sha256 == "7" * 64
    assert found["runtime"].uri == uri


def test_the_projects_own_lock_is_taken_as_it_is(tmp_path: Path) -> None:
    """A lock file that the project commits is named by its path in the project, with the hash of its bytes."""
    (tmp_path / "ferryman.lock.txt").write_bytes(b"# nothing\n")
    project = SimpleNamespace(root=tmp_path, settings=SimpleNamespace(lock="ferryman.lock.txt"))

    found = named(materials(job(tmp_path, project=project), Kind.PYZ))["dependencies"]

    assert found == Material(
        name="dependencies", uri="ferryman.lock.txt", sha256=hashlib.sha256(b"# nothing\n").hexdigest()
    )


def test_no_path_of_this_machine(tmp_path: Path) -> None:
    """Two checkouts make the same list."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()

    assert materials(job(one), Kind.EXECUTABLE) == materials(job(other), Kind.EXECUTABLE)
