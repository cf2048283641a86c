"""etcd's protocol: frames, ranges, watches, tokens, members. The clock is virtual and nothing is sent."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fake_http import Asked, FakeHttp, Reply, Streamed, ok
from watchkeeper.config.schema.registries import EtcdServer
from watchkeeper.config.schema.sources import EtcdSource
from watchkeeper.config.sources import SourceError
from watchkeeper.config.sources.etcd import EtcdKeys
from watchkeeper.outbound.client import Client, RequestError
from watchkeeper.registry.answers import RegistryError
from watchkeeper.registry.etcd import EtcdClient, EtcdRange
from watchkeeper.registry.etcd_messages import CompactedError, Frames, message, prefix_end


def virtual(test: Any) -> Any:
    """On a clock of its own."""
    return pytest.mark.asyncio(pytest.mark.looptime(test))


def b64(text: str | bytes) -> str:
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


def header(revision: int) -> dict[str, str]:
    return {"revision": str(revision), "cluster_id": "13455796455940752355", "raft_term": "2"}


def pairs(revision: int, *keys: tuple[str, str], more: bool = False) -> dict[str, Any]:
    """An answer to a range, as the gateway writes it: numbers as text, what is empty left out."""
    answer: dict[str, Any] = {"header": header(revision)}
    if keys:
        answer["kvs"] = [{"key": b64(key), "value": b64(value), "mod_revision": "2"} for key, value in keys]
        answer["count"] = str(len(keys))
    return answer | ({"more": True} if more else {})


def line(**result: Any) -> bytes:
    return json.dumps({"result": result}).encode() + b"\n"


CREATED = line(header=header(7), created=True)
CHANGED = line(header=header(8), events=[{"kv": {"key": b64("w/a.yaml"), "value": b64("x")}}])
COMPACTED = line(header=header(0), canceled=True, compact_revision="30")


class Etcd:
    """Answers by path: a list of replies is used up, anything else is given again and again."""

    def __init__(self, **replies: Any) -> None:
        self.replies = {name.replace("_", "/"): reply for name, reply in replies.items()}
        self.http = FakeHttp(self._reply)

    def _reply(self, asked: Asked) -> Reply:
        reply = self.replies[asked.path.removeprefix("v3/")]
        if isinstance(reply, list):
            reply = reply.pop(0)
        return ok(reply) if isinstance(reply, (dict, bytes)) else cast("Reply", reply)

    def client(self, **server: Any) -> EtcdClient:
        return EtcdClient(EtcdServer(**server), cast("Client", self.http))

    def range(self, *, prefix: bool = True, wait: float = 300, churn: float = 0.001) -> EtcdRange:
        return EtcdRange(self.client(), b"w/", prefix=prefix, wait=wait, churn=churn)

    def asked(self, path: str) -> list[Asked]:
        return [each for each in self.http.asked if each.path == f"v3/{path}"]


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"a", b"b"), (b"w/", b"w0"), (b"a\xff", b"b"), (b"a\xff\xff", b"b"), (b"\xff", b"\0"), (b"", b"\0")],
)
def test_prefix_end(prefix: bytes, end: bytes) -> None:
    """E1: the first key that does not begin with the prefix; a NUL byte where there is none."""
    assert prefix_end(prefix) == end


@given(st.binary(min_size=1, max_size=5), st.binary(max_size=8))
def test_prefix_range(prefix: bytes, key: bytes) -> None:
    """E1: the range holds exactly the keys that begin with the prefix."""
    end = prefix_end(prefix)
    inside = key >= prefix and (end == b"\0" or key < end)
    assert inside == key.startswith(prefix)


@given(st.lists(st.binary(max_size=30).map(lambda each: each.replace(b"\n", b"")), max_size=8), st.data())
def test_frames_torn_anywhere(lines: list[bytes], data: st.DataObject) -> None:
    """Whatever the pieces, the same lines come out, in order, and what has no end yet stays inside."""
    whole = b"".join(each + b"\n" for each in lines) + b"rest"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    frames, found = Frames(1000), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += frames.feed(whole[start:end])
    assert found == [each for each in lines if each.strip()]


@pytest.mark.parametrize(
    "pieces", [[b"x" * 11], [b"x" * 6, b"x" * 5], [b"x" * 11 + b"\n"], [b"a\n" + b"x" * 11]]
)
def test_frames_are_bounded(pieces: list[bytes]) -> None:
    """A message that is too long is refused before all of it is in memory, however it arrives."""
    frames, last = Frames(10), pieces.pop()
    assert [frames.feed(piece) for piece in pieces] == [[]] * len(pieces)
    with pytest.raises(RegistryError, match="longer than 10 bytes"):
        frames.feed(last)


@virtual
async def test_one_revision_for_all_pages() -> None:
    """E2: the second page is asked for at the revision of the first, from the key after its last one."""
    etcd = Etcd(kv_range=[pairs(40, ("w/a", "1"), ("w/b", "2"), more=True), pairs(44, ("w/c", "3"))])
    ranged = etcd.range()
    found = await ranged.fetch()
    assert [(each.key, each.value) for each in found] == [(b"w/a", b"1"), (b"w/b", b"2"), (b"w/c", b"3")]
    assert ranged.revision == 40
    first, second = (each.body for each in etcd.asked("kv/range"))
    assert "revision" not in first
    assert second["revision"] == "40"
    assert b64decode(second["key"]) == b"w/b\0"
    assert second["range_end"] == first["range_end"] == b64("w0")


@virtual
async def test_compaction_between_two_pages() -> None:
    """E2: when the revision of the first page is gone, all pages are read anew."""
    compacted = ok({"code": 11, "message": "required revision has been compacted"}, 400)
    etcd = Etcd(kv_range=[pairs(1, ("w/a", "1"), more=True), compacted, pairs(9, ("w/a", "2"))])
    ranged = etcd.range()
    assert [each.value for each in await ranged.fetch()] == [b"2"]
    assert ranged.revision == 9


@virtual
async def test_pages_must_move_on() -> None:
    """A server whose pages go in a circle does not keep the agent busy for ever."""
    etcd = Etcd(kv_range=pairs(1, ("w/a", "1"), more=True))
    with pytest.raises(RegistryError, match="not in order"):
        await etcd.range().fetch()


@virtual
async def test_watch_begins_after_what_was_read() -> None:
    """E3: from the revision after the one that was read; a change leads to reading all of it again."""
    etcd = Etcd(kv_range=[pairs(7), pairs(8, ("w/a", "x"))], watch=Streamed([CREATED, 3.0, CHANGED]))
    ranged = etcd.range()
    assert await ranged.fetch() == ()
    assert [each.value for each in await ranged.next()] == [b"x"]
    (watched,) = etcd.asked("watch")
    assert watched.body["create_request"] == {
        "key": b64("w/"),
        "range_end": b64("w0"),
        "start_revision": "8",
        "progress_notify": True,
    }
    assert round(etcd.asked("kv/range")[1].at) == 3


@virtual
async def test_a_sign_of_life_is_no_change() -> None:
    """A message without events leads to nothing, and the watch counts as alive."""
    alive = line(header=header(50))
    etcd = Etcd(kv_range=pairs(7), watch=Streamed([CREATED, 10.0, alive, 10.0, alive, 10.0, CHANGED]))
    ranged = etcd.range(wait=12)
    await ranged.fetch()
    await ranged.next()
    assert [round(each.at) for each in etcd.asked("kv/range")] == [0, 30]


@pytest.mark.parametrize(
    "stream",
    [
        Streamed([CREATED, COMPACTED]),
        Streamed([CREATED, line(header=header(8), canceled=True, cancel_reason="etcdserver: no")]),
        Streamed([CREATED]),
        Streamed([]),
        Streamed([CREATED[:20]]),
        Streamed([CREATED, CHANGED[:-5], RequestError("torn")]),
        Streamed([CREATED, b"nonsense\n"]),
        Streamed([CREATED, b"{}\n"]),
        Streamed([b'{"error": {"grpc_code": 14, "message": "closing"}}\n']),
        Streamed([line(header=header(3), created=True), 1e9]),
        Streamed([b'{"code": 16, "message": "etcdserver: invalid auth token"}'], 401),
        RequestError("refused"),
        5.0,
    ],
)
@virtual
async def test_whatever_ends_a_watch_all_is_read_anew(stream: Reply) -> None:
    """E4: compaction, cancellation, an end, a torn line, nonsense, an older server, an error: one reading, no failure."""
    etcd = Etcd(kv_range=[pairs(7), pairs(9, ("w/a", "new"))], watch=stream)
    ranged = etcd.range()
    await ranged.fetch()
    assert [each.value for each in await ranged.next()] == [b"new"]
    assert ranged.revision == 9


@virtual
async def test_a_silent_watch_is_not_trusted() -> None:
    """E4: after `wait` seconds without a word the keys are read again."""
    etcd = Etcd(kv_range=pairs(7), watch=Streamed([CREATED, 1e9]))
    ranged = etcd.range(wait=300)
    await ranged.fetch()
    await ranged.next()
    assert [round(each.at) for each in etcd.asked("kv/range")] == [0, 300]


@virtual
async def test_a_watch_that_always_ends_does_not_become_a_hot_loop() -> None:
    """E7: reading anew twice in a row, and then at a distance."""
    etcd = Etcd(kv_range=pairs(7), watch=Streamed([]))
    ranged = etcd.range(churn=15)
    await ranged.fetch()
    for _number in range(4):
        await ranged.next()
    assert [round(each.at) for each in etcd.asked("kv/range")] == [0, 0, 0, 15, 30]


@virtual
async def test_members() -> None:
    """E5: who does not answer, or has no leader, is followed by the next one, which is then asked first."""

    def reply(asked: Asked) -> Reply:
        return {
            "a:1": RequestError("refused"),
            "b:1": ok({"message": "no leader", "code": 14}, 503),
            "c:1": ok(pairs(5)),
        }[asked.url.split("/")[2]]

    http = FakeHttp(reply)
    client = EtcdClient(EtcdServer(urls=("http://a:1", "http://b:1", "http://c:1/")), cast("Client", http))
    for _number in range(2):
        assert (await client.key(b"k"))[1] == 5
    assert [each.url.split("/")[2] for each in http.asked] == ["a:1", "b:1", "c:1", "c:1"]


@virtual
async def test_no_member_answers() -> None:
    """E5: each is asked once, and the last one's reason is told."""
    http = FakeHttp(lambda asked: RequestError(f"{asked.url} refused"))
    client = EtcdClient(EtcdServer(urls=("http://a:1", "http://b:1")), cast("Client", http))
    with pytest.raises(RegistryError, match="http://b:1/v3/kv/range refused"):
        await client.key(b"k")
    assert len(http.asked) == 2


