"""Parts of the launcher on their own, compiled with undefined behaviour trapped and every buffer before a guard page."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.launcher_targets import ROOT, SOURCES, tools
from support.raw_payload import RawFile, RawPayload

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the driver uses mmap as Linux has it")

DRIVER = ROOT / "tests" / "support" / "launcher_c"
PARTS = ("sha256", "unpack", "common", "posix_files", "posix_places", "posix_process")
STRICT = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror")
# stdlib.h then declares these with the same types; the driver has them.
GUARDED = ("-Dmalloc=guarded", "-Dcalloc=guarded_array", "-Dfree=guarded_free")
DAMAGED = 65


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The driver as it is, and with SHA-256 in plain C."""
    folder = tmp_path_factory.mktemp("driver")
    return {
        "native": compiled(folder / "native"),
        "plain": compiled(folder / "plain", "-DSHA256_PLAIN"),
    }


def compiled(driver: Path, *flags: str) -> Path:
    """``driver``, linked from the launcher's parts."""
    toolchain, _, runner = tools()
    driver.mkdir()
    lib = toolchain.zstd / "lib"

    def cc(*words: str | Path) -> None:
        runner.run([toolchain.zig, "cc", *words], name="cc", env=toolchain.environment(), timeout=300)

    common = (*STRICT, *flags, "-isystem", lib, "-I", SOURCES)
    cc(*common, *GUARDED, "-c", SOURCES / "payload.c", "-o", driver / "payload.o")
    decoder = [path for place in ("common", "decompress") for path in sorted((lib / place).glob("*.c"))]
    cc("-O1", "-w", "-DZSTD_DISABLE_ASM=1", "-shared", "-fPIC", *decoder, "-o", driver / "libdecoder.so")
    sources = [SOURCES / f"{part}.c" for part in PARTS]
    cc(*common, DRIVER / "driver.c", *sources, driver / "payload.o", driver / "libdecoder.so",
       f"-Wl,-rpath,{driver}", "-o", driver / "driver")  # fmt: skip
    return driver / "driver"


