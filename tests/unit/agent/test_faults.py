"""Faults: what is decided, what is on, and what a client of the endpoints gets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.endpoints_world import Rig, ask, endpoints
from watchkeeper.config.load import parse
from watchkeeper.config.schema.faults import FaultSettings, Side
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.errors import ConfigInvalidError
from watchkeeper.faults.decision import NOTHING, ChaosHeaderError, Fault, Subject, decide, lookup, trace_id_of
from watchkeeper.faults.state import Faults
from watchkeeper.metrics import Metrics
from watchkeeper.reconcilers.faults import FaultReconciler

TRACE = "0af7651916cd43dd8448eb211c80319c"
ON = {"X-Chaos-Enabled": "true"}


def settings(**fields: Any) -> FaultSettings:
    return msgspec.convert({"enabled": True} | fields, FaultSettings)


def subject(path: str = "/status", method: str = "GET", **headers: str) -> Subject:
    named = {f"X-Chaos-{name}": value for name, value in headers.items()}
    return Subject(Side.SERVER, method, path, header=lookup(named))


def test_nothing_by_default() -> None:
    """Neither headers nor anything else do something while the section does not say enabled."""
    asked = subject(Enabled="true", Delay="100")
    assert decide(FaultSettings(), asked, 0.0) == NOTHING
    assert decide(settings(), asked, 0.0) == Fault(delay=0.1)
    assert decide(settings(headers=False), asked, 0.0) == NOTHING


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/health", "/metrics", "/control/faults", "/control/stop/x"]
)
def test_what_is_never_broken(path: str) -> None:
    """F1, whatever a rule or a header says."""
    everything = settings(rules=[{"abort": 503}])
    assert decide(everything, subject(path, Enabled="true", Abort="503"), 0.0) == NOTHING
    assert decide(everything, subject("/healthy"), 0.0) == Fault(abort=503)


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({"Enabled": "true", "Delay": "500"}, Fault(delay=0.5)),
        ({"enabled": "TRUE", "delay": "500"}, Fault(delay=0.5)),
        ({"Enabled": "1", "Delay": "500"}, NOTHING),
        ({"Delay": "500"}, NOTHING),
        ({"Enabled": "true"}, NOTHING),
        ({"Enabled": "true", "Delay": "999999"}, Fault(delay=5)),
        ({"Enabled": "true", "CPU": "60000"}, Fault(cpu=1)),
        ({"Enabled": "true", "Abort": "503", "Delay": "1"}, Fault(delay=0.001, abort=503)),
        ({"Enabled": "true", "Reset": "true"}, Fault(reset=True)),
        ({"Enabled": "true", "Delay": "5", "Percent": "0"}, NOTHING),
    ],
)
def test_headers(headers: dict[str, str], fault: Fault) -> None:
    """F3 and F5: the seed's headers, validated and capped."""
    assert decide(settings(), subject(**headers), 0.0) == fault


@pytest.mark.parametrize(
    "headers",
    [
        {"Delay": "soon"},
        {"Delay": "-1"},
        {"Delay": "1.5"},
        {"Delay": "٣"},
        {"Delay": "9" * 30},
        {"Abort": "200"},
        {"Abort": "600"},
        {"Percent": "101"},
        {"Abort": "503", "Reset": "true"},
    ],
)
def test_headers_that_mean_nothing(headers: dict[str, str]) -> None:
    with pytest.raises(ChaosHeaderError, match="X-Chaos-"):
        decide(settings(), subject(Enabled="true", **headers), 0.0)


@pytest.mark.parametrize(
    ("scope", "hit"),
    [
        ({"paths": ["/status*"]}, True),
        ({"paths": ["/events"]}, False),
        ({"methods": ["GET"]}, True),
        ({"methods": ["POST"]}, False),
        ({"trace_ids": [TRACE]}, True),
        ({"trace_ids": ["f" * 32]}, False),
    ],
)
def test_scope(scope: dict[str, Any], hit: bool) -> None:
    """F2: by path, method and trace."""
    one = Subject(Side.SERVER, "GET", "/status/service/app", trace_id=TRACE, header=lookup({}))
    found = decide(settings(rules=[{"abort": 500}], **scope), one, 0.0)
    assert bool(found) is hit


