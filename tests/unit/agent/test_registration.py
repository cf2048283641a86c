"""When a service is announced, renewed and withdrawn; what the registrars say to their registries. Virtual clock."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.fake_http import Asked, FakeHttp, Reply, ok
from watchkeeper.config.load import parse
from watchkeeper.config.schema.registrations import (
    ConsulRegistration,
    EtcdRegistration,
    FileRegistration,
    HttpProbe,
    NotReady,
    TcpProbe,
)
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.life.hooks import Rank
from watchkeeper.metrics import Metrics
from watchkeeper.outbound.client import Client, RequestError
from watchkeeper.reconcile import Reconciler
from watchkeeper.reconcilers import registrations
from watchkeeper.reconcilers.registrations import RegistrationReconciler
from watchkeeper.registry.answers import ForgottenError, RegistryError
from watchkeeper.registry.consul_registrar import ConsulRegistrar, duration
from watchkeeper.registry.etcd_registrar import EtcdRegistrar
from watchkeeper.registry.file_registrar import FileRegistrar
from watchkeeper.registry.registration import (
    Decision,
    Do,
    Record,
    State,
    adopt,
    decide,
    failed,
    forgotten,
    state,
    succeeded,
)


def virtual(test: Any) -> Any:
    """On a clock of its own."""
    return pytest.mark.asyncio(pytest.mark.looptime(test))


def consul(**fields: Any) -> ConsulRegistration:
    return ConsulRegistration(**{"service": "web", "address": "10.0.0.9", "port": 8080, **fields})


def etcd(**fields: Any) -> EtcdRegistration:
    return EtcdRegistration(**{"service": "web", "address": "10.0.0.9", "port": 8080, **fields})


class FakeRegistry:
    """What a registry has, and how it answers."""

    def __init__(self) -> None:
        self.entry: bool | None = None
        self.calls: list[tuple[float, str]] = []
        self.fails: list[Exception] = []
        self.hang = 0.0

    async def call(self, what: str, entry: bool | None) -> None:
        self.calls.append((round(asyncio.get_running_loop().time(), 3), what))
        if self.hang:
            await asyncio.sleep(self.hang)
        if self.fails:
            raise self.fails.pop(0)
        if what == "renew" and self.entry is None:
            raise ForgottenError("gone")
        self.entry = entry


class FakeRegistrar:
    """A Registrar of one fake registry."""

    def __init__(self, registry: FakeRegistry, spec: Any, period: float = 5.0) -> None:
        self.registry, self.period = registry, period
        self.place: tuple[object, ...] = (spec.instance_id,)

    async def announce(self, ready: bool, why: str) -> None:
        await self.registry.call("announce", ready)

    async def renew(self, ready: bool, why: str) -> None:
        await self.registry.call("renew", ready)

    async def withdraw(self) -> None:
        await self.registry.call("withdraw", None)


def record(spec: Any) -> Record:
    return Record(spec, FakeRegistrar(FakeRegistry(), spec))


# -- the rules --------------------------------------------------------------------------------------------------------


def test_announced_when_it_may_be_seen() -> None:
    """R1: not before it is ready, unless it stays when it is not."""
    place = ("web-10.0.0.9-8080",)
    leaves, stays = consul(when_not_ready=NotReady.DEREGISTER), consul()
    assert decide(record(leaves), leaves, place, False, 0) == Decision(Do.NOTHING)
    assert decide(record(leaves), leaves, place, True, 0) == Decision(Do.ANNOUNCE)
    assert decide(record(stays), stays, place, False, 0) == Decision(Do.ANNOUNCE)


def test_renewed_in_time_and_when_it_changes() -> None:
    """R2."""
    spec = consul()
    known = record(spec)
    succeeded(known, Do.ANNOUNCE, True, 100)
    assert decide(known, spec, known.registrar.place, True, 103) == Decision(Do.NOTHING, 2)
    assert decide(known, spec, known.registrar.place, False, 103) == Decision(Do.RENEW)
    assert decide(known, spec, known.registrar.place, True, 105) == Decision(Do.RENEW)


def test_retries_never_wait_longer_than_a_renewal() -> None:
    """R5: 0.5, 1, 2, 4 s and then the period; a change of readiness does not hurry them."""
    spec = consul()
    known = record(spec)
    delays = []
    for _number in range(6):
        failed(known, "no", 100, 0.5)
        delays.append(known.next_at - 100)
    assert delays == [0.5, 1, 2, 4, 5, 5]
    assert decide(known, spec, known.registrar.place, True, 101) == Decision(Do.NOTHING, 4)
    assert state(known) is State.RETRYING


def test_another_place_waits_for_the_withdrawal() -> None:
    """R6: in its own place a new definition takes over at once; elsewhere the old entry goes first."""
    old, same, other = consul(), consul(tags=("x",)), consul(port=1)
    known = record(old)
    succeeded(known, Do.ANNOUNCE, True, 0)
    assert decide(known, same, known.registrar.place, True, 0).do is Do.ADOPT
    assert decide(known, other, ("elsewhere",), True, 0).do is Do.WITHDRAW
    succeeded(known, Do.WITHDRAW, False, 0)
    assert decide(known, other, ("elsewhere",), True, 0).do is Do.ADOPT


class Registrations(RuleBasedStateMachine):
    """Any order of events: a registry that fails, forgets and loses answers; a service and a configuration that change.

    The registry is a set of places. After everything has come to rest it holds exactly what is wanted and may be seen.
    """

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.ready = False
        self.wanted: Any = None
        self.record: Record | None = None
        self.entries: dict[tuple[object, ...], bool] = {}

    @rule(ready=st.booleans())
    def readiness(self, ready: bool) -> None:
        self.ready = ready

    @rule(
        wanted=st.none()
        | st.builds(
            consul,
            port=st.integers(1, 2),
            tags=st.sampled_from([(), ("t",)]),
            when_not_ready=st.sampled_from(NotReady),
        )
    )
    def configure(self, wanted: Any) -> None:
        self.wanted = wanted

    @rule()
    def forget(self) -> None:
        self.entries.clear()

    @rule(outcome=st.sampled_from(["success", "failure", "lost answer"]), passed=st.floats(0, 20))
    def step(self, outcome: str, passed: float) -> None:
        self.now += passed
        self.one(outcome)

    def one(self, outcome: str) -> Decision:
        """One look, as the reconciler does it."""
        if self.record is None:
            if self.wanted is None:
                return Decision(Do.NOTHING)
            self.record = record(self.wanted)
        known = self.record
        place = None if self.wanted is None else (self.wanted.instance_id,)
        decision = decide(known, self.wanted, place, self.ready, self.now)
        match decision.do:
            case Do.NOTHING:
                pass
            case Do.ADOPT:
                adopt(known, self.wanted, FakeRegistrar(FakeRegistry(), self.wanted))
            case Do.FORGET:
                self.record = None
            case _:
                self.act(known, decision.do, outcome)
        return decision

    def act(self, known: Record, do: Do, outcome: str) -> None:
        place = known.registrar.place
        if do is Do.ANNOUNCE:
            known.present = True
        if outcome == "failure":
            failed(known, "no", self.now, 0.5)
            return
        if do is Do.RENEW and place not in self.entries:
            forgotten(known, "gone", self.now)
            return
        if do is Do.WITHDRAW:
            self.entries.pop(place, None)
        else:
            self.entries[place] = self.ready
        if outcome == "lost answer":
            failed(known, "no answer", self.now, 0.5)
        else:
            succeeded(known, do, self.ready, self.now)

    @invariant()
    def at_most_one_place(self) -> None:
        if hasattr(self, "entries"):
            assert len(self.entries) <= 1

    def teardown(self) -> None:
        for _number in range(30):
            self.now += 20
            self.one("success")
        visible = self.wanted is not None and (self.ready or self.wanted.stays)
        assert self.entries == ({(self.wanted.instance_id,): self.ready} if visible else {})
        assert self.wanted is not None or self.record is None


TestRegistrations = Registrations.TestCase
TestRegistrations.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# -- the reconciler ---------------------------------------------------------------------------------------------------


class World:
    """The reconciler with a queue, a clock and a registry of its own; the service's readiness is a switch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from watchkeeper.reconcile import work

        self.registry = FakeRegistry()
        self.ready = True
        monkeypatch.setattr(
            registrations, "registrar", lambda spec, _http: FakeRegistrar(self.registry, spec)
        )
        monkeypatch.setattr(registrations, "readiness", lambda *_rest: (self.ready, "because"))
        self.context = Context(Store(), Metrics(), chance=lambda: 0.5)
        self.reconciler = RegistrationReconciler(self.context)
        reconcilers: dict[Kind, Reconciler] = {Kind.REGISTRATION: self.reconciler}
        self.worker = asyncio.create_task(
            work(self.context.queue, reconcilers, self.context.metrics, lambda _key: None)
        )

    def load(self, text: str) -> None:
        for key in self.context.store.apply(parse(text.encode(), file="f.yaml")):
            self.context.queue.add(key)

    def series(self, name: str, **labels: str) -> float | None:
        return self.context.metrics.registry.get_sample_value(f"watchkeeper_{name}", labels)

    @property
    def shown(self) -> Any:
        return self.context.observed.objects[Key(Kind.REGISTRATION, "r")]

    def calls(self) -> list[str]:
        return [what for _at, what in self.registry.calls]


