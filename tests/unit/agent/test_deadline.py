"""Deadlines: nearer only, in tasks too, and never longer on the wire."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.outbound import deadline


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_only_nearer() -> None:
    """T1: an inner block cannot make time; what it had is there again behind it."""
    assert deadline.remaining() is None
    with deadline.within(1):
        with deadline.within(5):
            assert deadline.remaining() == 1
        with deadline.within(0.25):
            assert deadline.remaining() == 0.25
        with deadline.within(None):
            assert deadline.remaining() == 1
        await asyncio.sleep(3)
        assert deadline.remaining() == 0
    assert deadline.remaining() is None


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_tasks_inherit() -> None:
    """T2: a task that is started in the block has the block's deadline, also after the block."""

    async def look() -> float | None:
        await asyncio.sleep(0.5)
        return deadline.remaining()

    with deadline.within(2):
        task = asyncio.create_task(look())
    other = asyncio.create_task(look())
    assert await task == 1.5
    assert await other is None


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_the_end() -> None:
    """T5: what the block waits for is cancelled when its time is up, and gives back what it holds."""
    lock = asyncio.Lock()

    async def hold() -> None:
        async with lock:
            await asyncio.Event().wait()

    begun = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with deadline.end_within(0.8):
            await hold()
    assert asyncio.get_running_loop().time() - begun == pytest.approx(0.8)
    assert not lock.locked()


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_eight_hundred_milliseconds_over_three_hops() -> None:
    """T4: order, payment, stock: each hop has what the one before left it, and all end when the first one's time is up."""
    seen = []

    async def serve(
        name: str, headers: dict[str, str], takes: float, onward: list[tuple[str, float]]
    ) -> None:
        async with deadline.of_request(headers.get):
            seen.append((name, deadline.remaining()))
            await asyncio.sleep(takes)
            if onward:
                left = deadline.remaining()
                assert left is not None
                (following, takes_then), *rest = onward
                await serve(following, {deadline.HEADER: deadline.to_header(left)}, takes_then, rest)

    begun = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await serve("order", {deadline.HEADER: "800m"}, 0.2, [("payment", 0.35), ("stock", 60)])
    assert asyncio.get_running_loop().time() - begun == pytest.approx(0.8, abs=1e-4)
    assert [name for name, _ in seen] == ["order", "payment", "stock"]
    assert [left for _, left in seen] == pytest.approx([0.8, 0.6, 0.25], abs=1e-4)


@given(st.floats(0, 1e12))
def test_a_header_is_never_longer(seconds: float) -> None:
    """T4: at most eight digits and a unit, and at most what it was made from; below a day it loses less than 2 ms."""
    text = deadline.to_header(seconds)
    assert len(text) <= 9
    read = deadline.from_header(text)
    assert read is not None
    assert read <= seconds * (1 + 1e-15)
    if seconds < 86_400:
        assert seconds - read < 2e-3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("800m", 0.8), ("5u", 5e-6), ("7n", 7e-9), ("0m", 0), (" 1S ", 1)],
)
def test_units(text: str, seconds: float) -> None:
    """Each unit is gRPC's."""
    assert deadline.from_header(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [None, "", "1", "S", "-1S", "1.5S", "123456789S", "1s", "1SS", "\u0661S"])
def test_nonsense_is_nothing(text: str | None) -> None:
    """A header that means nothing gives no deadline."""
    assert deadline.from_header(text) is None
