"""What is read of an unpacked runtime, and which runtimes are refused."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ferryman_build.cache import file_digest, tree_digest
from ferryman_build.errors import BlockedError, ConfigError, ResolutionError
from ferryman_build.runtimes.distribution import (
    HEADERS,
    Distribution,
    Summary,
    check_floor,
    check_magic,
    floor_cure,
    floor_problems,
    read_distribution,
    summary,
)
from ferryman_build.runtimes.index import Runtime
from ferryman_build.runtimes.prepared import _STAMP, prepare, prepared, runtime_key
from ferryman_build.targets import parse_target
from support.runtimes import fake
from support.runtimes.fake import ARM64, darwin, posix, tar, windows, write

LINUX, WINDOWS, DARWIN = map(parse_target, ("linux-amd64", "windows-amd64", "darwin-arm64"))
DEBIAN = "usr/lib/aarch64-linux-gnu"


def debian() -> dict[str, bytes]:
    """A root filesystem's files."""
    files = posix(machine=ARM64, lib="lib/aarch64-linux-gnu", version="3.11.2", headers=False)
    return {f"usr/{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    ("files", "target", "found"),
    [
        (posix(), "linux-amd64", ("lib/libpython3.11.so.1.0", "lib/python3.11", "include/python3.11", "3.11.9")),
        (posix(prefix="python/"), "linux-amd64",
         ("python/lib/libpython3.11.so.1.0", "python/lib/python3.11", "python/include/python3.11", "3.11.9")),
        (posix(prefix="python/install/"), "linux-amd64",
         ("python/install/lib/libpython3.11.so.1.0", "python/install/lib/python3.11", "python/install/include/python3.11", "3.11.9")),
        (posix(prefix="my-build-3/"), "linux-amd64",
         ("my-build-3/lib/libpython3.11.so.1.0", "my-build-3/lib/python3.11", "my-build-3/include/python3.11", "3.11.9")),
        (debian(), "linux-arm64", (f"{DEBIAN}/libpython3.11.so.1.0", "usr/lib/python3.11", None, "3.11.2")),
        (windows(), "windows-amd64", ("python/python311.dll", "python/Lib", None, "3.11.9")),
        (darwin(), "darwin-arm64", ("python/lib/libpython3.11.dylib", "python/lib/python3.11", None, "3.11.9")),
    ],
    ids=["prefix", "install_only", "full archive", "any one folder", "Debian's root", "Windows", "macOS"],
)  # fmt: skip
def test_every_layout_is_found(
    files: dict[str, bytes], target: str, found: tuple[str, ...], tmp_path: Path
) -> None:
    """Library, standard library, headers and version, with the magic of its bytecode."""
    read = read_distribution(write(tmp_path, files), parse_target(target))

    assert (read.library, read.stdlib, read.include, read.version) == found
    assert (read.short, read.magic) == ("3.11", fake.MAGIC.to_bytes(2, "little") + b"\r\n")
    assert read.library_name == Path(found[0]).name


def test_library_links_of_a_root_are_its_own(tmp_path: Path) -> None:
    """An absolute link inside of a root filesystem does not lead to this machine's library."""
    files = debian()
    library = f"{DEBIAN}/libpython3.11.so.1.0"
    files["opt/real.so"] = files.pop(library)
    write(tmp_path, files)
    (tmp_path / library).symlink_to("/opt/real.so")

    assert read_distribution(tmp_path, parse_target("linux-arm64")).version == "3.11.2"


STATIC = {name: content for name, content in posix().items() if ".so" not in name}
REFUSED = {
    "another machine": (posix(machine=ARM64), "is for arm64, and linux-amd64 is amd64"),
    "a static build": ({**STATIC, "lib/libpython3.11.a": b"!<arch>"}, "is a static build"),
    "an interpreter alone": ({**STATIC, "bin/python3": b""}, "no shared libpython"),
    "nothing": ({"readme": b""}, "has no interpreter for linux-amd64"),
    "Windows": (windows(), "has no interpreter for linux-amd64"),
    "musl": (posix(glibc="", needed=("libc.musl-x86_64.so.1",)), "is linked with musl"),
    "too old": (posix(version="3.9.2"), "the oldest that is supported is 3.10"),
    "no library": ({**posix(), "lib/libpython3.11.so.1.0": b"INPUT(x)"}, "is no shared library"),
    "no version": ({**posix(headers=False), "lib/libpython3.11.so.1.0": posix()["lib/libpython3.11.so.1.0"].replace(b"3.11.9", b"nope!!")},
                   "does not say which CPython 3.11 it is"),
    "no magic": ({name: content for name, content in posix().items() if "importlib" not in name and "pycache" not in name},
                 "does not say which bytecode"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "sentence"), REFUSED.values(), ids=list(REFUSED))
