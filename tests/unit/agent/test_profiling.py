"""Profiles, heap, tasks, threads and garbage: what they say, and what they cost others."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support.endpoints_world import Rig, ask, connect, endpoints, listener
from watchkeeper.profiling import sampler as sampler_module
from watchkeeper.profiling.formats import collapsed, speedscope
from watchkeeper.profiling.sampler import Sampler
from watchkeeper.profiling.stacks import as_text, chain, threads

SPEEDSCOPE = {
    "type": "object",
    "required": ["$schema", "shared", "profiles"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"const": "https://www.speedscope.app/file-format-schema.json"},
        "name": {"type": "string"},
        "exporter": {"type": "string"},
        "activeProfileIndex": {"type": "integer", "minimum": 0},
        "shared": {
            "type": "object",
            "required": ["frames"],
            "additionalProperties": False,
            "properties": {
                "frames": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string"},
                            "file": {"type": "string"},
                            "line": {"type": "integer"},
                            "col": {"type": "integer"},
                        },
                    },
                }
            },
        },
        "profiles": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "name", "unit", "startValue", "endValue", "samples", "weights"],
                "additionalProperties": False,
                "properties": {
                    "type": {"const": "sampled"},
                    "name": {"type": "string"},
                    "unit": {
                        "enum": ["none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes"]
                    },
                    "startValue": {"type": "number"},
                    "endValue": {"type": "number"},
                    "samples": {
                        "type": "array",
                        "items": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    },
                    "weights": {"type": "array", "items": {"type": "number", "minimum": 0}},
                },
            },
        },
    },
}
"""The part of speedscope's file format that sampled profiles use, in the words of its documentation."""


def busy(done: threading.Event) -> None:
    while not done.is_set():
        inner()


def inner() -> int:
    return sum(range(2000))


@pytest.fixture
def burning() -> Iterator[threading.Thread]:
    """A thread that does something all the time, and one that waits."""
    done = threading.Event()
    thread = threading.Thread(target=busy, args=(done,), name="burner;odd")
    waiter = threading.Thread(target=done.wait, name="waiter")
    thread.start()
    waiter.start()
    yield thread
    done.set()
    thread.join()
    waiter.join()


def looks(sampler: Sampler, count: int) -> None:
    """So many samples, whatever the machine is doing meanwhile."""
    for _ in range(count):
        sampler.look(0.01, {threading.get_ident()})
        time.sleep(0)


def test_what_works_is_seen_and_what_waits_is_not(burning: threading.Thread) -> None:
    sampler = Sampler()
    looks(sampler, 50)
    names = {thread.name: thread for thread in sampler.profile.threads.values()}
    assert len(names["burner;odd"].stacks) == 50
    assert "waiter" not in names
    everything = Sampler(idle=True)
    looks(everything, 1)
    assert "waiter" in {thread.name for thread in everything.profile.threads.values()}


def test_collapsed_stacks(burning: threading.Thread) -> None:
    """A line per stack: thread, frames from the outermost, a count; a semicolon in a name is none of the format's."""
    sampler = Sampler()
    looks(sampler, 50)
    lines = [line for line in collapsed(sampler.profile).splitlines() if line.startswith("burner:odd;")]
    total = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        total += int(count)
        assert stack.split(";")[1].startswith("Thread._bootstrap (threading.py:")
        assert any(frame.startswith("busy (test_profiling.py:") for frame in stack.split(";"))
    assert total == 50


def test_speedscope(burning: threading.Thread) -> None:
    """It is what speedscope's schema wants, numbers of frames exist, and weights add up to the length."""
    sampler = Sampler()
    looks(sampler, 50)
    found = json.loads(json.dumps(speedscope(sampler.profile, "x")))
    jsonschema.validate(found, SPEEDSCOPE)
    frames = found["shared"]["frames"]
    assert found["activeProfileIndex"] < len(found["profiles"])
    for profile in found["profiles"]:
        assert len(profile["samples"]) == len(profile["weights"])
        assert all(number < len(frames) for sample in profile["samples"] for number in sample)
        assert sum(profile["weights"]) == pytest.approx(profile["endValue"] - profile["startValue"])


def test_a_profile_ends(monkeypatch: pytest.MonkeyPatch, burning: threading.Thread) -> None:
    """By its time, by who gave up, and by its size."""
    assert Sampler().run(0.05, 100, threading.Event()).seconds >= 0.05
    stop = threading.Event()
    stop.set()
    assert Sampler().run(3600, 100, stop).rounds == 0
    monkeypatch.setattr(sampler_module, "SAMPLES", 10)
    assert 10 <= Sampler().run(3600, 1000, threading.Event()).samples < 20


@pytest.mark.asyncio
async def test_where_a_task_waits() -> None:
    """The whole chain of what awaits what, and not only the outermost coroutine."""
    gate = asyncio.Event()

    async def deep() -> None:
        await gate.wait()

    async def middle() -> None:
        await deep()

    tasks = [asyncio.create_task(middle(), name=f"t{number}") for number in range(3)]
    await asyncio.sleep(0)
    found = chain(tasks[0].get_coro())
    functions = [line.rpartition(" ")[2].rpartition(".")[2] for line in found]
    assert functions[:3] == ["middle", "deep", "wait"]
    assert functions[3].startswith("Future")
    text = as_text([{"name": task.get_name(), "stack": chain(task.get_coro())} for task in tasks])
    assert text.startswith("3: t0, t1, t2\n")
    gate.set()
    await asyncio.gather(*tasks)


