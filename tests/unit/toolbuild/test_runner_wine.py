"""The Wine runner: a prefix made once and copied for each use, paths and variables as Windows programs see them.

Wine itself is played by two shell scripts; tests/e2e/foreign has the real one.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman_build.cmd import Runner
from ferryman_build.errors import SpaceError, ToolMissingError
from ferryman_build.runners import wine_prefix
from ferryman_build.runners.base import Purpose
from ferryman_build.runners.wine import WinePlace, WineRunner
from ferryman_build.runners.wine_prefix import Prefix, Tools
from ferryman_build.targets import parse_target

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Wine is for everything but Windows")

WINDOWS = parse_target("windows-amd64")
FAKE_WINE = r"""#!/bin/sh
echo "$*" >> "$FAKE_LOG"
case "$1" in
  --version) echo "wine-8.0 (of the test)" ;;
  wineboot)
    [ -n "$FAKE_HANGS" ] && exec sleep 600
    mkdir -p "$WINEPREFIX/drive_c/windows/system32" "$WINEPREFIX/drive_c/users/ann"
    echo MZ > "$WINEPREFIX/drive_c/windows/system32/ntdll.dll"
    ln -s "$HOME" "$WINEPREFIX/drive_c/users/ann/Documents"
    echo registry > "$WINEPREFIX/user.reg" ;;
  regedit) [ -n "$FAKE_DEAF" ] || echo '"Version"="win10"' >> "$WINEPREFIX/user.reg" ;;
  reg) exit 0 ;;
  *) shift; exec "$@" ;;
esac
"""
FAKE_SERVER = """#!/bin/sh
mkdir -p "$WINEPREFIX/server-1-2"; cd "$WINEPREFIX/server-1-2"; : > socket
trap 'exit 0' INT
while :; do sleep 0.02; done
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Wine as scripts, first on PATH; what was asked of it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    asked = tmp_path / "asked"
    for name, text in (("wine", FAKE_WINE), ("wineserver", FAKE_SERVER)):
        (tools / name).write_text(text.replace("$FAKE_LOG", str(asked)))
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FERRYMAN_HOME", str(tmp_path / "home"))
    return asked


def rewrite(log: Path, old: str, new: str) -> None:
    """Another Wine."""
    script = log.parent / "tools" / "wine"
    script.write_text(script.read_text().replace(old, new))


@pytest.fixture
def runner() -> Iterator[Runner]:
    made = Runner()
    yield made
    assert made.end_all() == 0, "something was still running"


@pytest.fixture
def place(tmp_path: Path, log: Path) -> WinePlace:
    (tmp_path / "prefix/drive_c/users/ann").mkdir(parents=True)
    (tmp_path / "prefix/drive_c/users/Public").mkdir()
    return WinePlace(Prefix(tmp_path / "prefix"), Tools(), None, "wine-8.0")


def set_up(runner: Runner) -> Path:
    WineRunner().setup(WINDOWS, runner, lambda _: None)
    return wine_prefix.template("wine-8.0 (of the test)")


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "spelled"),
    [
        ("prefix/drive_c/users/ann/x y.txt", r"C:\users\ann\x y.txt"),
        ("prefix/drive_c", "C:\\"),
        ("prefix/user.reg", "Z:{tmp}\\prefix\\user.reg"),
        ("ä/你.py", "Z:{tmp}\\ä\\你.py"),
    ],
)
def test_paths_are_spelled_by_drive_and_come_back(tmp_path: Path, path: str, spelled: str) -> None:
    """What lies on the drive is C:, everything else Z:, and each spelling leads back to the same path."""
    prefix = Prefix(tmp_path / "prefix")
    text = spelled.replace("{tmp}", str(tmp_path).replace("/", "\\"))

    assert prefix.spell(tmp_path / path) == text
    assert prefix.unspell(text) == tmp_path / path


@pytest.mark.parametrize("start", ["\\\\?\\", "\\??\\", ""])
@pytest.mark.parametrize("drive", ["z", "Z"])
def test_paths_come_back_however_a_program_writes_them(tmp_path: Path, start: str, drive: str) -> None:
    """Prefixes of long paths, either slash, and names in another case than the file has."""
    (tmp_path / "Lib" / "OneFile.py").mkdir(parents=True)
    text = f"{start}{drive}:{tmp_path}/LIB/onefile.PY/new".replace("/", "\\")

    assert Prefix(tmp_path / "p").unspell(text) == tmp_path / "Lib" / "OneFile.py" / "new"


@pytest.mark.parametrize("text", ["", "relative", r"\\server\share", "/unix", "D:\\x", "C:relative"])
def test_what_is_no_path_on_a_drive_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="no path on C: or Z:"):
        Prefix(tmp_path).unspell(text)


