"""A download is whole and right and at its place, or it is not there; what came stays for the next attempt."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from ferryman_client import (
    BusyError,
    HttpFetcher,
    Offer,
    SpaceError,
    StateError,
    UnreachableError,
    UsageError,
    VerifyError,
)
from ferryman_client import download as module
from ferryman_client.download import download
from support.web import Handler, Web, serving

DATA = os.urandom(1_500_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "agent").write_bytes(DATA)
    with serving(tmp_path / "served") as made:
        yield made


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new" / "agent"


def get(web: Web, path: Path, *, urls: tuple[str, ...] = (), **options: object) -> Path:
    fetcher = HttpFetcher(timeout=5)
    usual = {"size": len(DATA), "sha256": SHA256}
    try:
        return download(fetcher, urls or (f"{web.url}agent",), path, **{**usual, **options})  # type: ignore[arg-type]
    finally:
        fetcher.close()


def beside(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir() if one != path)


def ranges(web: Web) -> list[str]:
    return [headers.get("Range", "") for _, headers in web.seen]


def test_download(web: Web, new: Path) -> None:
    """The file, with its bytes and its mode, and nothing else; progress rises to the end."""
    seen: list[tuple[int, int]] = []
    get(web, new, mode=0o755, progress=lambda have, size: seen.append((have, size)))

    assert new.read_bytes() == DATA
    assert beside(new) == []
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(new.stat().st_mode) == 0o755 & ~umask
    assert seen == sorted(seen)
    assert seen[-1] == (len(DATA), len(DATA))


def test_what_is_there_is_not_fetched(web: Web, new: Path) -> None:
    """A file that is right is kept and nobody is asked; one that is wrong is replaced."""
    get(web, new)
    get(web, new)
    assert len(web.seen) == 1
    new.write_bytes(b"x" * len(DATA))
    get(web, new)

    assert new.read_bytes() == DATA


def test_connection_that_breaks(web: Web, new: Path) -> None:
    """After a break the download goes on where it stopped, with the tag of what is there."""
    breaks = iter([400_000, 100])

    def behave(request: Handler) -> bool:
        after = next(breaks, None)
        return (
            after is not None and "Range" not in request.headers and request.cut(DATA, after, {"ETag": tag})
        )

    tag = f'"{hashlib.sha256(DATA).hexdigest()[:12]}"'
    web.behave = behave
    get(web, new)

    assert new.read_bytes() == DATA
    assert ranges(web) == ["", "bytes=400000-"]
    assert web.seen[1][1]["If-Range"] == tag


def test_next_process_goes_on(web: Web, new: Path) -> None:
    """What an attempt that died has left is used by the next one."""
    web.behave = lambda request: request.path == "/agent" and request.cut(DATA, 700_000)
    with pytest.raises(UnreachableError):
        get(web, new)
    assert not new.exists()
    part = new.with_name(f".agent.{SHA256[:16]}.part")
    assert 0 < part.stat().st_size < len(DATA)
    have = part.stat().st_size

    web.behave = None
    web.seen.clear()
    get(web, new)
    assert ranges(web) == [f"bytes={have}-"]
    assert new.read_bytes() == DATA
    assert beside(new) == []


@pytest.mark.parametrize(
    "left", [b"x" * 1000, b"x" * (len(DATA) + 1), b"x" * len(DATA)], ids=["other", "longer", "as long"]
)
def test_rest_that_is_no_beginning(web: Web, new: Path, left: bytes) -> None:
    """A part with other bytes costs one more attempt and spoils nothing."""
    new.parent.mkdir()
    new.with_name(f".agent.{SHA256[:16]}.part").write_bytes(left)
    get(web, new)

    assert new.read_bytes() == DATA
    assert beside(new) == []


def test_object_that_has_changed(web: Web, new: Path) -> None:
    """A tag that no longer holds makes the server begin anew, and the part with it."""
    new.parent.mkdir()
    part = new.with_name(f".agent.{SHA256[:16]}.part")
    part.write_bytes(b"old" * 100)
    part.with_suffix(".etag").write_text('"old"')
    get(web, new)

    assert web.seen[0][1]["If-Range"] == '"old"'
    assert len(web.seen) == 1
    assert new.read_bytes() == DATA


def test_server_without_ranges(web: Web, new: Path) -> None:
    """A server that knows no ranges sends everything again."""
    new.parent.mkdir()
    new.with_name(f".agent.{SHA256[:16]}.part").write_bytes(DATA[:1000])
    web.behave = lambda request: request.answer(200, DATA) is None
    get(web, new)

    assert new.read_bytes() == DATA


def test_server_that_sends_another_range(web: Web, new: Path) -> None:
    """A wrong range is not glued on."""
    new.parent.mkdir()
    new.with_name(f".agent.{SHA256[:16]}.part").write_bytes(DATA[:1000])
    web.behave = lambda request: (
        request.answer(206, DATA[5:], {"Content-Range": f"bytes 5-{len(DATA) - 1}/{len(DATA)}"}) is None
    )
    with pytest.raises(UnreachableError, match="another range"):
        get(web, new)
    assert len(web.seen) == module.ATTEMPTS


def test_server_that_fails_a_few_times(web: Web, new: Path) -> None:
    """A 503 is tried again; as many in a row as attempts are given up."""
    fails = iter(range(module.ATTEMPTS - 1))
    web.behave = lambda request: next(fails, None) is not None and request.answer(503, b"slow down") is None
    get(web, new)
    assert len(web.seen) == module.ATTEMPTS
    new.unlink()

    web.behave = lambda request: request.answer(503, b"slow down") is None
    with pytest.raises(UnreachableError, match="answered 503"):
        get(web, new)
    assert len(web.seen) == 2 * module.ATTEMPTS


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_server_that_refuses(web: Web, new: Path, status: int) -> None:
    """What will not change is asked once."""
    web.behave = lambda request: request.answer(status, b"") is None
    with pytest.raises(UnreachableError, match=f"answered {status}"):
        get(web, new)
    assert len(web.seen) == 1


def test_mirrors(web: Web, new: Path, tmp_path: Path) -> None:
    """The next place goes on with what the last one has sent, and a place that lies is passed over."""
    (tmp_path / "served" / "forged").write_bytes(b"!" + DATA[1:])
    web.behave = lambda request: request.path == "/broken" and request.cut(DATA, 700_000)
    get(web, new, urls=(f"{web.url}none", f"{web.url}forged", f"{web.url}broken", f"{web.url}agent"))

    assert new.read_bytes() == DATA
    assert web.paths[:2] == ["/none", "/forged"]
    assert web.paths[-1] == "/agent"
    assert ranges(web)[-1] != ""


def test_all_mirrors_lie(web: Web, new: Path, tmp_path: Path) -> None:
    """Where no place has the signed bytes nothing is kept; the first failure is told."""
    (tmp_path / "served" / "agent").write_bytes(DATA[:-1] + b"!")
    with pytest.raises(VerifyError, match="/agent is not what is signed") as caught:
        get(web, new, urls=(f"{web.url}agent", f"{web.url}none"))

    assert "mirror" in caught.value.advice
    assert beside(new) == []
    assert not new.exists()


def test_empty_file(web: Web, new: Path, tmp_path: Path) -> None:
    """An artifact without a byte is one too."""
    (tmp_path / "served" / "agent").write_bytes(b"")
    get(web, new, size=0, sha256=hashlib.sha256(b"").hexdigest())

    assert new.read_bytes() == b""


# --- the disk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_disk_that_is_full(web: Web, new: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A device, or a quota, without room ends the download with a sentence; later it goes on with what had room."""
    new.parent.mkdir()
    new.write_bytes(b"the old one")
    append = module._Part._append

    def until_full(part: module._Part, stream: IO[bytes], chunk: bytes, *rest: str) -> None:
        if part.have > 500_000:
            raise OSError(number, os.strerror(number))
        append(part, stream, chunk, *rest)

    monkeypatch.setattr(module._Part, "_append", until_full)
    with pytest.raises(SpaceError, match="No space left for agent") as caught:
        get(web, new)
    assert caught.value.exit_code == 10
    assert "room" in caught.value.advice
    assert new.read_bytes() == b"the old one"

    monkeypatch.undo()
    get(web, new)
    assert new.read_bytes() == DATA
    assert ranges(web)[-1] != ""


