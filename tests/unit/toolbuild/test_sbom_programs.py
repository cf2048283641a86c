"""steps.sboms and sbom_programs: who brought each file, by the collectors' word, and what a document's key is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from ferryman_build.artifacts import Kind, Source
from ferryman_build.cache import Blobs
from ferryman_build.collect.analysis import Analysis, Entry, EntryKind, Origin
from ferryman_build.sbom.program import Owner, Program
from ferryman_build.settings import Bundler, Settings
from ferryman_build.steps import sboms
from ferryman_build.steps.sbom_programs import pyz_program, tree_program
from ferryman_build.targets import parse_target
from ferryman_build.toolchain import read_recipe
from ferryman_build.tree import TreeFile, read_tree
from ferryman_build.ways import Way
from ferryman_build.wheeltags import Lock, LockedPackage, Wheel

if TYPE_CHECKING:
    from ferryman_build.steps.job import TargetJob

SITE = "lib/python3.11/site-packages"
WHEELS = (
    Wheel("oil-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "aa" * 32),
    Wheel("oil-1.0-cp311-cp311-win_amd64.whl", "bb" * 32),
)
LOCK = Lock(python="3.11", packages=(LockedPackage("oil", "1.0", wheels=WHEELS),), digest="x")
ELF = b"\x7fELF"


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def dist_info(name: str, version: str, record: str = "", tags: str = "") -> dict[str, str | bytes]:
    folder = f"{name}-{version}.dist-info"
    return {
        f"{folder}/METADATA": f"Name: {name}\nVersion: {version}\n\n",
        f"{folder}/RECORD": record,
        f"{folder}/WHEEL": tags,
    }


ENTRIES = (
    Entry("lantern/__init__.pyc", EntryKind.MODULE, Origin.APP, "lantern/__init__.py"),
    Entry("lamps/harbour.yaml", EntryKind.DATA, Origin.PROJECT, "lamps/harbour.yaml"),
    Entry("made.pyc", EntryKind.MODULE, Origin.WORK, "made.py"),
    Entry("oil/__init__.pyc", EntryKind.MODULE, Origin.ENV, f"{SITE}/oil/__init__.py"),
    Entry("oil-1.0.dist-info/METADATA", EntryKind.DATA, Origin.ENV, f"{SITE}/oil-1.0.dist-info/METADATA"),
    Entry("stray.pyc", EntryKind.MODULE, Origin.ENV, f"{SITE}/stray.py"),
    Entry("os.pyc", EntryKind.MODULE, Origin.HOST, "/usr/lib/python3.11/os.py"),
    Entry("python3.11/lib-dynload/_ssl.so", EntryKind.NATIVE, Origin.HOST, "/usr/lib/_ssl.so"),
    Entry("libpython3.11.so.1.0", EntryKind.NATIVE, Origin.HOST, "/usr/lib/libpython3.11.so.1.0"),
    Entry("libz.so.1", EntryKind.NATIVE, Origin.HOST, "/usr/lib/libz.so.1"),
    Entry("libz.so", EntryKind.LINK, Origin.HOST, "libz.so.1"),
)
HOOK = Entry("rthook", EntryKind.MODULE, Origin.ENV, f"{SITE}/oil/rthook.py")
OWNERS = {
    "lantern": Owner.STARTER,
    "_internal/_ferryman/launch": Owner.STARTER,
    "_internal/_ferryman/sbom.cdx.json": Owner.STARTER,
    "_internal/_ferryman/hooks/rthook.pyc": Owner.WHEEL,
    "_internal/lantern/__init__.pyc": Owner.APPLICATION,
    "_internal/lamps/harbour.yaml": Owner.APPLICATION,
    "_internal/made.pyc": Owner.APPLICATION,
    "_internal/oil/__init__.pyc": Owner.WHEEL,
    "_internal/oil-1.0.dist-info/METADATA": Owner.WHEEL,
    "_internal/stray.pyc": Owner.WHEEL,
    "_internal/os.pyc": Owner.INTERPRETER,
    "_internal/python3.11/lib-dynload/_ssl.so": Owner.INTERPRETER,
    "_internal/libpython3.11.so.1.0": Owner.INTERPRETER,
    "_internal/libz.so.1": Owner.MACHINE,
}


class Job:
    """A job whose steps have run: folders as they leave them, in ``root``."""

    def __init__(self, root: Path, **more: Any) -> None:
        self.root = root
        record = "oil/__init__.py,,\noil/rthook.py,,\n"
        tags = "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_17_x86_64\n"
        write(root / "env/env" / SITE, dist_info("oil", "1.0", record, tags))
        write(
            root / "site/site",
            {**dist_info("oil", "1.0", record, tags), "oil/__init__.py": "", "oil/rthook.py": ""},
        )
        write(root / "wheel/app", {**dist_info("Lantern_Keeper", "2.3.0"), "lantern/__init__.py": ""})
        write(root / "project", {"lamps/harbour.yaml": "lit"})
        given = {
            "target": parse_target("linux-amd64"), "way": Way.HERE, "lock": LOCK, "python": "3.11", "full_python": "3.11.7",
            "shipped_python": "3.11.7", "collector": "pyinstaller", "runtime": None, "runtime_origin": "", "program": "lantern",
            "interpreter": SimpleNamespace(identity="3.11.7 (main)\n[GCC 12]"), "source": Source(epoch=1_790_000_000),
            "settings": Settings(), "blobs": Blobs(root / "blobs"), "project": SimpleNamespace(root=root / "project"),
            "analysis": Analysis(entries=ENTRIES, hooks=(HOOK,), missing=(), tools={}),
            "folder": lambda step: root / step,
        }  # fmt: skip
        self.job = cast("TargetJob", SimpleNamespace(**{**given, **more}))

    def tree(self) -> tuple[Path, tuple[TreeFile, ...]]:
        """A tree with every file of OWNERS but the SBOM, and a link."""
        place = self.root / "tree/tree"
        write(place, {name: ELF if ".so" in name else name for name in OWNERS if "sbom" not in name})
        if not (place / "_internal/libz.so").is_symlink():
            (place / "_internal/libz.so").symlink_to("libz.so.1")
        return place, read_tree(place, "lantern").files

    def program(self) -> Program:
        return tree_program(self.job, *self.tree())


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


# --- trees ------------------------------------------------------------------------------------------------------------


def test_owners_in_a_tree(job: Job) -> None:
    """Each file of the tree once, with whoever brought it; the document itself and links among them."""
    files = job.program().files
    links = {file.path: file.link for file in files if file.link}

    assert {file.path: file.owner for file in files if not file.link} == OWNERS
    assert links == {"_internal/libz.so": "_internal/libz.so.1"}
    assert len({file.path for file in files}) == len(files)


def test_wheels_in_a_tree(job: Job) -> None:
    """A file's distribution is the one that lists it; one that none lists goes by its own name."""
    program = job.program()
    wheels = {file.path.removeprefix("_internal/"): file.wheel for file in program.files if file.wheel}

    assert wheels == {
        "oil/__init__.pyc": "oil", "oil-1.0.dist-info/METADATA": "oil", "_ferryman/hooks/rthook.pyc": "oil",
        "stray.pyc": "stray.py",
    }  # fmt: skip
    assert (program.wheels["oil"].wheel, program.wheels["oil"].sha256) == (
        WHEELS[0].filename,
        WHEELS[0].sha256,
    )
    assert (program.application.name, program.application.version) == ("lantern-keeper", "2.3.0")


