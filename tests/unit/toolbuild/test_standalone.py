"""Standalone trees: what of a runtime, of wheels and of a project belongs to them, and where it lies."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ferryman_build.collect.analysis import Analysis, Entry, EntryKind, Origin
from ferryman_build.collect.standalone import Request, collect
from ferryman_build.collect.standalone_parts import all_parts, cut, pattern
from ferryman_build.collect.standalone_site import module_name
from ferryman_build.errors import ConfigError
from ferryman_build.runtimes.distribution import read_distribution
from ferryman_build.settings import Settings
from ferryman_build.targets import parse_target
from ferryman_build.wrap.launch import search_path
from support.elf_factory import make_library
from support.ferryman import ROOT
from support.plover.files import pe
from support.runtimes import fake
from support.runtimes.fake import darwin, posix, windows, write

LINUX = parse_target("linux-amd64")
SITE = {
    "yaml/__init__.py": b"", "yaml/_yaml.cpython-311-x86_64-linux-gnu.so": make_library(needed=("libssl.so.3", "libown-1.so")),
    "yaml.libs/libown-1.so": make_library(needed=("libc.so.6",)), "yaml/schema.json": b"{}", "yaml/loader.pyi": b"", "yaml/_yaml.pyx": b"",
    "yaml/py.typed": b"", "yaml/include/x.h": b"", "yaml/templates/{{name}}.py": b"{{", "yaml/lib/libfake.so": b"INPUT(-lx)",
    "six.py": b"", "os.py": b"raise SystemExit", "PyYAML-6.0.dist-info/METADATA": b"Name: PyYAML", "PyYAML-6.0.dist-info/RECORD": b"",
    "PyYAML-6.0.dist-info/entry_points.txt": b"", "PyYAML-6.0.dist-info/licenses/LICENSE": b"", "distutils-precedence.pth": b"import os",
    "bin/tool": b"#!", "include/a.h": b"", "share/doc/x.txt": b"", "yaml/__pycache__/x.cpython-311.pyc": b"",
}  # fmt: skip
APP = {
    "skua/__init__.py": b"", "skua/main.py": b"", "skua/words.txt": b"", "skua-1.0.dist-info/METADATA": b"Name: skua",
    "skua-1.0.dist-info/WHEEL": b"",
}  # fmt: skip


def without(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {key: content for key, content in files.items() if key != name}


def request(folder: Path, runtime: dict[str, bytes] | None = None, target: str = "linux-amd64") -> Request:
    write(folder / "project", {"data/a.csv": b"1"})
    row = parse_target(target)
    distribution = read_distribution(write(folder / "runtime", runtime or posix()), row)
    return Request(
        distribution=distribution, target=row, site=write(folder / "site", SITE), app=write(folder / "app", APP),
        project=folder / "project", data=((str(folder / "project/data/a.csv"), "things"),), origin="tests",
    )  # fmt: skip


def collected(folder: Path, **changes: object) -> Analysis:
    return collect(msgspec.structs.replace(request(folder), **changes))


def dests(analysis: Analysis, origin: Origin) -> set[str]:
    return {entry.dest for entry in analysis.entries if entry.origin is origin}


def test_whole_tree_of_linux(tmp_path: Path) -> None:
    """Of the runtime: modules at the top, extension modules in lib-dynload, the libraries that something needs at the top.

    Not the C library, not what nothing needs, not an extension module whose library the runtime lacks.
    """
    found = collect(request(tmp_path))

    assert dests(found, Origin.RUNTIME) == {
        "os.pyc", "json/__init__.pyc", "json/decoder.pyc", "importlib/_bootstrap_external.pyc", "email/__init__.pyc", "LICENSE-Python.txt",
        "python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so", "python3.11/lib-dynload/_socket.cpython-311-x86_64-linux-gnu.so",
        "libpython3.11.so.1.0", "libssl.so.3", "libcrypto.so.3",
    }  # fmt: skip
    assert found.missing == ("_dbm",)
    assert found.tools == {"cpython": "3.11.9 tests"}
    assert found.hooks == ()


def test_packages_and_project(tmp_path: Path) -> None:
    """Every module, library, data file and licence of wheels; no stubs, sources, headers, scripts, .pth files or records."""
    found = collect(request(tmp_path))

    assert dests(found, Origin.SITE) == {
        "yaml/__init__.pyc", "yaml/_yaml.cpython-311-x86_64-linux-gnu.so", "yaml.libs/libown-1.so", "yaml/schema.json", "yaml/py.typed",
        "yaml/templates/{{name}}.py", "yaml/lib/libfake.so", "six.pyc", "PyYAML-6.0.dist-info/METADATA",
        "PyYAML-6.0.dist-info/entry_points.txt", "PyYAML-6.0.dist-info/licenses/LICENSE", "share/doc/x.txt",
    }  # fmt: skip
    assert dests(found, Origin.APP) == {
        "skua/__init__.pyc",
        "skua/main.pyc",
        "skua/words.txt",
        "skua-1.0.dist-info/METADATA",
    }
    assert dests(found, Origin.PROJECT) == {"things/a.csv"}
    assert any("distutils-precedence.pth is not followed" in note for note in found.notes)
    assert any("_dbm is left out: it needs libdb-5.3.so" in note for note in found.notes)


def test_every_source_is_there(tmp_path: Path) -> None:
    """Each entry leads to its file, and kinds are what the assembler takes them for."""
    asked = request(tmp_path)
    origins = asked.origins(tmp_path, tmp_path)
    kinds = {entry.dest: entry.kind for entry in collect(asked).entries}

    assert [entry for entry in collect(asked).entries if not origins.source(entry).is_file()] == []
    assert kinds["json/decoder.pyc"] is EntryKind.MODULE
    assert kinds["yaml.libs/libown-1.so"] is EntryKind.NATIVE
    assert kinds["yaml/lib/libfake.so"] is EntryKind.DATA  # a linker script
    assert kinds["yaml/templates/{{name}}.py"] is EntryKind.DATA  # a template


def test_standard_library_goes_first(tmp_path: Path) -> None:
    """A dependency cannot put itself in the place of a module of the standard library."""
    (found,) = [entry for entry in collect(request(tmp_path)).entries if entry.dest == "os.pyc"]
    assert found == Entry("os.pyc", EntryKind.MODULE, Origin.RUNTIME, "lib/python3.11/os.py")


MAGIC = fake.MAGIC.to_bytes(2, "little") + b"\r\n"
PYWIN32 = {
    "pywin32.pth": b"# a comment\nwin32\nwin32\\lib\nPythonWin\ngone\n..\\..\\out\nC:\\else\n\nimport pywin32_bootstrap\n",
    "win32/win32api.pyd": pe("amd64"), "win32/lib/pywintypes.py": b"", "pythonwin/pywin/__init__.py": b"",
    "pywin32_system32/pywintypes311.dll": pe("amd64"),
}  # fmt: skip


def test_pth_files_lead_the_search_path(tmp_path: Path) -> None:
    """As Python reads pywin32's: its folders of modules join sys.path in their order; its code is not run, and that is said."""
    write(tmp_path / "site", PYWIN32)
    found = collect(request(tmp_path, windows(), "windows-amd64"))

    assert found.paths == ("win32", "win32/lib", "pythonwin")
    assert {"win32/win32api.pyd", "win32/lib/pywintypes.pyc", "pywintypes311.dll"} <= dests(
        found, Origin.SITE
    )
    told = [note for note in found.notes if note.startswith("pywin32.pth is not followed")]
    assert ["out" in told[0], "else" in told[1], "`import pywin32_bootstrap`" in told[2]] == [True] * 3
    assert len(told) == 3
    assert not any("gone" in note for note in found.notes)  # Python says nothing of it either


