"""The dns check: messages agree with dnspython, and servers on loopback answer, lie, cut and keep silent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.checks import Outcome, Word, look
from watchkeeper.checks.dns import _judge
from watchkeeper.checks.dns_wire import MessageError, question, read_answer
from watchkeeper.config.schema.checks import DnsCheck, DnsRecord
from watchkeeper.errors import ErrorClass

RECORDS = {
    "A": ["192.0.2.1", "192.0.2.2"],
    "AAAA": ["2001:db8::1"],
    "CNAME": ["real.example."],
    "MX": ["10 mail.example.", "20 backup.example."],
    "TXT": ['"v=spf1 -all"', '"two " "parts"'],
    "SRV": ["0 5 443 a.example."],
}
READ = {
    "A": ("192.0.2.1", "192.0.2.2"),
    "AAAA": ("2001:db8::1",),
    "CNAME": ("real.example",),
    "MX": ("10 mail.example", "20 backup.example"),
    "TXT": ("v=spf1 -all", "two parts"),
    "SRV": ("0 5 443 a.example",),
}


def answer(
    asked: bytes, record: str, *, flags: int = 0, code: int = 0, values: list[str] | None = None
) -> bytes:
    """What dnspython's server would say."""
    request = dns.message.from_wire(asked)
    response = dns.message.make_response(request)
    response.flags |= flags
    response.set_rcode(dns.rcode.Rcode(code))
    values = RECORDS[record] if values is None else values
    if values and not code:
        response.answer.append(dns.rrset.from_text(request.question[0].name, 60, "IN", record, *values))
    return response.to_wire(max_size=65_535)


@pytest.mark.parametrize("record", RECORDS)
def test_messages(record: str) -> None:
    """Our question is read by dnspython, and its answer by us, compressed names and all."""
    asked = question(4711, "Www.Example.", record)
    request = dns.message.from_wire(asked)
    assert (request.id, str(request.question[0])) == (4711, f"Www.Example. IN {record}")
    assert request.flags & dns.flags.RD
    assert request.payload == 1232
    read = read_answer(answer(asked, record), 4711, "www.example", record)
    assert (read.code, read.cut) == (0, False)
    # dnspython shuffles what it writes, and points to the name that was asked for, capitals and all.
    answers = sorted(each if record == "TXT" else each.lower() for each in read.answers)
    assert answers == sorted(READ[record])


def test_an_answer_behind_an_alias() -> None:
    """The addresses count, and not the alias in front of them."""
    asked = question(1, "www.example", "A")
    response = dns.message.make_response(dns.message.from_wire(asked))
    response.answer.append(dns.rrset.from_text("www.example.", 60, "IN", "CNAME", "real.example."))
    response.answer.append(dns.rrset.from_text("real.example.", 60, "IN", "A", "192.0.2.7"))
    assert read_answer(response.to_wire(), 1, "www.example", "A").answers == ("192.0.2.7",)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "shorter than its header"),
        (b"\0\2\x80\0" + bytes(8), "answers something else"),
        (b"\0\1\0\0" + bytes(8), "answers something else"),
        (b"\0\1\x80\0\0\1\0\0\0\0\0\0\1b\0\0\1\0\1", "answers for 'b'"),
        (b"\0\1\x80\0\0\1\0\0\0\0\0\0\x3fa", "ends too early"),
        (b"\0\1\x80\0\0\1\0\0\0\0\0\0\xc0\x0c", "points in circles"),
        (b"\0\1\x80\0\0\1\0\0\0\0\0\0\x80", "unknown form"),
        (b"\0\1\x80\0\0\1\0\0\0\0\0\0" + b"\1a" * 128 + b"\0\0\1\0\1", "longer than names are"),
        (b"\0\1\x80\0\0\0\0\1\0\0\0\0\0\0\1\0\1\0\0\0\0\0\3abc", "wrong length"),
        (b"\0\1\x80\0\0\0\0\1\0\0\0\0\0\0\1\0\1\0\0\0\0\0\xffabc", "ends too early"),
    ],
)
def test_what_is_no_answer(message: bytes, why: str) -> None:
    with pytest.raises(MessageError, match=why):
        read_answer(message, 1, "a", "A")


