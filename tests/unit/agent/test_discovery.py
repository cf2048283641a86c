"""Discovery: what answers become, what holds while a registry is down, and SRV records byte by byte. Virtual clock."""

from __future__ import annotations

import asyncio
import json
import struct
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fake_http import FakeHttp, Reply, Streamed, ok
from watchkeeper.config.load import parse
from watchkeeper.config.schema.discovery import (
    ConsulDiscovery,
    DnsDiscovery,
    EtcdDiscovery,
    StaticDiscovery,
    StaticInstance,
)
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.errors import ConfigInvalidError
from watchkeeper.metrics import Metrics
from watchkeeper.outbound.client import Client, RequestError
from watchkeeper.reconcilers.discovery import DiscoveryReconciler
from watchkeeper.registry import srv
from watchkeeper.registry.answers import RegistryError
from watchkeeper.registry.directory import Directory
from watchkeeper.registry.finders import finder
from watchkeeper.registry.instances import Instance, Static


def virtual(test: Any) -> Any:
    """On a clock of its own."""
    return pytest.mark.asyncio(pytest.mark.looptime(test))


def fake(*replies: Reply) -> tuple[FakeHttp, Client]:
    """Replies in order; the last one again and again."""
    left = list(replies)
    http = FakeHttp(lambda _asked: left.pop(0) if len(left) > 1 else left[0])
    return http, cast("Client", http)


def entry(identity: str, port: int = 80, **service: Any) -> dict[str, Any]:
    checks = service.pop("Checks", [{"Status": "passing"}])
    return {
        "Node": {"Address": "10.0.0.1"},
        "Service": {"ID": identity, "Port": port, **service},
        "Checks": checks,
    }


# -- Consul -----------------------------------------------------------------------------------------------------------


@virtual
async def test_consul() -> None:
    """Address, port, weight, ID and tags; a service without an address is at its node's; in an order of its own."""
    body = [
        entry("b", Address="h", Tags=["x"], Weights={"Passing": 10, "Warning": 1}),
        entry("a", Address="", Tags=None),
    ]
    http, client = fake(ok(body, X_Consul_Index="5"))
    found = await finder(ConsulDiscovery(service="a/b", tags=("x", "y")), client).fetch()
    assert found == (Instance("10.0.0.1", 80, 1, "a"), Instance("h", 80, 10, "b", ("x",)))
    assert http.asked[0].path == "v1/health/service/a%2Fb?tag=x&tag=y&passing=true"


@virtual
async def test_consul_warning_weight() -> None:
    """Without `passing` an instance that is not passing has its other weight."""
    weights = {"Passing": 10, "Warning": 2}
    body = [entry("a", Weights=weights, Checks=[{"Status": "passing"}, {"Status": "warning"}])]
    _http, client = fake(ok(body, X_Consul_Index="5"))
    (found,) = await finder(ConsulDiscovery(service="s", passing=False), client).fetch()
    assert found.weight == 2


@virtual
@pytest.mark.parametrize("bad", [entry("a", port=0), entry("a", port=70_000)])
async def test_consul_without_a_port(bad: dict[str, Any]) -> None:
    """What cannot be connected to is no instance, and takes the others nowhere."""
    _http, client = fake(ok([bad, entry("b")], X_Consul_Index="5"))
    assert [each.id for each in await finder(ConsulDiscovery(service="s"), client).fetch()] == ["b"]


@virtual
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b'[{"Node": {}}]', b'[{"Node": 1, "Service": {}}]', b"[" * 99_999]
)
async def test_consul_nonsense(body: bytes) -> None:
    """No list of instances is an error, and not an empty list."""
    _http, client = fake(ok(body))
    with pytest.raises(RegistryError, match="not what it should be"):
        await finder(ConsulDiscovery(service="s"), client).fetch()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SERVICE = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("ID", "Address", "Port", "Tags", "Weights"), JSON)
)
ENTRY = st.fixed_dictionaries(
    {"Node": JSON | st.just({"Address": "n"}), "Service": SERVICE}, optional={"Checks": JSON}
)


@given(
    st.one_of(
        st.binary(max_size=100),
        st.lists(ENTRY | JSON, max_size=4).map(lambda each: json.dumps(each).encode()),
    )
)
def test_consul_any_answer(body: bytes) -> None:
    """Whatever comes: instances that can be connected to, or a RegistryError."""

    async def run() -> None:
        _http, client = fake(ok(body))
        try:
            found = await finder(ConsulDiscovery(service="s"), client).fetch()
        except RegistryError:
            return
        assert all(each.host and 0 < each.port < 65_536 and each.weight >= 0 for each in found)

    asyncio.run(run())