def test_what_starts_a_tree(job: Job, tmp_path: Path) -> None:
    """The launcher with its decoder, compiled by zig; or PyInstaller's bootloader, which nobody compiled here."""
    ours = job.program()
    theirs = Job(tmp_path / "b", settings=Settings(bundle=Bundler.PYINSTALLER)).program()

    assert ours.starter.name == "ferryman-launcher"
    assert [(one.name, one.version) for one in ours.starter.compiled] == [
        ("zstd", read_recipe().zstd.release)
    ]
    assert (theirs.starter.name, theirs.starter.compiled) == ("pyinstaller-bootloader", ())
    assert "zig" in dict(ours.tools)
    assert "zig" not in dict(theirs.tools)


def test_interpreter(job: Job) -> None:
    """This machine's own is known by what it says of its build, in one line."""
    interpreter = job.program().interpreter
    assert interpreter is not None
    assert (interpreter.version, interpreter.origin, interpreter.sha256) == (
        "3.11.7",
        "3.11.7 (main) [GCC 12]",
        "",
    )


RUNTIME_ENTRIES = (
    Entry("os.pyc", EntryKind.MODULE, Origin.RUNTIME, "python/Lib/os.py"),
    Entry("_ssl.pyd", EntryKind.NATIVE, Origin.RUNTIME, "python/DLLs/_ssl.pyd"),
    Entry("python311.dll", EntryKind.NATIVE, Origin.RUNTIME, "python/python311.dll"),
    Entry("libssl-3.dll", EntryKind.NATIVE, Origin.RUNTIME, "python/DLLs/libssl-3.dll"),
    Entry("LICENSE-Python.txt", EntryKind.DATA, Origin.RUNTIME, "python/LICENSE.txt"),
    Entry("oil/__init__.pyc", EntryKind.MODULE, Origin.SITE, "oil/__init__.py"),
)


