"""Consul's protocol: blocking queries, errors, keys as documents. The clock is virtual and nothing is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fake_http import Asked, FakeHttp, Reply, ok
from watchkeeper.config.schema.registries import ConsulServer
from watchkeeper.config.schema.sources import ConsulSource, Format
from watchkeeper.config.sources import SourceError
from watchkeeper.config.sources.consul import ConsulKeys
from watchkeeper.outbound.client import Client, RequestError
from watchkeeper.registry.answers import RegistryError
from watchkeeper.registry.churn import Churn
from watchkeeper.registry.consul import BlockingQuery, ConsulClient, key_path, next_index, part


def fake(reply: Callable[[Asked], Reply]) -> tuple[FakeHttp, Client]:
    http = FakeHttp(reply)
    return http, cast("Client", http)


def query(asked: Asked) -> dict[str, list[str]]:
    return parse_qs(urlsplit(asked.url).query, keep_blank_values=True)


def indexes(*headers: str | None) -> Callable[[Asked], Reply]:
    """Answers with these X-Consul-Index headers, one after the other."""
    left = list(headers)

    def reply(_asked: Asked) -> Reply:
        header = left.pop(0)
        return ok(b"[]") if header is None else ok(b"[]", X_Consul_Index=header)

    return reply


@pytest.mark.parametrize(
    ("before", "header", "after"),
    [
        (0, "7", 7),
        (7, "8", 8),
        (7, "7", 7),
        (8, "7", 0),
        (8, "1", 0),
        (0, "0", 1),
        (8, "0", 1),
        (0, None, 1),
        (8, None, 1),
        (8, "", 1),
        (8, "x", 1),
        (8, "-3", 1),
        (8, "\u0667", 1),
        (8, "1_0", 1),
        (8, "1e3", 1),
        (0, "18446744073709551615", 18446744073709551615),
        (0, "18446744073709551616", 1),
        (0, "9" * 5000, 1),
    ],
)
def test_index(before: int, header: str | None, after: int) -> None:
    """B2, B3: backwards starts over, and what is no index is 1."""
    assert next_index(before, header) == after


@given(st.integers(0, 2**64), st.none() | st.text())
def test_any_index(before: int, header: str | None) -> None:
    """Whatever the header says, what is sent next is 0 or an index of Consul's."""
    assert 0 <= next_index(before, header) <= 2**64 - 1


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_blocking_query() -> None:
    """B1, B2: first without an index, then with the last one; backwards begins anew, and that question does not wait."""
    http, client = fake(indexes("5", "9", "3", "3", "4"))
    asks = BlockingQuery(ConsulClient(ConsulServer(), client), "kv/x", wait=300, churn=0.001)
    assert (await asks.fetch()).index == 5
    for _number in range(4):
        await asks.next()
        await asyncio.sleep(1)
    sent = [query(asked) for asked in http.asked]
    assert sent == [
        {},
        {"index": ["5"], "wait": ["300000ms"]},
        {"index": ["9"], "wait": ["300000ms"]},
        {},
        {"index": ["3"], "wait": ["300000ms"]},
    ]
    # wait, a sixteenth of it, and some slack; the first question has only the usual limit.
    assert [asked.limits.total for asked in http.asked[:2]] == [5, 5 + 300 + 300 / 16 + 10]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_an_error_starts_over() -> None:
    """B6: after an error the next question does not wait for a change since an index of before."""
    answers: list[Reply] = [
        ok(b"[]", X_Consul_Index="9"),
        RequestError("gone"),
        ok(b"[]", X_Consul_Index="2"),
    ]
    http, client = fake(lambda _asked: answers.pop(0))
    asks = BlockingQuery(ConsulClient(ConsulServer(), client), "kv/x", wait=300, churn=1)
    await asks.fetch()
    with pytest.raises(RegistryError, match="gone"):
        await asks.next()
    assert (await asks.next()).index == 2
    assert [query(asked).get("index") for asked in http.asked] == [None, ["9"], None]


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize("header", ["0", None, "7"])
async def test_a_hot_loop_slows_down(header: str | None) -> None:
    """B5: answers that come at once are taken twice in a row and then every 15 s, whatever the index says."""
    http, client = fake(indexes(*[header] * 100))
    asks = BlockingQuery(ConsulClient(ConsulServer(), client), "kv/x", wait=300, churn=15)
    await asks.fetch()
    for _number in range(5):
        await asks.next()
    assert [round(asked.at) for asked in http.asked] == [0, 0, 0, 15, 30, 45]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_churn_bucket() -> None:
    """A rest fills the bucket again, to no more than its burst."""
    churn = Churn(10, burst=2)
    clock = asyncio.get_running_loop().time
    times = []
    for rest in (0, 0, 0, 1000, 0, 0):
        await asyncio.sleep(rest)
        await churn.pause()
        times.append(round(clock()))
    assert times == [0, 0, 10, 1010, 1010, 1020]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_where_and_who() -> None:
    """The token is a header; datacenter, namespace and partition are parameters; a path stays one path."""
    http, client = fake(lambda _asked: ok())
    server = ConsulServer(
        url="http://c:1/",
        token="hush",
        datacenter="d c",
        namespace="n",
        partition="p",
    )
    await ConsulClient(server, client).ask("GET", f"health/service/{part('a/b?c')}", params=(("tag", "x&y"),))
    asked = http.asked[0]
    assert asked.headers["X-Consul-Token"] == "hush"
    assert "hush" not in asked.url
    assert asked.url.startswith("http://c:1/v1/health/service/a%2Fb%3Fc?")
    assert query(asked) == {"tag": ["x&y"], "dc": ["d c"], "ns": ["n"], "partition": ["p"]}
    assert key_path("/a b/c?d") == "kv/a%20b/c%3Fd"


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (ok(b"ACL not found\n", 403), "HTTP 403; the token may not do this: ACL not found"),
        (ok(b"", 429), "HTTP 429; Consul asks for fewer questions"),
        (ok(b"rpc error\x00: No cluster leader", 500), "HTTP 500: rpc error : No cluster leader"),
        (ok(b"\xff\xfe" * 4000, 502), "HTTP 502"),
        (ok(b"<html>", 301), "HTTP 301"),
        (RequestError("no route"), "no route"),
    ],
)
async def test_errors_are_sentences(reply: Reply, said: str) -> None:
    """What goes wrong is one line, with what Consul says and no control characters."""
    _http, client = fake(lambda _asked: reply)
    with pytest.raises(RegistryError) as caught:
        await ConsulClient(ConsulServer(), client).ask("GET", "kv/x")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 300