@given(st.binary(max_size=200), st.sampled_from(list(RECORDS)), st.integers(0, 500), st.integers(0, 255))
def test_any_bytes(junk: bytes, record: str, place: int, byte: int) -> None:
    """An answer, or a MessageError; never anything else, and never without an end."""
    good = bytearray(answer(question(1, "a.b", record), record))
    good[place % len(good)] = byte
    for message in (junk, b"\0\1\x80\0\0\1\0\4\0\0\0\0\0" + junk, bytes(good), bytes(good[:place])):
        with contextlib.suppress(MessageError):
            assert read_answer(message, 1, "a.b", record).code < 16


class Server(asyncio.DatagramProtocol):
    """A name server; `reply` makes zero or more datagrams of a question."""

    def __init__(self, reply: Callable[[bytes], list[bytes]]) -> None:
        self._reply = reply
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.asked += 1
        for each in self._reply(data):
            self._transport.sendto(each, addr)


@contextlib.asynccontextmanager
async def serving(
    reply: Callable[[bytes], list[bytes]], stream: Callable[[bytes], bytes] | None = None
) -> AsyncIterator[tuple[Server, str]]:
    """A server over UDP, and over TCP when `stream` is given."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        writer.write(stream(await reader.readexactly(size)) if stream else b"")
        writer.close()

    over_tcp = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = over_tcp.sockets[0].getsockname()[1]
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Server(reply), local_addr=("127.0.0.1", port)
    )
    async with over_tcp:
        yield server, f"127.0.0.1:{port}"
    transport.close()
    await asyncio.sleep(0)


async def ask(reply: Callable[[bytes], list[bytes]], **fields: Any) -> Outcome:
    async with serving(reply) as (_, address):
        return await look(DnsCheck(**{"name": "www.example", "server": address, "timeout": 10.0} | fields))


@pytest.mark.asyncio
@pytest.mark.parametrize("record", RECORDS)
async def test_records(record: str) -> None:
    """Each type, over a socket."""
    outcome = await ask(lambda asked: [answer(asked, record)], record=DnsRecord(record))
    assert (outcome.word, outcome.detail) == (
        Word.OK,
        f"www.example {record}: {', '.join(sorted(READ[record]))}",
    )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "word", "said"),
    [
        ({"expect": ("192.0.2.1",)}, Word.OK, ""),
        ({"expect": ("192.0.2.2", "192.0.2.1"), "exact": True}, Word.OK, ""),
        ({"expect": ("192.0.2.1",), "exact": True}, Word.FAILED, "not expected: 192.0.2.2"),
        ({"expect": ("192.0.2.9",)}, Word.FAILED, "missing: 192.0.2.9"),
    ],
)
async def test_expected_answers(fields: dict[str, Any], word: Word, said: str) -> None:
    """All that are expected are needed; others only hurt when they may not be there."""
    outcome = await ask(lambda asked: [answer(asked, "A")], **fields)
    assert (outcome.word, said in outcome.detail) == (word, True)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("code", "values", "word", "said"),
    [
        (3, [], Word.BAD_STATUS, "says NXDOMAIN"),
        (2, [], Word.BAD_STATUS, "says SERVFAIL"),
        (0, [], Word.FAILED, "www.example A: no answer"),
    ],
)
async def test_no_such_name(code: int, values: list[str], word: Word, said: str) -> None:
    outcome = await ask(lambda asked: [answer(asked, "A", code=code, values=values)])
    assert (outcome.word, said in outcome.detail) == (word, True)


@pytest.mark.asyncio
async def test_what_is_no_answer_to_the_question_is_not_listened_to() -> None:
    """Junk, another number, another name: the right answer behind them counts."""
    other = answer(question(1, "other.example", "A"), "A", values=["192.0.2.66"])

    def lie(asked: bytes) -> list[bytes]:
        forged = asked[:2] + other[2:]
        wrong = bytes([asked[0] ^ 1]) + answer(asked, "A", values=["192.0.2.66"])[1:]
        return [b"", b"junk", forged, wrong, answer(asked, "A")]

    assert (await ask(lie, expect=tuple(READ["A"]), exact=True)).word is Word.OK


@pytest.mark.asyncio
async def test_a_lost_datagram_is_asked_for_again() -> None:
    """The second try comes before the deadline."""
    seen = []

    def once(asked: bytes) -> list[bytes]:
        seen.append(asked)
        return [answer(asked, "A")] if len(seen) > 1 else []

    assert (await ask(once, timeout=0.6)).success
    assert len(seen) == 2


@pytest.mark.asyncio
async def test_silence_and_nonsense() -> None:
    """A server that never answers, one that answers nothing else than junk, and one that is not there."""
    outcome = await ask(lambda _asked: [], timeout=0.1)
    assert (outcome.word, outcome.error_class) == (Word.UNREACHABLE, ErrorClass.CHECK_TIMEOUT)
    outcome = await ask(lambda _asked: [b"junk"], timeout=0.3)
    assert (outcome.word, outcome.detail) == (
        Word.UNREACHABLE,
        "www.example: the answer is shorter than its header",
    )
    outcome = await look(DnsCheck(name="a", server="127.0.0.1:1", timeout=10.0))
    assert (outcome.word, "Connection refused" in outcome.detail) == (Word.UNREACHABLE, True)


@pytest.mark.asyncio
async def test_what_does_not_fit_comes_over_tcp() -> None:
    """A cut answer is asked for again over TCP, where it is whole; `tcp` asks there at once."""
    many = [f"192.0.2.{number}" for number in range(200)]

    def whole(asked: bytes) -> bytes:
        wire = answer(asked, "A", values=many)
        return len(wire).to_bytes(2, "big") + wire

    def cut(asked: bytes) -> list[bytes]:
        return [answer(asked, "A", values=many[:2], flags=dns.flags.TC)]

    for tcp in (False, True):
        async with serving(cut, whole) as (server, address):
            spec = DnsCheck(name="www.example", server=address, expect=tuple(many), tcp=tcp, timeout=10.0)
            assert (await look(spec)).success
        assert server.asked == (not tcp)
    async with serving(cut, lambda _asked: b"\0\xff\0") as (_, address):
        outcome = await look(DnsCheck(name="www.example", server=address, timeout=10.0))
    assert "hung up before the end" in outcome.detail


@pytest.mark.asyncio
async def test_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server: the way that every program takes."""

    def found(host: str, _port: int, family: int, _kind: int) -> list[Any]:
        assert (host, family) == ("name.test", socket.AF_INET6)
        return [(family, 1, 6, "", ("2001:db8::1", 0, 0, 0))]

    monkeypatch.setattr("watchkeeper.checks.connect.socket.getaddrinfo", found)
    spec = DnsCheck(name="name.test", record=DnsRecord.AAAA, expect=("2001:DB8::1",), timeout=10.0)
    assert (await look(spec)).success


