"""The Kubernetes source: list, watch, what goes wrong with them, and the definition of the resource."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import jsonschema
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from support.kubernetes_server import KubernetesServer
from watchkeeper.cli import main
from watchkeeper.config.schema.sources import KubernetesSource
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.sources import SourceError
from watchkeeper.config.sources.kubernetes import ServiceChecks
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.kubernetes import crd, reflector
from watchkeeper.kubernetes.api import KubeClient, KubeError, Object, _refusal
from watchkeeper.kubernetes.reflector import Lines, Reflector
from watchkeeper.metrics import Metrics
from watchkeeper.outbound.client import Answer, Client

WEB = {"type": "http", "url": "http://127.0.0.1:1/", "period": "500ms"}
TCP = {"type": "tcp", "address": "127.0.0.1:1"}
LIMIT = 20.0


@pytest.fixture
def cluster() -> Iterator[KubernetesServer]:
    server = KubernetesServer(crd.schema())
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[Client]:
    client = Client()
    yield client
    await client.close()


def spec(cluster: KubernetesServer, **more: Any) -> KubernetesSource:
    return KubernetesSource(url=cluster.url, **more)


async def until(source: Reflector, condition: Callable[[dict[str, Object]], bool]) -> dict[str, Object]:
    """The copy, once it is so; a watch that ended with an error is asked for again, as whoever backs off does."""
    async with asyncio.timeout(LIMIT):
        while not condition(source.objects):
            with contextlib.suppress(KubeError):
                await source.changed()
    return source.objects


@pytest.mark.asyncio
async def test_a_list_in_pieces_and_a_watch(cluster: KubernetesServer, http: Client) -> None:
    """All pieces make one list; changes, deletions and other namespaces come by the watch, without another list."""
    for number in range(7):
        cluster.apply(f"c{number}", WEB)
    copy = Reflector(KubeClient(spec(cluster, page_size=3), http))
    assert set(await copy.list()) == {f"default.c{number}" for number in range(7)}
    cluster.apply("c0", TCP)
    cluster.apply("new", WEB, namespace="other")
    cluster.delete("c1")
    found = await until(copy, lambda objects: "default.c1" not in objects and "other.new" in objects)
    assert found["default.c0"].spec == TCP
    assert (cluster.lists, cluster.watches) == (1, 1)
    await copy.close()


@pytest.mark.asyncio
async def test_bookmarks_move_the_version_on(cluster: KubernetesServer, http: Client) -> None:
    """R2: after a quiet hour of others' changes the watch goes on from where the bookmarks have led it, without a list."""
    cluster.apply("mine", WEB, labels={"node": "a"})
    copy = Reflector(KubeClient(spec(cluster, label_selector="node=a"), http))
    await copy.list()
    for number in range(3):
        cluster.apply(f"other{number}", WEB, labels={"node": "b"})
    before = copy.version
    waiting = asyncio.ensure_future(copy.changed())
    async with asyncio.timeout(LIMIT):
        while copy.version == before:  # noqa: ASYNC110 - nobody tells of a bookmark
            await asyncio.sleep(0.01)
    cluster.compact()
    cluster.apply("mine", TCP, labels={"node": "a"})
    assert (await waiting)["default.mine"].spec == TCP
    cluster.hang_up()
    cluster.apply("mine", WEB, labels={"node": "a"})
    await until(copy, lambda objects: objects["default.mine"].spec == WEB)
    assert cluster.lists == 1
    await copy.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["answer", "event"])
async def test_gone_means_a_new_list(cluster: KubernetesServer, http: Client, how: str) -> None:
    """R4: as an answer to the watch, or as an event within it; until the list is there the copy stays."""
    cluster.apply("a", WEB)
    copy = Reflector(KubeClient(spec(cluster), http))
    await copy.list()
    if how == "event":
        gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
        cluster.break_down(line=json.dumps(gone).encode())
    else:
        cluster.apply("b", WEB)
        cluster.compact()
        cluster.apply("c", WEB)
        cluster.delete("a")
    await until(copy, lambda _objects: cluster.lists == 2)
    assert set(copy.objects) == ({"default.a"} if how == "event" else {"default.b", "default.c"})
    assert "resourceVersion=0" not in [query for _, query in cluster.requests if "watch=1" not in query][-1]
    await copy.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("after", [0, 1, 40, 4000])