def test_pth_files_elsewhere(tmp_path: Path) -> None:
    """On POSIX a backslash is a letter and names have their case; folders of two files come in the files' order, once."""
    lines = {"b.pth": b"one\ntwo", "a.pth": b"two\nOne\nwin32\\lib", "one/m.py": b"", "two/n.py": b""}
    write(tmp_path / "site", {**PYWIN32, **lines})
    found = collect(request(tmp_path))

    assert found.paths == ("two", "one", "win32")
    assert "pywin32_system32/pywintypes311.dll" in dests(found, Origin.SITE)


def test_module_of_a_pth_file_can_be_excluded(tmp_path: Path) -> None:
    """By the name that a program imports it by, or by its place."""
    write(tmp_path / "site", PYWIN32)
    asked = request(tmp_path, windows(), "windows-amd64")
    for name in ("win32api", "win32.win32api"):
        found = collect(msgspec.structs.replace(asked, exclude_modules=(name,)))
        assert "win32/win32api.pyd" not in dests(found, Origin.SITE)
        assert "win32/lib/pywintypes.pyc" in dests(found, Origin.SITE)


def test_modules_without_a_source(tmp_path: Path) -> None:
    """Bytecode of the tree's own Python is a module, of another one a note; beside its source it is nothing."""
    write(tmp_path / "site", {
        "closed/__init__.pyc": MAGIC + b"code", "closed/old.pyc": b"\x42\x0d\r\ncode", "closed/both.pyc": MAGIC, "closed/both.py": b"",
    })  # fmt: skip
    asked = request(tmp_path)
    found = collect(asked)
    kinds = {entry.dest: entry.kind for entry in found.entries}

    assert kinds["closed/__init__.pyc"] is EntryKind.DATA  # as it is
    assert kinds["closed/both.pyc"] is EntryKind.MODULE
    assert "closed/old.pyc" not in kinds
    assert [note for note in found.notes if "closed" in note] == [
        "closed/old.pyc is left out: it has no source, and is bytecode of another Python"
    ]
    gone = collect(msgspec.structs.replace(asked, exclude_modules=("closed",)))
    assert not any(entry.dest.startswith("closed") for entry in gone.entries)


