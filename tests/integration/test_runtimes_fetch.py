"""Fetching runtimes from a real server on loopback: good days, and each kind of bad one."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman_build.errors import FerrymanError, SpaceError
from ferryman_build.runtimes import fetch as module
from ferryman_build.runtimes.fetch import Line, archives, fetch, fetched, read_small
from ferryman_build.runtimes.index import Runtime, index_text, open_index
from ferryman_build.runtimes.mirror import add, archive_name
from ferryman_build.runtimes.prepared import prepare
from ferryman_build.targets import parse_target
from support.runtimes.fake import posix, tar
from support.runtimes.server import (
    Answer,
    Server,
    certificate,
    file,
    redirect,
    serving,
    silent,
    status,
    trickling,
)

CONTENT = tar(posix(prefix="python/"))
SHA = hashlib.sha256(CONTENT).hexdigest()
NAME = "cpython-3.11.9%2B1.tar.gz"
LINE = Line(silence=0.4, window=0.3, slowest=1000)
PATIENT = Line(silence=20, window=20)
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
LINUX = parse_target("linux-amd64")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; no proxy of this machine's."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FERRYMAN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def row(server: Server | None, url: str = NAME, sha256: str = SHA) -> Runtime:
    return Runtime(
        python="3.11.9", target="linux-amd64", url=url, sha256=sha256, base=server.address if server else ""
    )


def left(home: Path) -> list[str]:
    return [path.name for path in home.rglob("*") if path.is_file()]


def test_fetched_once(home: Path) -> None:
    """What was fetched and compared is taken from the home the next time, without a word to the server."""
    said: list[str] = []
    with serving({NAME: file(CONTENT)}) as server:
        path = fetch(row(server), archives(home), LINE, said.append)
        assert path.read_bytes() == CONTENT
        assert (
            fetch(row(server), archives(home), LINE, said.append)
            == path
            == fetched(row(server), archives(home))
        )
        assert server.asked == [(NAME, "")]
        assert len(said) == 1
    assert left(home) == [f"{SHA[:32]}-cpython-3.11.9+1.tar.gz"]


def test_redirects_are_followed(home: Path) -> None:
    """As a release's address leads to a store."""
    with serving({NAME: redirect("/there"), "there": file(CONTENT)}) as server:
        assert fetch(row(server), archives(home), LINE).read_bytes() == CONTENT


def test_password_goes_in_a_header_and_into_no_message(home: Path) -> None:
    """User and password of an address are used, and never shown."""
    with serving({NAME: file(CONTENT)}) as server:
        address = server.address.replace("//", "//me:s3cret%21@")
        fetch(row(None, f"{address}/{NAME}"), archives(home), LINE)
        assert server.asked == [(NAME, f"Basic {base64.b64encode(b'me:s3cret!').decode()}")]
        with pytest.raises(FerrymanError) as caught:
            fetch(row(None, f"{address}/gone", "0" * 64), archives(home), LINE)
    assert "s3cret" not in f"{caught.value}{caught.value.advice}"


def with_password(server: Server) -> str:
    return f"{server.address.replace('//', '//me:s3cret@')}/{NAME}"