ONE = "registrations: {r: {type: consul, service: web, address: a, port: 1}}"


@virtual
async def test_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Announced once, then renewed every period."""
    world = World(monkeypatch)
    world.load(ONE)
    await asyncio.sleep(11)
    assert world.registry.calls == [(0, "announce"), (5, "renew"), (10, "renew")]
    assert world.series("registration_state", registration="r", state="registered") == 1
    assert world.shown.state == "registered"


@virtual
async def test_readiness_is_seen_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: without any event the next look sees it; with one it is seen at once."""
    world = World(monkeypatch)
    world.load(ONE)
    await asyncio.sleep(2.5)
    world.ready = False
    await asyncio.sleep(1.1)
    assert world.registry.entry is False
    assert world.shown.state == "critical"
    await asyncio.sleep(0.15)
    world.ready = True
    world.context.events.note(Key(Kind.CHECK, "web/c"), "success")
    await asyncio.sleep(0.01)
    assert world.registry.entry is True


@virtual
async def test_a_forgetful_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: what is gone at a renewal is announced in the same moment, and counted."""
    world = World(monkeypatch)
    world.load(ONE)
    await asyncio.sleep(1)
    world.registry.entry = None
    await asyncio.sleep(5)
    assert world.registry.calls == [(0, "announce"), (5, "renew"), (5, "announce")]
    assert world.series("registration_losses_total", registration="r") == 1


@virtual
async def test_a_registry_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """R5: tried again and again, and as soon as it is back the entry is; /status has the reason meanwhile."""
    world = World(monkeypatch)
    world.registry.fails = [RegistryError("no route")] * 3
    world.load(ONE)
    await asyncio.sleep(1)
    assert (world.shown.state, world.shown.why, world.shown.last_error) == (
        "retrying",
        "no route",
        "no route",
    )
    assert world.shown.details["failures_in_a_row"] == 2
    await asyncio.sleep(3)
    assert world.registry.calls == [(0, "announce"), (0.5, "announce"), (1.5, "announce"), (3.5, "announce")]
    assert world.shown.state == "registered"
    assert (
        world.series("registration_attempts_total", registration="r", action="announce", outcome="failure")
        == 3
    )
    assert world.series("errors_total", error_class="REGISTRY_FAILED") == 3


@virtual
async def test_a_registry_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """R8: one attempt at a time, and the worker is free meanwhile."""
    world = World(monkeypatch)
    world.registry.hang = 1000
    world.load(ONE)
    await asyncio.sleep(100)
    assert world.registry.calls == [(0, "announce")]
    assert world.context.queue.processing == 0


@virtual
async def test_states_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """What /status says while it is made, lost, made again, critical and taken out; each change is an event."""
    world = World(monkeypatch)
    world.load(ONE)
    await asyncio.sleep(1)
    world.registry.entry = None
    await asyncio.sleep(5)
    world.ready = False
    await asyncio.sleep(2)
    world.load(ONE.replace("port: 1", "port: 1, when_not_ready: deregister"))
    await asyncio.sleep(2)
    assert [event.what for event in world.context.events.of(Key(Kind.REGISTRATION, "r"))] == [
        "registering",
        "registered",
        "registering",
        "registered",
        "critical",
        "withdrawing",
        "waiting",
    ]


@virtual
async def test_a_defect_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody expected is counted and tried again."""
    world = World(monkeypatch)
    world.registry.fails = [ZeroDivisionError("bug")]
    world.load(ONE)
    await asyncio.sleep(1)
    assert world.calls() == ["announce", "announce"]
    assert world.shown.state == "registered"


