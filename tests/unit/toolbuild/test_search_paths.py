"""search_paths: which libraries of a tree get which RUNPATH, and that nothing is done twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.cache import Blobs
from ferryman_build.cmd import Completed, Runner
from ferryman_build.collect.search_paths import (
    Library,
    plan_search_paths,
    read_library,
    with_search_paths,
)

DYNLOAD = "python3.11/lib-dynload"


def library(path: str, needed: str = "", search: str | None = None) -> Library:
    return Library(
        path=path, needed=tuple(needed.split()), search=() if search is None else (*search.split(":"),)
    )


TOP = (library("libz.so.1"), library("libssl.so.3", "libcrypto.so.3"), library("libcrypto.so.3"))


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        pytest.param(library("pkg/_a.so", "libc.so.6 libm.so.6"), None, id="only-the-system"),
        pytest.param(library(f"{DYNLOAD}/zlib.so", "libz.so.1"), "$ORIGIN/../..", id="top-from-below"),
        pytest.param(library("_x.so", "libz.so.1"), "$ORIGIN", id="beside"),
        pytest.param(library("pkg/_a.so", "libz.so.1", "$ORIGIN/.."), None, id="leads-there"),
        pytest.param(library("pkg/_a.so", "libz.so.1", "${ORIGIN}/../"), None, id="in-braces"),
        pytest.param(library("pkg/_a.so", "libz.so.1", "$ORIGIN/../gone.libs"), "$ORIGIN/..", id="leads-nowhere"),
        pytest.param(library("pkg/_a.so", "libc.so.6", "$ORIGIN/../gone.libs"), None, id="nowhere-and-nothing"),
        pytest.param(library("pkg/_a.so", "libc.so.6", "/root/lib"), "", id="absolute"),
        pytest.param(library("pkg/_a.so", "libz.so.1", "/root/lib"), "$ORIGIN/..", id="absolute-and-needed"),
        pytest.param(library("pkg/_a.so", "libz.so.1", "/root/lib:$ORIGIN/.."), "$ORIGIN/..", id="absolute-and-right"),
        pytest.param(library("pkg/_a.so", "libc.so.6", "$ORIGIN/../../.."), "", id="out-of-the-tree"),
        pytest.param(library("pkg/_a.so", "libz.so.1", "$ORIGIN/../../_internal"), "$ORIGIN/..", id="out-and-in"),
        pytest.param(library("pkg/_a.so", "libc.so.6", ""), "", id="the-working-directory"),
        pytest.param(library("pkg/_a.so", "libc.so.6", "$ORIGINAL/x"), "", id="another-word"),
        pytest.param(library("pkg/_a.so", "libz.so.1 libssl.so.3"), "$ORIGIN/..", id="two-in-one-folder"),
        pytest.param(library("pkg/_a.so", "libq.so libz.so.1"), "$ORIGIN/../q.libs:$ORIGIN/..", id="two-folders"),
        pytest.param(library("pkg/_a.so", "libq.so libz.so.1", "$ORIGIN/../q.libs"), "$ORIGIN/../q.libs:$ORIGIN/..", id="one-is-there"),
        pytest.param(library("q.libs/libr.so", "libq.so"), "$ORIGIN", id="siblings"),
        pytest.param(library(f"{DYNLOAD}/_ctypes.cpython-311.so", "libc.so.6"), "$ORIGIN/../..", id="ctypes"),
        pytest.param(library(f"{DYNLOAD}/_ctypes.cpython-311.so", "", "/l:$ORIGIN/../.."), "$ORIGIN/../..", id="ctypes-right"),
        pytest.param(library("_ctypes.so"), "$ORIGIN", id="ctypes-at-the-top"),
        pytest.param(library("my_ctypes_module.so"), None, id="not-ctypes"),
    ],
)  # fmt: skip
def test_one_library(one: Library, wanted: str | None) -> None:
    """Left alone when all its entries lie in the tree and lead to all that the tree has; else only folders of the tree."""
    others = (*TOP, library("q.libs/libq.so"), library("pkg/_b.so"))

    assert plan_search_paths([*others, one]).get(one.path) == wanted


def test_the_others() -> None:
    """A library at the top that needs another one finds it beside itself; what needs nothing is left."""
    assert plan_search_paths(TOP) == {"libssl.so.3": "$ORIGIN"}


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        (("libpython3.12.so.1.0", "_x.so"), {"libpython3.12.so.1.0": "$ORIGIN"}),
        (("libpython3.12.so.1.0", f"{DYNLOAD}/_ctypes.so"), {f"{DYNLOAD}/_ctypes.so": "$ORIGIN/../.."}),
        (("pkg/libpython.so",), {}),
    ],
)
def test_who_loads_by_name(paths: tuple[str, ...], wanted: dict[str, str]) -> None:
    """The extension module _ctypes where there is one; libpython where it has that module in itself."""
    assert plan_search_paths([library(path) for path in paths]) == wanted


@pytest.mark.parametrize(
    ("places", "wanted"),
    [
        (("a/libd.so", "pkg/libd.so", "libd.so"), "$ORIGIN"),
        (("a/libd.so", "libd.so"), "$ORIGIN/.."),
        (("b/libd.so", "a/libd.so"), "$ORIGIN/../a"),
    ],
)
def test_several_of_one_name(places: tuple[str, ...], wanted: str) -> None:
    """The one beside, then the one at the top, then the first: the same whatever the order of files."""
    one = library("pkg/_a.so", "libd.so")
    for order in (places, places[::-1]):
        assert plan_search_paths([one, *map(library, order)])["pkg/_a.so"] == wanted


def test_links() -> None:
    """A name that only a link has is found through it; a file elsewhere under that name is better than a link."""
    one = library("pkg/_a.so", "libx.so.1 libq.so.2")
    files = [one, library("x.libs/libx-1234.so"), library("q.libs/libq.so.2")]

    found = plan_search_paths(files, ["libx.so.1", "a/libq.so.2"])

    assert found["pkg/_a.so"] == "$ORIGIN/..:$ORIGIN/../q.libs"


# --- the shell --------------------------------------------------------------------------------------------------------


def test_files_that_are_no_elf(tmp_path: Path) -> None:
    """Mach-O, scripts, and what only begins like ELF: nothing to look for."""
    blobs = Blobs(tmp_path / "blobs")
    for number, content in enumerate((b"\xcf\xfa\xed\xfe", b"#!/bin/sh\n", b"\x7fELF", b"")):
        file = tmp_path / str(number)
        file.write_bytes(content)
        assert read_library("x", file, str(number), blobs) is None


def test_a_content_is_read_once(tmp_path: Path) -> None:
    """What was found out of a content is kept beside it."""
    blobs = Blobs(tmp_path / "blobs")
    file = tmp_path / "lib"
    file.write_bytes(b"no library")
    assert read_library("x", file, "digest", blobs) is None
    file.unlink()
    assert read_library("x", file, "digest", blobs) is None


class Patchelf(Runner):
    """Writes what it was told to the end of the files."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, ...]] = []

    def run(self, args: Sequence[str | Path], **_: Any) -> Completed:
        program, *words = map(str, args)
        assert program.endswith("/bin/patchelf")
        options = tuple(words[:2] if words[0] == "--set-rpath" else words[:1])
        self.calls.append(options)
        for name in words[len(options) :]:
            with Path(name).open("ab") as file:
                file.write(f" {options[-1]}".encode())
        return Completed(0, "", None)


def test_patched(tmp_path: Path) -> None:
    """One run for each RUNPATH, on copies; the second time nothing runs, and the originals are as they were."""
    names = ("a", "b", "c")
    for name in names:
        (tmp_path / name).write_text(name)
    new = {"a": "$ORIGIN", "b": "$ORIGIN", "c": ""}
    wanted = {f"lib/{name}": (tmp_path / name, f"digest {name}", new[name]) for name in names}
    runner, blobs = Patchelf(), Blobs(tmp_path / "blobs")
    first = with_search_paths(wanted, tmp_path / "env", blobs, tmp_path, runner)
    again = with_search_paths(wanted, tmp_path / "env", blobs, tmp_path, runner)

    assert sorted(runner.calls) == [("--remove-rpath",), ("--set-rpath", "$ORIGIN")]
    assert again == first
    assert [first[f"lib/{name}"].read_text() for name in names] == [
        "a $ORIGIN",
        "b $ORIGIN",
        "c --remove-rpath",
    ]
    assert [(tmp_path / name).read_text() for name in names] == [*names]
    assert not list(tmp_path.glob("runpath-*"))