# -- etcd and static --------------------------------------------------------------------------------------------------


def kvs(*values: Any) -> Reply:
    content = [
        {
            "key": b64encode(f"/s/{number}".encode()).decode(),
            "value": b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode(),
        }
        for number, value in enumerate(values)
    ]
    return ok({"header": {"revision": "3"}, "kvs": content})


@virtual
async def test_etcd() -> None:
    """What registrations write, and less; what is not ready, or nobody's, is left out."""
    whole = {
        "address": "a",
        "port": 1,
        "weight": 3,
        "id": "i",
        "tags": ["t"],
        "ready": True,
        "name": "s",
        "meta": {},
    }
    _http, client = fake(
        kvs(
            whole,
            {"address": "b", "port": 2},
            {**whole, "ready": False},
            b"hello",
            {"address": "c"},
            {"address": "d", "port": 0},
        )
    )
    assert await finder(EtcdDiscovery(prefix="/s/"), client).fetch() == (
        Instance("a", 1, 3, "i", ("t",)),
        Instance("b", 2, 1, "/s/1"),
    )


@virtual
async def test_etcd_watch() -> None:
    """An event leads to reading anew."""
    event = b'{"result": {"header": {"revision": "4"}, "events": [{}]}}\n'
    http, client = fake(kvs(), Streamed([event]), kvs({"address": "b", "port": 2}))
    finds = finder(EtcdDiscovery(prefix="/s/"), client)
    assert await finds.fetch() == ()
    assert [each.host for each in await finds.next()] == ["b"]
    assert [asked.path for asked in http.asked] == ["v3/kv/range", "v3/watch", "v3/kv/range"]


@virtual
async def test_static() -> None:
    """What is written down is there at once and never changes."""
    _http, client = fake(ok())
    finds = finder(StaticDiscovery(instances=(StaticInstance(host="a", port=1, weight=2),)), client)
    assert await finds.fetch() == (Instance("a", 1, 2),)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(finds.next(), 1e6)
    assert Static((Instance("a", 1),)).current() == (Instance("a", 1),)


def test_directory() -> None:
    """A view is live, of names that are not there yet as well; listeners hear of changes only."""
    directory, heard = Directory(), []
    directory.subscribe(heard.append)
    view = directory.of("x")
    assert view.current() == ()
    one = (Instance("a", 1),)
    assert [directory.set("x", one), directory.set("x", one)] == [True, False]
    assert view.current() == one
    directory.remove("x")
    directory.remove("x")
    assert view.current() == ()
    assert heard == ["x", "x"]


# -- the reconciler ---------------------------------------------------------------------------------------------------


class World:
    """The reconciler with a registry of its own."""

    def __init__(self, *replies: Reply) -> None:
        self.http, client = fake(*replies)
        self.context = Context(Store(), Metrics(), http=client, chance=lambda: 0.5)
        self.reconciler = DiscoveryReconciler(self.context)

    async def load(self, text: str) -> None:
        for key in self.context.store.apply(parse(text.encode(), file="f.yaml")):
            await self.reconciler.reconcile(key)
        await asyncio.sleep(0)

    def hosts(self, name: str = "d") -> list[str]:
        return [each.host for each in self.context.directory.of(name).current()]

    @property
    def shown(self) -> Any:
        return self.context.observed.objects[Key(Kind.DISCOVERY, "d")]

    def series(self, name: str) -> float | None:
        return self.context.metrics.registry.get_sample_value(f"watchkeeper_{name}", {"discovery": "d"})


CONSUL = "discovery: {d: {type: consul, service: s}}"


@virtual
async def test_the_last_word_holds_while_the_registry_is_down() -> None:
    """Known instances stay; that they are stale is said, counted and over when an answer comes."""
    down = RequestError("refused")
    world = World(
        ok([entry("a", Address="h")], X_Consul_Index="5"),
        down,
        down,
        down,
        ok([entry("a", Address="i")]),
        1e9,
    )
    await world.load(CONSUL)
    await asyncio.sleep(1)
    assert world.hosts() == ["h"]
    assert (world.shown.state, world.shown.why) == ("stale", "refused")
    assert (world.series("discovery_stale"), world.series("discovery_instances")) == (1, 1)
    assert world.series("discovery_failures_total") == 2
    await asyncio.sleep(10)
    assert world.hosts() == ["i"]
    assert (world.shown.state, world.shown.why) == ("current", "1 instances")
    assert world.series("discovery_stale") == 0
    # At once, then after 0.5, 1 and 2 s; each of them without an index.
    assert [round(asked.at, 1) for asked in world.http.asked] == [0, 0, 0.5, 1.5, 3.5, 3.5]