def test_the_first_rule_that_means_it_decides() -> None:
    """F4; rules for the client's side mean requests that the agent makes."""
    rules = [
        {"side": "client", "hosts": ["api.example"], "abort": 502},
        {"paths": ["/a"], "abort": 501},
        {"abort": 500},
    ]
    assert decide(settings(rules=rules), subject("/a"), 0.0).abort == 501
    assert decide(settings(rules=rules), subject("/b"), 0.0).abort == 500
    out = Subject(Side.CLIENT, "GET", "/a", host="api.example:80")
    assert decide(settings(rules=rules), out, 0.0).abort == 502
    assert decide(settings(rules=rules), Subject(Side.CLIENT, "GET", "/a", host="b"), 0.0) == NOTHING


@given(percent=st.integers(0, 100), cap=st.integers(0, 100), chance=st.floats(0, 1, exclude_max=True))
def test_percentages_are_capped(percent: int, cap: int, chance: float) -> None:
    """F5: a header's percentage counts up to max_percent; 0 is never and 100 is always."""
    asked = subject(Enabled="true", Delay="1", Percent=str(percent))
    assert bool(decide(settings(max_percent=cap), asked, chance)) is (chance * 100 < min(percent, cap))


def test_the_trace_of_a_request() -> None:
    assert trace_id_of(f"00-{TRACE}-b7ad6b7169203331-01") == TRACE
    assert [trace_id_of(each) for each in (None, "", "00-short-x-01", TRACE)] == ["", "", "", ""]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_the_time_limit_and_the_switch() -> None:
    """S1, S2: on for ttl; off stays off over a reload; on again is on for another ttl."""
    loop = asyncio.get_running_loop()
    metrics = Metrics()
    faults = Faults(metrics, lambda: 0.0, loop.time)

    def status() -> float | None:
        return metrics.registry.get_sample_value("watchkeeper_chaos_experiment_status")

    assert not faults.on
    assert status() is None
    faults.arm(settings(ttl=60))
    assert (faults.on, faults.left, status()) == (True, 60, 1)
    await asyncio.sleep(60)
    assert not faults.on
    faults.expire()
    assert status() == 0
    assert faults.switch(on=True)
    assert not faults.switch(on=False)
    faults.arm(settings(ttl=60))
    assert (faults.on, status()) == (False, 0)
    faults.disarm()
    assert not faults.switch(on=True)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_switched_off_ends_at_once() -> None:
    """S3: a delay that waits is let go, and nothing more is done to its request."""
    loop = asyncio.get_running_loop()
    faults = Faults(Metrics(), lambda: 0.0, loop.time)
    faults.arm(settings(max_delay=3600))
    suffering = asyncio.create_task(faults.suffer(Fault(delay=3000, abort=503), Side.SERVER))
    await asyncio.sleep(1)
    assert faults.active == 1
    faults.switch(on=False)
    begun = loop.time()
    assert await suffering is False
    assert loop.time() == begun
    assert faults.active == 0


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_no_more_than_so_many() -> None:
    """S4: what comes past max_active is left alone, and counted."""
    metrics = Metrics()
    faults = Faults(metrics, lambda: 0.0, asyncio.get_running_loop().time)
    faults.arm(settings(max_active=2, rules=[{"delay": 1}]))
    found = []
    for _ in range(4):
        fault = faults.decide(subject())
        found.append(bool(fault))
        if fault:
            asyncio.create_task(faults.suffer(fault, Side.SERVER))  # noqa: RUF006 - it ends within this test
            await asyncio.sleep(0)
    assert found == [True, True, False, False]
    await asyncio.sleep(2)
    assert faults.decide(subject())
    value = metrics.registry.get_sample_value
    labels = {"side": "server", "fault": "delay"}
    assert value("watchkeeper_chaos_experiment_result_total", labels | {"result": "injected"}) == 2
    assert value("watchkeeper_chaos_experiment_result_total", labels | {"result": "limited"}) == 2


@pytest.mark.asyncio
async def test_burning_stops_with_the_switch() -> None:
    """The thread looks at the switch every few milliseconds; the loop turns meanwhile."""
    faults = Faults(Metrics(), lambda: 0.0)
    faults.arm(settings(max_cpu=60))
    burning = asyncio.create_task(faults.suffer(Fault(cpu=60), Side.SERVER))
    for _ in range(3):
        await asyncio.sleep(0.02)
    assert not burning.done()
    faults.switch(on=False)
    assert await asyncio.wait_for(burning, 5) is False