@virtual
async def test_what_is_removed_is_withdrawn_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """R4: out of the registry, of /status and of /metrics."""
    world = World(monkeypatch)
    world.load(ONE)
    await asyncio.sleep(1)
    world.load("{}")
    await asyncio.sleep(2)
    assert world.calls() == ["announce", "withdraw"]
    assert world.context.observed.objects == {}
    assert world.series("registration_state", registration="r", state="registered") is None


@virtual
async def test_drain_withdraws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook of the first rank; a renewal under way is given up, and nothing is announced afterwards."""
    world = World(monkeypatch)
    world.load(ONE)
    await asyncio.sleep(4.9)
    world.registry.hang = 2
    await asyncio.sleep(1)
    world.registry.hang = 0
    world.context.observed.draining = True
    assert await world.context.hooks.run(100, frozenset({Rank.ANNOUNCE})) == []
    await asyncio.sleep(10)
    assert world.calls() == ["announce", "renew", "withdraw"]


@virtual
async def test_drain_without_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt, within the registration's limit; the agent's end does not wait for a registry, nor fail by it."""
    world = World(monkeypatch)
    world.load(ONE)
    await asyncio.sleep(1)
    world.registry.hang = 1000
    begun = asyncio.get_running_loop().time()
    assert await world.context.hooks.run(100, frozenset({Rank.ANNOUNCE})) == []
    assert asyncio.get_running_loop().time() - begun == 3


