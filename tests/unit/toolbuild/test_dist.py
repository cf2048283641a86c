"""dist: all products or none, the manifest last, and never a file that someone else put there."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from ferryman_build.artifacts import Artifact, Kind, Manifest, ProjectInfo, Source
from ferryman_build.dist import MANIFEST, SUMS, deliver
from ferryman_build.errors import ConfigError, SpaceError
from ferryman_build.manifest import manifest_bytes, read_manifest


class Build:
    """A build's products in a work folder: name → content, and the manifest that lists them."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.dist = work / "dist"

    def products(self, contents: dict[str, str]) -> dict[str, Path]:
        folder = self.work / "products"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_text(content)
        return {name: folder / name for name in contents}

    def manifest(self, contents: dict[str, str], source: str = "s1", version: str = "1") -> Manifest:
        return Manifest(
            project=ProjectInfo(name="agent", version=version), source=Source(digest=source), tools={"python": version},
            artifacts=tuple(
                Artifact(
                    kind=Kind.ARCHIVE if name.endswith(".tar.gz") else Kind.EXECUTABLE,
                    target=name.removesuffix(".tar.gz").partition("-")[2], path=name, size=len(content),
                    sha256=hashlib.sha256(content.encode()).hexdigest(), collector="pyinstaller",
                )
                for name, content in contents.items()
            ),
        )  # fmt: skip

    def deliver(self, contents: dict[str, str], source: str = "s1", version: str = "1") -> tuple[str, ...]:
        whole, removed = deliver(self.manifest(contents, source, version), self.products(contents), self.dist)
        assert (self.dist / MANIFEST).read_bytes() == manifest_bytes(whole)
        return removed

    def files(self) -> dict[str, str]:
        """What lies in dist/, less the two lists."""
        return {
            path.name: path.read_text() for path in self.dist.iterdir() if path.name not in (MANIFEST, SUMS)
        }

    def everything(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() if path.is_file() else b"folder" for path in self.dist.iterdir()}

    def listed(self) -> list[str]:
        return sorted(artifact.path for artifact in read_manifest(self.dist / MANIFEST).artifacts)


LINUX = {"a-linux-amd64.tar.gz": "archive", "a-linux-amd64": "program"}
ARM = {"a-linux-arm64.tar.gz": "arm archive"}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


# --- what is delivered ------------------------------------------------------------------------------------------------


def test_delivered(build: Build) -> None:
    """Products, sums and manifest, nothing hidden beside them; programs can be run, archives need not."""
    assert build.deliver(LINUX) == ()

    assert build.files() == LINUX
    assert sorted(build.everything()) == [SUMS, "a-linux-amd64", "a-linux-amd64.tar.gz", MANIFEST]
    modes = {path.name: path.stat().st_mode & 0o777 for path in build.dist.iterdir()}
    assert modes == {"a-linux-amd64": 0o755, "a-linux-amd64.tar.gz": 0o644, MANIFEST: 0o644, SUMS: 0o644}
    assert sorted(
        line.split()[1].lstrip("*") for line in (build.dist / SUMS).read_text().splitlines()
    ) == sorted(LINUX)