@pytest.mark.asyncio
async def test_the_servers_of_resolv_conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Other records are asked of the first one; a file without any is the agent's trouble."""
    conf = tmp_path / "resolv.conf"
    monkeypatch.setattr("watchkeeper.checks.dns.RESOLV_CONF", str(conf))
    spec = DnsCheck(name="www.example", record=DnsRecord.MX, timeout=10.0)
    for content in (None, "search example\n"):
        if content is not None:
            conf.write_text(content)
        outcome = await look(spec)
        assert (outcome.success, "name a server" in outcome.detail or "name one" in outcome.detail) == (
            None,
            True,
        )
    async with serving(lambda asked: [answer(asked, "MX")]) as (_, address):
        conf.write_text("# here\nnameserver 127.0.0.1\nnameserver 192.0.2.1\n")
        monkeypatch.setattr("watchkeeper.checks.dns.PORT", int(address.rpartition(":")[2]))
        assert (await look(spec)).success


def test_an_address_in_another_form() -> None:
    """2001:DB8:0::1 is what the server says as 2001:db8::1."""
    spec = DnsCheck(name="a.example", record=DnsRecord.AAAA, expect=("2001:DB8:0::1",), exact=True)
    assert _judge(spec, "s", ["2001:db8::1"]).success
    assert not _judge(spec, "s", ["2001:db8::2"]).success