@virtual
async def test_token() -> None:
    """E6: asked for once, sent with every question, replaced when it is no longer taken."""
    expired = ok({"code": 16, "message": "etcdserver: invalid auth token"}, 401)
    old = ok({"code": 3, "message": "etcdserver: revision of auth store is old"}, 400)
    etcd = Etcd(
        auth_authenticate=[{"token": "t1"}, {"token": "t2"}, {"token": "t3"}],
        kv_range=[pairs(1), expired, pairs(2), old, pairs(3)],
    )
    client = etcd.client(user="u", password="p")
    assert [(await client.key(b"k"))[1] for _number in range(3)] == [1, 2, 3]
    assert [each.headers["Authorization"] for each in etcd.asked("kv/range")] == [
        "t1",
        "t1",
        "t2",
        "t2",
        "t3",
    ]
    assert etcd.asked("auth/authenticate")[0].body == {"name": "u", "password": "p"}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            ok(
                {"code": 16, "message": "etcdserver: authentication failed, invalid user ID or password"}, 400
            ),
            "invalid user",
        ),
        (ok(b"", 200), "etcd's answer to auth/authenticate is not what it should be"),
        (ok({"token": 1}), "etcd's answer to auth/authenticate is not what it should be"),
    ],
)
@virtual
async def test_no_token(reply: Reply, said: str) -> None:
    """A password that is not taken is a sentence, without the password in it."""
    client = Etcd(auth_authenticate=reply).client(user="u", password="hush")
    with pytest.raises(RegistryError, match=said) as caught:
        await client.key(b"k")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"header": 1}',
        b'{"kvs": [{"key": "!"}]}',
        b'{"kvs": {}}',
        b'{"a":' * 100_000,
    ],
)
@virtual
async def test_nonsense_is_an_error(body: bytes) -> None:
    """What is no answer of etcd is a SourceError."""
    http = Etcd(kv_range=ok(body)).http
    with pytest.raises(SourceError, match="not what it should be"):
        await EtcdKeys(EtcdSource(key="a.yaml"), cast("Client", http)).fetch()