def test_where_threads_are(burning: threading.Thread) -> None:
    found = {each["name"]: each for each in threads()}
    assert any(
        "test_profiling.py" in line and line.endswith(" busy") for line in found["burner;odd"]["stack"]
    )
    assert found["MainThread"]["daemon"] is False


@asynccontextmanager
async def debugging(**fields: Any) -> AsyncIterator[tuple[Rig, int]]:
    async with endpoints() as rig:
        await rig.exposition.open("x", listener(debug=True, **fields))
        yield rig, rig.port_of("x")


@pytest.mark.asyncio
async def test_who_may_look(tmp_path: Path) -> None:
    """Control, or a listener that says debug; never over plain TCP without either."""
    async with endpoints(tmp_path) as rig:
        await rig.exposition.open("x", listener(debug=True))
        for path in ("", "/gc", "/tasks", "/threads", "/heap"):
            assert (await rig.get(f"/debug/pprof{path}")).status == 403
            assert (await rig.get(f"/debug/pprof{path}", port=rig.port_of("x"))).status == 200
            found = await ask("GET", f"/debug/pprof{path}", unix=str(tmp_path / "control.sock"))
            assert found.status == 200


@pytest.mark.asyncio
async def test_nobody_looks_from_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not with the role control: a profile holds paths and arguments of everything."""
    from watchkeeper.endpoints import peers

    async with debugging(role="control") as (rig, port):
        monkeypatch.setattr(peers, "_is_loopback", lambda _address: False)
        found = await rig.get("/debug/pprof/gc", port=port)
        assert (found.status, found.json["error"]) == (403, "/debug/pprof/gc is for programs of this machine")
        assert (await rig.get("/status", port=port)).status == 200


@pytest.mark.asyncio
async def test_a_profile_over_http(burning: threading.Thread) -> None:
    """Both formats; the loop answers others meanwhile; one at a time; who goes ends it."""
    async with debugging() as (rig, port):
        making = asyncio.create_task(rig.get("/debug/pprof/profile?seconds=1&hz=200", port=port))
        answered = 0
        while not making.done():
            assert (await rig.get("/livez")).status == 200
            answered += 1
            if answered == 20:
                second = await rig.get("/debug/pprof/profile?seconds=1", port=port)
                assert (second.status, int(second.headers["retry-after"])) == (409, 1)
        assert answered > 20
        found = await making
        assert found.status == 200
        assert "busy (test_profiling.py:" in found.body.decode()

        found = await rig.get("/debug/pprof/profile?seconds=1&format=speedscope", port=port)
        jsonschema.validate(found.json, SPEEDSCOPE)
        assert "watchkeeper.speedscope.json" in found.headers["content-disposition"]

        _reader, writer = await connect(port=port)
        writer.write(b"GET /debug/pprof/profile?seconds=300 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while (await rig.get("/debug/pprof/profile?seconds=0", port=port)).status != 400:
            pass
        await asyncio.sleep(0.1)
        writer.close()
        status = 409
        while status == 409:
            status = (await rig.get("/debug/pprof/profile?seconds=1", port=port)).status
        assert status == 200
        for query in ("seconds=0", "seconds=301", "hz=0", "hz=1001", "format=svg", "seconds=x"):
            assert (await rig.get(f"/debug/pprof/profile?{query}", port=port)).status == 400


@pytest.mark.asyncio
async def test_the_heap() -> None:
    """Off until it is started, with its cost said; then the places that hold most, and what has grown; off again."""
    held: list[bytes] = []
    async with debugging(role="control") as (rig, port):
        found = (await rig.get("/debug/pprof/heap", port=port)).json
        assert found["tracing"] is False
        assert "twice as long" in found["cost"]
        assert found["objects"][0]["count"] > 100
        assert (await ask("GET", "/debug/pprof/heap/start", port=port)).status == 405
        assert (await ask("POST", "/debug/pprof/heap/start?frames=1", port=port)).json["tracing"] is True
        try:
            assert (await rig.get("/debug/pprof/heap?diff=1", port=port)).json["compared"] is False
            held += [bytes(1000) for _ in range(2000)]
            found = (await rig.get("/debug/pprof/heap?diff=1", port=port)).json
            assert found["compared"] is True
            assert "test_profiling.py" in found["top"][0]["where"]
            assert found["top"][0]["more_bytes"] > 2_000_000
            found = (await rig.get("/debug/pprof/heap?top=5", port=port)).json
            assert len(found["top"]) == 5
        finally:
            assert (await ask("POST", "/debug/pprof/heap/stop", port=port)).json == {"tracing": False}
        assert not tracemalloc.is_tracing()


@pytest.mark.asyncio
async def test_tasks_threads_and_garbage_over_http() -> None:
    async with debugging() as (rig, port):
        text = (await rig.get("/debug/pprof/tasks", port=port)).body.decode()
        assert "listener agent.listen" in text
        names = {
            each["name"]
            for each in (await rig.get("/debug/pprof/tasks?format=json", port=port)).json["tasks"]
        }
        assert "listener agent.listen" in names
        assert "MainThread" in (await rig.get("/debug/pprof/threads", port=port)).body.decode()
        assert (await rig.get("/debug/pprof/threads?format=json", port=port)).json["threads"]
        found = (await rig.get("/debug/pprof/gc", port=port)).json
        before = found["pauses"]["count"]
        import gc

        gc.collect()
        after = (await rig.get("/debug/pprof/gc", port=port)).json
        assert after["pauses"]["count"] > before
        assert len(after["generations"]) == 3
        assert "heap" in (await rig.get("/debug/pprof", port=port)).body.decode()
