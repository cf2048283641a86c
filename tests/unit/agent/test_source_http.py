"""The http source: what it asks, what it believes, and what it makes of servers that are slow, torn, or lie."""

from __future__ import annotations

import asyncio
import itertools
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from watchkeeper.config.decode import decode
from watchkeeper.config.document import Document
from watchkeeper.config.schema.sources import HttpSource
from watchkeeper.config.sources import Fetched, SourceError
from watchkeeper.config.sources.http import HttpDocument
from watchkeeper.outbound.client import Answer, Client, RequestError

URL = "http://conf.example/a.yaml"
YES = {"Content-Length": "5", "Content-Type": "application/yaml"}


def spec(**fields: Any) -> HttpSource:
    document = Document(data={"url": URL, **fields})
    found = decode(document, HttpSource)
    assert found is not None, document.problems
    return found


class FakeClient:
    """Answers from a script; keeps what it was asked, and when."""

    def __init__(self, script: Callable[[int, Mapping[str, str]], Awaitable[Answer]]) -> None:
        self.script = script
        self.asked: list[tuple[float, str, dict[str, str]]] = []

    async def request(self, method: str, url: str, *, headers: Mapping[str, str], **_options: Any) -> Answer:
        assert method == "GET"
        self.asked.append((asyncio.get_running_loop().time(), url, dict(headers)))
        return await self.script(len(self.asked), headers)


def answer(status: int = 200, body: bytes = b"a: 1\n", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, CIMultiDict({**(YES if status == 200 else {}), **named}), body)


def source(client: FakeClient, **fields: Any) -> HttpDocument:
    return HttpDocument(spec(**fields), client)  # type: ignore[arg-type]


def saying(*answers: Answer) -> FakeClient:
    """One answer after the other; the last again and again."""

    async def script(call: int, _headers: Mapping[str, str]) -> Answer:
        return answers[min(call, len(answers)) - 1]

    return FakeClient(script)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_validators_are_sent_back() -> None:
    """U1: the ETag and the date of the document that is held; 304 and an equal document are no change."""
    client = saying(
        answer(ETag='"1"', Last_Modified="Sun, 22 Nov 2026 00:00:00 GMT"),
        answer(304),
        answer(200, ETag='W/"2"'),
        answer(200, b"b: 2\n", ETag='"3"'),
        answer(304),
    )
    looks = source(client)
    assert (await looks.fetch()).version == '"1"'
    found = await looks.watch()
    assert (found.version, found.fragments[0].content, found.fragments[0].suffix) == (
        '"3"',
        b"b: 2\n",
        ".yaml",
    )
    assert await looks.fetch() == found
    sent = [(each.get("If-None-Match"), each.get("If-Modified-Since")) for _, _, each in client.asked]
    date = "Sun, 22 Nov 2026 00:00:00 GMT"
    assert sent == [(None, None), ('"1"', date), ('"1"', date), ('W/"2"', None), ('"3"', None)]
    gaps = [later - earlier for (earlier, *_), (later, *_) in itertools.pairwise(client.asked)]
    assert all(9.5 <= gap <= 10.5 for gap in gaps[:3])


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize(
    ("fields", "url", "prefer"),
    [
        ({"wait": "30s"}, URL, "wait=30"),
        ({"wait": "30s", "wait_parameter": "hold"}, URL + "?hold=30", None),
        ({"wait": "30s", "wait_parameter": "hold", "url": URL + "?a=b"}, URL + "?a=b&hold=30", None),
    ],
)
async def test_long_poll(fields: dict[str, Any], url: str, prefer: str | None) -> None:
    """U2: the server holds back what says nothing new; a change is there at once, and no pause is made in between."""

    async def script(call: int, _headers: Mapping[str, str]) -> Answer:
        if call == 1:
            return answer(ETag='"1"')
        await asyncio.sleep(30 if call < 4 else 7)
        return answer(304) if call < 4 else answer(200, b"new: 1\n", ETag='"2"')

    client = FakeClient(script)
    looks = source(client, **fields)
    await looks.fetch()
    assert (await looks.watch()).fragments[0].content == b"new: 1\n"
    assert asyncio.get_running_loop().time() == 67
    assert [asked for _, asked, _ in client.asked] == [fields.get("url", URL), url, url, url]
    assert [sent.get("Prefer") for _, _, sent in client.asked] == [None, prefer, prefer, prefer]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_server_that_does_not_hold_back() -> None:
    """U2: one that answers a long poll at once is asked every interval and not in a tight loop."""
    client = saying(answer(ETag='"1"'), answer(304))
    looks = source(client, wait="30s", interval="5s")
    await looks.fetch()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(100):
            await looks.watch()
    assert 19 <= len(client.asked) <= 23


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_server_that_hangs() -> None:
    """U3: it is given up after `timeout`, with the wait of a long poll added."""

    async def script(call: int, _headers: Mapping[str, str]) -> Answer:
        if call > 1:
            await asyncio.sleep(1e6)
        return answer()

    looks = source(FakeClient(script), wait="30s", timeout="4s")
    await looks.fetch()
    with pytest.raises(SourceError, match="no whole answer in 34 s"):
        await looks.watch()
    assert asyncio.get_running_loop().time() == 34
    with pytest.raises(SourceError, match="no whole answer in 4 s"):
        await looks.fetch()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("said", "message"),
    [
        (answer(304), "304, and nothing was held"),
        (answer(404), "it says 404"),
        (answer(204), "it says 204"),
        (answer(500), "it says 500"),
        (answer(206), "it says 206"),
        (
            Answer(200, CIMultiDict({"Content-Type": "application/json"}), b"{}"),
            "does not say how long it is",
        ),
        (answer(302), "a redirect to nowhere"),
        (answer(302, Location="http://[x/"), "no URL"),
        (answer(302, Location="ftp://conf.example/"), "a redirect to ftp is not followed"),
        (answer(302, Location="file:///etc/passwd"), "a redirect to file is not followed"),
        (answer(302, Location=URL), "more than 5 redirects in a row"),
    ],
)
async def test_what_is_no_document(said: Answer, message: str) -> None:
    """U1, U3, U4, U5: an answer that is none is an error; what was held before stays held."""
    client = saying(answer(ETag='"1"'), said)
    looks = source(client)
    if said.status != 304:
        held = await looks.fetch()
        with pytest.raises(SourceError, match=message):
            await looks.fetch()
        client.script = saying(answer(304)).script
        assert await looks.fetch() == held
    else:
        with pytest.raises(SourceError, match=message):
            await source(saying(said)).fetch()