@pytest.mark.asyncio
async def test_burning_stops_with_its_request() -> None:
    """S4: a client that goes at once and comes again would else have as many threads burn as it likes."""
    faults = Faults()
    faults.arm(settings(enabled=True, max_cpu=60))
    burning = asyncio.create_task(faults.suffer(Fault(cpu=60), Side.SERVER))
    await asyncio.sleep(0.05)
    burning.cancel()
    async with asyncio.timeout(20):
        await asyncio.get_running_loop().shutdown_default_executor()
    assert faults.active == 0


async def armed(rig: Rig, reconciler: FaultReconciler, **fields: Any) -> Key:
    rig.load({"faults": {"enabled": True} | fields})
    key = Key(Kind.FAULTS, "faults")
    await reconciler.reconcile(key)
    return key


@pytest.mark.asyncio
async def test_requests_that_ask_for_it(tmp_path: Path) -> None:
    """Delay, abort and reset over a real connection; probes are untouched; the control socket switches it off."""
    async with endpoints(tmp_path) as rig:
        socket = str(tmp_path / "control.sock")
        abort = ON | {"X-Chaos-Abort": "503"}
        assert (await rig.get("/events", headers=abort)).status == 200  # nothing is configured
        refused = await ask("PUT", "/control/faults", unix=socket, body=b'{"enabled": true}')
        assert refused.status == 409

        reconciler = FaultReconciler(rig.context)
        key = await armed(rig, reconciler)
        found = await rig.get("/events", headers=abort)
        assert (found.status, found.headers["x-chaos-injected"]) == (503, "abort=503")
        assert (await rig.get("/events", headers=ON | {"X-Chaos-Delay": "1"})).status == 200
        found = await rig.get("/events", headers=ON | {"X-Chaos-Delay": "soon"})
        assert (found.status, "X-Chaos-Delay" in found.json["error"]) == (400, True)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await rig.get("/events", headers=ON | {"X-Chaos-Reset": "true"})
        for probe in ("/livez", "/readyz", "/health", "/metrics"):
            assert (await rig.get(probe, headers=abort)).status == 200
        assert (
            rig.series("chaos_experiment_result_total", side="server", fault="abort", result="injected") == 1
        )
        assert rig.series("chaos_experiment_status") == 1

        off = await ask("PUT", "/control/faults", unix=socket, body=b'{"enabled": false}', headers=abort)
        assert (off.status, off.json) == (200, {"enabled": False, "left": 0.0})
        assert (await rig.get("/events", headers=abort)).status == 200
        await armed(rig, reconciler, ttl=300)  # a reload does not switch it on
        assert (await rig.get("/events", headers=abort)).status == 200
        assert rig.context.observed.objects[key].why == "they were switched off"
        for body in (b"", b'{"enabled": 1}', b'{"enable": true}'):
            assert (await ask("PUT", "/control/faults", unix=socket, body=body)).status == 400
        on = await ask("PUT", "/control/faults", unix=socket, body=b'{"enabled": true}')
        assert on.json["enabled"] is True
        assert (await rig.get("/events", headers=abort)).status == 503
        rig.load({})
        await reconciler.reconcile(key)
        assert (await rig.get("/events", headers=abort)).status == 200
        assert key not in rig.context.observed.objects


@pytest.mark.asyncio
async def test_strangers_break_nothing() -> None:
    """Headers count from `role` on; who has less is served as if they were not there."""
    async with endpoints() as rig:
        await armed(rig, FaultReconciler(rig.context), role="control")
        assert (await rig.get("/events", headers=ON | {"X-Chaos-Abort": "503"})).status == 200


def test_the_file_says_what_is_wrong_with_faults() -> None:
    wrong = {
        "trace_ids": ["X"],
        "methods": ["get"],
        "rules": [{}, {"abort": 503, "reset": True}, {"abort": 500, "hosts": ["a"]}],
        "ttl": 100000,
    }
    right = {key: value for key, value in wrong.items() if key != "ttl"}
    with pytest.raises(ConfigInvalidError) as caught:
        parse(json.dumps({"faults": right}).encode(), file="f.yaml")
    found = "\n".join(caught.value.problems)
    for part in (
        "is not a trace id",
        "'get' is no method",
        "this rule does nothing",
        "has no status",
        "side: client",
    ):
        assert part in found
    with pytest.raises(ConfigInvalidError, match="out of range"):
        parse(json.dumps({"faults": {"ttl": 100000}}).encode(), file="f.yaml")
