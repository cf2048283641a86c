"""A .pyz on linux-arm64: Debian's own CPython 3.11, as an ordinary user, under QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from ferryman_build.targets import parse_target
from support import pyz_archive
from support.arm64_tree import RECIPE
from support.ferryman import ROOT
from support.qemu.emulation import emulated
from support.qemu.roots import HOME, ForeignRoot

pytestmark = pytest.mark.e2e

CACHE = ROOT / ".cache" / "rootfs"
PROGRAM = "import sys\n\ndef main():\n    print(sys.argv[1:], __file__)\n    return 7\n"


def needs(target: str) -> dict[str, object]:
    row = parse_target(target)
    return {"target": row.id, "system": row.os.value, "machines": row.machine, "libc": row.libc or "", "native": 1,
            "python": (3, 11)}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignRoot]:
    try:
        with emulated("arm64", CACHE):
            yield ForeignRoot.unpack(RECIPE, CACHE, tmp_path_factory.mktemp("arm64") / "root")
    except UnavailableError as missing:
        pytest.skip(str(missing))


def test_start_twice(root: ForeignRoot, tmp_path: Path) -> None:
    """Unpacked into the user's own cache, with bytecode, and used again."""
    archive = pyz_archive.write(tmp_path / "lamp.pyz", {"lamp.py": PROGRAM}, **needs("linux-arm64"))
    root.place(archive, f"/opt/a lamp/{archive.name}")
    for _ in range(2):
        done = root.run(["/usr/bin/python3.11", f"/opt/a lamp/{archive.name}", "x"])

        assert (done.code, done.err) == (7, ""), done
        assert f"['x'] {HOME}/.cache/ferryman/lamp.pyz/" in done.out
    found = root.inside(f"{HOME}/.cache/ferryman/lamp.pyz")
    assert len([path for path in found.iterdir() if path.is_dir()]) == 1
    assert list(found.glob("*/site-packages/__pycache__/lamp.cpython-311.pyc"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (needs("linux-amd64"), "its libraries are for x86_64 (64 bits) and this Python is for aarch64 (64 bits)"),
        (needs("linux-arm64-musl"), "its libraries need musl and this Python uses glibc"),
        (needs("darwin-arm64"), "it was built for macOS (darwin-arm64) and this is Linux"),
        ({**needs("linux-arm64"), "floor": {"glibc": "2.99"}}, "its libraries need glibc 2.99 or newer and this machine has 2.36"),
    ],
)  # fmt: skip
def test_the_wrong_machine(root: ForeignRoot, tmp_path: Path, changes: dict[str, object], words: str) -> None:
    """One sentence, exit code 69, with the facts of a machine that really is another one."""
    archive = pyz_archive.write(tmp_path / "wrong.pyz", {"lamp.py": PROGRAM}, **changes)
    root.inside("/opt").mkdir(exist_ok=True)
    (root.inside("/opt") / "wrong.pyz").write_bytes(archive.read_bytes())
    done = root.run(["/usr/bin/python3.11", "/opt/wrong.pyz"])

    assert (done.code, done.out) == (69, ""), done
    assert words in done.err
    assert done.err.count("\n") == 1