@pytest.mark.asyncio
async def test_redirects_and_secrets() -> None:
    """U4: token and headers go to the server that is configured, wherever on it, and to no other; https stays https."""
    client = saying(
        answer(307, Location="/b.yaml"), answer(301, Location="http://other.example/c.yaml"), answer()
    )
    await source(client, token="s3cret", headers={"X-Key": "k3y"}).fetch()
    assert [(url, sent.get("Authorization"), sent.get("X-Key")) for _, url, sent in client.asked] == [
        (URL, "Bearer s3cret", "k3y"),
        ("http://conf.example/b.yaml", "Bearer s3cret", "k3y"),
        ("http://other.example/c.yaml", None, None),
    ]
    client = saying(answer(302, Location="http://conf.example/"))
    with pytest.raises(SourceError, match="a redirect to http is not followed"):
        await source(client, url="https://conf.example/").fetch()
    for other in ("http://conf.example:81/", "https://conf.example/"):
        client = saying(answer(302, Location=other), answer())
        await source(client, token="s3cret").fetch()
        assert "Authorization" not in client.asked[1][2]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120.0), ("0", 0.0), ("soon", None), ("-5", None), ("", None), ("9" * 30, None), ("٣", None)],
)
async def test_retry_after(header: str, seconds: float | None) -> None:
    """U5: in seconds; what is none says nothing."""
    with pytest.raises(SourceError) as caught:
        await source(saying(answer(503, Retry_After=header))).fetch()
    assert caught.value.retry_after == seconds


