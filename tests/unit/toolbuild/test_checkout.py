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
from ferryman_build.checkout import (
    draft_copy,
    drafts_removed_on_error,
    locked,
    replace_all,
    space_problem,
    undo_dead_run,
)
from ferryman_build.errors import BusyError, ConfigError, SpaceError

HOLD = """
import sys
from pathlib import Path
from ferryman_build.checkout import (
    draft_copy,
    drafts_removed_on_error,
    locked,
    replace_all,
    space_problem,
    undo_dead_run,
)
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
    monkeypatch.setattr(checkout, "_try_lock", lambda handle, out: False)

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


# --- folders and locks that cannot be used ----------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "out", "a/out"])
def test_a_file_is_no_folder(tmp_path: Path, below: str) -> None:
    """Neither the folder itself nor one on the way to it may be a file; nothing is made."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match="file is not a folder") as caught,
        locked(tmp_path / "file" / below),
    ):
        pass

    assert "--out" in caught.value.advice


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the system, since root may write to what its bits forbid but not to a read-only file system."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    assert checkout.folder_problem(tmp_path / "new") == f"{tmp_path} cannot be written to"


def test_no_locks_is_not_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is said to be one."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(_handle: int, _what: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigError, match="has no locks") as caught, locked(tmp_path):
        pass

    assert "--out" in caught.value.advice


# --- all or nothing ---------------------------------------------------------------------------------------------------


class Swap:
    """Three targets of which two are there already, and drafts for all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.before = {"a": "old a", "z": "old z"}
        self.after = {"a": "new a", "b": "new b", "z": "new z"}
        for name, text in self.before.items():
            (folder / name).write_text(text)
        self.drafts = [(draft_copy(text.encode(), folder / name, False), folder / name)
                       for name, text in self.after.items()]  # fmt: skip

    def seen(self) -> dict[str, str]:
        """Everything but drafts, hidden names included."""
        drafts = {draft for draft, _ in self.drafts}
        return {path.name: path.read_text() for path in self.folder.iterdir() if path not in drafts}


@pytest.mark.parametrize("links", [True, False])
def test_every_target_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """With hard links and without; no second name stays."""
    swap = Swap(tmp_path)
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    replace_all(swap.drafts)

    assert swap.seen() == swap.after


def _no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("reached", ["a", "b", "z"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_end_between_two_renames_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: str, links: bool, error: type[BaseException]
) -> None:
    """Ctrl-C or a failing disk behind any of the renames."""
    swap = Swap(tmp_path)
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if target.name == reached and not path.name.endswith("-before"):
            if reached != "z":
                real(path, target)
            raise error
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(error):
        replace_all(swap.drafts)

    assert swap.seen() == swap.before


@pytest.mark.parametrize("renamed", [0, 1, 2, 3])
def test_a_killed_run_is_undone_by_the_next_one(tmp_path: Path, renamed: int) -> None:
    """kill -9 behind each rename: what the last target lists decides whether the old or the new files stay."""
    swap = Swap(tmp_path)
    for _, target in swap.drafts:
        checkout._set_aside(target)
    for draft, target in swap.drafts[:renamed]:
        draft.replace(target)

    undo_dead_run(tmp_path / "z")

    fresh = {"b": "new b"} if renamed == 2 else {}  # listed nowhere
    assert swap.seen() == (swap.after if renamed == 3 else {**swap.before, **fresh})