def ask(driver: Path, *words: str | Path) -> tuple[int, str]:
    """(exit code, output); a signal is a negative code."""
    done = subprocess.run([driver, *words], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def read(driver: Path, payload: bytes) -> tuple[int, str]:
    """What the launcher's reader says to a payload."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(payload)
        file.flush()
        return ask(driver, "payload", file.name)


def good(**changes: object) -> RawPayload:
    """A small payload that has everything: a dictionary, a link, an empty file, two files with one content."""
    first, second = b"the first " * 50, b"the second " * 50
    files = [
        RawFile(path=b"_internal/a", content=first),
        RawFile(path=b"_internal/again", content=first),
        RawFile(path=b"_internal/b", content=second, segment=2, mode=0o755),
        RawFile(path=b"_internal/empty", segment=0),
        RawFile(path=b"_internal/link", kind=1, segment=0, link=b"b", mode=0o777),
        RawFile(path="_internal/ü/文".encode(), content=second[11:], segment=2, offset=11),
    ]
    return dataclasses.replace(RawPayload(files=files, segments=[(first, 0), (second, 1)]), **changes)


@pytest.mark.parametrize("which", ["native", "plain"])
@pytest.mark.parametrize("size", [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 4095, 100_003])
def test_sha256_is_sha256(drivers: dict[str, Path], tmp_path: Path, which: str, size: int) -> None:
    """With the processor's instructions and without them, at every length where the padding changes its form."""
    content = bytes(i * 131 + i // 251 & 255 for i in range(size))
    (tmp_path / "content").write_bytes(content)
    assert ask(drivers[which], "sha256", tmp_path / "content") == (0, hashlib.sha256(content).hexdigest())


def test_a_good_payload_is_read(drivers: dict[str, Path]) -> None:
    """Key, name, version and the number of files."""
    payload = good().pack()
    body = hashlib.sha256(payload[136 + len(b"oneself1.0") :]).hexdigest()
    assert read(drivers["native"], payload) == (0, f"{body[:32]} oneself 1.0 6")


def test_unpacked_files_are_those_that_were_packed(drivers: dict[str, Path], tmp_path: Path) -> None:
    """Content, modes, links, empty files, content that is shared, names in any script."""
    (tmp_path / "payload").write_bytes(good().pack())
    (tmp_path / "tree").mkdir()
    assert ask(drivers["native"], "unpack", tmp_path / "payload", tmp_path / "tree")[0] == 0
    inner = tmp_path / "tree" / "_internal"
    assert (inner / "a").read_bytes() == (inner / "again").read_bytes() == b"the first " * 50
    assert (inner / "ü" / "文").read_bytes() == b"the second " * 49
    assert (inner / "empty").read_bytes() == b""
    assert (inner / "link").readlink() == Path("b")
    assert [(inner / name).stat().st_mode & 0o777 for name in "ab"] == [0o644, 0o755]


def flip(inner: Path) -> None:
    """Other content of the same size."""
    (inner / "a").write_bytes(b"THE FIRST " * 50)


# How many files are then wrong by content, and by kind and size alone.
CHANGES = {
    "nothing": (lambda inner: None, "0 0"),
    "other content": (flip, "1 0"),
    "a file cut off": (lambda inner: os.truncate(inner / "b", 3), "1 1"),
    "an empty file": (lambda inner: os.truncate(inner / "ü" / "文", 0), "1 1"),
    "a file gone": (lambda inner: (inner / "empty").unlink(), "1 1"),
    "a link that leads elsewhere": (
        lambda inner: ((inner / "link").unlink(), (inner / "link").symlink_to("a")),
        "1 0",
    ),
    "a file where the link was": (lambda inner: ((inner / "link").unlink(), (inner / "link").touch()), "1 1"),
    "a link where a file was": (lambda inner: ((inner / "b").unlink(), (inner / "b").symlink_to("a")), "1 1"),
    "everything gone": (shutil.rmtree, "6 6"),
}


@pytest.mark.parametrize(("change", "wrong"), CHANGES.values(), ids=CHANGES)
def test_what_was_changed_is_found(
    drivers: dict[str, Path], tmp_path: Path, change: Callable[[Path], object], wrong: str
) -> None:
    """Each kind of change, and how much of it a look at the sizes sees."""
    (tmp_path / "payload").write_bytes(good().pack())
    (tmp_path / "tree").mkdir()
    assert ask(drivers["native"], "unpack", tmp_path / "payload", tmp_path / "tree")[0] == 0
    change(tmp_path / "tree" / "_internal")
    assert ask(drivers["native"], "compare", tmp_path / "payload", tmp_path / "tree") == (0, wrong)


IMPOSSIBLE = {
    "a path that leads out": {"files": [RawFile(path=b"../a", content=b"x")]},
    "a path through the parent": {"files": [RawFile(path=b"_internal/../../a", content=b"x")]},
    "an absolute path": {"files": [RawFile(path=b"/etc/a", content=b"x")]},
    "an empty path": {"files": [RawFile(path=b"", content=b"x")]},
    "a path that ends in a slash": {"files": [RawFile(path=b"a/", content=b"x")]},
    "a drive of Windows": {"files": [RawFile(path=b"C:a", content=b"x")]},
    "a separator of Windows": {"files": [RawFile(path=b"..\\a", content=b"x")]},
    "a zero in a path": {"files": [RawFile(path=b"a\0b", content=b"x")]},
    "a segment that is not there": {"files": [RawFile(path=b"a", content=b"x", segment=9)]},
    "a file beyond its segment": {"files": [RawFile(path=b"a", size=501)]},
    "an offset beyond its segment": {"files": [RawFile(path=b"a", offset=501, size=0)]},
    "a size that overflows": {"files": [RawFile(path=b"a", offset=10, size=2**64 - 5)]},
    "a file of an unknown kind": {"files": [RawFile(path=b"a", kind=7, content=b"x")]},
    "a link to nothing": {"files": [RawFile(path=b"a", kind=1, segment=0)]},
    "more rows than there are": {"counted": 7},
    "rows beyond counting": {"counted": 2**32 - 1},
    "fewer rows than there are": {"counted": 5},
    "something behind the last row": {"index_tail": b"more"},
    "a dictionary that comes later": {"segments": [(b"one" * 200, 2), (b"two" * 200, 0)]},
    "a dictionary that is itself": {"segments": [(b"the first " * 50, 1), (b"two" * 200, 0)]},
    "fewer segments than the head says": {"segments_counted": 9},
    "an index of another size": {"index_size": 9},
    "an index of no size": {"index_size": 0},
    "an index beyond all memory": {"index_size": 2**32 - 1},
    "no name": {"name": b""},
    "a name that is a folder above": {"name": b".."},
    "a name with a slash": {"name": b"a/b"},
    "a name that is too long": {"name": b"n" * 200},
    "another magic": {"magic": b"FERRYMAM"},
    "a format of the future": {"form": 2},
}


@pytest.mark.parametrize("change", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_is_refused(drivers: dict[str, Path], change: dict[str, object]) -> None:
    """All hashes are right, so that each check has to hold by itself."""
    code, said = read(drivers["native"], good(**change).pack())
    assert (code, "damaged" in said or "format" in said) == (DAMAGED, True), said


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_index_makes_the_reader_read_beyond_it(drivers: dict[str, Path], data: st.DataObject) -> None:
    """Rows of any numbers end with a sentence or are right: never with a signal."""
    small = st.integers(0, 12) | st.integers(0, 2**32 - 1)
    paths = st.binary(max_size=12) | st.sampled_from([b"a", b"_internal/b"])
    rows = st.builds(
        RawFile,
        path=paths,
        segment=small,
        offset=small,
        kind=st.integers(0, 3),
        size=small,
        link=st.binary(max_size=5),
    )
    change = {
        "files": data.draw(st.lists(rows, max_size=4)),
        "counted": data.draw(st.none() | small),
        "index_tail": data.draw(st.binary(max_size=70)),
        "unpacked_sizes": data.draw(st.none() | st.lists(small, min_size=2, max_size=2)),
    }
    code, said = read(drivers["native"], good(**change).pack())
    assert code in (0, DAMAGED), said


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(drivers: dict[str, Path], place: int, bit: int) -> None:
    """Anywhere in head or body."""
    payload = bytearray(good().pack())
    payload[place % len(payload)] ^= 1 << bit
    code, said = read(drivers["native"], bytes(payload))
    assert code == DAMAGED, said


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, 10_000))
def test_a_payload_that_was_cut_is_refused(drivers: dict[str, Path], length: int) -> None:
    """At any length."""
    payload = good().pack()
    code, said = read(drivers["native"], payload[: length % len(payload)])
    assert code == DAMAGED, said


# Steps below a folder of ours: (name, mode) a folder, (name, mode, uid) one of somebody else, (name, "-> target") a link.
WAYS = {
    "folders of ours": ([("a", 0o755), ("a/b", 0o700)], "a/b", True),
    "a folder that all may write to": ([("a", 0o777), ("a/b", 0o700)], "a/b", False),
    "a sticky one": ([("a", 0o1777), ("a/b", 0o700)], "a/b", True),
    "a folder that a group may write to": ([("a", 0o770, 0, 1234)], "a", False),
    "root's own group": ([("a", 0o770, 0, 0)], "a", True),
    "a folder of another user": ([("a", 0o755, 1234, 0)], "a", False),
    "a folder of another user on the way": ([("a", 0o755, 1234, 0), ("a/b", 0o700)], "a/b", False),
    "a link of ours": ([("a", 0o755), ("l", "-> a")], "l", True),
    "a link of ours on the way": ([("a", 0o755), ("a/b", 0o700), ("l", "-> a")], "l/b", True),
    "a link of another user": ([("a", 0o755), ("l", "-> a", 1234)], "l", False),
    "a link to where all may write": ([("a", 0o777), ("a/b", 0o700), ("l", "-> a/b")], "l", False),
    "a link to a link of another user": ([("a", 0o755), ("m", "-> a", 1234), ("l", "-> m")], "l", False),
    "a link through the parent": ([("a", 0o755), ("b", 0o755), ("a/l", "-> ../b")], "a/l", True),
    "a link to itself": ([("l", "-> l")], "l", False),
    "a link to nothing": ([("l", "-> nothing")], "l", False),
    "nothing": ([], "nothing", False),
}


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes folders of other users"
)
@pytest.mark.parametrize(("steps", "way", "trusted"), WAYS.values(), ids=WAYS)
def test_a_way_that_others_can_change_is_not_trusted(
    drivers: dict[str, Path], steps: list[tuple[object, ...]], way: str, trusted: bool
) -> None:
    """Every folder and link from the root on counts, and what links lead to."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as base:
        for name, what, *owner in steps:
            path = Path(base, str(name))
            if isinstance(what, str):
                path.symlink_to(what.removeprefix("-> "))
            else:
                path.mkdir()
                path.chmod(int(str(what)))
            if owner:
                os.chown(path, int(str(owner[0])), int(str(owner[-1])), follow_symlinks=False)
        code, said = ask(drivers["native"], "trusted", Path(base, way))
        assert (code == 0) is trusted, said