async def test_a_torn_stream_is_taken_up(cluster: KubernetesServer, http: Client, after: int) -> None:
    """R6: wherever within an event the line is cut, the event comes once more and counts once."""
    copy = Reflector(KubeClient(spec(cluster), http))
    await copy.list()
    cluster.break_down(torn_after=after)
    cluster.apply("a", WEB)
    found = await until(copy, lambda objects: "default.a" in objects)
    assert found["default.a"].metadata.generation == 1
    assert cluster.lists == 1
    await copy.close()


@pytest.mark.asyncio
async def test_a_silent_watch_is_given_up(cluster: KubernetesServer, http: Client) -> None:
    """R5: a server that says nothing, not even bookmarks, is asked again, and that brings what was missed."""
    copy = Reflector(KubeClient(spec(cluster), http), inactivity=0.3)
    await copy.list()
    cluster.break_down(silent=True)
    waiting = asyncio.ensure_future(until(copy, lambda objects: "default.a" in objects))
    async with asyncio.timeout(LIMIT):
        while cluster.watches < 2:  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)
    cluster.apply("a", WEB)
    cluster.break_down()
    await waiting
    assert cluster.watches >= 2
    await copy.close()


@pytest.mark.asyncio
async def test_refusals_say_when_to_come_again(cluster: KubernetesServer, http: Client) -> None:
    """429 and a Retry-After reach whoever backs off; the copy stays; other refusals name their status."""
    cluster.apply("a", WEB)
    source = ServiceChecks(spec(cluster), http)
    await source.fetch()
    for only in ("list", "watch"):
        cluster.break_down(status=429, retry_after=3, only=only)
        with pytest.raises(SourceError, match="429") as caught:
            await (source.fetch() if only == "list" else source.watch())
        assert caught.value.retry_after == 3
    cluster.break_down(status=403)
    with pytest.raises(SourceError, match="status 403: the server says no"):
        await source.fetch()
    assert set(source.objects) == {"default.a"}
    await source.close()


def test_a_refusal_that_is_nonsense() -> None:
    """It is a refusal all the same, however deep its body is."""
    for body in (b"{", b'{"code": "x"}', b'{"x": ' + b"[" * 50_000):
        assert _refusal(Answer(500, {}, body), "u").status == 500


def test_a_time_to_come_again_that_is_no_number() -> None:
    """Whatever stands there, the refusal is one; a superscript is a digit for Python, and no number."""
    for said, seconds in (("3", 3.0), ("\u00b2", 0.0), ("soon", 0.0), ("", 0.0)):
        assert _refusal(Answer(429, {"Retry-After": said}, b""), "u").retry_after == seconds


@pytest.mark.asyncio
async def test_what_is_no_watch_is_an_error(cluster: KubernetesServer, http: Client) -> None:
    """R6: nonsense twice in a row ends the watch; the caller backs off and lists anew."""
    copy = Reflector(KubeClient(spec(cluster), http))
    await copy.list()
    for _ in range(reflector.EMPTY_LIMIT):
        cluster.break_down(line=b"<html>", silent=True)
        if _ == reflector.EMPTY_LIMIT - 1:
            with pytest.raises(KubeError, match="the watch of the Kubernetes API"):
                await copy.changed()
        else:
            assert not await copy._step(LIMIT)
    await copy.close()


