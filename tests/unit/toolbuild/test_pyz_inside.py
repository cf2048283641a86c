"""What runs inside a .pyz: the check that any Python reads, the places for its tree, and who could change them."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ferryman_build
from ferryman_build.wrap.pyz_archive import READ_BY_ANY_PYTHON, STARTERS

INSIDE = Path(ferryman_build.__file__).parent / "collect" / "inside"
OLD = [INSIDE / STARTERS[member] for member in READ_BY_ANY_PYTHON if member in STARTERS]


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the archive under the name that it has there."""
    folder = tmp_path / "archive" / "_ferryman"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    for member, name in STARTERS.items():
        if member != "__main__.py":
            (folder.parent / member).write_bytes((INSIDE / name).read_bytes())
    monkeypatch.syspath_prepend(str(folder.parent))
    yield lambda name: importlib.import_module(f"_ferryman.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "_ferryman"]:
        del sys.modules[name]


# --- any Python ---------------------------------------------------------------------------------------------------------

TOO_NEW = (
    ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Nonlocal, ast.AsyncFunctionDef, ast.Await, ast.AsyncFor,
    ast.AsyncWith, ast.YieldFrom, ast.Starred, ast.Match, ast.TryStar, ast.MatMult, ast.With, ast.SetComp,
)  # fmt: skip


def newer_syntax(tree: ast.AST) -> Iterator[str]:
    """Everything that Python 2.7 or 3.0 does not read, as far as the tree shows it."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, TOO_NEW):
            yield f"line {line}: {type(node).__name__}"
        if isinstance(node, ast.FunctionDef) and node.returns:
            yield f"line {line}: an annotation"
        if isinstance(node, ast.arguments) and (node.kwonlyargs or node.posonlyargs):
            yield f"line {line}: keyword-only or positional-only arguments"
        if isinstance(node, ast.arg) and node.annotation:
            yield f"line {line}: an annotation"
        if isinstance(node, ast.Raise) and node.cause:
            yield f"line {line}: raise from"
        if isinstance(node, ast.ClassDef) and node.keywords:
            yield f"line {line}: a metaclass"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "super")
        ):
            yield f"line {line}: {node.func.id}"
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            yield f"line {line}: bytes"


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.name)
def test_the_check_has_no_syntax_that_an_old_python_does_not_read(path: Path) -> None:
    """A Python that cannot read it would print a traceback about the syntax, and not the sentence."""
    source = path.read_text(encoding="ascii")  # without a coding line Python 2 reads nothing else

    assert list(newer_syntax(ast.parse(source))) == []


@pytest.mark.parametrize(
    "source",
    ["f'{x}'", "x: int = 1", "def f(a: int): pass", "def f(*, a): pass", "raise A from B", "print(1)", "(y := 1)",
     "class A(metaclass=B): pass", "[*a]", "with a: pass", "def f() -> int: pass"],
)  # fmt: skip
def test_the_rule_sees_newer_syntax(source: str) -> None:
    """The test above fails for each of these."""
    assert list(newer_syntax(ast.parse(source)))


def test_the_check_imports_only_what_every_python_has() -> None:
    """os and sys at its head; zlib and platform where their absence is answered."""
    names = {
        alias.name
        for path in OLD
        for node in ast.walk(ast.parse(path.read_text(encoding="ascii")))
        if isinstance(node, ast.Import)
        for alias in node.names
    }

    assert names == {"os", "sys", "zlib", "platform"}


# --- the check ----------------------------------------------------------------------------------------------------------

NEEDS: dict[str, Any] = {
    "name": "lamp", "target": "linux-amd64", "python": [3, 11], "native": 1, "free": 0, "system": "linux",
    "machines": ["x86_64", "amd64"], "bits": 64, "libc": "gnu", "floor": {"glibc": "2.17"},
}  # fmt: skip
FACTS: dict[str, Any] = {
    "implementation": "CPython", "version": (3, 11, 7), "python": "/usr/bin/python3.11", "free": False,
    "system": "linux", "machine": "x86_64", "bits": 64, "zlib": True, "releases": {"glibc": "2.36"},
    "archive": "lamp.pyz",
}  # fmt: skip
MUSL = {"libc": "musl", "target": "linux-amd64-musl", "floor": {}}
MAC = {"system": "darwin", "machines": ["arm64"], "libc": "", "floor": {"macos": "11.0"}}
ON_MAC = {"system": "darwin", "machine": "arm64"}
WINDOWS = {"system": "windows", "machines": ["amd64"], "libc": "", "floor": {"windows": "6.0"}}


@pytest.mark.parametrize(
    ("needs", "facts", "words"),
    [
        ({}, {}, []),
        ({}, {"version": (2, 7, 18)}, ["needs CPython 3.11", "CPython 2.7.18", "/usr/bin/python3.11", "`python3.11 lamp.pyz`"]),
        ({}, {"version": (3, 6, 15)}, ["CPython 3.6.15"]),
        ({}, {"version": (3, 10, 1)}, ["CPython 3.10.1"]),
        ({}, {"version": (3, 12, 0)}, ["CPython 3.12.0"]),
        ({}, {"implementation": "PyPy"}, ["PyPy 3.11.7"]),
        ({}, {"version": (3, 12, 0), "system": "windows"}, ["`py -3.11 lamp.pyz`"]),
        ({}, {"version": (3, 12, 0), "archive": "a lamp.pyz"}, ['`python3.11 "a lamp.pyz"`']),
        ({}, {"free": True}, ["ordinary CPython", "free-threaded one"]),
        ({"free": 1}, {}, ["free-threaded CPython", "ordinary one"]),
        ({"free": 1}, {"free": True}, []),
        ({"native": 0}, {"free": True}, []),
        ({}, {"system": "windows"}, ["built for Linux (linux-amd64)", "this is Windows"]),
        ({"native": 0}, {"system": "darwin"}, ["this is macOS"]),
        (MAC, {}, ["built for macOS", "this is Linux"]),
        ({}, {"machine": "aarch64"}, ["for x86_64 (64 bits)", "for aarch64"]),
        ({}, {"bits": 32}, ["(32 bits)", "or a Python for it"]),
        ({"native": 0}, {"machine": "aarch64", "bits": 32, "releases": {}}, []),
        ({}, {"releases": {}}, ["need glibc", "another C library", "ends in -musl"]),
        (MUSL, {}, ["need musl", "uses glibc", "without -musl"]),
        (MUSL, {"releases": {}}, []),
        ({"floor": {"glibc": "2.28"}}, {"releases": {"glibc": "2.17"}}, ["glibc 2.28 or newer", "has 2.17"]),
        ({"floor": {"glibc": "2.9"}}, {"releases": {"glibc": "2.17"}}, []),
        ({"floor": {"glibc": "2.28"}, "native": 0}, {"releases": {"glibc": "2.17"}}, []),
        (MAC, {**ON_MAC, "releases": {"macos": "10.15.7"}}, ["macOS 11.0 or newer", "has 10.15.7"]),
        (MAC, {**ON_MAC, "releases": {"macos": "10.16"}}, []),
        (MAC, {**ON_MAC, "releases": {"macos": "14.2"}}, []),
        (WINDOWS, {"system": "windows", "machine": "amd64", "releases": {"windows": "10.0"}}, []),
        (WINDOWS, {"system": "windows", "machine": "arm64", "releases": {}}, ["for arm64"]),
        ({"system": "", "machines": [], "libc": "", "floor": {}}, {"system": "windows", "machine": "x"}, []),
        ({}, {"zlib": False}, ["without zlib", "another CPython 3.11"]),
    ],
)  # fmt: skip
def test_check(
    inside: Callable[[str], ModuleType], needs: dict[str, Any], facts: dict[str, Any], words: list[str]
) -> None:
    """Each thing that can be wrong is named in one sentence with what to do; what does not matter is let through."""
    found = inside("check").problem({**NEEDS, **needs}, {**FACTS, **facts})

    assert bool(found) == bool(words)
    assert all(word in found for word in words)
    assert "\n" not in found
    assert not found or (found.endswith(".") and ";" in found)


def test_facts_of_this_machine(inside: Callable[[str], ModuleType]) -> None:
    """The real values have the forms that the check compares."""
    facts = inside("check").facts()

    assert facts["version"] == tuple(sys.version_info[:3])
    assert (facts["implementation"], facts["bits"], facts["zlib"]) == ("CPython", 64, True)
    assert facts.keys() == FACTS.keys()
    if sys.platform == "linux":
        assert (facts["system"], facts["machine"]) == ("linux", os.uname().machine)


# --- places -------------------------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(sys.platform != "linux", reason="paths as Linux has them")
USER = {"HOME": "/home/u"}


@posix
@pytest.mark.parametrize(
    ("uid", "variables", "wanted"),
    [
        (0, USER, ["/var/cache/ferryman shared", "/home/u/.cache/ferryman", "/var/tmp/ferryman-0 swept", "/tmp/ferryman-0 swept"]),
        (7, USER, ["/var/cache/ferryman readonly", "/home/u/.cache/ferryman", "/var/tmp/ferryman-7 swept", "/tmp/ferryman-7 swept"]),
        (7, {**USER, "FERRYMAN_CACHE": "/c"}, ["/c"]),
        (0, {**USER, "FERRYMAN_CACHE": "/c"}, ["/c shared"]),
        (7, {**USER, "FERRYMAN_CACHE": "c"}, ["c: c is not an absolute path"]),
        (7, {**USER, "XDG_CACHE_HOME": "/x", "CACHE_DIRECTORY": "/d:/e", "TMPDIR": "/t"},
         ["/var/cache/ferryman readonly", "/d/ferryman", "/x/ferryman", "/var/tmp/ferryman-7 swept", "/t/ferryman-7 swept",
          "/tmp/ferryman-7 swept"]),
        (7, {**USER, "XDG_CACHE_HOME": "x", "TMPDIR": "/var/tmp/"},
         ["/var/cache/ferryman readonly", "/home/u/.cache/ferryman", "/var/tmp/ferryman-7 swept", "/tmp/ferryman-7 swept"]),
    ],
)  # fmt: skip
def test_places(
    inside: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, uid: int, variables: dict[str, str],
    wanted: list[str],
) -> None:  # fmt: skip
    """The launcher's places in the launcher's order (docs/launcher.md)."""
    for name in ("FERRYMAN_CACHE", "CACHE_DIRECTORY", "XDG_CACHE_HOME", "HOME", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: uid)

    assert [described(place) for place in inside("places").places()] == wanted


def described(place: Any) -> str:
    words = [word for word in ("shared", "readonly", "swept") if getattr(place, word)]
    return " ".join([place.path, *words]) + (f": {place.reason}" if place.reason else "")


@posix
def test_no_home_at_all(inside: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry in the user database: a reason, and the next place."""
    for name in ("FERRYMAN_CACHE", "CACHE_DIRECTORY", "XDG_CACHE_HOME", "HOME", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    found = inside("places").places()

    assert "user database" in found[1].reason
    assert found[2].path == "/var/tmp/ferryman-54321"


@posix
@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: None, ""),
        (lambda path: path.chmod(0o777), "other users may write to"),
        (lambda path: path.chmod(0o1777), ""),
        (lambda path: path.parent.chmod(0o757), "other users may write to"),
        (lambda path: (path.rmdir(), path.symlink_to("../other")), ""),
        (lambda path: (path.rmdir(), path.symlink_to("open")), "other users may write to"),
        (lambda path: (path.rmdir(), path.symlink_to("path")), "leads nowhere"),
        (lambda path: path.rmdir(), "cannot be looked at"),
    ],
)
def test_distrust(
    inside: Callable[[str], ModuleType], tmp_path: Path, prepare: Callable[[Path], object], words: str
) -> None:
    """Whoever could change any part of the way, links and what they lead to included, is a reason."""
    path = tmp_path / "folder" / "path"
    path.mkdir(parents=True, mode=0o755)
    (tmp_path / "other").mkdir(mode=0o755)
    (tmp_path / "folder" / "open").mkdir()
    (tmp_path / "folder" / "open").chmod(0o777)
    prepare(path)
    found = inside("places").distrust(str(path))

    assert bool(found) == bool(words)
    assert words in found


@posix
def test_another_users_folder(
    inside: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What belongs to neither root nor this user is not trusted."""
    owner = tmp_path.stat().st_uid
    if owner == 0:
        if not hasattr(os, "chown"):
            pytest.skip("no owners")
        path = tmp_path / "theirs"
        path.mkdir()
        try:
            os.chown(path, 12_345, -1)
        except OSError:
            pytest.skip("owners cannot be changed here")
    else:
        path = tmp_path
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    assert "belongs to another user" in inside("places").distrust(str(path))


@posix
def test_a_place_that_others_share_is_known(inside: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """A local folder is local; the root's kind is found through the table of mounts."""
    assert not inside("places").is_remote(str(tmp_path))