def pair(key: str, value: str | None) -> dict[str, Any]:
    encoded = None if value is None else b64encode(value.encode()).decode()
    return {"Key": key, "Value": encoded, "ModifyIndex": 3, "Flags": 0, "LockIndex": 0, "Session": "later"}


async def documents(spec: ConsulSource, *pairs: dict[str, Any]) -> list[tuple[str, bytes, str]]:
    _http, client = fake(lambda _asked: ok(list(pairs), X_Consul_Index="3"))
    fetched = await ConsulKeys(spec, client).fetch()
    assert fetched.version == "3"
    return [(each.name, each.content, each.suffix) for each in fetched.fragments]


@pytest.mark.asyncio
async def test_keys_are_documents() -> None:
    """By their ends, in the order of the keys; folders and other keys are left out, an empty value is an empty document."""
    found = await documents(
        ConsulSource(prefix="w/"),
        pair("w/b.toml", "x = 1"),
        pair("w/", None),
        pair("w/a.YML", "y: 1"),
        pair("w/readme", "hello"),
        pair("w/c.json", None),
    )
    assert found == [
        ("consul:w/a.YML", b"y: 1", ".yaml"),
        ("consul:w/b.toml", b"x = 1", ".toml"),
        ("consul:w/c.json", b"", ".json"),
    ]


@pytest.mark.asyncio
async def test_a_format_takes_every_key() -> None:
    """With `format` the name of a key says nothing; folders stay out."""
    found = await documents(
        ConsulSource(prefix="w/", format=Format.TOML), pair("w/a", "x = 1"), pair("w/", None)
    )
    assert found == [("consul:w/a", b"x = 1", ".toml")]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ConsulSource(key="a.yaml"), "consul has not the key a.yaml"),
        (ConsulSource(prefix="w/"), "consul has no document under w/"),
    ],
)
async def test_no_document_is_an_error(spec: ConsulSource, said: str) -> None:
    """Nothing at all takes no configuration away, unless that is said to be right."""
    _http, client = fake(lambda _asked: ok(b"", 404, X_Consul_Index="3"))
    with pytest.raises(SourceError, match=said):
        await ConsulKeys(spec, client).fetch()
    allowed = ConsulSource(key=spec.key, prefix=spec.prefix, allow_empty=True)
    assert (await ConsulKeys(allowed, client).fetch()).fragments == ()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"[1]",
        b'[{"Key": 1}]',
        b'[{"Key": "a.yaml", "Value": "!"}]',
        b"[" * 100_000,
        b"\xff",
    ],
)
async def test_nonsense_is_an_error(body: bytes) -> None:
    """What is no list of keys is a SourceError."""
    _http, client = fake(lambda _asked: ok(body, X_Consul_Index="3"))
    with pytest.raises(SourceError, match="Consul's answer about keys is not what it should be"):
        await ConsulKeys(ConsulSource(key="a.yaml"), client).fetch()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PAIR = st.fixed_dictionaries(
    {"Key": st.text(max_size=9) | JSON}, optional={"Value": JSON | st.just("eA=="), "Flags": JSON}
)
BODY = st.one_of(
    st.binary(max_size=80),
    JSON.map(lambda each: json.dumps(each).encode()),
    st.lists(PAIR, max_size=4).map(lambda each: json.dumps(each).encode()),
)


@given(BODY, st.integers(100, 599), st.none() | st.text(max_size=6), st.integers(0, 90))
def test_any_answer(body: bytes, status: int, index: str | None, cut: int) -> None:
    """Whatever answers, wherever it is cut: documents, or a SourceError; and the next question can be asked."""

    async def run() -> None:
        headers = {} if index is None else {"X_Consul_Index": index}
        _http, client = fake(lambda _asked: ok(body[: cut if cut < 60 else None], status, **headers))
        source = ConsulKeys(ConsulSource(prefix="w", format=Format.YAML, churn_interval=0.001), client)
        for ask in (source.fetch, source.watch):
            with contextlib.suppress(SourceError):
                found = await ask()
                assert found.fragments
                assert all(isinstance(each.content, bytes) for each in found.fragments)

    asyncio.run(run())