def test_a_program_gets_its_variables_under_the_names_that_wine_lets_through(place: WinePlace) -> None:
    """PATH, TEMP, TMP and HOME of Unix never reach a Windows program; those of the program do, and nothing else."""
    env = place.command(
        ["x"],
        cwd=place.prefix.path,
        env={"PATH": "C:\\p", "HOME": "Z:\\h", "A": "1", "Temp": "Z:\\t", "TMPDIR": "Z:\\t"},
    ).env

    assert env["WINEPATH"] == "C:\\p"
    assert env["WINEHOME"] == "Z:\\h"
    assert env["A"] == "1"
    assert env["WINETemp"] == "Z:\\t"
    assert env["USERPROFILE"] == r"C:\users\ann"
    assert env["SYSTEMROOT"] == r"C:\windows"
    assert "WINETEMP" not in env  # the caller's own, whatever its case
    assert env["HOME"].startswith(str(place.prefix.path))
    assert {"USER", "PWD", "PYTHONPATH", "TMPDIR"}.isdisjoint(env)


def test_only_paths_are_spelled(place: WinePlace, tmp_path: Path) -> None:
    """A string is handed over as it is."""
    words = place.command([tmp_path / "a.exe", "/x", tmp_path / "b"], cwd=tmp_path, env={}).words

    assert words[1:] == (place.spell(tmp_path / "a.exe"), "/x", place.spell(tmp_path / "b"))


def test_stop_is_control_c(place: WinePlace, runner: Runner, tmp_path: Path) -> None:
    """SIGINT to the program alone."""
    child = runner.start(["sleep", "60"], cwd=tmp_path, env=dict(os.environ), output=subprocess.DEVNULL)
    place.stop(child)

    assert child.wait(10) == -signal.SIGINT
    runner.forget(child)


# --- what is here -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "host", "runs"),
    [
        ("windows-amd64", "linux-amd64", True),
        ("windows-arm64", "linux-amd64", False),
        ("windows-amd64", "linux-arm64", False),
        ("windows-amd64", "windows-amd64", False),
        ("linux-amd64", "linux-amd64", False),
    ],
)
def test_wine_runs_windows_programs_of_this_processor(target: str, host: str, runs: bool) -> None:
    assert WineRunner().runs(parse_target(target), parse_target(host)) is runs


def test_without_wine_the_advice_is_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runner: Runner
) -> None:
    """No Wine is no error until a place is opened; both say the same."""
    monkeypatch.setenv("PATH", str(tmp_path))
    ready = WineRunner().ready(WINDOWS, Purpose.TRY, {})

    assert not ready.ready
    assert "apt-get install wine" in ready.advice
    with (
        pytest.raises(ToolMissingError) as caught,
        WineRunner().open(WINDOWS, Purpose.TRY, {}, tmp_path, runner),
    ):
        pass
    assert "ferryman runners setup wine" in caught.value.advice


def test_ready_grows_with_what_was_set_up(log: Path, runner: Runner, tmp_path: Path) -> None:
    """A prefix is enough for trying; building needs a Python for Windows as well."""
    kind = WineRunner()
    assert kind.ready(WINDOWS, Purpose.TRY, {}).advice == "ferryman runners setup wine"

    set_up(runner)
    assert kind.ready(WINDOWS, Purpose.TRY, {}).found.startswith("wine-8.0")
    assert kind.ready(WINDOWS, Purpose.TRY, {}).ready
    assert "runtime" in kind.ready(WINDOWS, Purpose.BUILD, {}).advice

    (tmp_path / "python").mkdir()
    (tmp_path / "python/python.exe").touch()
    assert WineRunner(tmp_path / "python").ready(WINDOWS, Purpose.BUILD, {}).ready


def test_the_newest_python_of_the_store_builds(log: Path, runner: Runner, tmp_path: Path) -> None:
    """3.11 is newer than 3.9; a folder without python.exe does not count."""
    set_up(runner)
    for version in ("3.9", "3.11"):
        (wine_prefix.folder() / f"python-{version}").mkdir()
        (wine_prefix.folder() / f"python-{version}" / "python.exe").touch()
    (wine_prefix.folder() / "python-3.12").mkdir()

    with WineRunner().open(WINDOWS, Purpose.BUILD, {}, tmp_path / "work", runner) as place:
        assert place.python == wine_prefix.folder() / "python-3.11" / "python.exe"
    with WineRunner().open(WINDOWS, Purpose.TRY, {}, tmp_path / "work", runner) as place:
        assert place.python is None


# --- prefixes ---------------------------------------------------------------------------------------------------------