def test_wrong_runtimes_are_refused(files: dict[str, bytes], sentence: str, tmp_path: Path) -> None:
    """One sentence that names the folder and what is wrong, and a way out; exit code 5."""
    with pytest.raises(BlockedError, match=re.escape(str(tmp_path))) as caught:
        read_distribution(write(tmp_path, files), LINUX)
    assert sentence in str(caught.value)
    assert caught.value.advice
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("wanted", ["3.12", "3.11.8"])
def test_another_version_is_refused(wanted: str, tmp_path: Path) -> None:
    """Both versions are named."""
    with pytest.raises(
        BlockedError, match=rf"is CPython 3\.11\.9, and linux-amd64 is to get {re.escape(wanted)}"
    ):
        read_distribution(write(tmp_path, posix()), LINUX, wanted)


def test_wrong_c_library_the_other_way(tmp_path: Path) -> None:
    """A target with musl refuses a runtime of glibc."""
    with pytest.raises(BlockedError, match="is linked with glibc, and linux-amd64-musl"):
        read_distribution(write(tmp_path, posix()), parse_target("linux-amd64-musl"))


def read(folder: Path, glibc: str) -> Distribution:
    return read_distribution(write(folder, posix(glibc=glibc)), LINUX)


def test_floor_above_the_promise_is_told(tmp_path: Path) -> None:
    """A row whose floor is lower than its runtime's: message with both versions and the symbol, cure with the words."""
    distribution = read(tmp_path, "2.31")
    (problem,) = floor_problems(distribution, LINUX)

    assert "needs glibc 2.31 (puts in libpython3.11.so.1.0)" in problem
    assert "linux-amd64 promises glibc 2.17" in problem
    assert 'floor = "glibc 2.31"' in floor_cure(distribution)
    promised = msgspec.structs.replace(LINUX, floor={"glibc": "2.31"})
    assert floor_problems(distribution, promised) == ()


def test_floor_counts_the_libraries_that_come_along(tmp_path: Path) -> None:
    """An extension module's library with a newer symbol raises the floor; one that nothing needs does not."""
    from support.elf_factory import make_library

    newer = make_library(needed=("libc.so.6",), versions=(("GLIBC_2.38", 0),), symbol="strlcpy")
    files = posix()
    for name, floor in (("libunused.so.1", "2.17"), ("libcrypto.so.3", "2.38")):
        root = write(tmp_path / name, {**files, f"lib/{name}": newer})
        assert read_distribution(root, LINUX).floor_text == f"glibc {floor}"


def test_other_bytecode_is_refused(tmp_path: Path) -> None:
    """The interpreter that compiles must write what the runtime reads; both numbers are named."""
    distribution = read(tmp_path, "2.17")

    check_magic(distribution, distribution.magic)
    with pytest.raises(BlockedError, match=r"runs bytecode 3495, and CPython 3\.12\.1 compiles 3531"):
        check_magic(distribution, (3531).to_bytes(2, "little") + b"\r\n", "CPython 3.12.1")


def test_magic_of_a_compiled_module_will_do(tmp_path: Path) -> None:
    """CPython 3.14's importlib has no number: its header, or any bytecode file, has."""
    files = {**posix(), "lib/python3.11/importlib/_bootstrap_external.py": b"MAGIC_NUMBER = _imp.x"}
    files["lib/python3.11/__pycache__/os.cpython-311.pyc"] = b"\x2b\x0e\r\nrest"
    assert read_distribution(write(tmp_path / "a", files), LINUX).magic == b"\x2b\x0e\r\n"

    files["include/python3.11/internal/pycore_magic_number.h"] = b"#define PYC_MAGIC_NUMBER 3627\n"
    assert read_distribution(write(tmp_path / "b", files), LINUX).magic == b"\x2b\x0e\r\n"


# --- prepared ---------------------------------------------------------------------------------------------------------


def archived(folder: Path, **row: str) -> Runtime:
    import hashlib

    content = tar(posix(prefix="python/"))
    (folder / "a.tar.gz").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return Runtime(**{"python": "3.11.9", "target": "linux-amd64", "url": "a.tar.gz", "sha256": sha256, "base": str(folder), **row})  # fmt: skip


def test_archive_is_unpacked_once(tmp_path: Path) -> None:
    """The second time, the same is answered from what was kept, and nothing but results is left."""
    runtime, home = archived(tmp_path), tmp_path / "home"
    first = prepare(runtime, LINUX, home)
    before = first.root.stat().st_ino
    (first.root / "python/lib/__pycache__").mkdir()  # as a CPython for Windows writes when Wine runs it

    assert prepared(runtime, LINUX, home) == first
    assert first.root.stat().st_ino == before
    assert [path.name for path in (home / "runtimes").rglob(".draft*")] == []
    assert runtime_key(runtime) == runtime.sha256


def lose(root: Path) -> None:
    (root / "python/lib/python3.11/json/decoder.py").unlink()


def change(root: Path) -> None:
    (root / "python/lib/python3.11/os.py").write_bytes(b"raise SystemExit")


def change_in_place(root: Path) -> None:
    path = root / "python/lib/python3.11/LICENSE.txt"
    path.write_bytes(bytes(reversed(path.read_bytes())))


def add(root: Path) -> None:
    (root / "python/lib/python3.11/more.py").touch()


def forget(root: Path) -> None:
    (root / _STAMP).unlink()


