"""Real programs through real runners: a second agent in the userlands that it is promised for, and one for ARM in QEMU.

The ARM program has the launcher that zig compiled and Debian's CPython for that machine, put together here without
running anything of it (tests/support/arm64_tree.py); what is tried is what a customer would get.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from e2e.runners.conftest import Try
from ferryman_build.artifacts import Kind, Smoke
from ferryman_build.project import load_project
from ferryman_build.runners import KINDS, kinds_for, readiness
from ferryman_build.runners.base import Purpose, RunnerKind
from ferryman_build.runners.roots import find, recipes
from ferryman_build.settings import RunnerName, Service, SmokeSettings
from ferryman_build.targets import host_target, parse_target
from support import arm64_tree
from support.ferryman import LANTERN, ROOT, Workshop
from support.qemu.launchers import Works
from support.qemu.payloads import pack_tree
from support.qemu.roots import ForeignRoot

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(1800)]

HOST, ARM = host_target(), parse_target("linux-arm64")
BEACON = Path(__file__).with_name("beacon.py")
SMOKE = SmokeSettings(
    service=Service(
        args=("{port}",),
        ready="http://127.0.0.1:{port}/",
        get=("http://127.0.0.1:{port}/x",),
        expect=("lit ",),
    )
)
SetUp = Callable[..., RunnerKind]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


# --- a whole agent of this machine ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lantern(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The second agent, built by the real command line for this machine."""
    made = Workshop(project=LANTERN, out=ROOT / "out" / "e2e-runners", dist=tmp_path_factory.mktemp("dist"))
    outcome = made.run("build", timeout=1200)
    assert outcome.code == 0, outcome.err
    return made