def test_a_template_is_made_once_and_has_nothing_of_the_user(log: Path, runner: Runner) -> None:
    """Folders like Documents are links to the user's own, which a program under test would write into."""
    made = set_up(runner)
    asked = log.read_text()
    set_up(runner)

    assert (made / "drive_c/users/ann/Documents").is_dir()
    assert not (made / "drive_c/users/ann/Documents").is_symlink()
    assert log.read_text().count("wineboot") == asked.count("wineboot") == 1
    assert [path.name for path in made.parent.iterdir() if path.name.startswith(".draft")] == []


def test_each_place_is_fresh_and_takes_no_space(log: Path, runner: Runner, tmp_path: Path) -> None:
    """Libraries are the template's own files; registry and user folders are copies, and gone with the place."""
    made = set_up(runner)
    with WineRunner().open(WINDOWS, Purpose.TRY, {}, tmp_path / "work", runner) as place:
        inside = place.prefix.path
        assert (inside / "drive_c/windows/system32/ntdll.dll").samefile(
            made / "drive_c/windows/system32/ntdll.dll"
        )
        (inside / "user.reg").write_text("changed")
        (place.user / "Documents" / "mine").touch()

    assert list((tmp_path / "work").iterdir()) == []
    assert wine_prefix.intact(made)
    with WineRunner().open(WINDOWS, Purpose.TRY, {}, tmp_path / "work", runner) as place:
        assert list((place.user / "Documents").iterdir()) == []


@pytest.mark.parametrize("damage", ["changed", "gone", "more"])
def test_a_damaged_template_is_made_anew(log: Path, runner: Runner, tmp_path: Path, damage: str) -> None:
    """Whatever happened to it since, a program never runs in it."""
    library = set_up(runner) / "drive_c/windows/system32/ntdll.dll"
    {
        "changed": lambda: library.write_text("something else"),
        "gone": library.unlink,
        "more": library.with_name("planted.dll").touch,
    }[damage]()

    with WineRunner().open(WINDOWS, Purpose.TRY, {}, tmp_path / "work", runner) as place:
        found = place.prefix.drive / "windows/system32"
        assert [path.name for path in found.iterdir()] == ["ntdll.dll"]
        assert (found / "ntdll.dll").read_text() == "MZ\n"
    assert log.read_text().count("wineboot") == 2


def test_a_copy_on_another_disk_refers_to_the_template(
    log: Path, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there can be no hard link there is a symbolic one, not 700 MB."""

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "another disk", source)

    made = set_up(runner)
    monkeypatch.setattr(os, "link", refuse)
    copy = wine_prefix.fresh_copy(made, tmp_path / "copy")

    assert (
        copy.drive / "windows/system32/ntdll.dll"
    ).readlink() == made / "drive_c/windows/system32/ntdll.dll"


def test_a_full_disk_is_said_so(
    log: Path, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the template is begun, and when a copy does not fit; neither leaves anything."""
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000_000)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(SpaceError, match="700 MB") as caught:
            set_up(runner)
    assert "FERRYMAN_HOME" in caught.value.advice
    assert not wine_prefix.template("wine-8.0 (of the test)").exists()

    set_up(runner)

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)

    monkeypatch.setattr(os, "link", full)
    with (
        pytest.raises(SpaceError, match="No space left"),
        WineRunner().open(WINDOWS, Purpose.TRY, {}, tmp_path / "work", runner),
    ):
        pass
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "said"), [("FAKE_HANGS", "did not start within"), ("FAKE_DEAF", "does not work")]
)
def test_a_wine_that_makes_no_prefix_is_ended_and_named(
    log: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    """No draft stays, and no process: the fixture asks."""
    monkeypatch.setattr(wine_prefix, "_BOOT_SECONDS", 0.3)
    rewrite(log, f'"${fault}"', '"yes"')
    with pytest.raises(ToolMissingError, match=said) as caught:
        set_up(runner)

    assert "wine" in caught.value.advice
    assert [path.name for path in wine_prefix.folder().iterdir()] == ["lock"]


def test_programs_that_stay_are_named_and_end_with_the_place(
    log: Path, runner: Runner, tmp_path: Path
) -> None:
    """Wine's own services are no leftovers; what a program left running is."""
    set_up(runner)
    with WineRunner().open(WINDOWS, Purpose.TRY, {}, tmp_path / "work", runner) as place:
        assert place.leftovers() == []
        command = place.command(["program", "sleep", "60"], cwd=tmp_path, env={"PATH": "C:\\windows"})
        child = runner.start(command.words, cwd=tmp_path, env=command.env, output=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not place.leftovers() and time.monotonic() < end:
            time.sleep(0.02)
        assert place.leftovers() == [f"sleep ({child.pid})"]
        child.kill()
        child.wait()
        runner.forget(child)
        assert place.leftovers() == []