class Said:
    """A stream that says these parts."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self) -> Any:
        for part in self._parts:
            yield part


EVENTS = [
    {
        "type": "ADDED",
        "object": {"metadata": {"name": "a", "namespace": "n", "resourceVersion": "5"}, "spec": {}},
    },
    {"type": "MODIFIED", "object": {"metadata": {"name": "a", "namespace": "n", "resourceVersion": "6"}}},
    {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}},
    {"type": "DELETED", "object": {"metadata": {"name": "a", "namespace": "n", "resourceVersion": "8"}}},
]


class Scripted:
    """A client whose every watch says bytes, in parts, and ends."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts

    def watch(self, _version: str, _seconds: int) -> Any:
        parts = self.parts

        class Opened:
            async def __aenter__(self) -> Said:
                return Said(parts)

            async def __aexit__(self, *_rest: object) -> None:
                pass

        return Opened()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_stream_leaves_a_copy_that_holds(data: st.DataObject) -> None:
    """Events cut, doubled, mixed with nonsense and split anywhere: the copy is what the whole events say, or an error comes."""
    whole = [
        json.dumps(data.draw(st.sampled_from(EVENTS))).encode() for _ in range(data.draw(st.integers(0, 6)))
    ]
    nonsense = data.draw(
        st.lists(
            st.one_of(st.binary(max_size=30), st.sampled_from([b"[]", b"null", b'{"type":1}', b"{" * 3000]))
        )
    )
    lines = data.draw(st.permutations([*whole, *(each.replace(b"\n", b"") for each in nonsense)]))
    text = b"\n".join(lines) + b"\n"
    text = text[: data.draw(st.integers(0, len(text)))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    async def run() -> None:
        copy = Reflector(Scripted(parts))  # type: ignore[arg-type]
        try:
            for _ in range(len(lines) + 2):
                await copy._step(10.0)
        except KubeError:
            pass
        assert copy.version in ("", "5", "6", "7", "8")
        assert set(copy.objects) <= {"n.a"}

    asyncio.run(run())


@pytest.mark.asyncio
async def test_a_change_is_told_whatever_follows_it() -> None:
    """An event that comes in one piece with a bookmark is handed out; the bookmark does not swallow it."""
    data = json.dumps(EVENTS[0]).encode() + b"\n" + json.dumps(EVENTS[2]).encode() + b"\n"
    copy = Reflector(Scripted([data]))  # type: ignore[arg-type]
    async with asyncio.timeout(LIMIT):
        assert set(await copy.changed()) == {"n.a"}
    assert copy.version == "7"


@given(st.lists(st.binary(max_size=20).map(lambda part: part.replace(b"\r", b"")), max_size=8))
def test_lines_are_the_same_however_they_are_cut(parts: list[bytes]) -> None:
    """Whole lines in order; what has no end at the end is none."""

    async def run() -> list[bytes]:
        lines, found = Lines(Said(parts)), []  # type: ignore[arg-type]
        while (line := await lines.next()) is not None:
            found.append(line)
        return found

    expected = [line for line in b"".join(parts).split(b"\n")[:-1] if line.strip()]
    assert asyncio.run(run()) == expected


# -- as a source of configuration ------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_objects_become_checks(
    cluster: KubernetesServer, http: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each good object is one document; a wrong one is left out with its reason; another node's is nobody's business."""
    monkeypatch.setenv("NODE_NAME", "here")
    cluster.apply("good", WEB)
    cluster.apply("wrong", {**WEB, "period": -1, "tiemout": 3})
    cluster.apply("x" * 60, TCP)
    cluster.apply("there", {**WEB, "nodeName": "there"})
    cluster.apply("mine", {**TCP, "nodeName": "here"})
    source = ServiceChecks(spec(cluster), http)
    fetched = await source.fetch()
    assert {each.name for each in fetched.fragments} == {"kubernetes:default/good", "kubernetes:default/mine"}
    assert json.loads(fetched.fragments[0].content) == {"checks": {"default.good": WEB}}
    assert json.loads(fetched.fragments[1].content) == {"checks": {"default.mine": TCP}}
    assert set(source.wrong) == {"default.wrong", f"default.{'x' * 60}"}
    assert "spec.tiemout: unknown key" in source.wrong["default.wrong"]
    assert "spec.period" in source.wrong["default.wrong"]
    assert "kubernetes:" not in source.wrong["default.wrong"]
    await source.close()


@pytest.mark.asyncio
async def test_an_object_that_is_being_deleted_is_no_check(cluster: KubernetesServer, http: Client) -> None:
    """It goes from the configuration while its finalizer still holds it in the cluster."""
    cluster.apply("a", WEB)
    cluster.apply("b", WEB)
    source = ServiceChecks(spec(cluster), http)
    await source.fetch()
    item = source.objects["default.a"]
    await source.client.patch(item.metadata, {"metadata": {"finalizers": ["watchkeeper.internal/here"]}})
    cluster.delete("a")
    async with asyncio.timeout(LIMIT):
        while {each.name for each in (await source.watch()).fragments} != {"kubernetes:default/b"}:
            pass
    assert cluster.find("a") is not None
    assert "default.a" in source.objects
    await source.close()


@pytest.mark.asyncio
async def test_an_object_that_moves_to_another_node_is_reported(
    cluster: KubernetesServer, http: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it has this agent's finalizer somebody has to take that out; also when it moved while nobody looked."""
    monkeypatch.setenv("NODE_NAME", "here")
    cluster.apply("a", {**WEB, "nodeName": "there"})
    context = Context(Store(), Metrics())
    source = ServiceChecks(spec(cluster), http)
    source.attach(context, "k")
    await source.fetch()
    assert source.left("default.a") is None
    item = source._reflector.objects["default.a"]
    await source.client.patch(item.metadata, {"metadata": {"finalizers": [source.finalizer]}})
    await source.fetch()
    assert source.left("default.a") is not None
    assert await context.queue.get() == Key(Kind.SERVICE_CHECK, "k/default.a")
    await source.close()


@pytest.mark.asyncio
async def test_a_source_that_is_closed_hears_of_nothing(cluster: KubernetesServer, http: Client) -> None:
    """A source is made anew whenever its address or its token changes; nothing of the one before stays."""
    context = Context(Store(), Metrics())
    before = len(context.events._listeners)
    for _ in range(3):
        source = ServiceChecks(spec(cluster), http)
        source.attach(context, "k")
        await source.close()
    assert len(context.events._listeners) == before
    assert context.reporters == {}


@pytest.mark.asyncio
async def test_a_patch_of_an_old_version_is_a_conflict(cluster: KubernetesServer, http: Client) -> None:
    """Optimistic locking: the second writer is told, and nothing is overwritten; an object that is gone is 404."""
    cluster.apply("a", WEB)
    copy = Reflector(client := KubeClient(spec(cluster), http))
    item = (await copy.list())["default.a"]
    change = {"metadata": {"finalizers": ["x/y"], "resourceVersion": item.metadata.resource_version}}
    await client.patch(item.metadata, change)
    with pytest.raises(KubeError) as caught:
        await client.patch(item.metadata, change)
    assert caught.value.conflict
    found = await client.patch(
        item.metadata, {"status": {"nodes": {"n": {"state": "success"}}}}, subresource="status"
    )
    assert found.status == {"nodes": {"n": {"state": "success"}}}
    cluster.delete("a")
    await client.patch(found.metadata, {"metadata": {"finalizers": []}})
    with pytest.raises(KubeError) as caught:
        await client.patch(item.metadata, {"metadata": {}})
    assert caught.value.status == 404


@pytest.mark.asyncio
async def test_the_token_is_read_again(cluster: KubernetesServer, http: Client, tmp_path: Any) -> None:
    """Kubernetes renews the file; the next request has the new token."""
    server = KubernetesServer(token="second")
    server.start()
    token = tmp_path / "token"
    token.write_text("first\n")
    client = KubeClient(KubernetesSource(url=server.url, token_file=str(token)), http)
    with pytest.raises(KubeError, match="401"):
        await client.page()
    token.write_text("second\n")
    assert (await client.page()).items == ()
    server.stop()


# -- the definition ------------------------------------------------------------------------------------------------------------------


def structural(schema: dict[str, Any], path: str = "") -> None:
    """The rules of a structural schema: a type everywhere, but where it is said that anything goes; no references."""
    free = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
    assert free or "type" in schema, path
    assert not set(schema) & {"$ref", "oneOf", "allOf", "not", "definitions", "uniqueItems"}, path
    if "anyOf" in schema:
        assert schema["anyOf"] == [{"type": "integer"}, {"type": "string"}], path
    assert not ("properties" in schema and "additionalProperties" in schema), path
    for name, each in schema.get("properties", {}).items():
        structural(each, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            structural(schema[name], f"{path}.{name}")


def test_the_definition_is_structural() -> None:
    """It says of every field what Kubernetes wants to know, and has the parts that a custom resource needs."""
    made = crd.manifest()
    [version] = made["spec"]["versions"]
    structural(version["schema"]["openAPIV3Schema"])
    assert made["metadata"]["name"] == f"{made['spec']['names']['plural']}.{made['spec']['group']}"
    assert (version["served"], version["storage"], version["subresources"]) == (True, True, {"status": {}})
    assert made["spec"]["scope"] == "Namespaced"
    assert json.loads(json.dumps(made)) == made


def test_the_definition_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`watchkeeper crd`, for kubectl, which takes JSON; no cluster is asked."""
    with pytest.raises(SystemExit) as ended:
        main(["crd"])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out) == crd.manifest()


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (WEB, True),
        ({**WEB, "timeout": 2, "role": "readiness"}, True),
        ({"type": "exec", "command": ["true"]}, True),
        ({"url": "http://x/"}, False),
        ({"type": "carrier pigeon"}, False),
        ({**WEB, "failure_threshold": 0}, False),
        ({**WEB, "role": "boss"}, False),
    ],
)
def test_the_definition_knows_checks(check: dict[str, Any], good: bool) -> None:
    """What the cluster refuses at once, and what it takes."""
    validator = jsonschema.Draft7Validator(crd.schema())
    assert validator.is_valid({"spec": check}) is good
