"""toolchain.fetch: the decoder's sources are found by uv, checked by hash, then unpacked, and nothing beside them."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ferryman_build.cmd import Completed, Redactor, Runner
from ferryman_build.errors import PackageIndexError, ResolutionError, ToolMissingError
from ferryman_build.toolchain import open_toolchain, prepare, read_recipe, zig_lock
from ferryman_build.toolchain.fetch import checked, download, find_sdist, unpack
from ferryman_build.toolchain.recipe import ZstdSource

SOURCE = read_recipe().zstd
TOP = f"backports_zstd-{SOURCE.version}"
NAME = f"{TOP}.tar.gz"
PLAIN = Redactor({})
UNKNOWN = """error: No solution found
  cause: Because backports-zstd was not found in the package registry and you require backports-zstd==1.8.0, we can \
conclude that your requirements are unsatisfiable."""
REFUSED = """error: Request failed after 3 retries
  Caused by: Failed to fetch: `https://index.test/`
  Caused by: Connection refused"""


def archive(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """A source distribution with these files, and symbolic links that point somewhere."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return buffer.getvalue()


def whole() -> dict[str, bytes]:
    """Every file that the launcher needs of it."""
    names = ("lib/zstd.h", *SOURCE.sources)
    return {f"{TOP}/{SOURCE.folder}/{name}": name.encode() for name in names}


def pinned(data: bytes) -> ZstdSource:
    return msgspec.structs.replace(SOURCE, sha256=hashlib.sha256(data).hexdigest())


class Uv(Runner):
    """Answers as uv does: writes the lock, or says why there is none."""

    def __init__(self, lock: str = "", *, says: str = "") -> None:
        super().__init__()
        self.lock, self.says = lock, says
        self.calls: list[tuple[list[str], dict[str, str]]] = []

    def run(self, args: Any, *, cwd: Path | None = None, env: Any = None, **_: Any) -> Completed:
        words = [str(word) for word in args]
        self.calls.append((words, dict(env or {})))
        if "compile" in words and not self.says:
            assert cwd is not None
            (cwd / "pylock.toml").write_text(self.lock)
        return Completed(1 if self.says else 0, self.says, None)


def lock(entry: str) -> str:
    return f'lock-version = "1.0"\n[[packages]]\nname = "backports-zstd"\nversion = "1"\n{entry}\n'


# --- what is pinned ---------------------------------------------------------------------------------------------------


def test_the_pins() -> None:
    """zig is one version by hash, and the decoder's sources one file by hash."""
    (name,) = re.findall(r"^(\S+)==\d[\w.]*", zig_lock(), re.MULTILINE)

    assert name == "ziglang"
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", zig_lock())) >= 10  # one per system and machine
    assert re.fullmatch(r"[0-9a-f]{64}", SOURCE.sha256)


