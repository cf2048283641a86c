"""checkout: one build at a time, whoever dies; and a draft that never stays when something goes wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferryman_build import checkout
from ferryman_build.checkout import draft_copy, drafts_removed_on_error, locked, space_problem
from ferryman_build.errors import BusyError, SpaceError

HOLD = """
import sys
from pathlib import Path
from ferryman_build.checkout import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of ``tmp_path``/out until its standard input says something."""
    source = str(Path(checkout.__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": source},
    ) as child:  # fmt: skip
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            yield child
        finally:
            child.kill()


def test_second_process_is_refused(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    """The message names the folder and the process, the advice a way out; when the other is done the way is free."""
    with pytest.raises(BusyError, match=rf"process {other.pid}\)") as caught, locked(tmp_path / "out"):
        pass

    assert str(tmp_path / "out") in str(caught.value)
    assert "--out" in caught.value.advice
    assert caught.value.exit_code == 11
    other.communicate("go\n")
    with locked(tmp_path / "out"):
        assert (tmp_path / "out" / ".lock").read_text() == f"{os.getpid()}\n"


def test_refusal_leaves_the_owners_number(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    """Whoever is refused does not write into the lock."""
    for _ in range(2):
        with pytest.raises(BusyError, match=f"process {other.pid}"), locked(tmp_path / "out"):
            pass


def test_killed_owner_leaves_no_lock(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    """The lock ends with its process, also on kill -9."""
    other.send_signal(signal.SIGKILL)
    other.wait()

    with locked(tmp_path / "out"):
        pass


def test_lock_ends_with_the_block(tmp_path: Path) -> None:
    """Whatever leaves the block frees the lock; other folders are free anyway."""
    with pytest.raises(KeyError), locked(tmp_path / "deep" / "out"), locked(tmp_path / "other"):
        raise KeyError
    with locked(tmp_path / "deep" / "out"):
        pass


def test_lock_without_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that has not written its number yet is unknown, not an empty pair of brackets."""
    monkeypatch.setattr(checkout, "_try_lock", lambda handle: False)

    with pytest.raises(BusyError, match=r"\(process unknown\)"), locked(tmp_path):
        pass


@pytest.mark.parametrize("free", [499_999_999, 500_000_000])
def test_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """The folder that is there or will be is looked at; the sentence has both numbers."""
    asked: list[Path] = []
    usage = shutil_usage(free)
    monkeypatch.setattr(checkout.shutil, "disk_usage", lambda path: asked.append(path) or usage)

    problem = space_problem(tmp_path / "a" / "b")

    assert asked == [tmp_path]
    assert problem == (
        "" if free >= 500_000_000 else f"{tmp_path} has 499 MB free and a build needs about 500 MB"
    )


def shutil_usage(free: int) -> object:
    return type("usage", (), {"free": free})


def test_space_of_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is only a name lies in the current one."""
    monkeypatch.chdir(tmp_path)

    assert space_problem(Path("not-there"), needed=0) == ""
    assert space_problem(Path("not-there"), needed=1 << 80).startswith(". has ")


@pytest.mark.parametrize(("executable", "mode"), [(True, 0o755), (False, 0o644)])
def test_draft(tmp_path: Path, executable: bool, mode: int) -> None:
    """The draft is hidden beside its target, has its content and its mode whatever the umask, and changes nothing."""
    target = tmp_path / "product.tar.gz"
    target.write_text("old")
    before = os.umask(0o077)
    try:
        draft = draft_copy(b"new", target, executable)
    finally:
        os.umask(before)

    assert (draft.parent, draft.name.startswith(".product.tar.gz.")) == (tmp_path, True)
    assert (draft.read_bytes(), target.read_text()) == (b"new", "old")
    assert draft.stat().st_mode & 0o777 == mode


def raising(error: BaseException) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize("place", ["os.fsync", "tempfile.mkstemp"])
@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (OSError(errno.ENOSPC, "full"), SpaceError),
        (OSError(errno.EDQUOT, "quota"), SpaceError),
        (OSError(errno.EIO, "broken"), OSError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_draft_that_cannot_be_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    error: BaseException,
    wanted: type[BaseException],
) -> None:
    """Nothing stays, and a full disk is said in a sentence, also when not even the name can be made."""
    module, name = place.split(".")
    monkeypatch.setattr({"os": os, "tempfile": tempfile}[module], name, raising(error))

    with pytest.raises(wanted) as caught:
        draft_copy(b"x" * 10_000, tmp_path / "product", False)

    assert type(caught.value) is wanted
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_drafts_are_removed(tmp_path: Path, error: type[BaseException]) -> None:
    """Those that were not renamed go, what was renamed stays, and without an error all stay."""

    def two_drafts_and_one_rename() -> None:
        with drafts_removed_on_error() as drafts:
            for name in ("one", "two"):
                drafts.append((draft_copy(b"", tmp_path / name, False), tmp_path / name))
            drafts[0][0].rename(drafts[0][1])
            raise error

    with pytest.raises(error):
        two_drafts_and_one_rename()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]

    with drafts_removed_on_error() as kept:
        kept.append((draft_copy(b"", tmp_path / "three", False), tmp_path / "three"))
    assert kept[0][0].exists()
