"""Machines on which the trial program of linux-arm64 cannot run, and what it says there.

Each is a root filesystem with little more than a C library. For the machines that no interpreter is at hand for, only
this is shown: the launcher starts, it unpacks a payload byte for byte, and it says in a sentence what is missing. On
s390x that is the proof that nothing depends on the order of bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from ferryman_build.wrap.payload import read_payload
from support import arm64_tree
from support.arm64_tree import NAME
from support.ferryman import ROOT
from support.qemu.emulation import emulated
from support.qemu.launchers import Works
from support.qemu.payloads import pack_tree
from support.qemu.roots import Ended, ForeignRoot, Recipe

CACHE = ROOT / ".cache" / "rootfs"
LAUNCHERS = ROOT / ".cache" / "launcher"
ONE_FILE = f"/srv/{NAME}"
BARE = "/srv/bare"
IN_TREE = f"/opt/{NAME}/{NAME}"

# target → its emulated machine in Go's word ("": this one), and what to make a root of
MACHINES = {
    "linux-amd64-musl": ("", Recipe("amd64", ("musl",))),
    "linux-armv7": ("armv7", Recipe("armhf", ("libc6",))),
    "linux-ppc64le": ("ppc64le", Recipe("ppc64el", ("libc6",))),
    "linux-riscv64": ("riscv64", Recipe("riscv64", ("libc6",), "trixie")),  # Debian 12 has none
    "linux-s390x": ("s390x", Recipe("s390x", ("libc6",))),
}

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Trial:
    """The trial tree, packed, and what makes launchers."""

    folder: Path
    tree: Path
    payload: Path
    works: Works


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """Made once; nothing of it runs."""
    folder = tmp_path_factory.mktemp("machines")
    try:
        root = ForeignRoot.unpack(arm64_tree.RECIPE, CACHE, folder / "arm64")
        tree = arm64_tree.assemble(root, folder / "tree", ROOT / "tests/support/qemu/heron.py")
        payload = pack_tree(tree, arm64_tree.INFO, NAME, folder / "payload", LAUNCHERS)
        works = Works.open(LAUNCHERS, root.path / arm64_tree.INCLUDE, folder / "works")
        yield Trial(folder, tree, payload, works)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine_with(trial: Trial, stack: ExitStack, target: str, recipe: Recipe, arch: str = "") -> ForeignRoot:
    """A machine of a C library, with the launcher for ``target`` alone and as the one file."""
    try:
        if arch:
            stack.enter_context(emulated(arch, CACHE))
        root = ForeignRoot.unpack(recipe, CACHE, trial.folder / recipe.name)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    root.place(trial.works.launcher(target), BARE)
    root.place(trial.works.launcher(target, trial.payload), ONE_FILE)
    return root


@pytest.mark.parametrize("target", list(MACHINES))
def test_a_launcher_of_another_machine(trial: Trial, target: str) -> None:
    """It starts, misses its tree, unpacks a payload as it was packed, and misses a libpython for its machine."""
    arch, recipe = MACHINES[target]
    with ExitStack() as stack:
        root = machine_with(trial, stack, target, recipe, arch)
        said(root.run([BARE, "report"]), 70, "bare", "_internal")
        path = root.run([ONE_FILE, "--ferryman-cache", "path"])
        assert path.code == 0, path
        payload = read_payload(trial.payload)
        assert root.inside(path.out.strip()).name == payload.sha256[:32]
        assert_unpacked(root.inside(path.out.strip()), trial.payload)
        said(root.run([ONE_FILE, "report"]), 69, NAME, "libpython3.11.so.1.0")
        said(root.run([ONE_FILE, "--ferryman-cache", "nonsense"]), 64, NAME, "nonsense")
        damage(root.inside(ONE_FILE), trial.payload)
        said(root.run([ONE_FILE, "report"]), 65, NAME, "damaged")


def assert_unpacked(tree: Path, payload: Path) -> None:
    """Every file of the payload, with its content and mode, and none beside them but the marker."""
    wanted = {file.path: (file.mode, content) for file, content in read_payload(payload).unpack()}
    found = {path.relative_to(tree).as_posix(): path for path in tree.rglob("*") if path.is_file()}
    assert set(found) - {".ferryman"} == set(wanted)
    different = [
        name
        for name, (mode, content) in wanted.items()
        if found[name].read_bytes() != content or found[name].stat().st_mode & 0o777 != mode
    ]
    assert different == []


def said(ended: Ended, code: int, name: str, word: str) -> None:
    """An exit code, and a sentence and a cure that begin with the program's name."""
    assert (ended.code, ended.out) == (code, ""), ended
    first, second = ended.err.splitlines()
    assert first.startswith(f"{name}: "), first
    assert word in first
    assert first.endswith(".")
    assert second.startswith("  ")


def damage(program: Path, payload: Path) -> None:
    """Change a byte in the head of the payload."""
    content = bytearray(program.read_bytes())
    content[content.index(payload.read_bytes()[:200]) + 50] ^= 1
    program.write_bytes(content)


def test_an_older_c_library(trial: Trial) -> None:
    """Debian 11 has glibc 2.31, and the tree's libpython is linked against a newer one: one sentence and 69."""
    with ExitStack() as stack:
        root = machine_with(trial, stack, "linux-arm64", Recipe("arm64", ("libc6",), "bullseye"), "arm64")
        root.place(trial.tree, f"/opt/{NAME}")
        root.place(trial.works.launcher("linux-arm64"), IN_TREE)
        for program in (ONE_FILE, IN_TREE):
            said(root.run([program, "report"]), 69, NAME, "the C library of this machine is too old")
            assert "GLIBC_2.3" in root.run([program, "report"]).err


def test_no_glibc_at_all(trial: Trial) -> None:
    """The kernel finds no loader and says that the program itself is not there; docs/arm64.md quotes the shell."""
    recipe = Recipe("amd64", ("busybox-static",))
    with ExitStack() as stack:
        root = machine_with(trial, stack, "linux-amd64", recipe)
        words = ["/bin/busybox", "sh", "-c"]
        ended = root.run([*words, f"test -x {ONE_FILE} && {ONE_FILE}"], user=0)
        assert (ended.code, ended.out, ended.err) == (127, "", f"sh: {ONE_FILE}: not found\n")
        text = (ROOT / "docs" / "arm64.md").read_text(encoding="utf-8")
        assert ended.err.strip().replace(ONE_FILE, "./agent") in text
