"""The http check against servers on loopback: what it sends, what it asks of an answer, and servers that misbehave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from support.certificates import Authority
from watchkeeper.checks import Level, Outcome, Word, look
from watchkeeper.checks.http import _trusted, request
from watchkeeper.checks.tls import client_context
from watchkeeper.config.schema.checks import BasicAuth, HttpCheck, JsonRule, Redirects
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.errors import ErrorClass

pytestmark = pytest.mark.asyncio
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Reply = Callable[[str], bytes]


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """An answer with a length."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}"])
    return f"{head}\r\n\r\n".encode() + body


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None, path: Path | None = None
) -> AsyncIterator[int]:
    """A server; its port, or 0 for a Unix socket."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    if path is not None:
        server = await asyncio.start_unix_server(handle, path)
    else:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield 0 if path is not None else server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)


def replying(reply: Reply, asked: list[str] | None = None) -> Handler:
    """Answers each request, which is noted, with what `reply` says."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        if asked is not None:
            asked.append(request)
        writer.write(reply(request))
        await writer.drain()

    return handle


async def ask(reply: bytes | Reply, **fields: Any) -> Outcome:
    """One look at a server that answers so."""
    handler = replying(reply if callable(reply) else lambda _request: reply)
    async with serving(handler) as port:
        return await look(HttpCheck(url=f"http://127.0.0.1:{port}/", timeout=10.0, **fields))


async def test_the_request() -> None:
    """It ends the connection, says who asks, and asks for nothing to be encoded; own headers win."""
    asked: list[str] = []
    async with serving(replying(lambda _: answer(), asked)) as port:
        url = f"http://127.0.0.1:{port}/a%20b/\u00e4?q=1"
        await look(HttpCheck(url=url, timeout=10.0))
        await look(
            HttpCheck(
                url=url,
                timeout=10.0,
                method="POST",
                headers={"host": "other", "X-A": "b", "accept": "text/*"},
            )
        )
    first, second = (request.split("\r\n") for request in asked)
    assert first[0] == "GET /a%20b/%C3%A4?q=1 HTTP/1.1"
    assert first[1] == f"Host: 127.0.0.1:{port}"
    assert first[2].startswith("User-Agent: watchkeeper/")
    assert first[3:6] == ["Accept: */*", "Accept-Encoding: identity", "Connection: close"]
    assert second[0].startswith("POST ")
    assert {"Host: other", "Accept: text/*", "X-A: b", "Content-Length: 0"} <= set(second)
    assert sum(line.lower().startswith("host:") for line in second) == 1