def test_stubs_that_a_program_reads(tmp_path: Path) -> None:
    """lazy_loader's stub beside the module that asks for it, and a type checker's typeshed; no other stub."""
    write(tmp_path / "site", {
        "skimage/__init__.py": b"__getattr__, __dir__, _ = lazy.attach_stub(__name__, __file__)", "skimage/__init__.pyi": b"",
        "skimage/io.py": b"", "skimage/io.pyi": b"", "mypy/typeshed/stdlib/os.pyi": b"", "lone.pyi": b"",
    })  # fmt: skip
    stubs = {name for name in dests(collect(request(tmp_path)), Origin.SITE) if name.endswith(".pyi")}
    assert stubs == {"skimage/__init__.pyi", "mypy/typeshed/stdlib/os.pyi"}


@pytest.mark.parametrize(
    ("name", "there"),
    [("LICENSE", True), ("LICENSE.txt", True), ("LICENCE.md", True), ("COPYING.LESSER", True), ("NOTICE", True), ("AUTHORS.rst", True),
     ("licenses/a/LICENSE.APACHE", True), ("license_files/COPYING", True), ("RECORD", False), ("WHEEL", False), ("REQUESTED", False),
     ("direct_url.json", False), ("sboms/auditwheel.cdx.json", False)],
)  # fmt: skip
def test_licences_of_dependencies(name: str, there: bool, tmp_path: Path) -> None:
    """What a redistribution has to carry along lies in a wheel's metadata under these names."""
    write(tmp_path / "site", {f"six-1.0.dist-info/{name}": b"text"})
    assert (f"six-1.0.dist-info/{name}" in dests(collect(request(tmp_path)), Origin.SITE)) is there