@pytest.mark.parametrize("damage", [lose, change, change_in_place, add, forget, shutil.rmtree])
def test_what_was_unpacked_is_not_believed_for_ever(damage: Callable[[Path], None], tmp_path: Path) -> None:
    """A folder of which a file went, changed or came is put aside, and the archive is unpacked anew."""
    runtime, home = archived(tmp_path), tmp_path / "home"
    first = prepare(runtime, LINUX, home)
    before = tree_digest(first.root, packed(first.root))
    damage(first.root)

    again = prepare(runtime, LINUX, home)
    assert again == first
    assert tree_digest(again.root, packed(again.root)) == before
    assert sorted(path.name for path in again.root.parent.iterdir()) == [again.root.name]


def packed(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != _STAMP]


@pytest.mark.parametrize(
    ("code", "passed"), [(errno.ENOTEMPTY, True), (errno.EEXIST, True), (errno.EIO, False)]
)
def test_only_a_quicker_process_is_passed_over(
    code: int, passed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that came meanwhile has the same content; any other failure of the disk is told."""

    def rename(path: Path, to: Path) -> Path:
        if path.name == "content" and to.parent.name == "unpacked":
            shutil.copytree(path, to, symlinks=True)
            raise OSError(code, os.strerror(code))
        os.replace(path, to)  # noqa: PTH105 - Path.rename is what is stood in for
        return to

    monkeypatch.setattr(Path, "rename", rename)
    with contextlib.nullcontext() if passed else pytest.raises(OSError, match="output error"):
        assert prepare(archived(tmp_path), LINUX, tmp_path / "home").version == "3.11.9"


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence with the folder and FERRYMAN_HOME, and not a traceback."""

    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "home"))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigError, match="home cannot be used: Permission denied") as caught:
        prepare(archived(tmp_path), LINUX, tmp_path / "home")
    assert "FERRYMAN_HOME" in caught.value.advice


def test_summary_stands_for_it(tmp_path: Path) -> None:
    """A step keeps it as JSON, and answers from it what the distribution would say, with no file of it there."""
    found = prepare(archived(tmp_path), LINUX, tmp_path / "home")
    kept = msgspec.json.decode(msgspec.json.encode(summary(found)), type=Summary)
    folder = found.headers_folder
    assert folder is not None

    assert (kept.version, kept.library_name, kept.floor_text) == (
        "3.11.9",
        "libpython3.11.so.1.0",
        "glibc 2.17",
    )
    assert kept.headers == tuple(file_digest(folder / name) for name in HEADERS)
    low = msgspec.structs.replace(LINUX, floor={"glibc": "2.12"})
    assert floor_problems(kept, low) == floor_problems(found, low) != ()


def test_floor_above_the_promise_blocks(tmp_path: Path) -> None:
    """Exit code 5, with both versions and what to write; a promise that is kept says nothing."""
    found = prepare(archived(tmp_path), LINUX, tmp_path / "home")
    check_floor(found, LINUX)
    with pytest.raises(BlockedError, match=r"^The runtime CPython 3\.11\.9 needs glibc 2\.17") as caught:
        check_floor(found, msgspec.structs.replace(LINUX, floor={"glibc": "2.12"}))
    assert caught.value.exit_code == 5
    assert 'floor = "glibc 2.17"' in caught.value.advice


def test_a_row_that_lies_about_its_version_is_refused(tmp_path: Path) -> None:
    """What the row says has to be what the archive holds."""
    with pytest.raises(BlockedError, match=r"is CPython 3\.11\.9, and linux-amd64 is to get 3\.11\.8"):
        prepare(archived(tmp_path, python="3.11.8"), LINUX, tmp_path / "home")


def test_wrong_hash_of_a_local_archive(tmp_path: Path) -> None:
    """An archive of this machine is compared each time; both hashes are told, and nothing is unpacked."""
    runtime = archived(tmp_path, sha256="0" * 64)

    with pytest.raises(ResolutionError, match="SHA-256 is another") as caught:
        prepare(runtime, LINUX, tmp_path / "home")
    assert [line.split(":")[0] for line in caught.value.details] == ["expected sha256", "found    sha256"]
    assert not (tmp_path / "home").exists()


def test_a_folder_is_read_in_its_place(tmp_path: Path) -> None:
    """A runtime that lies there unpacked is not copied, and its key changes with any of its files."""
    write(tmp_path / "mine", posix())
    runtime = Runtime(python="", target="linux-amd64", url=str(tmp_path / "mine"), sha256="")
    key = runtime_key(runtime)

    assert prepare(runtime, LINUX, tmp_path / "home", python="3.11").root == tmp_path / "mine"
    (tmp_path / "mine/lib/python3.11/os.py").write_text("pass\n", encoding="utf-8")
    assert runtime_key(runtime) != key


def test_not_fetched_is_no_error(tmp_path: Path) -> None:
    """A plan asks without a network: what would have to be downloaded is None."""
    runtime = archived(tmp_path, url="https://nowhere.invalid/a.tar.gz", base="")
    assert prepared(runtime, LINUX, tmp_path / "home") is None