@pytest.mark.parametrize(
    ("status", "accepted", "word"),
    [
        ("200", (), Word.OK),
        ("399", (), Word.OK),
        ("199", (), Word.UNREACHABLE),  # an interim answer, and then nothing
        ("400", (), Word.BAD_STATUS),
        ("204", ("200-299",), Word.OK),
        ("299", ("200-299",), Word.OK),
        ("300", ("200-299",), Word.BAD_STATUS),
        ("404", (200, "400-404"), Word.OK),
        ("200", (201, "400-404"), Word.BAD_STATUS),
    ],
)
async def test_statuses(status: str, accepted: tuple[int | str, ...], word: Word) -> None:
    """A set, ranges, or the kubelet's range; the word says that an answer came, and that it was no."""
    outcome = await ask(answer(status=f"{status} X"), status=accepted)
    assert outcome.word is word
    assert outcome.error_class is (None if word is Word.OK else ErrorClass.CHECK_FAILED)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"expect_headers": {"X-Version": r"^2\."}}, None),
        ({"expect_headers": {"x-version": ""}}, None),
        ({"expect_headers": {"X-Version": "^3"}}, "its header X-Version is '2.1'"),
        ({"expect_headers": {"X-None": ""}}, "it has no header X-None"),
        ({"expect_body": r"\bup\b"}, None),
        ({"expect_body": "down"}, "its body has no 'down'"),
        ({"reject_body": "down"}, None),
        ({"reject_body": "u."}, "its body has 'up'"),
        ({"expect_json": (JsonRule(path="state", equals="up"),)}, None),
        ({"expect_json": (JsonRule(path="state", equals="no"),)}, "its state is up"),
        ({"expect_json": (JsonRule(path="gone"),)}, "its JSON has no gone"),
        ({"expect_json": (JsonRule(path="n"),)}, None),
        ({"expect_json": (JsonRule(path="n", minimum=3, maximum=3),)}, None),
        ({"expect_json": (JsonRule(path="n", maximum=2.5),)}, "its n is 3"),
        ({"expect_json": (JsonRule(path="state", minimum=1),)}, "its state is up"),
        # JSON's types are kept apart.
        ({"expect_json": (JsonRule(path="n", equals=3.0),)}, None),
        ({"expect_json": (JsonRule(path="n", equals="3"),)}, "its n is 3"),
        ({"expect_json": (JsonRule(path="on", equals=True),)}, None),
        ({"expect_json": (JsonRule(path="on", equals=1.0),)}, "its on is true"),
        ({"expect_json": (JsonRule(path="on", minimum=0),)}, "its on is true"),
        ({"expect_json": (JsonRule(path="list[*]", matches="^[ab]$"),)}, None),
        ({"expect_json": (JsonRule(path="list[*]", matches="^a$"),)}, "its list[*] is b"),
        ({"expect_json": (JsonRule(path="list", matches='"a"'),)}, None),
        ({"expect_body": "tail$", "body_limit": 8}, "its body has no 'tail$' in its first 8 bytes"),
        ({"expect_json": (JsonRule(path="state"),), "body_limit": 8}, "its JSON is longer than 8 bytes"),
    ],
)
async def test_expectations(fields: dict[str, Any], said: str | None) -> None:
    """All of them have to hold; the first that does not is named with what was there instead."""
    body = b'{"state": "up", "n": 3, "on": true, "list": ["a", "b"]}'
    outcome = await ask(answer(body, X_Version="2.1"), **fields)
    assert outcome.word is (Word.OK if said is None else Word.FAILED)
    assert outcome.detail.rpartition(", but ")[2] == (said or "status 200")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5000])
async def test_a_body_that_is_no_json(body: bytes) -> None:
    """Any bytes are a failure of the target, or at most JSON without the value."""
    outcome = await ask(answer(body), expect_json=(JsonRule(path="a"),))
    assert outcome.word is Word.FAILED


async def test_an_encoded_body_is_not_guessed_at() -> None:
    """It was not asked for; rules for the body fail, and without such rules nobody minds."""
    encoded = answer(b"\x1f\x8b", Content_Encoding="gzip")
    assert "encoded (gzip)" in (await ask(encoded, expect_body="x")).detail
    assert (await ask(encoded)).success


