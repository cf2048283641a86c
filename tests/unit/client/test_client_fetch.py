"""Bytes over http, through proxies and from files: the fetcher against servers on loopback."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ferryman_client import HttpFetcher, UnreachableError, UsageError
from ferryman_client import fetch as module
from ferryman_client.connections import no_answer, proxy_of
from support.web import Handler, Web, serving


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own proxies have no part in these tests."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 40)
    with serving(tmp_path) as made:
        yield made


@pytest.fixture
def fetcher() -> Iterator[HttpFetcher]:
    made = HttpFetcher(timeout=5)
    yield made
    made.close()


def read(fetcher: HttpFetcher, url: str, *, start: int = 0, etag: str = "") -> tuple[int, int, bytes]:
    with fetcher.open(url, start=start, etag=etag) as answer:
        return answer.status, answer.start, b"".join(answer.body)


def test_whole_and_in_part(web: Web, fetcher: HttpFetcher, tmp_path: Path) -> None:
    """A whole body, and the rest of one from an offset, when the entity tag still holds."""
    data = (tmp_path / "file").read_bytes()
    with fetcher.open(f"{web.url}file") as answer:
        tag = answer.etag
        assert b"".join(answer.body) == data

    assert read(fetcher, f"{web.url}file", start=100, etag=tag) == (206, 100, data[100:])
    assert read(fetcher, f"{web.url}file", start=100, etag='"other"') == (200, 0, data)
    assert web.seen[1][1]["Range"] == "bytes=100-"
    assert web.seen[1][1]["If-Range"] == tag


def test_one_connection_for_many_requests(web: Web, fetcher: HttpFetcher) -> None:
    """Requests to one origin share a connection, also over an error in between."""
    ports = []
    web.behave = lambda request: bool(ports.append(request.client_address[1]))  # type: ignore[func-returns-value]
    assert read(fetcher, f"{web.url}file")[0] == 200
    with pytest.raises(UnreachableError):
        read(fetcher, f"{web.url}none")
    assert read(fetcher, f"{web.url}file")[0] == 200

    assert len(ports) == 3
    assert len(set(ports)) == 1


def test_kept_connection_that_the_server_has_closed(web: Web, fetcher: HttpFetcher) -> None:
    """A connection that went stale is replaced without a word."""

    def hang_up(request: Handler) -> bool:
        request.serve()
        request.close_connection = True
        return True

    web.behave = hang_up
    for _ in range(3):
        assert read(fetcher, f"{web.url}file")[0] == 200


def test_body_that_is_left_unread(web: Web, fetcher: HttpFetcher) -> None:
    """Who stops reading in the middle does not spoil the next request."""
    with fetcher.open(f"{web.url}file") as answer:
        next(answer.body)

    assert read(fetcher, f"{web.url}file")[0] == 200


@pytest.mark.parametrize(
    ("status", "word"), [(401, "login"), (403, "refuses"), (404, "URL"), (500, "again"), (503, "again")]
)
def test_errors_of_the_server(web: Web, fetcher: HttpFetcher, status: int, word: str) -> None:
    """An HTTP error has its status and says what to do."""
    web.behave = lambda request: request.answer(status, b"no") is None
    with pytest.raises(UnreachableError, match=f"answered {status}") as caught:
        read(fetcher, f"{web.url}file")

    assert caught.value.status == status
    assert word in caught.value.advice


def test_nobody_listens(fetcher: HttpFetcher) -> None:
    """A refused connection is a sentence with the host."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1 did not answer: .*refused") as caught:
        read(fetcher, f"http://127.0.0.1:{port}/")

    assert caught.value.status == 0


def test_silent_server(web: Web) -> None:
    """A server that says nothing is given up after the timeout."""
    stop = threading.Event()
    web.behave = lambda request: bool(stop.wait(10)) or True
    with pytest.raises(UnreachableError, match="silent for too long"):
        read(HttpFetcher(timeout=0.05), f"{web.url}file")
    stop.set()


