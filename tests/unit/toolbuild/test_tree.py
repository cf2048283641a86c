"""tree: made of what the analysis names and of nothing else, the same bytes from the same input."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ferryman_build import tree
from ferryman_build.cache import Blobs, tree_digest
from ferryman_build.cmd import Completed, Runner
from ferryman_build.collect.analysis import Entry, EntryKind, Origin, Origins
from ferryman_build.errors import BuildStepError
from ferryman_build.tree import Recipe, TreeFile, assemble, read_tree

RECIPE = Recipe(optimize=1, strip=True, tag="cpython-311")


class FakeCompiler(Runner):
    """Stands in for compile.py: the bytecode of a source is its text and shown name; ``bad`` does not compile."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled: list[list[str]] = []

    def run(self, args: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **_: Any) -> Completed:
        assert env is not None
        request = json.loads(Path(env["FERRYMAN_REQUEST"]).read_text())
        self.compiled.append([shown for _, shown, _ in request["modules"]])
        for source, shown, destination in request["modules"]:
            text = Path(source).read_text()
            if "bad" not in text:
                Path(destination).parent.mkdir(parents=True, exist_ok=True)
                Path(destination).write_text(f"{request['optimize']} {shown}: {text}")
                Path(destination).chmod(0o644)
        return Completed(0, "", None)


class Kitchen:
    """Origins with files, a cache, and the tree that comes out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("app", "env", "work", "project")
        for name in names:
            (folder / name).mkdir(parents=True)
        self.origins = Origins(**{name: folder / name for name in names})
        self.blobs = Blobs(folder / "blobs")
        self.runner = FakeCompiler()
        self.launcher = folder / "launcher" / "agent"
        self.launcher.parent.mkdir()
        self.launcher.write_text("launcher")

    def file(self, path: str, content: str = "x = 1\n", mode: int = 0o644) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def make(self, *entries: Entry, name: str = "tree", recipe: Recipe = RECIPE) -> Path:
        root = self.folder / name / "tree"
        root.mkdir(parents=True)
        assemble(entries, self.origins, self.launcher, root, recipe, self.blobs, self.runner)
        return root


def module(dest: str, path: str, origin: Origin = Origin.APP) -> Entry:
    return Entry(dest, EntryKind.MODULE, origin, path)


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_assembled(kitchen: Kitchen) -> None:
    """Modules, data, links and the launcher: places, modes and contents."""
    kitchen.file("app/pkg/__init__.py", "one")
    kitchen.file("env/lib.py", "two")
    kitchen.file("work/text.txt", "text", 0o600)
    kitchen.file("work/run.sh", "run", 0o700)
    root = kitchen.make(
        module("pkg/__init__.pyc", "pkg/__init__.py"),
        module("lib.pyc", "lib.py", Origin.ENV),
        Entry("pkg/data/text.txt", EntryKind.DATA, Origin.WORK, "text.txt"),
        Entry("run.sh", EntryKind.DATA, Origin.WORK, "run.sh"),
        Entry("libx.so", EntryKind.LINK, Origin.HOST, "libx.so.1"),
    )

    made = read_tree(root, "agent")

    assert {(file.path, file.mode, file.link) for file in made.files} == {
        ("agent", 0o755, ""),
        ("_internal/pkg/__init__.pyc", 0o644, ""),
        ("_internal/lib.pyc", 0o644, ""),
        ("_internal/pkg/data/text.txt", 0o644, ""),
        ("_internal/run.sh", 0o755, ""),
        ("_internal/libx.so", 0o777, "libx.so.1"),
    }
    assert (root / "_internal/pkg/__init__.pyc").read_text() == "1 pkg/__init__.py: one"
    assert (root / "agent").read_text() == "launcher"
    assert made.size == sum(file.size for file in made.files) > 0


def test_only_changed_modules_are_compiled(kitchen: Kitchen) -> None:
    """A module is compiled once for its content, shown name, level and interpreter; never for its age or place."""
    kitchen.file("app/a.py", "a")
    kitchen.file("app/b.py", "b")
    entries = (module("a.pyc", "a.py"), module("b.pyc", "b.py"))
    kitchen.make(*entries)
    os.utime(kitchen.folder / "app/a.py", (1, 1))
    kitchen.make(*entries, name="again")
    kitchen.file("app/b.py", "changed")
    kitchen.make(*entries, name="edited")
    kitchen.make(*entries, name="level", recipe=Recipe(optimize=2, strip=True, tag="cpython-311"))
    kitchen.make(*entries, name="other", recipe=Recipe(optimize=1, strip=True, tag="cpython-312"))

    assert kitchen.runner.compiled == [["a.py", "b.py"], ["b.py"], ["a.py", "b.py"], ["a.py", "b.py"]]


def test_same_content_in_two_places(kitchen: Kitchen) -> None:
    """The shown name is in the bytecode, so equal sources at two places are two files."""
    for name in ("x", "y"):
        kitchen.file(f"app/{name}/__init__.py", "")
    root = kitchen.make(*(module(f"{name}/__init__.pyc", f"{name}/__init__.py") for name in ("x", "y")))

    assert (root / "_internal/x/__init__.pyc").read_text() == "1 x/__init__.py: "
    assert (root / "_internal/y/__init__.pyc").read_text() == "1 y/__init__.py: "


def test_same_tree_twice(tmp_path: Path) -> None:
    """Other folders, another umask, other times and an empty cache: the same tree."""
    digests, files = [], []
    for number, mask in enumerate((0o022, 0o077)):
        kitchen = Kitchen(tmp_path / ("deeper/" * number) / "kitchen")
        kitchen.file("app/a.py", "a")
        kitchen.file("work/data", "d", 0o640 - number * 0o040)
        before = os.umask(mask)
        try:
            root = kitchen.make(module("a.pyc", "a.py"), Entry("data", EntryKind.DATA, Origin.WORK, "data"))
        finally:
            os.umask(before)
        digests.append(tree_digest(root))
        files.append(read_tree(root, "agent").files)

    assert digests[0] == digests[1]
    assert files[0] == files[1]


def test_native_libraries(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripped once per content when the recipe says so, copied as they are when not; not executable either way."""
    stripped: list[bytes] = []

    def strip(content: bytes) -> bytes:
        stripped.append(content)
        return content.removesuffix(b" debug")

    monkeypatch.setattr(tree, "strip_elf", strip)
    kitchen.file("env/lib.so", "code debug", 0o755)
    library = Entry("lib.so", EntryKind.NATIVE, Origin.ENV, "lib.so")
    root = kitchen.make(library, msgspec_copy(library, "same.so"))
    kitchen.make(library, name="again")
    whole = kitchen.make(library, name="whole", recipe=Recipe(optimize=1, strip=False, tag="t"))

    assert stripped == [b"code debug"]
    assert (root / "_internal/lib.so").read_bytes() == (root / "_internal/same.so").read_bytes() == b"code"
    assert (whole / "_internal/lib.so").read_bytes() == b"code debug"
    assert {(path / "_internal/lib.so").stat().st_mode & 0o777 for path in (root, whole)} == {0o644}


