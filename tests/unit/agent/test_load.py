"""The load's clockwork on a virtual clock, and its histogram against a sorted list."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.load.core import INTERRUPTED, UNSENT, Load, Plan, Result, Sent
from watchkeeper.load.histogram import Histogram

virtual = [pytest.mark.asyncio, pytest.mark.looptime]


class Server:
    """Answers after `takes` seconds, and not at all between two moments."""

    def __init__(self, takes: float = 0.0, stall: tuple[float, float] = (0, 0)) -> None:
        self.begun = asyncio.get_running_loop().time()
        self.takes, self.stall = takes, stall
        self.asked: list[float] = []
        self.busy = self.most = 0

    async def send(self) -> Sent:
        loop = asyncio.get_running_loop()
        now = loop.time() - self.begun
        self.asked.append(round(now, 6))
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            end = now + self.takes
            if self.stall[0] <= end < self.stall[1]:
                end = self.stall[1]
            await asyncio.sleep(end - now)
        finally:
            self.busy -= 1
        return Sent(status=200)


async def run(plan: Plan, server: Server) -> Result:
    return await Load(plan, server.send).run()


class TestOnAVirtualClock:
    pytestmark = virtual

    async def test_every_request_has_its_moment(self) -> None:
        """L1: qps * duration requests at even distances, and no latency where there is none."""
        server = Server()
        result = await run(Plan(qps=4, duration=2, concurrency=10, timeout=1), server)
        assert server.asked == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]
        assert (result.count, result.answered, result.latency.max) == (8, 8, 0)

    async def test_a_stall_is_seen_by_all_who_came(self) -> None:
        """L2: a server that stands still for a second of ten at 100 qps is a tenth of the requests slow, up to the second."""
        server = Server(takes=0.001, stall=(4, 5))
        result = await run(Plan(qps=100, duration=10, concurrency=1000, timeout=5), server)
        assert result.count == 1000
        assert result.latency.max == pytest.approx(1.0, abs=0.01)
        assert result.latency.percentile(99) == pytest.approx(0.9, abs=0.02)
        assert result.latency.percentile(95) == pytest.approx(0.5, abs=0.02)
        assert result.latency.percentile(50) == pytest.approx(0.001, abs=0.0005)

    async def test_one_sender_would_have_hidden_it(self) -> None:
        """L2: with one connection only one request is slow from sending, and yet the latency says the same."""
        server = Server(takes=0.001, stall=(4, 5))
        result = await run(Plan(qps=100, duration=10, concurrency=1, timeout=5), server)
        assert result.service.percentile(99) == pytest.approx(0.001, abs=0.0005)
        assert result.latency.percentile(99) == pytest.approx(0.9, abs=0.05)
        assert result.count == 1000

    async def test_no_more_at_once_than_allowed(self) -> None:
        """L3: three senders for a server that is too slow; nothing is left out, the waiting counts."""
        server = Server(takes=0.5)
        result = await run(Plan(qps=10, duration=2, concurrency=3, timeout=60), server)
        assert server.most == 3
        assert result.count == 20
        assert result.latency.max == pytest.approx(7 * 0.5 - 1.9, abs=0.2)
        assert result.service.max == pytest.approx(0.5)

    async def test_what_cannot_be_sent(self) -> None:
        """L4, L5: one that never answers: everybody else is unsent, with the time that he has waited."""
        loop = asyncio.get_running_loop()
        begun = loop.time()

        async def send() -> Sent:
            await asyncio.sleep(2)
            return Sent(error="timeout")

        result = await Load(Plan(qps=10, duration=5, concurrency=1, timeout=2), send).run()
        assert loop.time() - begun <= 5 + 2 + 3
        assert result.errors["timeout"] + result.errors[UNSENT] == 50
        assert result.errors[UNSENT] >= 45
        assert result.latency.max == pytest.approx(8 - 0.3)  # the fourth, sent at 6 and back at 8

    async def test_a_sender_that_fails(self) -> None:
        """What a sender did not expect is an error by its name, and holds up nobody."""

        async def send() -> Sent:
            raise LookupError("a defect")

        result = await Load(Plan(qps=10, duration=1, concurrency=2, timeout=1), send).run()
        assert result.errors == {"LookupError": 10}

    async def test_stopped_early(self) -> None:
        """L5: what is under way counts as interrupted, what was not due yet does not count."""
        server = Server(takes=0.3)
        load = Load(Plan(qps=10, duration=100, concurrency=100, timeout=5), server.send)
        asyncio.get_running_loop().call_later(2.05, load.stop)
        result = await load.run()
        assert result.interrupted
        assert result.elapsed == pytest.approx(2.05)
        assert result.errors == {INTERRUPTED: 3}
        assert result.count == 21

    async def test_more_than_the_channel_holds(self) -> None:
        """L3: a backlog of many seconds waits outside of the channel, and no moment is lost."""
        server = Server(takes=1.0)
        result = await run(Plan(qps=5, duration=4, concurrency=1, timeout=100), server)
        assert result.count == 20
        assert server.asked == [float(number) for number in range(20)]
        assert result.latency.max == pytest.approx(20 - 3.8)

    @pytest.mark.parametrize(
        ("qps", "duration", "total"), [(0.5, 10, 5), (1, 0.1, 1), (3, 1, 3), (10, 0.7, 7)]
    )
    async def test_how_many(self, qps: float, duration: float, total: int) -> None:
        """qps * duration of them, and at least one."""
        result = await run(Plan(qps, duration, 10, 1), Server())
        assert result.count == total


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=300), st.sampled_from([0.1, 50, 90, 99, 99.9, 100]))
def test_percentiles(values: list[float], percent: float) -> None:
    """Within 1 % of the nearest rank of the sorted list, never below it, and never above the greatest."""
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = sorted(values)[max(1, math.ceil(len(values) * percent / 100 - 1e-9)) - 1]
    found = histogram.percentile(percent)
    assert exact - 1e-6 <= found <= exact * 1.01 + 2e-6
    assert found <= histogram.max == max(values)
    assert histogram.mean == pytest.approx(sum(values) / len(values))


def test_memory_is_bounded() -> None:
    """From a microsecond to a day there are fewer than 5000 buckets."""
    histogram = Histogram()
    value = 1e-6
    while value < 86_400:
        histogram.record(value)
        value *= 1.0005
    assert histogram.count > 50_000
    assert len(histogram._buckets) < 5000


def test_nothing_was_measured() -> None:
    """Without values everything is 0."""
    histogram = Histogram()
    assert (histogram.percentile(99), histogram.mean, histogram.max) == (0, 0, 0)
