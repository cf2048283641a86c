"""pyz: what pip and shiv are told, what the archive asks of its machine, and the archive's bytes."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ferryman_build.cmd import Completed, Runner
from ferryman_build.errors import ResolutionError
from ferryman_build.inspect import survey_pyz
from ferryman_build.targets import Target, all_targets, parse_target
from ferryman_build.tree import TreeFile
from ferryman_build.wrap import pyz
from ferryman_build.wrap.pyz import PyzJob, install_site_packages, write_pyz
from ferryman_build.wrap.pyz_archive import READ_BY_ANY_PYTHON, finish, starters
from ferryman_build.wrap.pyz_needs import PyzNeeds, needs_of, needs_text, read_needs
from support.pyz_archive import EPOCH, PROGRAM, gathered, write


class Recorder(Runner):
    """Remembers the command, and what lay in ``look`` while it ran."""

    def run(self, args: Sequence[str | Path], **options: Any) -> Completed:
        self.words = [str(word) for word in args]
        self.options = options
        if "--site-packages" in self.words:
            site = Path(self.after("--site-packages"))
            self.saw = {
                path.relative_to(site).as_posix(): (path.read_text(), path.stat().st_mode & 0o777)
                for path in site.rglob("*")
                if path.is_file()
            }
            gathered(Path(self.after("--output-file")), {name: text for name, (text, _) in self.saw.items()})
        return Completed(0, "", None)

    def after(self, option: str) -> str:
        return self.words[self.words.index(option) + 1]

    def all_after(self, option: str) -> list[str]:
        return [self.words[number + 1] for number, word in enumerate(self.words) if word == option]


def test_site_packages(tmp_path: Path) -> None:
    """pip chooses among the target's wheels and resolves nothing; scripts do not stay."""
    (tmp_path / "site" / "bin").mkdir(parents=True)
    runner = Recorder()
    target = parse_target("linux-arm64")
    install_site_packages("a==1 --hash=sha256:00\n", target, "3.11", Path("/env"), tmp_path, runner)

    assert {"--no-deps", "--require-hashes", "--no-compile"} <= set(runner.words)
    assert runner.after("--only-binary") == ":all:"
    assert set(target.wheel_tags) <= set(runner.all_after("--platform"))
    assert all("aarch64" in tag for tag in runner.all_after("--platform"))
    assert (runner.after("--python-version"), runner.all_after("--abi")) == (
        "3.11",
        ["cp311", "abi3", "none"],
    )
    assert Path(runner.after("-r")).read_text() == "a==1 --hash=sha256:00\n"
    assert runner.options["failure"] is ResolutionError
    assert "linux-arm64" in runner.options["advice"]
    assert (tmp_path / "site").is_dir()
    assert not (tmp_path / "site" / "bin").exists()


def test_records_forget_what_is_not_there(tmp_path: Path) -> None:
    """A script that pip wrote has its Python's path in it, and so its digest in RECORD is another one on another machine."""
    info = tmp_path / "site" / "a-1.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "a, b.py").touch()
    rows = ["../../bin/a,sha256=abc,9", '"a, b.py",sha256=def,0', "a-1.dist-info/RECORD,,", "gone.py,,"]
    (info / "RECORD").write_text("\n".join(rows) + "\n")
    install_site_packages("", parse_target("linux-amd64"), "3.11", Path("/env"), tmp_path, Recorder())

    assert (info / "RECORD").read_text() == '"a, b.py",sha256=def,0\na-1.dist-info/RECORD,,\n'