@pytest.mark.parametrize(
    ("files", "source"),
    [(posix(prefix="python/"), "python/lib/python3.11/LICENSE.txt"), ({**windows(), "python/LICENSE.txt": b"PSF"}, "python/Lib/LICENSE.txt"),
     ({**without(windows(), "python/Lib/LICENSE.txt"), "python/LICENSE.txt": b"PSF"}, "python/LICENSE.txt")],
    ids=["posix", "both", "windows"],
)  # fmt: skip
def test_licence_of_the_interpreter(files: dict[str, bytes], source: str, tmp_path: Path) -> None:
    """Under a name that says whose it is, with those of OpenSSL and others where the runtime has them."""
    files = {**files, "python/licenses/LICENSE.openssl-3.txt": b"Apache"}
    target = "windows-amd64" if any(name.endswith(".dll") for name in files) else "linux-amd64"
    found = {entry.dest: entry.path for entry in collect(request(tmp_path, files, target)).entries}

    assert found["LICENSE-Python.txt"] == source
    assert found["LICENSES-Python/LICENSE.openssl-3.txt"] == "python/licenses/LICENSE.openssl-3.txt"
    assert "LICENSE.txt" not in found


def test_tree_of_windows(tmp_path: Path) -> None:
    """Everything native lies at the top, and python3.dll is there for wheels with the stable ABI."""
    found = collect(request(tmp_path, windows(), "windows-amd64"))
    natives = {
        entry.dest
        for entry in found.entries
        if entry.kind is EntryKind.NATIVE and entry.origin is Origin.RUNTIME
    }

    assert natives == {"python311.dll", "python3.dll", "_ssl.pyd"}
    assert search_path((entry.dest for entry in found.entries), "3.11") == (".",)


def test_tree_of_macos(tmp_path: Path) -> None:
    """The dylib at the top, extension modules where the launcher's sys.path has them."""
    found = collect(request(tmp_path, darwin(), "darwin-arm64"))

    assert {"libpython3.11.dylib", "python3.11/lib-dynload/_ssl.cpython-311-darwin.so"} <= dests(
        found, Origin.RUNTIME
    )
    assert search_path((entry.dest for entry in found.entries), "3.11") == (".", "python3.11/lib-dynload")


@pytest.mark.parametrize(
    ("excluded", "gone"),
    [("json", {"json/__init__.pyc", "json/decoder.pyc"}), ("json.decoder", {"json/decoder.pyc"}), ("six", {"six.pyc"}),
     ("_socket", {"python3.11/lib-dynload/_socket.cpython-311-x86_64-linux-gnu.so"}),
     ("yaml._yaml", {"yaml/_yaml.cpython-311-x86_64-linux-gnu.so"}), ("yaml.schema", set()), ("skua", set()),
     ("yaml", {"yaml/__init__.pyc", "yaml/_yaml.cpython-311-x86_64-linux-gnu.so", "yaml/schema.json", "yaml/py.typed",
               "yaml/templates/{{name}}.py", "yaml/lib/libfake.so", "yaml.libs/libown-1.so"})],
)  # fmt: skip
def test_excluded_modules_are_gone(excluded: str, gone: set[str], tmp_path: Path) -> None:
    """With everything below them, and nothing else; the project's own modules stay."""
    asked = request(tmp_path)
    before = {entry.dest for entry in collect(asked).entries}
    after = {
        entry.dest for entry in collect(msgspec.structs.replace(asked, exclude_modules=(excluded,))).entries
    }

    assert before - after == gone


def test_library_of_an_excluded_module_is_gone(tmp_path: Path) -> None:
    """libcrypto comes with _ssl, and goes with it when nothing else needs it."""
    (tmp_path / "empty").mkdir()
    found = collected(tmp_path, exclude_modules=("_ssl",), site=tmp_path / "empty")
    assert not {"libssl.so.3", "libcrypto.so.3"} & dests(found, Origin.RUNTIME)


# --- parts ------------------------------------------------------------------------------------------------------------