# -- what registries are told -----------------------------------------------------------------------------------------


def fake(*replies: Reply) -> tuple[FakeHttp, Client]:
    left = list(replies)
    http = FakeHttp(lambda _asked: left.pop(0) if len(left) > 1 else left[0])
    return http, cast("Client", http)


def sent(asked: Asked) -> tuple[str, str, Any]:
    return asked.method, asked.path, asked.body


@virtual
async def test_consul_register() -> None:
    """All that Consul is told, with both kinds of checks."""
    http, client = fake(ok())
    spec = consul(
        name="user-service",
        id="user-service-1",
        tags=("v1",),
        meta={"k": "v"},
        weight=7,
        probe=HttpProbe(url="http://10.0.0.9:8080/health"),
        deregister_critical_after=5400.0,
    )
    await ConsulRegistrar(spec, client).announce(True, "fine")
    assert sent(http.asked[0]) == (
        "PUT",
        "v1/agent/service/register?replace-existing-checks=true",
        {
            "ID": "user-service-1",
            "Name": "user-service",
            "Tags": ["v1"],
            "Address": "10.0.0.9",
            "Port": 8080,
            "Meta": {"k": "v"},
            "EnableTagOverride": False,
            "Weights": {"Passing": 7, "Warning": 1},
            "Checks": [
                {
                    "CheckID": "user-service-1:ready",
                    "Name": "ready",
                    "TTL": "15000ms",
                    "Status": "passing",
                    "Notes": "As watchkeeper sees it.",
                    "DeregisterCriticalServiceAfter": "5400000ms",
                },
                {
                    "CheckID": "user-service-1:probe",
                    "Name": "probe",
                    "HTTP": "http://10.0.0.9:8080/health",
                    "Interval": "10000ms",
                    "Timeout": "10000ms",
                    "DeregisterCriticalServiceAfter": "5400000ms",
                },
            ],
        },
    )