def test_crawling_server(web: Web, fetcher: HttpFetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that comes byte by byte for ever is given up, however often it says something."""
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "SLOWEST", 10**12)
    with pytest.raises(UnreachableError, match="comes too slowly"):
        read(fetcher, f"{web.url}file")


def test_body_that_ends_too_early(web: Web, fetcher: HttpFetcher) -> None:
    """A body shorter than its head said is an error, not an end."""
    web.behave = lambda request: request.cut(b"x" * 1000, 10)
    with pytest.raises(UnreachableError, match=r"ended too early|did not answer"):
        read(fetcher, f"{web.url}file")


def test_chunked_body(web: Web, fetcher: HttpFetcher) -> None:
    """A body without a length, in chunks, is read to its end; one that breaks off is an error."""

    def chunked(request: Handler, end: bytes) -> bool:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"5\r\nhello\r\n" + end)
        request.close_connection = True
        return True

    web.behave = lambda request: chunked(request, b"0\r\n\r\n")
    assert read(fetcher, f"{web.url}file")[2] == b"hello"
    web.behave = lambda request: chunked(request, b"")
    with pytest.raises(UnreachableError):
        read(fetcher, f"{web.url}file")


@pytest.mark.parametrize("said", ["bytes 5-9/10", "bytes */10", "", "nonsense"])
def test_another_range_than_asked_for(web: Web, fetcher: HttpFetcher, said: str) -> None:
    """A partial answer says where it begins; what cannot be read begins nowhere."""
    web.behave = lambda request: request.answer(206, b"x", {"Content-Range": said}) is None
    with fetcher.open(f"{web.url}file", start=3) as answer:
        assert answer.start == (5 if said.startswith("bytes 5") else -1)


# --- redirects and secrets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "follows"),
    [
        ("http://a/x", "http://b/y", True), ("http://a/x", "https://b/y", True), ("https://a/x", "https://b/y", True),
        ("https://a/x", "http://a/x", False), ("https://a/x", "file:///etc/passwd", False), ("http://a/x", "file:///etc/passwd", False),
        ("http://a/x", "ftp://b/y", False),
    ],
)  # fmt: skip
def test_where_a_redirect_may_lead(before: str, after: str, follows: bool) -> None:
    """To https from anywhere, from http to http, and nowhere else."""
    if follows:
        assert module._redirected(before, after) == after
    else:
        with pytest.raises(UnreachableError, match="is not followed"):
            module._redirected(before, after)


def test_redirect_to_another_host_gets_no_secret(web: Web, tmp_path: Path) -> None:
    """Headers of the caller go to the origin that was asked, and to no other; a range goes along."""
    with serving(tmp_path) as other:
        web.behave = lambda request: request.answer(302, b"", {"Location": f"{other.url}file"}) is None
        fetcher = HttpFetcher(timeout=5, headers={"Authorization": "Bearer secret"})
        assert read(fetcher, f"{web.url}file", start=5)[0] == 206
        fetcher.close()

        assert web.seen[0][1]["Authorization"] == "Bearer secret"
        assert "Authorization" not in other.seen[0][1]
        assert other.seen[0][1]["Range"] == "bytes=5-"


def test_relative_redirect_keeps_the_secret(web: Web) -> None:
    """Within its origin a redirect takes the headers along."""
    web.behave = lambda request: (
        request.path == "/old" and request.answer(301, b"", {"Location": "file"}) is None
    )
    fetcher = HttpFetcher(timeout=5, headers={"Authorization": "Bearer secret"})
    assert read(fetcher, f"{web.url}old")[0] == 200
    fetcher.close()

    assert [headers["Authorization"] for _, headers in web.seen] == ["Bearer secret"] * 2


# --- proxies ----------------------------------------------------------------------------------------------------------


def test_plain_proxy(web: Web, fetcher: HttpFetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http goes to the proxy with its whole URL, and with the login of the proxy's URL."""
    address = web.url.removeprefix("http://").rstrip("/")
    monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{address}")
    web.behave = lambda request: request.answer(200, request.path.encode()) is None

    assert read(fetcher, "http://repository.invalid/a?b=1")[2] == b"http://repository.invalid/a?b=1"
    assert web.seen[0][1]["Proxy-Authorization"] == f"Basic {base64.b64encode(b'me:p@ss').decode()}"


def test_no_proxy_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """no_proxy is kept, and a proxy without a scheme is one over http."""
    monkeypatch.setenv("https_proxy", "proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", "internal.invalid,127.0.0.1")

    assert proxy_of("https://repository.invalid/x") == "http://proxy.invalid:3128"
    assert proxy_of("https://internal.invalid/x") == ""
    assert proxy_of("http://repository.invalid/x") == ""


def test_tunnel_for_https(web: Web, fetcher: HttpFetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """https asks the proxy for a tunnel and never sends the request in the clear; a refused tunnel is a sentence."""
    asked: list[tuple[str, str | None]] = []

    def connect(request: Handler) -> None:
        asked.append((request.path, request.headers.get("Proxy-Authorization")))
        request.answer(403, b"")

    monkeypatch.setattr(Handler, "do_CONNECT", connect, raising=False)
    address = web.url.removeprefix("http://").rstrip("/")
    monkeypatch.setenv("https_proxy", f"http://me:secret@{address}")
    with pytest.raises(UnreachableError, match="did not answer: Tunnel connection failed: 403"):
        read(fetcher, "https://repository.invalid/secret/path")

    assert asked == [("repository.invalid:443", f"Basic {base64.b64encode(b'me:secret').decode()}")]
    assert web.seen == []


# --- TLS --------------------------------------------------------------------------------------------------------------


@contextmanager
def secure(folder: Path) -> Iterator[tuple[Web, Path]]:
    """A server with a certificate for 127.0.0.1 that only its own file vouches for."""
    pem = folder / "pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", pem, "-out", folder / "crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    with pem.open("ab") as stream:
        stream.write((folder / "crt").read_bytes())
    with serving(folder) as web:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        web.socket = context.wrap_socket(web.socket, server_side=True)
        web.url = web.url.replace("http:", "https:")
        yield web, folder / "crt"


def test_certificates(tmp_path: Path) -> None:
    """A certificate that nobody vouches for is refused with a sentence; `cafile` vouches for one."""
    (tmp_path / "file").write_bytes(b"x")
    with secure(tmp_path) as (web, certificate):
        with pytest.raises(UnreachableError, match=r"certificate of 127\.0\.0\.1 does not hold") as caught:
            read(HttpFetcher(timeout=5), f"{web.url}file")
        assert "clock" in caught.value.advice
        fetcher = HttpFetcher(timeout=5, cafile=str(certificate))
        assert read(fetcher, f"{web.url}file")[2] == b"x"
        web.behave = lambda request: (
            request.answer(302, b"", {"Location": f"http://127.0.0.1:9/{request.path}"}) is None
        )
        with pytest.raises(UnreachableError, match="is not followed"):
            read(fetcher, f"{web.url}file")
        fetcher.close()


# --- files and what is neither ----------------------------------------------------------------------------------------


def test_files(tmp_path: Path, fetcher: HttpFetcher) -> None:
    """A file URL is read, whole or from an offset, also with blanks in its path."""
    path = tmp_path / "with blank" / "ünïcode"
    path.parent.mkdir()
    path.write_bytes(b"0123456789")

    assert read(fetcher, path.as_uri()) == (200, 0, b"0123456789")
    assert read(fetcher, path.as_uri(), start=4) == (206, 4, b"456789")


@pytest.mark.parametrize("name", ["none", "folder", "file/below"])
def test_missing_file(tmp_path: Path, fetcher: HttpFetcher, name: str) -> None:
    """What is no file is not there: 404, as a server would say."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UnreachableError, match="does not exist") as caught:
        read(fetcher, (tmp_path / name).as_uri())

    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/x", "neither http"),
        ("/srv/x", "neither http"),
        ("file://host/x", "names another machine"),
    ],
)
def test_url_of_another_kind(fetcher: HttpFetcher, url: str, words: str) -> None:
    """A URL that cannot be fetched from is the caller's mistake, with a cure."""
    with pytest.raises(UsageError, match=words) as caught:
        read(fetcher, url)
    assert caught.value.advice


def test_error_without_a_text() -> None:
    """An exception that says nothing is named."""
    assert "did not answer: OSError" in str(no_answer("http://host/x", OSError()))