@pytest.mark.asyncio
async def test_retry_after_a_date() -> None:
    """U5: a date that has passed is now."""
    with pytest.raises(SourceError) as caught:
        await source(saying(answer(429, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"))).fetch()
    assert caught.value.retry_after == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "kind", "suffix"),
    [
        ({}, "application/json; charset=utf-8", ".json"),
        ({}, "text/plain", ".yaml"),
        ({"format": "toml"}, "application/json", ".toml"),
        ({"url": "http://h/x"}, "application/toml", ".toml"),
        ({"url": "http://h/x.JSON?a.yaml"}, "", ".json"),
        ({"url": "http://h/x"}, "text/html", None),
    ],
)
async def test_formats(fields: dict[str, Any], kind: str, suffix: str | None) -> None:
    """What is configured, else what the answer says, else the end of the path; nothing is guessed."""
    looks = source(saying(answer(Content_Type=kind)), **fields)
    if suffix is None:
        with pytest.raises(SourceError, match="give `format`"):
            await looks.fetch()
    else:
        assert (await looks.fetch()).fragments[0].suffix == suffix


@pytest.mark.asyncio
async def test_a_query_is_not_shown() -> None:
    """A key in the query of a URL appears in no message and no name."""
    looks = source(saying(answer(), answer(500)), url=URL + "?key=s3cret#x")
    assert (await looks.fetch()).fragments[0].name == URL
    with pytest.raises(SourceError) as caught:
        await looks.fetch()
    assert "s3cret" not in str(caught.value)


HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "ETag",
            "Last-Modified",
            "Location",
            "Retry-After",
            "Content-Type",
            "Content-Length",
            "Transfer-Encoding",
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12)
    | st.sampled_from(
        ["chunked", "5", "http://conf.example/x", "//x", "https://[::1", "application/json", '"e"']
    ),
)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from([200, 304, 302, 429, 503, 206, 100, 999]), HEADERS, st.binary(max_size=20)),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_any_answers(said: list[tuple[int, dict[str, str], bytes]], poll: bool) -> None:
    """Whatever a server says: a document that it has really sent, or a SourceError of one line."""
    answers = [Answer(status, CIMultiDict(headers), body) for status, headers, body in said]

    async def talk() -> None:
        async def script(call: int, _headers: Mapping[str, str]) -> Answer:
            if call > len(answers) * 3:
                raise RequestError("gone")
            return answers[(call - 1) % len(answers)]

        looks = source(FakeClient(script), wait=5 if poll else 0, interval="1ms")
        for turn in (looks.fetch, looks.watch, looks.fetch, looks.watch):
            message, found = await outcome(turn)
            assert found is not None or (message and "\n" not in message)
            if found is not None:
                assert found.fragments[0].content in [body for status, _, body in said if status == 200]

    asyncio.run(talk())


async def outcome(turn: Callable[[], Awaitable[Fetched]]) -> tuple[str, Fetched | None]:
    """What was fetched, or what the error says."""
    try:
        return "", await turn()
    except SourceError as error:
        return str(error), None


# --- on the wire ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def wire(*answers: bytes, drip: float = 0.0) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that sends these bytes for one connection each, and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            content = answers[min(len(asked), len(answers)) - 1]
            step = 1 if drip else len(content) or 1
            for start in range(0, len(content), step):
                writer.write(content[start : start + step])
                await writer.drain()
                await asyncio.sleep(drip)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/c.yaml", asked
    finally:
        server.close()


def http(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    head = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body) if length is None else length}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def fetch(*answers: bytes, drip: float = 0.0, **fields: Any) -> bytes:
    client = Client()
    try:
        async with wire(*answers, drip=drip) as (url, _asked):
            found = await HttpDocument(spec(url=url, **fields), client).fetch()
            return found.fragments[0].content
    finally:
        await client.close()


@pytest.mark.asyncio
async def test_a_real_answer() -> None:
    """Plain, in chunks, and compressed."""
    assert await fetch(http(b"a: 1\n")) == b"a: 1\n"
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\na: \r\n2\r\n1\n\r\n0\r\n\r\n"
    assert await fetch(chunks) == b"a: 1\n"
    assert await fetch(http(zlib.compress(b"a: 1\n"), "Content-Encoding: deflate")) == b"a: 1\n"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sent",
    [
        http(b"services: {web: {comm", length=500),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nservices: {",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na: 1\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/yaml\r\n\r\nservices: {}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"\x16\x03\x01\x00\xff",
        http(b"not deflate", "Content-Encoding: deflate"),
        http(b"x" * 3000),
        http(zlib.compress(b"#" * 10_000_000), "Content-Encoding: deflate"),
        http(b"a: 1\n", "X-Y: " + "z" * 200_000),
    ],
    ids=[
        "short",
        "torn chunk",
        "no last chunk",
        "no length",
        "torn head",
        "ssh",
        "nothing",
        "tls",
        "no deflate",
        "large",
        "bomb",
        "head",
    ],
)
async def test_torn_and_wrong_answers(sent: bytes) -> None:
    """U3: nothing that is not whole passes for a document; too large is said before all of it was taken."""
    with pytest.raises(SourceError) as caught:
        await fetch(sent, size_limit=2000, timeout="5s")
    assert "\n" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_slow_drip() -> None:
    """U3: a byte now and then keeps no one waiting beyond the limit of the whole."""
    with pytest.raises(SourceError, match=r"no whole answer in 0\.3 s|no answer in time|time"):
        async with asyncio.timeout(5):
            await fetch(http(b"a: 1\n" * 50), drip=0.02, timeout="300ms")


@pytest.mark.asyncio
async def test_nobody_listens() -> None:
    """A refused connection is an error of the source."""
    async with wire(b"") as (url, _asked):
        pass
    client = Client()
    with pytest.raises(SourceError):
        await HttpDocument(spec(url=url), client).fetch()
    await client.close()