async def test_slow_answers_warn() -> None:
    """max_seconds: a warning, which is a success for the verdict."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(answer())

    async with serving(slow) as port:
        spec = HttpCheck(url=f"http://127.0.0.1:{port}/", timeout=10.0, max_seconds=0.01)
        outcome = await look(spec)
    assert (outcome.success, outcome.word, outcome.level) == (True, Word.WARNING, Level.WARNING)


async def test_credentials() -> None:
    """basic_auth and bearer_token become one header; no message and no outcome has them."""
    asked: list[str] = []
    async with serving(replying(lambda _: answer(status="401 No"), asked)) as port:
        url = f"http://127.0.0.1:{port}/"
        basic = BasicAuth(username="\u00fcser", password="s3cret:x")
        outcomes = [
            await look(HttpCheck(url=url, timeout=10.0, basic_auth=basic)),
            await look(HttpCheck(url=url, timeout=10.0, bearer_token="t0ken")),
        ]
    lines = [next(line for line in each.split("\r\n") if line.startswith("Authorization")) for each in asked]
    assert base64.b64decode(lines[0].removeprefix("Authorization: Basic ")).decode() == "\u00fcser:s3cret:x"
    assert lines[1] == "Authorization: Bearer t0ken"
    assert not any("s3cret" in repr(each) or "t0ken" in repr(each) for each in outcomes)


@pytest.mark.parametrize(
    ("redirects", "same", "word", "requests"),
    [
        (Redirects.NONE, True, Word.OK, 1),
        (Redirects.SAME_HOST, True, Word.OK, 2),
        (Redirects.ALL, True, Word.OK, 2),
        (Redirects.NONE, False, Word.OK, 1),
        (Redirects.SAME_HOST, False, Word.WARNING, 1),
        (Redirects.ALL, False, Word.OK, 2),
    ],
)
async def test_redirects(redirects: Redirects, same: bool, word: Word, requests: int) -> None:
    """Which are followed; credentials stay with the host that they were given for."""
    asked: list[str] = []

    def reply(request: str) -> bytes:
        if request.startswith("GET /next"):
            return answer()
        host = "127.0.0.1" if same else "localhost"
        return answer(status="302 Found", Location=f"http://{host}:{port}/next")

    async with serving(replying(reply, asked)) as port:
        spec = HttpCheck(
            url=f"http://127.0.0.1:{port}/",
            timeout=10.0,
            redirects=redirects,
            headers={"Cookie": "c", "X-A": "b"},
            bearer_token="t0ken",
        )
        outcome = await look(spec)
    assert (outcome.word, len(asked)) == (word, requests)
    assert "t0ken" in asked[0]
    assert "X-A: b" in asked[-1]
    assert ("t0ken" in asked[-1]) is ("Cookie: c" in asked[-1]) is (same or requests == 1)


@pytest.mark.parametrize(
    ("first", "target", "kept"),
    [
        ("https://h/", "https://h:443/next", True),
        ("http://h:80/", "https://h/next", True),
        ("https://h/", "http://h/next", False),
        ("https://h/", "http://h:443/next", False),
        ("http://h:8080/", "http://h:9090/next", False),
        ("http://h/", "https://h:8443/next", False),
        ("http://h/", "http://i/next", False),
    ],
)
async def test_where_credentials_go_along(first: str, target: str, kept: bool) -> None:
    """To the same server, and to its encrypted side; never to another port, and never back to plain text."""
    assert _trusted(urlsplit(first), urlsplit(target)) is kept


async def test_credentials_stay_with_their_port() -> None:
    """Another port of the host may be anybody's."""
    asked: list[str] = []
    async with serving(replying(lambda _request: answer(), asked)) as other:
        away = answer(status="302 Found", Location=f"http://127.0.0.1:{other}/next")
        outcome = await ask(away, bearer_token="t0ken", headers={"Cookie": "c"})
    assert (outcome.word, len(asked)) == (Word.OK, 1)
    assert "t0ken" not in asked[0]
    assert "Cookie" not in asked[0]


async def test_a_name_in_other_letters() -> None:
    """On the network it is xn--..., with its port behind it."""
    spec = HttpCheck(url="http://b\u00fccher.example:81/\u00e4")
    lines = request(spec, urlsplit(spec.url), credentials=True).split(b"\r\n")
    assert lines[0] == b"GET /%C3%A4 HTTP/1.1"
    assert lines[1] == b"Host: xn--bcher-kva.example:81"


async def test_half_a_character_in_json() -> None:
    """What an answer says can be written to the log and to /status, whatever it is."""
    rule = JsonRule(path="a", equals="y")
    outcome = await ask(answer(b'{"a": "\\ud800x"}'), expect_json=(rule,))
    assert (outcome.word, outcome.detail.endswith(r"its a is \ud800x")) == (Word.FAILED, True)
    assert msgspec.json.encode(outcome.detail)