def test_manifest_is_last(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 2: when the manifest appears, what it lists is there; before the first rename every draft is there."""
    order: list[str] = []
    replace = Path.replace

    def watched(draft: Path, target: Path) -> Path:
        if not order:
            assert len([path for path in build.dist.iterdir() if path.name.startswith(".")]) == 4
        order.append(target.name)
        return replace(draft, target)

    monkeypatch.setattr(Path, "replace", watched)
    build.deliver(LINUX)

    assert sorted(order[:2]) == sorted(LINUX)
    assert order[2:] == [SUMS, MANIFEST]


def test_same_bytes_are_not_written_again(build: Build) -> None:
    """A product that is there already keeps its time and its inode."""
    build.deliver(LINUX)
    path = build.dist / "a-linux-amd64"
    os.utime(path, (1, 1))
    build.deliver(LINUX)

    assert path.stat().st_mtime == 1


def test_link_in_the_way(build: Build, tmp_path: Path) -> None:
    """A link under a product's name gives way to the product, and what it led to stays as it was."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("program")
    build.dist.mkdir()
    (build.dist / "a-linux-amd64").symlink_to(elsewhere)
    build.deliver(LINUX)

    assert not (build.dist / "a-linux-amd64").is_symlink()
    assert elsewhere.read_text() == "program"


# --- rule 1: all or nothing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("error", "wanted"),
    [(OSError(errno.ENOSPC, "full"), SpaceError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_copy_that_fails(
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
    error: BaseException,
    wanted: type[BaseException],
) -> None:
    """Whichever of the copies cannot be written, dist/ is as it was, to the byte."""
    build.deliver({"a-linux-amd64": "old", **ARM})
    before = build.everything()
    calls: list[int] = []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == failing:
            raise error

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(wanted):
        build.deliver(LINUX, "s2")

    assert len(calls) == failing
    assert build.everything() == before


@pytest.mark.parametrize("name", [*LINUX, MANIFEST, SUMS])
def test_folder_in_the_way(build: Build, name: str) -> None:
    """A folder with a product's name is said before anything is renamed."""
    if name != MANIFEST:
        build.deliver({"a-linux-amd64.tar.gz": "old"})
    (build.dist / name).unlink(missing_ok=True)
    (build.dist / name).mkdir(parents=True)
    before = build.everything()

    with pytest.raises(ConfigError, match=f"{name} is a folder"):
        build.deliver(LINUX, "s2")

    assert build.everything() == before


def test_missing_product(build: Build) -> None:
    """A product that is not there changes nothing either."""
    build.deliver(ARM)
    before = build.everything()
    products = {**build.products(LINUX), "gone": build.work / "gone"}

    with pytest.raises(FileNotFoundError):
        deliver(build.manifest(LINUX, "s2"), products, build.dist)

    assert build.everything() == before


# --- rule 3: earlier builds -------------------------------------------------------------------------------------------


def test_other_target_of_the_same_source_stays(build: Build) -> None:
    """One machine may build target after target; the lists have all of them."""
    build.deliver(LINUX)

    assert build.deliver(ARM) == ()
    assert build.files() == {**LINUX, **ARM}
    assert build.listed() == sorted({**LINUX, **ARM})
    assert len((build.dist / SUMS).read_text().splitlines()) == 3


def test_same_target_again_takes_the_place(build: Build) -> None:
    """The same source may give other bytes (another tool): the new artifact replaces the old entry."""
    build.deliver(LINUX)
    build.deliver({**LINUX, "a-linux-amd64": "program, with another tool"})

    assert build.listed() == sorted(LINUX)
    assert build.files()["a-linux-amd64"] == "program, with another tool"


def test_renamed_artifact_of_the_same_target(build: Build) -> None:
    """An artifact that has another name now leaves no file under the old one."""
    build.deliver({"a-linux-amd64": "program"})

    assert build.deliver({"b-linux-amd64": "program"}) == ("a-linux-amd64",)
    assert build.files() == {"b-linux-amd64": "program"}


@pytest.mark.parametrize(("source", "version"), [("s2", "1"), ("s1", "2")])
def test_other_source_takes_old_artifacts_out(build: Build, source: str, version: str) -> None:
    """Another source or version: what the old manifest lists goes, from the list and from the folder."""
    build.deliver({**LINUX, **ARM})

    assert build.deliver(LINUX, source, version) == tuple(ARM)
    assert build.files() == LINUX
    assert build.listed() == sorted(LINUX)


def test_foreign_files_stay(build: Build) -> None:
    """What no manifest lists is not ours to remove."""
    build.deliver(ARM)
    (build.dist / "notes.txt").write_text("mine")
    (build.dist / "folder").mkdir()

    build.deliver(LINUX, "s2")

    assert {"notes.txt", "folder"} <= build.everything().keys()


@pytest.mark.parametrize("content", ["edited by hand", "arm archivE"])
def test_edited_file_stays(build: Build, content: str) -> None:
    """A listed file with other bytes, were it of the same size, is somebody's work by now."""
    build.deliver({**ARM, "a-darwin-arm64": "mac"})
    (build.dist / "a-linux-arm64.tar.gz").write_text(content)

    assert build.deliver(LINUX, "s2") == ("a-darwin-arm64",)
    assert build.files() == {**LINUX, "a-linux-arm64.tar.gz": content}


def test_kept_artifact_must_be_there(build: Build) -> None:
    """An artifact of the same source that was edited or removed is not listed any longer."""
    build.deliver({**LINUX, **ARM})
    (build.dist / "a-linux-arm64.tar.gz").unlink()
    (build.dist / "a-linux-amd64").write_text("edited")

    build.deliver({"a-darwin-arm64": "mac"})

    assert build.listed() == ["a-darwin-arm64", "a-linux-amd64.tar.gz"]
    assert build.files()["a-linux-amd64"] == "edited"


@pytest.mark.parametrize("text", ["", "{", "{}", '{"schema-version": 999}', "\x00"])
def test_unreadable_manifest_lists_nothing(build: Build, text: str) -> None:
    """What cannot be read lists nothing: nothing of it is kept, and nothing removed."""
    build.deliver(ARM)
    (build.dist / MANIFEST).write_text(text)

    assert build.deliver(LINUX) == ()
    assert build.files() == {**LINUX, **ARM}
    assert build.listed() == sorted(LINUX)


def test_files_are_removed_after_the_manifest(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the manifest at any time finds what it lists."""
    build.deliver(ARM)
    unlink = Path.unlink

    def watched(path: Path, missing_ok: bool = False) -> None:
        assert path.name not in build.listed()
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)

    assert build.deliver(LINUX, "s2") == tuple(ARM)


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o777])
def test_an_equal_product_gets_its_mode_back(build: Build, mode: int) -> None:
    """The right bytes without the executable bit are not the product."""
    build.deliver(LINUX)
    program = build.dist / "a-linux-amd64"
    program.chmod(mode)
    build.deliver(LINUX)

    assert program.stat().st_mode & 0o777 == 0o755


def test_an_end_between_the_renames_leaves_the_old_release(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New products never lie under the old manifest."""
    build.deliver(LINUX)
    before = build.everything()
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if target.name == MANIFEST and not path.name.endswith("-before"):
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        build.deliver({name: f"new {name}" for name in (*LINUX, *ARM)}, "s2")

    assert build.everything() == before


# --- what lies beside an artifact -----------------------------------------------------------------------------------------


def described(build: Build, program: str, sbom: str, source: str = "s1") -> tuple[str, ...]:
    """Deliver a program with its SBOM; the names of what was removed."""
    manifest = build.manifest({"a-linux-amd64": program}, source)
    artifact = msgspec.structs.replace(
        manifest.artifacts[0], sbom="a.cdx.json", sbom_sha256=hashlib.sha256(sbom.encode()).hexdigest()
    )
    whole = msgspec.structs.replace(manifest, artifacts=(artifact,))
    files = build.products({"a-linux-amd64": program, "a.cdx.json": sbom})
    return deliver(whole, files, build.dist)[1]


def test_an_sbom_is_a_product(build: Build) -> None:
    """It is delivered with its artifact, listed in the sums, and cannot be run."""
    assert described(build, "program", "inside") == ()

    assert build.files() == {"a-linux-amd64": "program", "a.cdx.json": "inside"}
    assert (build.dist / "a.cdx.json").stat().st_mode & 0o777 == 0o644
    assert (build.dist / SUMS).read_text().splitlines()[1].endswith("  a.cdx.json")


def test_an_sbom_goes_with_its_artifact(build: Build) -> None:
    """Of another source both are removed; one that was edited stays, and its artifact is not kept for a later build."""
    described(build, "program", "inside")
    assert build.deliver(ARM, "s2") == ("a-linux-amd64", "a.cdx.json")

    described(build, "program", "inside", "s2")
    (build.dist / "a.cdx.json").write_text("edited")
    build.deliver(ARM, "s2")
    assert build.listed() == sorted(ARM)
    assert build.files()["a.cdx.json"] == "edited"