# --- finding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ('sdist = { url = "https://index.test/a/x.tar.gz" }', "https://index.test/a/x.tar.gz"),
        (f'sdist = {{ url = "file:///srv/{NAME}" }}', f"file:///srv/{NAME}"),
        (f'sdist = {{ path = "/srv/a b/{NAME}" }}', f"file:///srv/a%20b/{NAME}"),
    ],
)
def test_uv_says_where_it_is(entry: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever index or folder uv is told to use; exactly the pinned version is asked for."""
    monkeypatch.setenv("UV_FIND_LINKS", "/srv/links")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://index.test/simple")
    runner = Uv(lock(entry))

    assert find_sdist(SOURCE, runner) == address
    ((words, env),) = runner.calls
    assert "--no-deps" in words
    assert env["UV_FIND_LINKS"] == "/srv/links"
    assert env["UV_DEFAULT_INDEX"] == "https://index.test/simple"


def test_an_index_with_wheels_only() -> None:
    """There is nothing to compile then; the message says what is missing and where to put it."""
    with pytest.raises(ResolutionError, match="no source distribution") as caught:
        find_sdist(SOURCE, Uv(lock('wheels = [{ url = "https://index.test/x.whl" }]')))

    assert NAME in caught.value.advice
    assert "UV_FIND_LINKS" in caught.value.advice


@pytest.mark.parametrize(
    ("says", "error"),
    [
        (UNKNOWN, ResolutionError),
        (REFUSED, PackageIndexError),
    ],
)
def test_uv_finds_none(says: str, error: type[Exception]) -> None:
    """No such package, or no index: the two are told apart, and the question is named."""
    with pytest.raises(error, match="the launcher's decoder"):
        find_sdist(SOURCE, Uv(says=says))


# --- downloading ------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An index on this machine that wants a user, and what it was sent."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            known = seen[-1] == f"Basic {base64.b64encode(b'me:p@ss').decode()}"
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(b"content")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"127.0.0.1:{listening.server_port}", seen
        listening.shutdown()
        thread.join()


def test_download_from_a_folder(tmp_path: Path) -> None:
    """A find-links folder is read as it is, spaces in its name or not."""
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / NAME).write_bytes(b"content")

    assert download((tmp_path / "a b" / NAME).as_uri(), SOURCE, PLAIN) == b"content"


def test_download_with_a_password(server: tuple[str, list[str]]) -> None:
    """A user and a password in the address, which urllib does not know, are sent."""
    assert download(f"http://me:p%40ss@{server[0]}/{NAME}", SOURCE, PLAIN) == b"content"


def test_a_password_does_not_follow_a_redirect(server: tuple[str, list[str]]) -> None:
    """Where an index sends on to a store of somebody else's, that one learns neither user nor password."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://{server[0]}/{NAME}")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        with pytest.raises(ResolutionError, match="could not be downloaded"):
            download(f"http://me:p%40ss@127.0.0.1:{listening.server_port}/{NAME}", SOURCE, PLAIN)
        listening.shutdown()
        thread.join()
    assert server[1] == [""]


def test_download_is_refused(server: tuple[str, list[str]]) -> None:
    """The status is told, the password is not."""
    with pytest.raises(ResolutionError, match="Unauthorized") as caught:
        download(f"http://me:wrong@{server[0]}/{NAME}", SOURCE, PLAIN)

    assert "wrong" not in str(caught.value)
    assert "HTTPS_PROXY" in caught.value.advice


@pytest.mark.parametrize(
    "address", [f"http://127.0.0.1:9/{NAME}", f"file:///nowhere/{NAME}", f"ftp://127.0.0.1/{NAME}"]
)
def test_download_fails(address: str) -> None:
    """No network, no such file, and a scheme that nobody wants end with a sentence and a cure."""
    with pytest.raises(ResolutionError) as caught:
        download(address, SOURCE, PLAIN)

    assert caught.value.advice


# --- checking and unpacking -------------------------------------------------------------------------------------------


def test_another_file_is_refused() -> None:
    """Both hashes are told."""
    with pytest.raises(ResolutionError, match="not the file that Ferryman pins") as caught:
        checked(b"an error page", SOURCE)

    assert SOURCE.sha256 in caught.value.details[0]
    assert hashlib.sha256(b"an error page").hexdigest() in caught.value.details[1]


def test_nothing_is_unpacked_before_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with another hash never reaches the reader of archives."""
    (tmp_path / NAME).write_bytes(archive(whole()))
    monkeypatch.setattr("ferryman_build.toolchain.fetch.make_environment", lambda *_: None)
    opened: list[object] = []
    monkeypatch.setattr(tarfile, "open", lambda *_, **given: opened.append(given))

    with pytest.raises(ResolutionError, match="pins"):
        prepare(tmp_path / "into", None, Uv(lock(f'sdist = {{ path = "{tmp_path / NAME}" }}')))  # type: ignore[arg-type]

    assert opened == []
    assert not (tmp_path / "into" / "zstd").exists()


def test_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """env has what the lock names, zstd the sources."""
    data = archive(whole())
    (tmp_path / NAME).write_bytes(data)
    made: list[tuple[Path, str]] = []
    monkeypatch.setattr(
        "ferryman_build.toolchain.fetch.make_environment",
        lambda into, interpreter, requirements, runner: made.append((into, requirements)),
    )
    recipe = msgspec.structs.replace(read_recipe(), zstd=pinned(data))
    monkeypatch.setattr("ferryman_build.toolchain.fetch.read_recipe", lambda: recipe)

    prepare(tmp_path / "into", None, Uv(lock(f'sdist = {{ path = "{tmp_path / NAME}" }}')))  # type: ignore[arg-type]

    assert made == [(tmp_path / "into", zig_lock())]
    assert (tmp_path / "into" / "zstd" / "lib" / "zstd.h").read_bytes() == b"lib/zstd.h"


def test_only_the_decoder_is_written(tmp_path: Path) -> None:
    """No encoder, no build script, nothing outside the folder, no link, whatever the archive calls it."""
    lib = f"{TOP}/{SOURCE.folder}/lib"
    evil = {
        f"{lib}/compress/zstd_compress.c": b"", f"{lib}/legacy/zstd_v01.c": b"", f"{lib}/Makefile": b"",
        f"{TOP}/setup.py": b"", f"{lib}/common/../../../../../../out.h": b"", "/abs/zstd.h": b"",
        f"{lib}/common/deeper/x.h": b"", f"../{SOURCE.folder}/lib/../../x.h": b"", f"{lib}/x.h/y": b"",
    }  # fmt: skip
    links = {f"{lib}/common/link.h": "/etc/passwd"}
    extra = {f"{TOP}/{SOURCE.folder}/LICENSE": b"BSD", f"{lib}/zdict.h": b"z"}

    unpack(archive({**evil, **whole(), **extra}, links), SOURCE, tmp_path / "a" / "zstd")

    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if not path.is_dir()}
    names = ("LICENSE", "lib/zdict.h", "lib/zstd.h", *SOURCE.sources)
    assert written == {f"a/zstd/{name}" for name in names}


@pytest.mark.parametrize("missing", ["lib/zstd.h", SOURCE.sources[-1]])
def test_an_archive_without_a_source(tmp_path: Path, missing: str) -> None:
    """Said before the compiler would say it."""
    members = {name: content for name, content in whole().items() if not name.endswith(missing)}

    with pytest.raises(ResolutionError, match=missing):
        unpack(archive(members), SOURCE, tmp_path)


# --- opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["env/lib/python3.13/site-packages/ziglang/zig", "env/Lib/site-packages/ziglang/zig.exe"]
)
def test_open(tmp_path: Path, place: str) -> None:
    """zig lies where the system's virtual environments put it."""
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()

    found = open_toolchain(tmp_path, tmp_path / "cache")

    assert (found.zig, found.zstd, found.cache) == (tmp_path / place, tmp_path / "zstd", tmp_path / "cache")


def test_open_what_is_empty(tmp_path: Path) -> None:
    """A folder without it is named."""
    with pytest.raises(ToolMissingError, match=re.escape(str(tmp_path))):
        open_toolchain(tmp_path, tmp_path / "cache")
