"""The reader of HTTP/1 answers: what it makes of good ones, however they are cut, and of bad ones."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from watchkeeper.checks.wire import CHUNK_LINE_LIMIT, HEAD_LIMIT, MalformedError, Reader

OK = b"HTTP/1.1 200 OK\r\n"


def read(*pieces: bytes, limit: int = 1000, head_only: bool = False, end: bool = True) -> Reader:
    """All pieces, and then the end of the connection."""
    reader = Reader(head_only=head_only, limit=limit)
    for piece in pieces:
        if not reader.done:
            reader.feed(piece)
    if end:
        reader.end()
    return reader


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", 200, b"abc"),
        (OK + b"Content-Length: 3\r\n\r\nabcdef", 200, b"abc"),
        (OK + b"Content-Length: 0\r\n\r\n", 200, b""),
        (OK + b"\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.0 503 \r\n\r\n", 503, b""),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304\r\n\r\n", 304, b""),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\nwhatever", 101, b""),
        # Bare line feeds are how some hand-written servers end lines.
        (b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx", 200, b"x"),
        # W2: interim answers are not the answer.
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\n" + OK + b"\r\n", 200, b""),
        # W3: chunks, with an extension and a trailer; they count before a length.
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: t\r\n\r\n", 200, b"abc0123456789"),
        (OK + b"Content-Length: 1\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200, b"x"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\nabc", 200, b"abc"),
        # W4: the same length twice is one length.
        (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", 200, b"ab"),
    ],
)  # fmt: skip
def test_answers(answer: bytes, status: int, body: bytes) -> None:
    """Whole, and one byte at a time."""
    for reader in (read(answer), read(*(bytes([byte]) for byte in answer))):
        assert (reader.status, bytes(reader.body), reader.done, reader.cut) == (status, body, True, False)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "ended without an answer"),
        (b"HTT", "in the middle of the head"),
        (OK + b"Content-Le", "in the middle of the head"),
        (b"\0\xff\0", "does not answer in HTTP/1"),
        (b"SSH-2.0-OpenSSH\r\n", "does not answer in HTTP/1"),
        (b"HTTP/2 200\r\n\r\n", "begins with"),
        (b"HTTP/1.1 999999 x\r\n\r\n", "begins with"),
        (b"HTTP/1.1 099 x\r\n\r\n", "begins with"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "begins with"),
        (OK + b"no colon\r\n\r\n", "has a header b'no colon'"),
        (OK + b"Space : x\r\n\r\n", "has a header"),
        (OK + b"A: b\r\n folded\r\n\r\n", "has a header"),
        (OK + b"A: \0\r\n\r\n", "has a header"),
        (OK + b"Content-Length: -5\r\n\r\n", "has a length '-5'"),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "has a length '1, 2'"),
        (OK + b"Content-Length:\r\n\r\n", "has a length ''"),
        (OK + b"Content-Length: 9999999999999999999\r\n\r\n", "has a length"),
        (OK + b"Content-Length: 5\r\n\r\nabc", "in the middle of the body"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", "in the middle of the body"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", "in the middle of the body"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", "in the middle of the body"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "a chunk of the body begins with"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", "a chunk of the body begins with"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\n", "a chunk of the body begins with"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n", "is followed by"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * (CHUNK_LINE_LIMIT + 1), "does not end"),
        (OK + b"A: " + b"x" * HEAD_LIMIT, "longer than 64 KiB"),
        (OK + b"A: " + b"x" * HEAD_LIMIT + b"\r\n\r\n", "longer than 64 KiB"),
        (b"HTTP/1.1 100 \r\n\r\n" * 11, "more than 10 interim answers"),
    ],
)  # fmt: skip
def test_what_is_no_answer(answer: bytes, why: str) -> None:
    """One sentence that says what came instead."""
    with pytest.raises(MalformedError, match=why):
        read(answer)
    with pytest.raises(MalformedError):
        read(*(bytes([byte]) for byte in answer))


def test_an_endless_trailer() -> None:
    """What follows the last chunk is bounded as well."""
    reader = Reader(limit=10)
    reader.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    for _ in range(HEAD_LIMIT // 6):
        reader.feed(b"A: b\r\n")
    with pytest.raises(MalformedError, match="does not end"):
        reader.feed(b"A: b\r\n" * HEAD_LIMIT)


def test_head() -> None:
    """After HEAD there is no body, whatever the headers say."""
    reader = read(OK + b"Content-Length: 1000\r\n\r\n", head_only=True)
    assert (reader.status, reader.body, reader.headers) == (200, b"", {"content-length": "1000"})


def test_headers() -> None:
    """By lower-case name, without the space around them; several of one name are joined."""
    reader = read(OK + b"X-A:  b \t\r\nx-a: c\r\nLatin: \xe4\r\n\r\n")
    assert reader.headers == {"x-a": "b, c", "latin": "\u00e4"}


@pytest.mark.parametrize(
    "frame", [b"\r\n", b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n186A0\r\n"]
)
def test_an_endless_body_is_cut(frame: bytes) -> None:
    """W5: the reader takes what it may, and wants no more; nothing is kept beside it."""
    reader = Reader(limit=10)
    reader.feed(OK + frame)
    reader.feed(b"0123456789")
    assert not reader.done
    reader.feed(b"x" * 1000)
    assert (bytes(reader.body), reader.done, reader.cut) == (b"0123456789", True, True)


TOKEN = st.text("abcXYZ-_0", min_size=1, max_size=10)
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


@given(
    status=st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    headers=st.dictionaries(TOKEN.map(str.lower), VALUE, max_size=5),
    body=st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    framing=st.sampled_from(["length", "chunked", "close"]),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_however_an_answer_is_cut(
    status: int, headers: dict[str, str], body: list[bytes], framing: str, cuts: list[int]
) -> None:
    """What a server writes is what is read, in whatever pieces it comes; and every shorter part is torn."""
    whole = b"".join(body)
    head = f"HTTP/1.1 {status} Any\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    content = whole
    if framing == "length":
        head += f"Content-Length: {len(whole)}\r\n"
    elif framing == "chunked":
        head += "Transfer-Encoding: chunked\r\n"
        content = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in body) + b"0\r\n\r\n"
    answer = head.encode() + b"\r\n" + content
    places = sorted({0, len(answer), *(cut % (len(answer) + 1) for cut in cuts)})
    reader = read(*(answer[low:high] for low, high in itertools.pairwise(places)))
    assert (reader.status, bytes(reader.body)) == (status, whole)
    assert {name: reader.headers[name] for name in headers} == headers
    if framing != "close":
        with pytest.raises(MalformedError):
            read(answer[:-1] if content else answer[:-3])


@given(st.lists(st.binary(max_size=200), max_size=10), st.integers(0, 50))
@example([OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n", b"x", b"\r\n0", b"\r\n\r\n"], 0)
def test_anything_at_all(pieces: list[bytes], limit: int) -> None:
    """No bytes make the reader raise anything but its own error, or keep more than it may."""
    for start in (b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 "):
        try:
            reader = read(start, *pieces, limit=limit)
        except MalformedError:
            continue
        assert reader.done
        assert len(reader.body) <= limit