KEPT = {
    "tests": ({"json/tests/test_x.pyc", "test/bad.pyc", "python3.11/lib-dynload/_testcapi.cpython-311-x86_64-linux-gnu.so"}),
    "idle": {"idlelib/run.pyc"},
    "tkinter": {"tkinter/__init__.pyc", "turtle.pyc"},
    "ensurepip": {"ensurepip/__init__.pyc", "ensurepip/_bundled/pip.whl"},
    "lib2to3": {"lib2to3/Grammar.txt"},
    "static": {"config-3.11-x86_64-linux-gnu/Makefile"},
    "site-packages": {"pip/__init__.pyc"},
    "sitecustomize": {"sitecustomize.pyc"},
    "sources": {"email/architecture.rst"},
    "pydoc-data": {"pydoc_data/topics.pyc"},
    "turtledemo": set(), "venv": set(), "distutils": set(), "msilib": set(), "prompt": set(),
}  # fmt: skip


@pytest.mark.parametrize("part", KEPT)
def test_every_part_can_be_kept(part: str, tmp_path: Path) -> None:
    """keep-parts brings back what the part had left out, and nothing else."""
    asked = request(tmp_path)
    before = {entry.dest for entry in collect(asked).entries}
    after = {entry.dest for entry in collect(msgspec.structs.replace(asked, keep_parts=(part,))).entries}

    assert after - before == KEPT[part]
    assert before <= after


def test_every_part_is_tested_and_documented() -> None:
    """The table above, the data and docs/runtimes.md have the same names."""
    page = (ROOT / "docs" / "runtimes.md").read_text(encoding="utf-8")

    assert set(KEPT) == set(all_parts())
    assert [name for name in all_parts() if f"| `{name}` |" not in page] == []
    assert "keep-parts" in page
    assert Settings().keep_parts == ()


@pytest.mark.parametrize(
    ("module", "part"),
    [("tkinter.ttk", "tkinter"), ("idlelib", "tkinter"), ("readline", "prompt"), ("test", "tests")],
)
def test_imported_modules_keep_their_part(module: str, part: str) -> None:
    """A program that imports tkinter gets it without learning the name of a part."""
    assert part in cut((), ()).names
    assert part not in cut((), (module,)).names


def test_kept_tkinter_brings_tcl(tmp_path: Path) -> None:
    """What a part has outside of the standard library comes along at the same place."""
    asked = request(tmp_path, windows(), "windows-amd64")
    found = collect(msgspec.structs.replace(asked, keep_modules=("tkinter",)))

    assert {"tcl/tcl8.6/init.tcl", "_tkinter.pyd"} <= dests(found, Origin.RUNTIME)


def test_unknown_part_is_answered_with_the_nearest() -> None:
    """Exit code 3, the wrong word, the nearest right one, and all of them."""
    with pytest.raises(ConfigError) as caught:
        cut(("test", "nonsense"), ())
    assert caught.value.details[1] == "test — did you mean 'tests'?"
    assert "ensurepip" in caught.value.advice


@pytest.mark.parametrize(
    ("glob", "fitting", "other"),
    [
        ("test", ("test", "test/a/b.py"), ("a/test", "testing", "test.py")),
        ("**/tests", ("tests/x", "a/tests", "a/b/tests/c"), ("atests", "a/testsuite")),
        ("**/*.a", ("x.a", "a/b/x.a"), ("x.ab", "a.a.py")),
        ("config-3.*", ("config-3.11-x/y",), ("a/config-3.1", "config-4")),
    ],
)
def test_patterns(glob: str, fitting: tuple[str, ...], other: tuple[str, ...]) -> None:
    """A folder that fits means everything in it; a star stays within a name."""
    made = pattern([glob])
    assert [path for path in fitting if not made.fullmatch(path)] == []
    assert [path for path in other if made.fullmatch(path)] == []


@pytest.mark.parametrize(
    ("dest", "name"),
    [("json/decoder.pyc", "json.decoder"), ("json/__init__.pyc", "json"), ("six.pyc", "six"), ("a/_b.abi3.so", "a._b"), ("_ssl.pyd", "_ssl")],
)  # fmt: skip
def test_module_name(dest: str, name: str) -> None:
    """The name that an import would use."""
    assert module_name(dest) == name