def test_standalone_tree(tmp_path: Path) -> None:
    """The interpreter is the archive's, by its digest; the wheel is the one that the plan chose, whatever its tags say."""
    runtime = SimpleNamespace(sha256="cc" * 32, licence="PSF-2.0")
    job = Job(
        tmp_path, way=Way.STANDALONE, runtime=runtime, runtime_origin="python-build-standalone 20250702", target=parse_target("windows-amd64"),
        analysis=Analysis(entries=RUNTIME_ENTRIES, hooks=(), missing=(), tools={}), program="lantern.exe",
    )  # fmt: skip
    place = write(
        tmp_path / "tree/tree",
        {"lantern.exe": "MZ", **{f"_internal/{entry.dest}": "x" for entry in RUNTIME_ENTRIES}},
    )
    program = tree_program(job.job, place, read_tree(place, "lantern.exe").files)
    interpreter = program.interpreter

    assert {file.path.removeprefix("_internal/"): file.owner for file in program.files} == {
        "lantern.exe": Owner.STARTER, "_ferryman/sbom.cdx.json": Owner.STARTER, "os.pyc": Owner.INTERPRETER,
        "_ssl.pyd": Owner.INTERPRETER, "python311.dll": Owner.INTERPRETER, "LICENSE-Python.txt": Owner.INTERPRETER,
        "libssl-3.dll": Owner.MACHINE, "oil/__init__.pyc": Owner.WHEEL,
    }  # fmt: skip
    assert interpreter is not None
    assert (interpreter.origin, interpreter.sha256) == ("python-build-standalone 20250702", "cc" * 32)
    assert program.wheels["oil"].wheel == WHEELS[1].filename
    assert dict(program.environment)["sys_platform"] == "win32"
    assert "pyinstaller" not in dict(program.tools)


# --- the .pyz ---------------------------------------------------------------------------------------------------------


def test_pyz(tmp_path: Path) -> None:
    """Its packages are the application's or a wheel's, `data` goes before both, and the rest starts it."""
    data = [{"source": "lamps/*.yaml", "into": "oil"}]
    job = Job(tmp_path, settings=msgspec.convert({"data": data}, Settings))
    names = {
        "__main__.py": Owner.STARTER, "_ferryman/run.py": Owner.STARTER, "environment.json": Owner.STARTER,
        "site-packages/lantern/__init__.py": Owner.APPLICATION, "site-packages/oil/__init__.py": Owner.WHEEL,
        "site-packages/oil/harbour.yaml": Owner.APPLICATION,
    }  # fmt: skip
    members = [TreeFile(name, 1, 0o644, hashlib.sha256(name.encode()).hexdigest()) for name in names]
    program = pyz_program(job.job, members)

    assert {file.path: file.owner for file in program.files} == {
        **names,
        "_ferryman/sbom.cdx.json": Owner.STARTER,
    }
    assert program.interpreter is None
    assert program.starter.name == "ferryman-pyz-starter"
    assert ("ferryman:needs-python", "3.11") in program.properties


# --- when it is made ---------------------------------------------------------------------------------------------------


def changed(root: Path, **more: Any) -> Mapping[str, object]:
    library = root / "libz.so.1"
    entries = (Entry("libz.so.1", EntryKind.NATIVE, Origin.HOST, str(library)),)
    analysis = Analysis(entries=entries, hooks=(), missing=(), tools={})
    return sboms.tree_inputs(Job(root, **{"analysis": analysis, **more}).job)


OTHER_LOCK = msgspec.structs.replace(
    LOCK,
    packages=(LockedPackage("oil", "1.0", wheels=(msgspec.structs.replace(WHEELS[0], sha256="dd" * 32),)),),
)


@pytest.mark.parametrize(
    "change",
    [
        {"source": Source(epoch=1)}, {"lock": OTHER_LOCK}, {"settings": Settings(sbom_option="")}, {"shipped_python": "3.11.8"},
        {"target": parse_target("linux-arm64")}, {"runtime_origin": "elsewhere"}, {"interpreter": SimpleNamespace(identity="other")},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_makes_another_document(tmp_path: Path, change: Mapping[str, Any]) -> None:
    """Each thing that the document says and that is in no other key of the step."""
    write(tmp_path, {"libz.so.1": "one"})

    assert changed(tmp_path) == changed(tmp_path)
    assert changed(tmp_path, **change) != changed(tmp_path)


def test_a_library_of_the_machine_that_was_upgraded(tmp_path: Path) -> None:
    """The next build makes the tree again, with the new one; one that is gone is no failure here."""
    before = changed(write(tmp_path, {"libz.so.1": "one"}))
    after = changed(write(tmp_path, {"libz.so.1": "two"}))
    (tmp_path / "libz.so.1").unlink()

    assert len({str(inputs) for inputs in (before, after, changed(tmp_path))}) == 3


def test_places(job: Job) -> None:
    """What is embedded is what is attached: of a tree the file in it, of a .pyz the step's own copy."""
    place = job.root / "tree/tree/_internal/_ferryman/sbom.cdx.json"

    assert sboms.sbom_file(job.job, Kind.ARCHIVE) == sboms.sbom_file(job.job, Kind.EXECUTABLE) == place
    assert sboms.sbom_file(job.job, Kind.PYZ) == job.root / "pyz/sbom.cdx.json"


def test_a_tree_gets_its_document(job: Job) -> None:
    """As its last file, readable for all, with every file that was there."""
    place, files = job.tree()
    sboms.write_tree_sbom(job.job, place)
    document = place / "_internal/_ferryman/sbom.cdx.json"
    text = document.read_text(encoding="utf-8")

    assert [file.path for file in files if f'"location": "{file.path}"' not in text] == []
    assert document.stat().st_mode & 0o777 == 0o644
