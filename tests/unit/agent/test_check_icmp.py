"""The icmp check. Loopback answers for itself, where the system lets a test send echo requests at all."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from watchkeeper.checks import Outcome, ProbeError, Word, icmp, look
from watchkeeper.checks.icmp import open_socket
from watchkeeper.config.schema.checks import IcmpCheck

pytestmark = pytest.mark.asyncio


def permitted(family: int = socket.AF_INET) -> bool:
    try:
        open_socket(family).close()
    except (ProbeError, OSError):
        return False
    return True


async def ping(**fields: Any) -> Outcome:
    return await look(IcmpCheck(**{"host": "127.0.0.1", "timeout": 5.0} | fields))


@pytest.mark.skipif(not permitted(), reason="LOUD: this system lets no test send echo requests")
async def test_loopback_answers() -> None:
    """One request, and several; the slowest answer is measured."""
    outcome = await ping()
    assert (outcome.word, "127.0.0.1: 1 of 1 answered" in outcome.detail) == (Word.OK, True), outcome
    outcome = await ping(count=3)
    assert "3 of 3 answered" in outcome.detail
    assert (await ping(max_seconds=1e-3, count=1)).word in (Word.OK, Word.FAILED)


@pytest.mark.skipif(not permitted(), reason="LOUD: this system lets no test send echo requests")
async def test_a_raw_socket_hears_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only a raw socket is to be had, it hears every packet of the machine, its own requests too; ours are told apart."""
    plain = socket.socket

    def raw_only(family: int, kind: int, *rest: Any) -> socket.socket:
        if kind == socket.SOCK_DGRAM:
            raise PermissionError(13, "no")
        return plain(family, kind, *rest)

    monkeypatch.setattr(icmp.socket, "socket", raw_only)
    try:
        open_socket(socket.AF_INET).close()
    except ProbeError:
        pytest.skip("LOUD: this system lets no test open a raw socket")
    assert "2 of 2 answered" in (await ping(count=2)).detail


async def test_who_may_not_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """That says nothing of the target."""

    def refuse(*_rest: Any) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(icmp.socket, "socket", refuse)
    outcome = await ping()
    assert outcome.success is None
    assert "net.ipv4.ping_group_range, or give it CAP_NET_RAW" in outcome.detail


@pytest.mark.parametrize(
    ("seconds", "fields", "word"),
    [
        ([0.01, 0.02], {"count": 2}, Word.OK),
        ([0.01], {"count": 2}, Word.FAILED),
        ([0.01], {"count": 2, "max_loss_percent": 50.0}, Word.OK),
        ([0.01, 0.5], {"count": 2, "max_seconds": 0.1}, Word.FAILED),
        ([], {"count": 2}, Word.UNREACHABLE),
    ],
)
async def test_loss(seconds: list[float], fields: dict[str, Any], word: Word) -> None:
    assert icmp._judge(IcmpCheck(host="h", **fields), seconds).word is word


@pytest.mark.skipif(not permitted(), reason="LOUD: this system lets no test send echo requests")
async def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are not ours do not count, and the look ends just before its deadline."""
    monkeypatch.setattr(icmp._Echoes, "answered", lambda _self, _packet: -1)
    outcome = await ping(timeout=0.2)
    assert (outcome.word, outcome.detail) == (Word.UNREACHABLE, "127.0.0.1: no answer to 1 request")


@pytest.mark.looptime
async def test_the_look_up_is_part_of_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a name took: what has been lost is counted just before the deadline, and not cut off by it."""

    async def slowly(host: str, port: int) -> list[Any]:
        await asyncio.sleep(2)
        return [(socket.AF_INET, ("127.0.0.1", port))]

    async def silent(_sock: object, _size: int) -> bytes:
        await asyncio.sleep(60)
        return b""

    monkeypatch.setattr(icmp.RESOLVER, "addresses", slowly)
    monkeypatch.setattr(icmp, "open_socket", lambda family: socket.socket(family, socket.SOCK_DGRAM))
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "sock_recv", silent)
    monkeypatch.setattr(loop, "sock_sendall", lambda _sock, _data: asyncio.sleep(0))
    outcome = await ping(host="h", timeout=5.0)
    assert (outcome.word, outcome.detail) == (Word.UNREACHABLE, "h: no answer to 1 request")


async def test_a_link_local_address_has_a_scope() -> None:
    """It is part of the address that the system has answered."""
    connected: list[Any] = []

    class Sock(socket.socket):
        def connect(self, address: Any) -> None:
            connected.append(address)
            raise OSError("enough")

    with Sock(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        where = (socket.AF_INET6, ("fe80::1", 0, 0, 3))
        echoes = icmp._Echoes(IcmpCheck(host="fe80::1%x"), where, sock)
        with pytest.raises(OSError, match="enough"):
            await echoes.exchange(0.0)
    assert connected == [("fe80::1", 0, 0, 3)]