@virtual
async def test_consul_tcp_probe() -> None:
    """Without an address of its own the probe goes where the service is announced; IPv6 has brackets."""
    http, client = fake(ok())
    await ConsulRegistrar(consul(address="::1", ttl=0, probe=TcpProbe()), client).announce(True, "")
    (check,) = http.asked[0].body["Checks"]
    assert check["TCP"] == "[::1]:8080"


@virtual
async def test_consul_ttl_update() -> None:
    """A third of the TTL; the status and the reason, in one line of bounded length."""
    http, client = fake(ok())
    registrar = ConsulRegistrar(consul(id="a b"), client)
    assert registrar.period == 5
    await registrar.renew(False, "not\nready " + "x" * 5000)
    method, path, body = sent(http.asked[0])
    assert (method, path, body["Status"]) == ("PUT", "v1/agent/check/update/a%20b%3Aready", "critical")
    assert body["Output"].startswith("not ready xxx")
    assert len(body["Output"]) == 1000


@virtual
@pytest.mark.parametrize(
    ("ttl", "reply", "error"),
    [
        (15.0, ok(b"Unknown check ID", 404), ForgottenError),
        (15.0, ok(b'CheckID "x" does not have associated TTL', 500), ForgottenError),
        (15.0, ok(b"No cluster leader", 500), RegistryError),
        (15.0, ok(b"", 403), RegistryError),
        (15.0, RequestError("refused"), RegistryError),
        (0.0, ok(b"unknown service ID", 404), ForgottenError),
        (0.0, ok(b"", 500), RegistryError),
    ],
)
async def test_consul_has_forgotten_or_fails(ttl: float, reply: Reply, error: type[Exception]) -> None:
    """C3, C4: a check or a service that is not known is told from a Consul that fails."""
    _http, client = fake(reply)
    with pytest.raises(RegistryError) as caught:
        await ConsulRegistrar(consul(ttl=ttl, probe=TcpProbe()), client).renew(True, "")
    assert type(caught.value) is error


@virtual
@pytest.mark.parametrize("reply", [ok(), ok(b"Unknown service ID", 404)])
async def test_consul_deregister(reply: Reply) -> None:
    """C5: that it is gone already is fine."""
    http, client = fake(reply)
    await ConsulRegistrar(consul(), client).withdraw()
    assert http.asked[0].path == "v1/agent/service/deregister/web-10.0.0.9-8080"


def test_durations_as_go_reads_them() -> None:
    """Whole milliseconds, also of fractions."""
    assert [duration(seconds) for seconds in (10, 0.25, 5400, 1 / 3)] == [
        "10000ms",
        "250ms",
        "5400000ms",
        "333ms",
    ]


@virtual
async def test_etcd_lease() -> None:
    """L1: the lease of the granted length; the key has all that others need; L4: withdrawing revokes."""
    http, client = fake(ok({"ID": "77", "TTL": "30"}), ok({}), ok({}))
    registrar = EtcdRegistrar(etcd(prefix="/services/", name="user", id="1", ttl=14.2), client)
    await registrar.announce(True, "")
    await registrar.withdraw()
    await registrar.withdraw()
    grant, put, revoke = map(sent, http.asked)
    assert grant[1:] == ("v3/lease/grant", {"TTL": "15"})
    assert registrar.period == 10
    assert b64decode(put[2]["key"]) == b"/services/user/1"
    assert put[2]["lease"] == "77"
    assert json.loads(b64decode(put[2]["value"])) == {
        "id": "1",
        "name": "user",
        "address": "10.0.0.9",
        "port": 8080,
        "weight": 1,
        "tags": [],
        "meta": {},
        "ready": True,
    }
    assert revoke[1:] == ("v3/lease/revoke", {"ID": "77"})


def found(spec: EtcdRegistration, lease: str, ready: bool = True) -> Reply:
    from base64 import b64encode

    from watchkeeper.registry.etcd_registrar import value

    return ok({"kvs": [{"key": "aw==", "value": b64encode(value(spec, ready)).decode(), "lease": lease}]})