@virtual
async def test_a_source_of_one_key() -> None:
    """One key is watched as one key, and is a document by its end."""
    etcd = Etcd(
        kv_range=[pairs(7, ("a.yaml", "x: 1")), pairs(8, ("a.yaml", "x: 2"))],
        watch=Streamed([CREATED, CHANGED]),
    )
    source = EtcdKeys(EtcdSource(key="a.yaml"), cast("Client", etcd.http))
    first, second = await source.fetch(), await source.watch()
    assert [
        (each.version, each.fragments[0].name, each.fragments[0].content) for each in (first, second)
    ] == [
        ("7", "etcd:a.yaml", b"x: 1"),
        ("8", "etcd:a.yaml", b"x: 2"),
    ]
    assert "range_end" not in etcd.asked("watch")[0].body["create_request"]


@virtual
async def test_the_source_is_down() -> None:
    """A watch that ends while nobody answers is a SourceError: the caller waits and fetches."""
    etcd = Etcd(kv_range=[pairs(7, ("a.yaml", "")), RequestError("refused")], watch=Streamed([CREATED]))
    source = EtcdKeys(EtcdSource(key="a.yaml"), cast("Client", etcd.http))
    await source.fetch()
    with pytest.raises(SourceError, match="refused"):
        await source.watch()