@virtual
async def test_a_registry_that_was_never_there() -> None:
    """Nothing is known, which is said; tried again at most every 30 s, for ever."""
    world = World(RequestError("refused"))
    await world.load(CONSUL)
    await asyncio.sleep(300)
    assert world.hosts() == []
    assert world.shown.state == "unknown"
    gaps = [
        round(later.at - earlier.at)
        for earlier, later in zip(world.http.asked[8:], world.http.asked[9:], strict=False)
    ]
    assert set(gaps) == {30}


@virtual
async def test_an_empty_answer_is_an_answer() -> None:
    """When the registry says that there is nobody, nobody is there."""
    world = World(ok([entry("a")], X_Consul_Index="5"), ok([], X_Consul_Index="6"), 1e9)
    await world.load(CONSUL)
    await asyncio.sleep(1)
    assert world.hosts() == []
    assert world.shown.state == "current"


@virtual
async def test_changed_and_removed_sections() -> None:
    """A changed section forgets what the old one has found; a removed one leaves no task, no status and no series."""
    world = World(ok([entry("a", Address="h")], X_Consul_Index="5"), 1e9)
    await world.load(CONSUL)
    await asyncio.sleep(1)
    assert world.hosts() == ["h"]
    await world.load("discovery: {d: {type: static, instances: [{host: z, port: 1}]}}")
    await asyncio.sleep(1)
    assert world.hosts() == ["z"]
    assert world.context.tasks.alive == 1
    await world.load("{}")
    await asyncio.sleep(1)
    assert world.hosts() == []
    assert world.context.tasks.alive == 0
    assert world.context.observed.objects == {}
    assert world.series("discovery_instances") is None


# -- DNS --------------------------------------------------------------------------------------------------------------


def wire(name: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".") if part) + b"\0"


def message(
    *records: tuple[int, int, int, bytes], number: int = 7, flags: int = 0x8180, kind: int = 33
) -> bytes:
    """An answer to `_s._tcp.x`; the names of the answers point to the question's."""
    body = (
        struct.pack("!6H", number, flags, 1, len(records), 0, 0)
        + wire("_s._tcp.x")
        + struct.pack("!2H", 33, 1)
    )
    for priority, weight, port, target in records:
        data = struct.pack("!3H", priority, weight, port) + target
        body += b"\xc0\x0c" + struct.pack("!2HIH", kind, 1, 60, len(data)) + data
    return body


async def hosts(*udp: bytes) -> list[tuple[str, int, int]]:
    return [(each.host, each.port, each.weight) for each in await ask(DnsServer(list(udp)))]


@pytest.mark.asyncio
async def test_srv_answer() -> None:
    """The lowest priority; weight 0 becomes the smallest; compressed names; a lone dot is nobody."""
    first, second = (10, 5, 80, wire("a.x")), (10, 0, 81, b"\x01b\xc0\x14")
    assert await hosts(message(first, second, (20, 9, 82, wire("c.x")), (0, 1, 1, wire(".")))) == [
        ("a.x", 80, 5),
        ("b.x", 81, 1),
    ]
    assert await hosts(message()) == []
    assert await hosts(message((1, 1, 1, wire("a")), kind=1)) == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (message((1, 1, 1, wire("a.b")))[:-3], "ends too early"),
        (message((1, 1, 1, b"\xc0\xff")), "ends too early"),
        (message((1, 1, 1, b"\x80")), "unknown form"),
        (message(flags=0x0100), "answers something else"),
        (message(flags=0x8183), "NXDOMAIN"),
        (message(flags=0x8189), "9"),
    ],
)
async def test_srv_nonsense(data: bytes, said: str) -> None:
    """What is torn, forged or an error is one sentence."""
    with pytest.raises(RegistryError, match=said):
        await hosts(data)


PORTS = st.integers(0, 65_535)