@pytest.mark.parametrize(
    "location", ["ftp://x/", "http://h:0/", "http://h:99999/", "http://u:p@h/", "http://["]
)
async def test_a_redirect_to_nowhere(location: str) -> None:
    """What is no address is not gone to."""
    outcome = await ask(answer(status="302 Found", Location=location), redirects=Redirects.ALL)
    assert (outcome.word, "is no address" in outcome.detail) == (Word.BAD_STATUS, True)


async def test_unix_socket(tmp_path: Path) -> None:
    """The URL says what is asked, the socket who is asked."""
    asked: list[str] = []
    path = tmp_path / "s"
    spec = HttpCheck(url="http://service/health", unix_socket=str(path), timeout=10.0)
    outcome = await look(spec)
    assert (outcome.word, outcome.detail) == (
        Word.UNREACHABLE,
        "http://service/health: No such file or directory",
    )
    async with serving(replying(lambda _: answer(), asked), path=path):
        assert (await look(spec)).success
    assert asked[0].startswith("GET /health HTTP/1.1\r\nHost: service\r\n")


def server_context(pair: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


async def test_tls(tmp_path: Path) -> None:
    """Who signed it, for which name, and how long it still holds; all from a real handshake."""
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    tls = server_context(authority.issue("server", ends=10 * 86_400))
    trusted = TlsClient(ca_file=str(authority.ca))
    async with serving(replying(lambda _: answer()), tls=tls) as port:
        url = f"https://127.0.0.1:{port}/"

        async def outcome(**fields: Any) -> Outcome:
            return await look(HttpCheck(url=url, timeout=10.0, **fields))

        assert (await outcome(tls=trusted)).detail == "status 200"
        assert (await outcome(tls=TlsClient(verify=False))).success
        wrong = await outcome(tls=TlsClient(ca_file=str(stranger.ca)))
        assert wrong.word is Word.UNREACHABLE
        assert "its certificate does not hold: unable to get local issuer certificate" in wrong.detail
        named = await outcome(tls=TlsClient(ca_file=str(authority.ca), server_name="else.where"))
        assert "Hostname mismatch" in named.detail
        days = await outcome(tls=trusted, certificate_days=5, certificate_warn_days=9)
        assert (days.word, "expires in 10 days" in days.detail) == (Word.OK, True)
        warning = await outcome(tls=trusted, certificate_days=5, certificate_warn_days=30)
        assert warning.word is Word.WARNING
        # Also where nothing is verified, and so nothing but the bytes of the certificate is there.
        late = await outcome(tls=TlsClient(verify=False), certificate_days=11)
        assert (late.word, "the certificate of server expires in 10 days" in late.detail) == (
            Word.FAILED,
            True,
        )
        plain = await look(HttpCheck(url=url.replace("https", "http"), timeout=10.0))
        assert plain.word is Word.UNREACHABLE


async def test_tls_against_a_server_that_has_none() -> None:
    """A sentence, and not OpenSSL's number."""

    async def blunt(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")

    async with serving(blunt) as port:
        spec = HttpCheck(url=f"https://127.0.0.1:{port}/", timeout=10.0, tls=TlsClient(verify=False))
        outcome = await look(spec)
    assert outcome.word is Word.UNREACHABLE
    assert "no TLS: " in outcome.detail


async def test_tls_files_that_cannot_be_used(tmp_path: Path) -> None:
    """That is the agent's own trouble: nothing is said of the target."""
    for tls in (
        TlsClient(ca_file=str(tmp_path / "none")),
        TlsClient(cert_file=str(tmp_path / "none"), key_file=str(tmp_path / "none")),
    ):
        outcome = await look(HttpCheck(url="https://127.0.0.1:1/", timeout=10.0, tls=tls))
        assert (outcome.success, outcome.error_class) == (None, ErrorClass.CHECK_INTERNAL)
        assert "the TLS files cannot be used" in outcome.detail


async def test_a_new_ca_file_is_taken_up(tmp_path: Path) -> None:
    """The files are looked at again with every look."""
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    file = tmp_path / "trusted.pem"
    file.write_bytes(stranger.ca.read_bytes())
    async with serving(replying(lambda _: answer()), tls=server_context(authority.issue("server"))) as port:
        spec = HttpCheck(url=f"https://127.0.0.1:{port}/", timeout=10.0, tls=TlsClient(ca_file=str(file)))
        assert not (await look(spec)).success
        replacement = tmp_path / "new.pem"
        replacement.write_bytes(authority.ca.read_bytes())
        replacement.replace(file)
        assert (await look(spec)).success


async def test_one_context_serves_all_names(tmp_path: Path) -> None:
    """A thousand checks with a thousand names do not load the certificates a thousand times."""
    authority = Authority(tmp_path)
    contexts = {
        client_context(TlsClient(ca_file=str(authority.ca), server_name=f"host-{n}"), ("http/1.1",))
        for n in range(20)
    }
    assert len(contexts) == 1
    assert client_context(TlsClient(ca_file=str(authority.ca))) not in contexts


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.005)


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize("handler", [drip, silent])
async def test_the_deadline_is_for_the_whole_answer(handler: Handler) -> None:
    """A byte now and then does not prolong it; silence ends with it."""
    async with serving(handler) as port:
        outcome = await look(HttpCheck(url=f"http://127.0.0.1:{port}/", timeout=0.1))
    assert (outcome.word, outcome.error_class) == (Word.UNREACHABLE, ErrorClass.CHECK_TIMEOUT)
    assert outcome.detail == "no answer within 100ms"


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", Word.OK),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n", Word.OK),
        (b"HTTP/1.1 200 OK\r\nX: ", Word.UNREACHABLE),
        (b"", Word.UNREACHABLE),
    ],
)
async def test_an_endless_answer(head: bytes, word: Word) -> None:
    """An endless body is cut, and the status counts; an endless head is no answer. Neither lasts until the deadline."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with serving(endless) as port:
        outcome = await look(HttpCheck(url=f"http://127.0.0.1:{port}/", timeout=60.0))
    assert outcome.word is word
    assert outcome.error_class is not ErrorClass.CHECK_TIMEOUT


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234"])
async def test_a_torn_answer(part: bytes) -> None:
    """The server closes, or resets, in the middle."""
    for reset in (False, True):

        async def torn(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reset: bool = reset
        ) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(part)
            await writer.drain()
            if reset:
                linger = b"\1\0\0\0\0\0\0\0"  # close() sends RST
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        async with serving(torn) as port:
            outcome = await look(HttpCheck(url=f"http://127.0.0.1:{port}/", timeout=10.0))
        assert (outcome.word, outcome.error_class) == (Word.UNREACHABLE, ErrorClass.CHECK_FAILED)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_a_machine_that_has_nothing_left(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """No descriptor for the look: three tries, and then an outcome that changes no verdict."""
    tries: list[int] = []

    def refuse(*_rest: object, **_more: object) -> socket.socket:
        tries.append(number)
        raise OSError(number, "none left")

    monkeypatch.setattr("watchkeeper.checks.connect.socket.socket", refuse)
    outcome = await look(HttpCheck(url="http://127.0.0.1:1/", timeout=10.0))
    assert (outcome.success, outcome.word, outcome.error_class) == (
        None,
        Word.ERROR,
        ErrorClass.CHECK_INTERNAL,
    )
    assert len(tries) == 3


async def test_connections_do_not_stay() -> None:
    """Whatever the end of a look is, its socket is closed: the server sees the end of the connection."""
    ended: asyncio.Queue[bytes] = asyncio.Queue()

    async def wait(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        ended.put_nowait(await reader.read())

    async with serving(wait) as port:
        spec = HttpCheck(url=f"http://127.0.0.1:{port}/", timeout=0.05)
        await asyncio.gather(*(look(spec) for _ in range(20)))
        assert [await ended.get() for _ in range(20)] == [b""] * 20