@virtual
async def test_etcd_renewal() -> None:
    """L1, L3: kept alive and looked at; a value that is no longer right is written again, with the same lease."""
    spec = etcd()
    http, client = fake(
        ok({"ID": "7", "TTL": "15"}),
        ok({}),
        ok({"result": {"TTL": "15"}}),
        found(spec, "7"),
        ok({"result": {"TTL": "15"}}),
        found(spec, "7"),
        ok({}),
    )
    registrar = EtcdRegistrar(spec, client)
    await registrar.announce(True, "")
    await registrar.renew(True, "")
    await registrar.renew(False, "")
    assert [asked.path.removeprefix("v3/") for asked in http.asked[2:]] == [
        "lease/keepalive",
        "kv/range",
        "lease/keepalive",
        "kv/range",
        "kv/put",
    ]
    assert json.loads(b64decode(http.asked[-1].body["value"]))["ready"] is False


@virtual
@pytest.mark.parametrize(
    ("replies", "grants"),
    [
        ([ok({"result": {"ID": "7"}})], 2),
        ([ok({"result": {"TTL": "15"}}), ok({})], 1),
        ([ok({"result": {"TTL": "15"}}), found(etcd(), "8")], 1),
    ],
)
async def test_etcd_has_lost_it(replies: list[Reply], grants: int) -> None:
    """L2, L3: a lease that is gone is granted anew; a key that is gone or is another's is put anew."""
    granted = [ok({"ID": "7", "TTL": "15"}), ok({})]
    http, client = fake(*granted, *replies, *granted)
    registrar = EtcdRegistrar(etcd(), client)
    await registrar.announce(True, "")
    with pytest.raises(ForgottenError):
        await registrar.renew(True, "")
    if grants == 1:
        http.reply = lambda _asked: ok({})
    await registrar.announce(True, "")
    assert sum(asked.path == "v3/lease/grant" for asked in http.asked) == grants
    assert sum(asked.path == "v3/kv/put" for asked in http.asked) == 2


@virtual
async def test_etcd_lease_goes_while_it_is_announced() -> None:
    """The next attempt begins with a new lease, and does not try the old one for ever."""
    lost = ok({"code": 5, "message": "etcdserver: requested lease not found"}, 404)
    http, client = fake(ok({"ID": "7", "TTL": "15"}), lost, ok({"ID": "8", "TTL": "15"}), ok({}))
    registrar = EtcdRegistrar(etcd(), client)
    with pytest.raises(RegistryError, match="lease not found"):
        await registrar.announce(True, "")
    await registrar.announce(True, "")
    assert http.asked[-1].body["lease"] == "8"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.asyncio
async def test_file(tmp_path: Path) -> None:
    """The form that Prometheus reads; renewing sees every change; withdrawing removes it, and nothing else is left."""
    path = tmp_path / "web.json"
    spec = FileRegistration(
        service="web", address="::1", port=80, path=str(path), tags=("a", "b"), meta={"zone": "x"}, id="i"
    )
    registrar = FileRegistrar(spec)
    await registrar.announce(True, "")
    assert json.loads(path.read_text()) == [
        {
            "targets": ["[::1]:80"],
            "labels": {"service": "web", "instance_id": "i", "zone": "x", "tags": ",a,b,"},
        }
    ]
    await registrar.renew(True, "")
    path.write_text("[]")
    with pytest.raises(ForgottenError, match="gone or has been changed"):
        await registrar.renew(True, "")
    path.unlink()
    with pytest.raises(ForgottenError):
        await registrar.renew(True, "")
    await registrar.announce(True, "")
    await registrar.withdraw()
    await registrar.withdraw()
    assert names(tmp_path) == []


@pytest.mark.asyncio
async def test_file_without_a_folder(tmp_path: Path) -> None:
    """A folder that is not there is a sentence."""
    spec = FileRegistration(service="web", address="a", port=80, path=str(tmp_path / "no" / "web.json"))
    with pytest.raises(RegistryError, match=r"web\.json cannot be written: No such file"):
        await FileRegistrar(spec).announce(True, "")