def test_a_compacted_watch_is_told_apart() -> None:
    """compact_revision says so, whatever else the message says."""
    with pytest.raises(CompactedError, match="before revision 30"):
        message(COMPACTED)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KNOWN = st.dictionaries(
    st.sampled_from(
        ["header", "created", "canceled", "compact_revision", "events", "cancel_reason", "revision"]
    ),
    JSON,
    max_size=5,
)
FRAME = st.one_of(
    st.binary(max_size=60).map(lambda each: each + b"\n"),
    JSON.map(lambda each: json.dumps(each).encode() + b"\n"),
    KNOWN.map(lambda each: json.dumps({"result": each}).encode() + b"\n"),
    st.sampled_from([CREATED, CHANGED, COMPACTED, line(header=header(9))]),
)


@given(frames=st.lists(FRAME, max_size=6), data=st.data())
def test_any_stream(frames: list[bytes], data: st.DataObject) -> None:
    """Whatever comes, torn wherever: a state that was read, or a RegistryError; never anything else, and never silence."""
    whole = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    ends = [*cuts, data.draw(st.integers(cuts[-1] if cuts else 0, len(whole)))]
    pieces = [whole[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
    etcd = Etcd(kv_range=pairs(7, ("w/a", "x")), watch=Streamed(pieces))
    ranged = etcd.range()

    async def run() -> None:
        await ranged.fetch()
        assert [each.value for each in await ranged.next()] == [b"x"]

    asyncio.run(run())


@given(
    st.one_of(st.binary(max_size=200), JSON.map(lambda each: json.dumps(each).encode())),
    st.integers(100, 599),
)
def test_any_answer(body: bytes, status: int) -> None:
    """Whatever answers a range: keys, or a RegistryError."""

    async def run() -> None:
        try:
            found = await Etcd(kv_range=ok(body, status)).range(prefix=False).fetch()
        except RegistryError:
            return
        assert isinstance(found, tuple)

    asyncio.run(run())