def test_project_without_dependencies(tmp_path: Path) -> None:
    """pip makes no folder for nothing, and the next step finds one all the same."""
    install_site_packages("", parse_target("linux-amd64"), "3.11", Path("/env"), tmp_path, Recorder())

    assert list((tmp_path / "site").iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_pyz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Dependencies, program and data in one folder, the later one's file where two have one; their sources stay."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError()))
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError()))
    for name, content in {
        "site/a/__init__.py": "site",
        "site/same.py": "site",
        "app/same.py": "app",
        "app/b.py": "b",
        "site/a/data.txt": "site",
        "data.txt": "data",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    output = tmp_path / "out" / "agent.pyz"
    output.parent.mkdir()
    runner = Recorder()
    job = PyzJob(
        site=tmp_path / "site", app=tmp_path / "app", data=((str(tmp_path / "data.txt"), "a"),),
        entry_point="agent:main", python="3.11", epoch=7, env=Path("/env"), output=output,
    )  # fmt: skip
    write_pyz(job, runner)

    assert {name: content for name, (content, _) in runner.saw.items()} == {
        "a/__init__.py": "site", "same.py": "app", "b.py": "b", "a/data.txt": "data",
    }  # fmt: skip
    assert {mode for _, mode in runner.saw.values()} == {0o644}
    assert [(tmp_path / "site" / name).read_text() for name in ("same.py", "a/data.txt")] == ["site", "site"]
    assert runner.after("--entry-point") == "agent:main"
    assert runner.after("--python") == "/usr/bin/env python3.11"
    assert "--reproducible" in runner.words
    assert runner.options["env"]["SOURCE_DATE_EPOCH"] == "7"
    assert list(output.parent.iterdir()) == [output]


def test_the_mode_of_a_cached_file_is_not_changed(tmp_path: Path) -> None:
    """A hard link has the mode of the file that it is another name for."""
    cached, linked = tmp_path / "cached.py", tmp_path / "site" / "linked.py"
    linked.parent.mkdir()
    cached.write_text("x")
    cached.chmod(0o600)
    os.link(cached, linked)
    pyz._plain_modes(linked.parent)

    assert [path.stat().st_mode & 0o777 for path in (cached, linked)] == [0o600, 0o644]
    assert linked.read_text() == "x"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {}),
        ({"UV_DEFAULT_INDEX": "https://a/simple"}, {"PIP_INDEX_URL": "https://a/simple"}),
        ({"UV_DEFAULT_INDEX": "own=https://a/x=y"}, {"PIP_INDEX_URL": "https://a/x=y"}),
        (
            {"UV_INDEX": "own=https://a https://b", "UV_EXTRA_INDEX_URL": "https://c"},
            {"PIP_EXTRA_INDEX_URL": "https://a https://b https://c"},
        ),
        ({"UV_FIND_LINKS": "/wheels,https://d"}, {"PIP_FIND_LINKS": "/wheels https://d"}),
    ],
)
def test_pip_looks_where_uv_has_looked(given: dict[str, str], wanted: dict[str, str]) -> None:
    """Indexes, named or not, and folders of wheels."""
    assert pyz.pip_sources(given) == wanted


# --- what the archive asks for --------------------------------------------------------------------------------------------


def test_needs_of_a_program_of_python_alone(tmp_path: Path) -> None:
    """No native code: no floor, whatever the target promises; size and content are those of what is unpacked."""
    needs = needs_of(gathered(tmp_path / "a", {"a.py": "12345", "b/c.txt": "678"}), PROGRAM)

    assert (needs.native, needs.floor, needs.size) == (0, {}, 8)
    assert (needs.name, needs.entry, needs.days) == ("lamp", "lamp:main", 30)


def test_needs_of_native_code_are_measured(tmp_path: Path) -> None:
    """The floor is that of the libraries inside, not the target's promise."""
    core = Path(msgspec._core.__file__)
    if core.suffix != ".so":
        pytest.skip("no ELF extension at hand")
    program = msgspec.structs.replace(PROGRAM, target=parse_target("linux-amd64"))
    needs = needs_of(gathered(tmp_path / "a", {core.name: core.read_bytes()}), program)

    assert needs.native == 1
    assert set(needs.floor) == {"glibc"}
    assert needs.floor["glibc"].startswith("2.")


@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_every_target_is_asked_for(tmp_path: Path, target: Target) -> None:
    """System, processor and C library of each row reach the archive, and are read back as they were."""
    archive = gathered(tmp_path / "a", {"a.py": ""})
    needs = needs_of(archive, msgspec.structs.replace(PROGRAM, target=target))
    finish(archive, needs, "3.11", EPOCH, tmp_path / "b")

    assert read_needs(tmp_path / "b") == needs
    assert (needs.target, needs.system, needs.machines) == (target.id, target.os, target.machine)
    assert needs.bits == (32 if target.arch == "armv7" else 64)
    assert needs.libc == (target.libc or "")


def test_without_a_target_no_platform_is_asked_for(tmp_path: Path) -> None:
    """A caller that does not say for which target it builds gets an archive that only asks for its Python."""
    needs = needs_of(gathered(tmp_path / "a", {"a.so": ""}), msgspec.structs.replace(PROGRAM, target=None))

    assert (needs.target, needs.system, needs.machines, needs.libc, needs.floor) == ("", "", (), "", {})


@pytest.mark.parametrize(
    ("files", "mode", "same"),
    [
        ({"b.py": "2", "a.py": "1"}, 0o644, True),
        ({"a.py": "1", "b.py": "3"}, 0o644, False),
        ({"a.py": "1", "c.py": "2"}, 0o644, False),
        ({"a.py": "1", "b.py": "2"}, 0o755, False),
    ],
)
def test_the_content_names_the_tree(tmp_path: Path, files: dict[str, str], mode: int, same: bool) -> None:
    """Another content, path or mode is another tree in the cache; the order in which files came is not."""
    first = needs_of(gathered(tmp_path / "a", {"a.py": "1", "b.py": "2"}), PROGRAM)
    other = needs_of(gathered(tmp_path / "b", files, mode=mode), PROGRAM)

    assert (first.content == other.content) is same