@given(
    st.lists(st.tuples(PORTS, PORTS, PORTS, st.text(max_size=9)).map(lambda each: " ".join(map(str, each))))
)
def test_srv_any_records(records: list[str]) -> None:
    """Whatever stands in the records: instances that can be connected to, each once, in order."""
    found = srv.instances(tuple(records))
    assert list(found) == sorted(set(found))
    assert all(each.host and 0 < each.port < 65_536 and each.weight > 0 for each in found)


@pytest.mark.parametrize("name", [".", "a..b", "x" * 64, "a." * 130, "a b", "h\u00f6st"])
def test_srv_bad_names(name: str) -> None:
    """A name that DNS cannot be asked for is refused with the configuration."""
    with pytest.raises(ConfigInvalidError, match="no name that DNS can be asked for"):
        parse(json.dumps({"discovery": {"d": {"type": "dns", "name": name}}}).encode(), file="f.json")


class DnsServer(asyncio.DatagramProtocol):
    """Answers over UDP and TCP on one port."""

    def __init__(self, udp: list[bytes], tcp: bytes = b"") -> None:
        self.udp, self.tcp = udp, tcp
        self.questions: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.questions.append(data)
        for answer in self.udp:
            self.transport.sendto(data[:2] + answer[2:] if answer[:2] == b"\0\x07" else answer, addr)

    async def start(self) -> int:
        loop = asyncio.get_running_loop()
        while True:
            await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
            port: int = self.transport.get_extra_info("sockname")[1]
            try:
                self.listener = await asyncio.start_server(self._tcp, "127.0.0.1", port)
            except OSError:  # free for UDP and taken for TCP: another number
                self.transport.close()
            else:
                return port

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        asked = await reader.readexactly(length)
        answer = asked[:2] + self.tcp[2:]
        writer.write(struct.pack("!H", len(answer)) + answer)
        writer.close()

    async def stop(self) -> None:
        self.transport.close()
        self.listener.close()
        await self.listener.wait_closed()


async def ask(server: DnsServer, **fields: Any) -> tuple[Instance, ...]:
    port = await server.start()
    _http, client = fake(ok())
    try:
        spec = DnsDiscovery(name="_s._tcp.x", server=f"127.0.0.1:{port}", **fields)
        return await finder(spec, client).fetch()
    finally:
        await server.stop()


@pytest.mark.asyncio
async def test_srv_over_udp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A datagram with another number is a guess of somebody's, and is passed over."""
    monkeypatch.setattr(srv.secrets, "randbelow", lambda _limit: 7)
    server = DnsServer([message((1, 1, 666, wire("evil")), number=8), message((1, 1, 80, wire("a.x")))])
    assert [each.host for each in await ask(server)] == ["a.x"]
    assert wire("_s._tcp.x") + struct.pack("!2H", 33, 1) in server.questions[0]


@pytest.mark.asyncio
async def test_srv_over_tcp() -> None:
    """An answer that was cut short is asked for again over TCP."""
    server = DnsServer([message(flags=0x8380)], tcp=message((1, 1, 80, wire("long.x"))))
    assert [each.host for each in await ask(server)] == ["long.x"]


@pytest.mark.asyncio
async def test_srv_server_is_silent() -> None:
    """No answer in time is an error."""
    with pytest.raises(RegistryError, match="no answer in time"):
        await ask(DnsServer([]), timeout=0.05)


@virtual
async def test_srv_is_asked_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every interval."""
    times: Iterator[int] = iter(range(10))

    async def udp(_server: Any, asked: bytes) -> bytes:
        return asked[:2] + message((1, 1, 80 + next(times), wire("a")))[2:]

    monkeypatch.setattr(srv, "_udp", udp)
    _http, client = fake(ok())
    finds = finder(DnsDiscovery(name="_s._tcp.x", server="h:53", interval=30.0), client)
    first, second = await finds.fetch(), await finds.next()
    assert (first[0].port, second[0].port, asyncio.get_running_loop().time()) == (80, 81, 30)


def test_the_system_s_server(tmp_path: Any) -> None:
    """The first one that is written down; none is a sentence with a cure."""
    file = tmp_path / "resolv.conf"
    file.write_text("# x\nsearch a\nnameserver fe80::1%eth0\nnameserver 10.0.0.1\n")
    assert srv.system_server(str(file)) == ("fe80::1", 53)
    with pytest.raises(RegistryError, match="give `server`"):
        srv.system_server(str(tmp_path / "none"))
