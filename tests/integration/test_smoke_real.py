"""The smoke test on real frozen programs: of all forms, only PyInstaller's one-file needs a temporary folder."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import pytest

from ferryman_build.artifacts import Kind, Smoke, SmokeResult
from ferryman_build.cmd import Runner
from ferryman_build.inspect import describe, needs_of_tree, render
from ferryman_build.project import Project
from ferryman_build.runners.native import NO_ISOLATION, probe
from ferryman_build.settings import Service, Settings, SmokeSettings
from ferryman_build.smoke import smoke_artifact
from ferryman_build.targets import host_target
from support.ferryman import Workshop, write_one_module

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="sees Linux processes"),
]

PROGRAM = """
import http.server, signal, sys, zlib

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"up %d" % zlib.crc32(b"agent"))

def main():
    if sys.argv[1:] == ["--version"]:
        sys.exit(print("1.0"))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SETTINGS = 'kinds = ["archive", "executable"]'

URL = "http://127.0.0.1:{port}"
SMOKE = SmokeSettings(service=Service(args=("{port}",), ready=f"{URL}/", get=(f"{URL}/x",), expect=("up ",)))


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory, shared_out: Path) -> dict[Kind, Path]:
    """The program as an archive of its tree, and as one file."""
    return built(tmp_path_factory.mktemp("frozen"), shared_out, SETTINGS)


@pytest.fixture(scope="module")
def bootloader(tmp_path_factory: pytest.TempPathFactory, shared_out: Path) -> Path:
    """The same as PyInstaller's one file, which unpacks itself at every start."""
    folder = tmp_path_factory.mktemp("bootloader")
    return built(folder, shared_out, f'{SETTINGS}\nbundle = "pyinstaller"')[Kind.EXECUTABLE]


def built(root: Path, shared_out: Path, settings: str) -> dict[Kind, Path]:
    """Both artifacts of the program."""
    write_one_module(root, "agent", PROGRAM, settings)
    workshop = Workshop(project=root, out=shared_out, dist=root / "dist")
    outcome = workshop.run("build")
    assert outcome.code == 0, outcome.err
    return {kind: workshop.artifact(kind) for kind in (Kind.ARCHIVE, Kind.EXECUTABLE)}


def smoke(path: Path, kind: Kind, tmp_path: Path, **how: bool) -> SmokeResult:
    project = Project(
        root=tmp_path, name="agent", version="1.0", requires_python=">=3.11", dependencies=(), entry_point="agent:main",
        executable="agent", settings=Settings(smoke=SMOKE),
    )  # fmt: skip
    return smoke_artifact(
        path, kind, host_target(), project, host=host_target(), runner=Runner(tmp_path / "logs"),
        python=Path(sys.executable), work=tmp_path, **how,
    )  # fmt: skip


def test_a_folder_runs_with_everything_denied(frozen: dict[Kind, Path], tmp_path: Path) -> None:
    """The unpacked tree starts, serves and stops without PATH, home and temporary folder."""
    result = smoke(frozen[Kind.ARCHIVE], Kind.ARCHIVE, tmp_path)
    assert result.status is Smoke.PASSED, result
    assert len(result.checks) == 7
    assert not any(check.detail for check in result.checks)


def test_the_one_file_runs_with_everything_denied(frozen: dict[Kind, Path], tmp_path: Path) -> None:
    """All that the launcher's one file gets is the place for its cache."""
    result = smoke(frozen[Kind.EXECUTABLE], Kind.EXECUTABLE, tmp_path, keeps_cache=True)
    assert result.status is Smoke.PASSED, result
    assert "tmp: writable, executable (this bundle needs it)" not in result.environment


def test_a_bootloader_needs_its_temporary_folder(bootloader: Path, tmp_path: Path) -> None:
    """With it PyInstaller's one-file passes, its own child process included; without it the denial is seen to work."""
    result = smoke(bootloader, Kind.EXECUTABLE, tmp_path, needs_exec_tmp=True)
    assert result.status is Smoke.PASSED, result
    assert "tmp: writable, executable (this bundle needs it)" in result.environment
    if probe() == NO_ISOLATION:
        pytest.skip("NOT TESTED: this machine lets us make no mount namespace")
    result = smoke(bootloader, Kind.EXECUTABLE, tmp_path)
    assert result.status is Smoke.FAILED
    assert "ended with exit code" in result.checks[0].detail


def test_the_needs_of_a_real_tree(frozen: dict[Kind, Path], tmp_path: Path) -> None:
    """Folder and archive need the same glibc and libraries; libpython is inside of it."""
    with tarfile.open(frozen[Kind.ARCHIVE]) as archive:
        archive.extraction_filter = getattr(
            tarfile, "data_filter", None
        )  # an attribute also on Python 3.11.2
        archive.extractall(tmp_path)
    needs = needs_of_tree(next(tmp_path.glob("agent-1.0-*")), host_target())
    assert set(needs.floor) == {"glibc"}
    assert "libc.so.6" in needs.libraries
    assert not any(name.startswith("libpython") for name in needs.libraries)
    described = describe(frozen[Kind.ARCHIVE])
    assert described.needs == needs
    assert f"needs glibc {needs.floor['glibc']}: GLIBC_" in render(described)