def test_the_needs_are_python_for_every_python(tmp_path: Path) -> None:
    """ASCII, and nothing but texts, whole numbers, lists and mappings: also for a name beyond ASCII."""
    needs = needs_of(gathered(tmp_path / "a", {}), msgspec.structs.replace(PROGRAM, entry="lämp:main"))
    text = needs_text(needs)
    scope: dict[str, Any] = {}
    exec(text, scope)

    assert text.isascii()
    assert msgspec.convert(scope["NEEDS"], PyzNeeds) == needs
    assert not {"true", "false", "null"} & set(text.split())


def test_inspect_says_what_the_cache_needs(tmp_path: Path) -> None:
    """A .pyz of ours asks for its cache, and no longer for shiv's."""
    needs = survey_pyz(write(tmp_path / "lamp.pyz", {"a.py": ""}), ">=3.11", ()).needs

    assert needs.runtime == ("a folder for its cache (FERRYMAN_CACHE or HOME)",)


# --- the archive's bytes --------------------------------------------------------------------------------------------------


def test_archive(tmp_path: Path) -> None:
    """Ours in place of shiv's bootstrap; what the check needs is stored; packages with their modes; one date."""
    path = write(tmp_path / "lamp.pyz", {"b.py": "b" * 99, "a/tool": "a"})
    with zipfile.ZipFile(path) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        names = list(infos)

    assert path.read_bytes().startswith(f"#!/usr/bin/env python{PROGRAM.python}\n".encode())
    assert os.access(path, os.X_OK)
    assert names[0] == "__main__.py"
    assert [name for name in names if not name.startswith("_ferryman/")] == [
        "__main__.py", "environment.json", "site-packages/a/tool", "site-packages/b.py",
    ]  # fmt: skip
    assert {name for name, info in infos.items() if info.compress_type == zipfile.ZIP_STORED} == set(
        READ_BY_ANY_PYTHON
    )
    assert {info.date_time for info in infos.values()} == {(2023, 11, 14, 22, 13, 20)}
    assert {info.create_system for info in infos.values()} == {3}


@pytest.mark.parametrize("epoch", [0, 7, 315_532_800])
def test_a_date_that_an_archive_cannot_hold(tmp_path: Path, epoch: int) -> None:
    """Before 1980 is 1980."""
    source = gathered(tmp_path / "a", {"a.py": ""})
    finish(source, needs_of(source, PROGRAM), "3.11", epoch, tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "b") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_archive_depends_on_its_content_alone(tmp_path: Path) -> None:
    """Written twice, in another folder and from files in another order: the same bytes."""
    (tmp_path / "else where").mkdir()
    one = write(tmp_path / "lamp.pyz", {"a.py": "1", "b.py": "2"})
    two = write(tmp_path / "else where" / "other.pyz", {"b.py": "2", "a.py": "1"})

    assert one.read_bytes() == two.read_bytes()


def test_what_starts_it_has_unix_line_ends(tmp_path: Path) -> None:
    """On a checkout with Windows' line ends as well: the bytes are the same wherever it is built."""
    needs = needs_of(gathered(tmp_path / "a", {}), PROGRAM)

    assert all(b"\r" not in content for _, content in starters(needs))


def test_the_name_is_taken_from_the_file(tmp_path: Path) -> None:
    """A caller that gives no name gets the file's."""
    job = PyzJob(
        site=tmp_path, app=tmp_path, data=(), entry_point="a:b", python="3.11", epoch=0, env=tmp_path,
        output=tmp_path / "lamp-1.0-linux-amd64.pyz",
    )  # fmt: skip

    assert pyz._program(job).name == "lamp"


# --- what is inside -------------------------------------------------------------------------------------------------------


def test_the_sbom_is_made_of_all_other_members(tmp_path: Path) -> None:
    """It is given every member with digest and mode, lies among them, is returned, and changes nothing that is unpacked."""
    source = gathered(tmp_path / "a", {"a.py": "12345"}, mode=0o755)
    needs = needs_of(source, msgspec.structs.replace(PROGRAM, sbom_option="--sbom"))
    seen: list[TreeFile] = []

    def describe(members: Sequence[TreeFile]) -> bytes:
        seen.extend(members)
        return b"the document"

    made = finish(source, needs, "3.11", EPOCH, tmp_path / "b", describe)
    finish(source, needs, "3.11", EPOCH, tmp_path / "c")
    with zipfile.ZipFile(tmp_path / "b") as archive, zipfile.ZipFile(tmp_path / "c") as plain:
        contents = {name: archive.read(name) for name in archive.namelist()}
        assert contents.keys() - set(plain.namelist()) == {"_ferryman/sbom.cdx.json"}

    assert made == contents.pop("_ferryman/sbom.cdx.json") == b"the document"
    assert {file.path: file.sha256 for file in seen} == {
        name: hashlib.sha256(content).hexdigest() for name, content in contents.items()
    }
    assert next(file.mode for file in seen if file.path == "site-packages/a.py") == 0o755
    assert read_needs(tmp_path / "b") == read_needs(tmp_path / "c")
    assert read_needs(tmp_path / "b").sbom == "--sbom"