def test_password_stays_with_its_server(home: Path) -> None:
    """A mirror that redirects elsewhere does not hand user and password on; to another path of its own they go along."""
    with (
        serving({"there": file(CONTENT)}) as store,
        serving({NAME: redirect(f"{store.address}/there")}) as mirror,
    ):
        fetch(row(None, with_password(mirror)), archives(home), LINE)
    with serving({NAME: redirect("/there"), "there": file(CONTENT)}) as own:
        fetch(row(None, with_password(own)), archives(home) / "own", LINE)

    secret = f"Basic {base64.b64encode(b'me:s3cret').decode()}"
    assert (mirror.asked, store.asked) == ([(NAME, secret)], [("there", "")])
    assert own.asked == [(NAME, secret), ("there", secret)]


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_https_is_not_left(scheme: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect from https to what anybody in between can read is refused, and the second server is not asked."""
    made = certificate(tmp_path)
    if made is None:
        pytest.skip("NOT RUN: no openssl to make a certificate with")
    monkeypatch.setenv("SSL_CERT_FILE", str(made[1]))
    with serving({NAME: file(CONTENT)}) as plain:
        there = redirect(f"{plain.address}/{NAME}".replace("http:", f"{scheme}:"))
        answers = {NAME: there, "ok": redirect("/whole"), "whole": file(CONTENT)}
        with serving(answers, made[0]) as secure:
            assert fetch(row(secure, "ok"), archives(home), LINE).read_bytes() == CONTENT
            with pytest.raises(FerrymanError, match=f"leads from https to {scheme}:") as caught:
                fetch(row(secure), archives(home) / "other", LINE)
    assert (caught.value.exit_code, plain.asked) == (6, [])


def test_proxy_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY: the proxy is asked for the whole address."""
    address = "http://far.invalid/cpython.tar.gz"
    with serving({address: file(CONTENT)}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        assert fetch(row(None, address), archives(home), LINE).read_bytes() == CONTENT


BAD: dict[str, tuple[Answer, int, str]] = {
    "another content": (file(CONTENT + b"x"), 6, "SHA-256 is another"),
    "a web page": (file(PAGE, "text/html; charset=utf-8"), 6, "answers with a web page"),
    "a web page that says it is a file": (file(PAGE), 6, "answers with a web page"),
    "not there": (status(404), 6, "answers 404"),
    "forbidden": (status(403), 6, "answers 403"),
    "a fault of the server": (status(503), 13, "answers 503"),
    "truncated": (file(CONTENT[:-100], length=len(CONTENT)), 13, "ended after"),
    "a size that is no number": (file(CONTENT + b"x", length="many"), 6, "SHA-256 is another"),
    "a size below nothing": (file(CONTENT + b"x", length="-1"), 6, "SHA-256 is another"),
    "silent": (silent(1.5), 13, "sent nothing for 0.4 s"),
    "slow": (trickling(CONTENT, 0.02), 13, "is too slow"),
    "going round in circles": (redirect(f"/{NAME}"), 6, "answers 302"),
    "empty": (file(b""), 6, "SHA-256 is another"),
}


@pytest.mark.parametrize(("answer", "code", "sentence"), BAD.values(), ids=list(BAD))
def test_bad_days(answer: Answer, code: int, sentence: str, home: Path) -> None:
    """Each has its exit code, a sentence that names the address, a cure, and leaves nothing behind."""
    with serving({NAME: answer}) as server, pytest.raises(FerrymanError, match=re.escape(sentence)) as caught:
        fetch(row(server), archives(home), LINE)

    assert caught.value.exit_code == code
    assert "127.0.0.1" in str(caught.value)
    assert caught.value.advice
    assert left(home) == []


def test_a_whole_file_has_a_limit(home: Path) -> None:
    """A server that sends just enough in every window does not keep a build for ever."""
    line = Line(silence=20, window=0.1, slowest=1, longest=0.3, share=1_000_000)
    with (
        serving({NAME: trickling(CONTENT, 0.02)}) as server,
        pytest.raises(FerrymanError, match="is too slow") as caught,
    ):
        fetch(row(server), archives(home), line)
    assert caught.value.exit_code == 13
    assert Line().limit(40_000_000) == 1800 + 400
    assert left(home) == []


@pytest.mark.parametrize("answer", [silent(6.0), trickling(CONTENT, 0.02)], ids=["silent", "trickling"])
def test_ctrl_c_ends_a_download(answer: Answer, home: Path) -> None:
    """At once, whatever the server does; the exit code is that of Ctrl-C, and nothing is left."""
    began = time.monotonic()
    with serving({NAME: answer}) as server:
        with pytest.raises(FerrymanError, match="was broken off") as caught:
            fetch(row(server), archives(home), PATIENT, stopped=lambda: bool(server.asked))
        assert time.monotonic() - began < 4
    assert caught.value.exit_code == 130
    assert left(home) == []


def test_a_build_that_goes_on_gets_its_file(home: Path) -> None:
    """A download that may be stopped, and is not, is the same as any other; so are its failures."""
    with serving({NAME: file(CONTENT)}) as server:
        found = fetch(row(server), archives(home), LINE, stopped=lambda: False)
        with pytest.raises(FerrymanError, match="answers 404"):
            fetch(row(server, "gone", "0" * 64), archives(home), LINE, stopped=lambda: False)
    assert found.read_bytes() == CONTENT


def test_a_server_that_is_down(home: Path) -> None:
    """Nobody listens: said at once, with what to look at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FerrymanError, match="cannot be reached") as caught:
        fetch(row(None, f"http://127.0.0.1:{port}/x"), archives(home), LINE)
    assert caught.value.exit_code == 13
    assert "HTTPS_PROXY" in caught.value.advice


def test_no_certificate(home: Path) -> None:
    """https to a server that speaks none is a sentence, not a traceback."""
    with serving({}) as server, pytest.raises(FerrymanError, match="cannot be reached") as caught:
        fetch(row(None, server.address.replace("http:", "https:") + "/x"), archives(home), LINE)
    assert "SSL_CERT_FILE" in caught.value.advice


def test_no_space_for_what_is_announced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is written, by the size that the server announces."""
    usage = shutil.disk_usage(home.parent)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with serving({NAME: file(CONTENT)}) as server, pytest.raises(SpaceError, match="no space for a runtime"):
        fetch(row(server), archives(home), LINE)
    assert left(home) == []


def test_no_space_while_writing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up in the middle: exit code 10, FERRYMAN_HOME is named, the piece is gone."""

    def full(*arguments: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    with serving({NAME: file(CONTENT)}) as server:
        monkeypatch.setattr(module, "_copy", full)
        with pytest.raises(SpaceError) as caught:
            fetch(row(server), archives(home), LINE)
    assert "FERRYMAN_HOME" in caught.value.advice
    assert left(home) == []


def test_remains_of_killed_runs_go(home: Path) -> None:
    """A draft that nobody writes any more is removed by the next download; a young one may be somebody's."""
    archives(home).mkdir(parents=True)
    for name, age in ((".draft-old", 200_000), (".draft-young", 10)):
        (archives(home) / name).write_bytes(b"x")
        then = (archives(home) / name).stat().st_mtime - age
        os.utime(archives(home) / name, (then, then))
    with serving({NAME: file(CONTENT)}) as server:
        fetch(row(server), archives(home), LINE)

    assert [name for name in left(home) if name.startswith(".draft")] == [".draft-young"]


# --- mirrors ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirrored(home: Path, tmp_path: Path) -> Iterator[tuple[Path, Server]]:
    """(a folder that mirrors a server, a server that serves the folder)."""
    folder = tmp_path / "mirror"
    with serving({NAME: file(CONTENT)}) as origin:
        assert add(row(origin), folder, home, LINE)
        assert not add(row(origin), folder, home, LINE)
        assert len(origin.asked) == 1
    with serving({path.name: file(path.read_bytes(), "text/plain") for path in folder.iterdir()}) as server:
        yield folder, server


def test_a_mirror_serves_by_path_and_by_network(mirrored: tuple[Path, Server], home: Path) -> None:
    """The same folder, named as a folder and as an address, gives the same runtime."""
    folder, server = mirrored
    found = [
        prepare(open_index(place)[0], LINUX, home / place[-3:], line=LINE)
        for place in (str(folder), server.address)
    ]

    assert [one.version for one in found] == ["3.11.9", "3.11.9"]
    assert sorted(path.name for path in folder.iterdir()) == [archive_name(row(None)), "runtimes.toml"]


def test_a_broken_archive_of_a_mirror_is_made_anew(home: Path, tmp_path: Path) -> None:
    """A mirror that was broken off, or whose file went bad, is mended by doing it again."""
    folder = tmp_path / "mirror"
    with serving({NAME: file(CONTENT)}) as origin:
        add(row(origin), folder, home, LINE)
        (folder / archive_name(row(None))).write_bytes(b"half")
        assert add(row(origin), folder, home, LINE)
    assert (folder / archive_name(row(None))).read_bytes() == CONTENT


def test_a_failure_leaves_a_mirror_as_it_was(home: Path, tmp_path: Path) -> None:
    """Nothing half-written, and no row for what is not there."""
    folder = tmp_path / "mirror"
    with serving({NAME: file(CONTENT), "bad": file(PAGE)}) as origin:
        add(row(origin), folder, home, LINE)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(FerrymanError):
            add(row(origin, "bad", "1" * 64), folder, home, LINE)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("answer", [file(PAGE), file(b"  \n<html>"), status(404), status(500), silent(1.5)])
def test_a_mirror_without_a_list(answer: Answer, home: Path) -> None:
    """A web page, an error or silence in the place of runtimes.toml is a sentence."""
    with serving({"runtimes.toml": answer}) as server, pytest.raises(FerrymanError) as caught:
        open_index(server.address, lambda address: read_small(address, LINE))
    assert caught.value.exit_code in (6, 13)
    assert caught.value.advice


def test_a_list_through_the_network(home: Path) -> None:
    """Its relative addresses are the server's."""
    text = index_text([row(None)]).encode()
    with serving({"deep/runtimes.toml": file(text)}) as server:
        (found,) = open_index(f"{server.address}/deep/")
    assert found.address == f"{server.address}/deep/{NAME}"


def test_a_list_is_remembered(home: Path) -> None:
    """A mirror that is down later still serves what was fetched from it; one that was never up does not."""
    with serving({"runtimes.toml": file(index_text([row(None)]).encode()), NAME: file(CONTENT)}) as server:
        address = server.address
        (first,) = open_index(address)
        fetch(first, archives(home), LINE)

    (later,) = open_index(address)
    assert later == first
    assert prepare(later, LINUX, home).version == "3.11.9"
    with pytest.raises(FerrymanError, match="cannot be reached"):
        open_index(f"{address}/another")