def test_room_is_looked_at_first(web: Web, new: Path) -> None:
    """A download that cannot fit is not begun."""
    with pytest.raises(SpaceError, match="the download needs"):
        get(web, new, size=2**60)
    assert web.seen == []


def test_folder_that_cannot_be(web: Web, tmp_path: Path) -> None:
    """A folder that cannot be made is a sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be written"):
        get(web, tmp_path / "file" / "agent")


# --- others -----------------------------------------------------------------------------------------------------------


def test_two_at_once(web: Web, new: Path) -> None:
    """Of two that want the same file one fetches it, and both have it."""
    done: list[Path] = []
    threads = [threading.Thread(target=lambda: done.append(get(web, new))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert done == [new] * 4
    assert len(web.seen) == 1
    assert beside(new) == []


HOLD = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"


def test_another_process_fetches_it(web: Web, new: Path) -> None:
    """A download that another process does not let go of is given up with a sentence."""
    new.parent.mkdir()
    lock = new.with_name(f".agent.{SHA256[:16]}.lock")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BusyError, match="Another process holds"):
            get(web, new, lock_timeout=0.0)
        holder.kill()
    get(web, new)

    assert new.read_bytes() == DATA


@pytest.mark.parametrize("name", ["../agent", "/etc/agent", "a\\b", "", "..", "agent:stream", "x\0"])
def test_name_that_leaves_the_folder(tmp_path: Path, name: str) -> None:
    """A file is called by a plain name, whoever asks for another."""
    from ferryman_client import Client

    offer = Offer(name="a", version="1", target="t", kind="pyz", path="a/1/a", size=1, sha256=SHA256)
    with pytest.raises(UsageError, match="cannot be used as a name"):
        Client("file:///", tmp_path, root=None).download(offer, tmp_path, name=name or " ")


@pytest.mark.parametrize(("kind", "mode"), [("executable", 0o755), ("pyz", 0o755), ("archive", 0o644)])
def test_mode_by_kind(kind: str, mode: int) -> None:
    """What is run can be run."""
    assert (
        Offer(name="a", version="1", target="t", kind=kind, path="a/1/a", size=1, sha256=SHA256).mode == mode
    )