def msgspec_copy(entry: Entry, dest: str) -> Entry:
    return Entry(dest, entry.kind, entry.origin, entry.path)


def test_without_hard_links(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no hard links, or no more for this file, gets copies."""

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    kitchen.file("app/a.py", "a")
    root = kitchen.make(module("a.pyc", "a.py"))

    assert (root / "_internal/a.pyc").read_text() == "1 a.py: a"
    assert (root / "_internal/a.pyc").stat().st_nlink == 1


def test_module_that_does_not_compile(kitchen: Kitchen) -> None:
    """The message names the file, the advice says how to leave it out."""
    kitchen.file("app/broken.py", "bad")

    with pytest.raises(BuildStepError, match=r"broken\.py does not compile") as caught:
        kitchen.make(module("broken.pyc", "broken.py"))

    assert "exclude-modules" in caught.value.advice


@pytest.mark.parametrize("kind", [EntryKind.MODULE, EntryKind.NATIVE, EntryKind.DATA])
def test_source_that_is_gone(kitchen: Kitchen, kind: EntryKind) -> None:
    """A file that the analysis named and that was removed since is a sentence with a cure."""
    with pytest.raises(BuildStepError, match="is not there any more") as caught:
        kitchen.make(Entry("gone.pyc", kind, Origin.HOST, str(kitchen.folder / "gone")))

    assert "ferryman clean" in caught.value.advice


def test_read_tree(tmp_path: Path) -> None:
    """Sorted POSIX paths, plain modes, digests of contents; a link is its target; folders are nothing."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").write_text("abc")
    (tmp_path / "a").write_text("")
    (tmp_path / "a").chmod(0o710)
    (tmp_path / "c").symlink_to("b")
    (tmp_path / "empty").mkdir()

    assert read_tree(tmp_path, "a").files == (
        TreeFile("a", 0, 0o755, hashlib.sha256(b"").hexdigest()),
        TreeFile("b/file", 3, 0o644, hashlib.sha256(b"abc").hexdigest()),
        TreeFile("c", 0, 0o777, hashlib.sha256(b"b").hexdigest(), "b"),
    )


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "bc"), ("ab", "c")), (("a",), ("a", "")), (("pyc", "1"), ("strip", "1"))]
)
def test_keys_are_unambiguous(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Parts are kept apart, and two kinds of blob never share a key."""
    assert tree._key(*one) != tree._key(*other)
    assert len(tree._key(*one)) == 64