def needed(lantern: Workshop, kind: Kind) -> tuple[int, ...]:
    """The glibc that the artifact needs, as it was measured."""
    rows = json.loads((lantern.dist / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    return numbers(next(row["needs"]["floor"]["glibc"] for row in rows if row["kind"] == kind))


@pytest.mark.parametrize("kind", [Kind.ARCHIVE, Kind.EXECUTABLE])
def test_where_an_agent_runs_is_what_was_measured(
    kind: Kind, lantern: Workshop, set_up: SetUp, try_out: Try, person: str
) -> None:
    """In bookworm beside this machine; and in bullseye exactly if the symbols of its files say so, else 69 and why."""
    smoke = load_project(LANTERN).settings.smoke
    for suite, glibc in (("bookworm", "2.36"), ("bullseye", "2.31")):
        set_up("rootfs", HOST.id, f"glibc {glibc}")
        runs = needed(lantern, kind) <= numbers(glibc)
        kinds = kinds_for(HOST, HOST, floor={"glibc": glibc})
        result = try_out(
            lantern.artifact(kind), kind, HOST.id, *kinds, floor={"glibc": glibc}, smoke=smoke, executable="lantern",
            keeps_cache=kind is Kind.EXECUTABLE,
        )  # fmt: skip

        assert result.runner == "native, rootfs"
        assert (result.status is Smoke.PASSED) == runs, result
        assert [check.passed for check in result.checks if check.name.startswith("native: ")] == [True] * 10
        if not runs:
            failed = next(check for check in result.checks if not check.passed)
            assert failed.name == f"{suite}: lantern --version"
            assert failed.detail.startswith(
                "ended with exit code 69\nlantern: the C library of this machine is too old"
            )


def test_a_pyz_runs_in_a_clean_userland(lantern: Workshop, set_up: SetUp, try_out: Try) -> None:
    """By the Python of a userland to build in, if that is of the same version; otherwise that is said."""
    kind = set_up("rootfs", HOST.id)
    smoke = load_project(LANTERN).settings.smoke
    result = try_out(lantern.artifact(Kind.PYZ), Kind.PYZ, HOST.id, kind, floor=HOST.floor, smoke=smoke)

    if result.status is Smoke.UNTESTED:
        assert result.reason.startswith("the Python of bookworm is 3.11, and the .pyz is for 3.")
    else:
        assert result.status is Smoke.PASSED, result
        assert len(result.checks) >= 10


# --- another machine ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], dict[Kind, Path]]:
    """The service for linux-arm64 in its three forms; asked for once the userland is there."""
    made: dict[Kind, Path] = {}

    def get() -> dict[Kind, Path]:
        if not made:
            try:
                made.update(assembled(tmp_path_factory.mktemp("arm64")))
            except UnavailableError as reason:
                pytest.skip(f"NOT TESTED: {reason}")
        return made

    return get


def assembled(folder: Path) -> dict[Kind, Path]:
    """A tree from the userland's CPython, an archive of it and one file with it; and a .pyz of the program alone."""
    root = find(RunnerName.QEMU, recipes(ARM, Purpose.BUILD, ARM.floor)[0])
    assert root is not None
    tree = arm64_tree.assemble(ForeignRoot(root.path), folder / arm64_tree.NAME, BEACON)
    payload = pack_tree(tree, arm64_tree.INFO, BEACON.stem, folder / "payload", ROOT / ".cache" / "launcher")
    works = Works.open(ROOT / ".cache" / "launcher", root.path / arm64_tree.INCLUDE, folder / "works")
    works.launcher("linux-arm64").rename(tree / arm64_tree.NAME)
    (tree / arm64_tree.NAME).chmod(0o755)
    with tarfile.open(folder / "heron.tar.gz", "w:gz") as archive:
        archive.add(tree, arm64_tree.NAME)
    with zipfile.ZipFile(folder / "heron.pyz", "w") as pyz:
        pyz.write(BEACON, "__main__.py")
    return {Kind.ARCHIVE: folder / "heron.tar.gz", Kind.EXECUTABLE: works.launcher("linux-arm64", payload),
            Kind.PYZ: folder / "heron.pyz"}  # fmt: skip


@pytest.mark.parametrize("kind", list(Kind))
def test_arm64(
    kind: Kind, set_up: SetUp, programs: Callable[[], dict[Kind, Path]], try_out: Try, person: str
) -> None:
    """It starts, serves and stops in a userland of its machine; SIGTERM reaches the program and nothing stays."""
    qemu = set_up("qemu", "linux-arm64", "glibc 2.36")
    result = try_out(
        programs()[kind], kind, "linux-arm64", qemu, floor={"glibc": "2.36"}, smoke=SMOKE, executable=arm64_tree.NAME,
        keeps_cache=kind is Kind.EXECUTABLE,
    )  # fmt: skip

    if kind is Kind.PYZ and result.status is Smoke.UNTESTED:
        pytest.skip(f"NOT TESTED: {result.reason}")
    assert result.status is Smoke.PASSED, result
    assert result.runner == "qemu"
    assert {check.name for check in result.checks} >= {"stops on SIGTERM", "leaves no process"}
    assert "userland: Debian bookworm, glibc 2.36" in result.environment
    assert any(fact.startswith("processor: aarch64, played by QEMU") for fact in result.environment)


def test_arm64_in_too_old_a_userland(
    set_up: SetUp, programs: Callable[[], dict[Kind, Path]], try_out: Try
) -> None:
    """Debian bookworm's CPython does not run in bullseye, and the launcher says why."""
    set_up("qemu", "linux-arm64", "glibc 2.36")
    qemu = set_up("qemu", "linux-arm64")
    result = try_out(programs()[Kind.ARCHIVE], Kind.ARCHIVE, "linux-arm64", qemu, floor=ARM.floor, smoke=SMOKE,
                     executable=arm64_tree.NAME)  # fmt: skip

    assert result.status is Smoke.FAILED
    assert "the C library of this machine is too old" in result.checks[0].detail


def test_the_plan_is_told(set_up: SetUp) -> None:
    """AUTO finds QEMU for ARM, and this machine with a clean userland for itself."""
    set_up("qemu", "linux-arm64")
    set_up("rootfs", HOST.id)

    assert readiness(ARM, HOST).names == (RunnerName.QEMU,)
    assert readiness(HOST, HOST).names == (RunnerName.NATIVE, RunnerName.ROOTFS)
    assert KINDS[RunnerName.QEMU].ready(ARM, Purpose.BUILD, ARM.floor).ready
