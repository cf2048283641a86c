"""The folder of test runtimes, made by makers that make next to nothing."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from ferryman_build.runtimes.index import open_index
from ferryman_build.runtimes.prepared import prepare
from ferryman_build.targets import parse_target
from support.ferryman import ROOT
from support.runtimes import folder
from support.runtimes.archive import files, write_archive
from support.runtimes.fake import posix
from support.runtimes.makers import MAKERS, Job, Made, Maker

AMD64 = "linux-amd64"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made, in order; linux-arm64 cannot be."""
    made: list[str] = []

    def make(job: Job) -> Made:
        assert job.work.is_dir()
        assert job.helper is None or job.helper.is_file()
        made.append(job.output.name.rpartition("-")[0].rpartition("3.11-")[2])
        write_archive(posix(), job.output)
        return Made("3.11.9", "nobody")

    def fail(job: Job) -> Made:
        job.output.write_bytes(b"half")
        raise UnavailableError("no mmdebstrap")

    makers = {
        AMD64: Maker(1, make),
        "windows-amd64": Maker(1, make, helper=AMD64),
        "linux-arm64": Maker(1, fail),
    }
    monkeypatch.setattr(folder, "MAKERS", makers)
    monkeypatch.setattr(folder, "LOW_FLOOR", {AMD64: Maker(9, make)})
    return made


def test_made_once(made: list[str], tmp_path: Path) -> None:
    """A second call makes what is missing and leaves the rest; the result is a list that Ferryman reads."""
    folder.make([AMD64], tmp_path)
    folder.make([AMD64, "windows-amd64"], tmp_path)

    assert len(made) == 2
    rows = open_index(str(tmp_path))
    assert [row.target for row in rows] == [AMD64, "windows-amd64"]
    assert prepare(rows[0], parse_target(AMD64), tmp_path / "home").version == "3.11.9"


def test_a_newer_maker_makes_again(made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row is replaced; a list has one row per target."""
    folder.make([AMD64], tmp_path)
    monkeypatch.setattr(folder, "MAKERS", {AMD64: Maker(2, folder.MAKERS[AMD64].make)})
    folder.make([AMD64], tmp_path)

    assert len(made) == 2
    assert len(open_index(str(tmp_path))) == 1


def test_helper_is_made_first(made: list[str], tmp_path: Path) -> None:
    """A cross build needs the interpreter of this machine, whoever asks for it."""
    folder.make(["windows-amd64"], tmp_path)
    assert made == [AMD64, "windows-amd64"]


def test_low_floor_replaces_and_stays(made: list[str], tmp_path: Path) -> None:
    """What was made with a low floor serves whoever does not ask for one; the other way around it is made again."""
    for low_floor in (False, True, False, True):
        folder.make([AMD64], tmp_path, low_floor=low_floor)

    assert len(made) == 2
    assert open_index(str(tmp_path))[0].url == folder.archive_name(AMD64, folder.LOW_FLOOR[AMD64])


def test_a_failure_leaves_nothing(made: list[str], tmp_path: Path) -> None:
    """What cannot be made is an error with its reason, and the folder is as before."""
    folder.make([AMD64], tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UnavailableError, match="no mmdebstrap"):
        folder.make(["linux-arm64"], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_archive_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    """Order, dates and owners make no difference; links out of the folder and bytecode do not come along."""
    for number, order in enumerate((1, -1)):
        place = tmp_path / str(number)
        (place / "__pycache__").mkdir(parents=True)
        for name in ("a", "b/c", "__pycache__/x.pyc")[::order]:
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(name, encoding="utf-8")
        (place / "in").symlink_to("b/c")
        (place / "out").symlink_to("../../etc")
        write_archive(dict(files(place, "x/")), tmp_path / f"{number}.tar.zst")
    assert sorted(name for name, _ in files(tmp_path / "0", "x/")) == ["x/a", "x/b/c", "x/in"]
    assert (tmp_path / "0.tar.zst").read_bytes() == (tmp_path / "1.tar.zst").read_bytes()


def test_tool_refuses_unknown_targets(capsys: pytest.CaptureFixture[str]) -> None:
    """The script names what it does not know, and what it does."""
    script = runpy.run_path(str(ROOT / "tools" / "test_runtimes.py"))
    with pytest.raises(SystemExit) as caught:
        script["main"](["linux-vax"])
    assert caught.value.code == 2
    assert "linux-vax" in capsys.readouterr().err
    assert all(parse_target(name).id == name for name in MAKERS)
