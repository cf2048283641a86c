"""TLS of listeners: modes, identities, roles, and files that are replaced while requests come. Every certificate is real."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from support.certificates import Authority, Pair
from support.endpoints_world import Rig, ask, connect, endpoints, exchange, listener
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.endpoints import scrape
from watchkeeper.endpoints.tls import ServerContexts, TlsError
from watchkeeper.reconcilers.listeners import ListenerReconciler

pytestmark = pytest.mark.asyncio

OPS, WEB = "spiffe://example.org/ops/alice", "spiffe://example.org/ns/shop/sa/web"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(authority: Authority, pair: Pair, **fields: Any) -> dict[str, Any]:
    return {
        "cert_file": str(pair.cert),
        "key_file": str(pair.key),
        "ca_file": str(authority.ca),
        "check_interval": 0.05,
    } | fields


async def status_of(rig: Rig, path: str, context: ssl.SSLContext | None) -> int:
    """The status of one request to the listener x; 0: there was no connection, or none that lasted."""
    try:
        return (await rig.get(path, port=rig.port_of("x"), tls=context)).status
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        return 0


async def test_strict(authority: Authority, tmp_path: Path) -> None:
    """Only who shows a certificate of our authority is answered: not the plain, not the nameless, not the stranger."""
    server = authority.issue("server")
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("stranger", uris=(OPS,))
    async with endpoints() as rig:
        await rig.exposition.open("x", listener(tls=tls(authority, server)))
        assert await status_of(rig, "/status", authority.client(authority.issue("a", uris=(WEB,)))) == 200
        assert await status_of(rig, "/livez", authority.client()) == 0
        assert await status_of(rig, "/livez", None) == 0
        assert await status_of(rig, "/livez", authority.client(stranger)) == 0
        late = authority.issue("late", uris=(WEB,), starts=-7200, ends=-3600)
        assert await status_of(rig, "/livez", authority.client(late)) == 0
        assert (rig.series("http_connections_dropped_total", reason="handshake") or 0) >= 1


async def test_strict_with_exemptions(authority: Authority) -> None:
    """What is exempt is given to a client without a certificate, still over TLS; nothing else, and nothing over plain HTTP."""
    async with endpoints() as rig:
        settings = tls(authority, authority.issue("server"), exempt=["/livez", "/readyz"])
        await rig.exposition.open("x", listener(tls=settings))
        anybody = authority.client()
        assert await status_of(rig, "/livez", anybody) == 200
        assert await status_of(rig, "/status", anybody) == 403
        assert await status_of(rig, "/metrics", anybody) == 403
        assert await status_of(rig, "/livez", None) == 0
        assert await status_of(rig, "/status", authority.client(authority.issue("a"))) == 200


async def test_permissive(authority: Authority) -> None:
    """Plain and TLS on one port; a certificate is not needed, and gives what it gives."""
    async with endpoints() as rig:
        settings = tls(authority, authority.issue("server"), mode="permissive")
        peers = [{"role": "control", "spiffe": ["spiffe://example.org/ops/*"]}]
        await rig.exposition.open("x", listener(tls=settings, peers=peers))
        assert await status_of(rig, "/status", None) == 200
        assert await status_of(rig, "/status", authority.client()) == 200
        operator = authority.client(authority.issue("alice", uris=(OPS,)))
        for context, expected in ((None, 403), (authority.client(), 403), (operator, 202)):
            found = await ask("POST", "/control/reload", port=rig.port_of("x"), tls=context)
            assert found.status == expected
        assert len(rig.reloads) == 1
        # Who connects and says nothing holds nobody up, and is not kept.
        _reader, writer = await connect(port=rig.port_of("x"))
        assert await status_of(rig, "/livez", None) == 200
        writer.close()


async def test_the_first_byte_may_come_late(authority: Authority) -> None:
    """permissive decides when the first byte is there; until then it waits, up to the handshake's limit."""
    async with endpoints() as rig:
        settings = tls(authority, authority.issue("server"), mode="permissive", handshake_timeout=0.3)
        await rig.exposition.open("x", listener(tls=settings))
        reader, writer = await connect(port=rig.port_of("x"))
        await asyncio.sleep(0.1)
        assert (await exchange(reader, writer, "GET", "/livez")).status == 200
        writer.close()
        reader, writer = await connect(port=rig.port_of("x"))
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


@pytest.mark.parametrize("mode", ["strict", "permissive"])
async def test_who_never_shakes_hands_takes_no_more_than_a_place(authority: Authority, mode: str) -> None:
    """Connections without a handshake are held to the limit of connections, the oldest going first; others still come."""
    async with endpoints() as rig:
        settings = tls(authority, authority.issue("server"), mode=mode)
        await rig.exposition.open("x", listener(tls=settings, limits={"connections": 3}))
        silent = [await connect(port=rig.port_of("x")) for _ in range(10)]
        for reader, _writer in silent[:7]:
            assert await asyncio.wait_for(reader.read(), 2) == b""
        assert await status_of(rig, "/livez", authority.client(authority.issue("a", uris=(WEB,)))) == 200
        for _reader, writer in silent:
            writer.close()


async def test_allow_list(authority: Authority) -> None:
    """tls.spiffe says who may come at all; everybody else is told, and gets nothing."""
    async with endpoints() as rig:
        settings = tls(authority, authority.issue("server"), spiffe=["spiffe://example.org/ns/*/sa/web"])
        await rig.exposition.open("x", listener(tls=settings))
        for uris, expected in (
            ((WEB,), 200),
            ((OPS,), 403),
            ((), 403),
            (("spiffe://example.org/ns/shop/sa/web/more",), 403),
            (("spiffe://evil.org/ns/shop/sa/web",), 403),
            ((WEB, OPS), 403),
        ):
            pair = authority.issue("client", uris=uris)
            assert await status_of(rig, "/livez", authority.client(pair)) == expected, uris


async def test_roles_by_name(authority: Authority) -> None:
    """A common name or a DNS name will do where there is no SPIFFE ID; everybody else has the listener's role."""
    async with endpoints() as rig:
        peers = [{"role": "control", "names": ["admin", "ops.example.org"]}]
        settings = tls(authority, authority.issue("server"))
        await rig.exposition.open("x", listener(tls=settings, role="metrics", peers=peers))
        for fields, expected in (
            ({"common_name": "admin"}, 202),
            ({"dns": ("ops.example.org",)}, 202),
            ({"common_name": "nobody"}, 403),
        ):
            client = authority.client(authority.issue("client", **fields))  # type: ignore[arg-type]
            found = await ask("POST", "/control/reload", port=rig.port_of("x"), tls=client)
            assert found.status == expected
        assert (await rig.get("/metrics", port=rig.port_of("x"), tls=client)).status == 200
        assert (await rig.get("/status", port=rig.port_of("x"), tls=client)).status == 403


async def test_a_certificate_that_ends_during_a_connection(authority: Authority) -> None:
    """What it opened ends with it: the next request on the connection is refused, and the connection with it."""
    async with endpoints() as rig:
        await rig.exposition.open("x", listener(tls=tls(authority, authority.issue("server"))))
        client = authority.client(authority.issue("brief", uris=(WEB,), ends=2))
        reader, writer = await connect(port=rig.port_of("x"), tls=client)
        answer = await exchange(reader, writer, "GET", "/livez")
        assert answer.status == 200
        for _ in range(100):
            answer = await exchange(reader, writer, "GET", "/livez")
            if answer.status != 200:
                break
            await asyncio.sleep(0.05)
        assert answer.status == 403
        assert "has ended" in answer.json["error"]
        assert await reader.read() == b""
        writer.close()


async def reconciled(rig: Rig, reconciler: ListenerReconciler, **fields: Any) -> Key:
    """The listener x as a configuration has it, looked at once."""
    rig.load({"listeners": {"x": {"address": "127.0.0.1:0"} | fields}} if fields else {})
    key = Key(Kind.LISTENER, "x")
    await reconciler.reconcile(key)
    return key


async def test_rotation_under_load(authority: Authority) -> None:
    """The pair is replaced again and again while clients ask: no request fails, and new ones see the new certificate."""
    async with endpoints() as rig:
        reconciler = ListenerReconciler(rig.context)
        settings = tls(authority, authority.issue("server", common_name="number 0"))
        key = await reconciled(rig, reconciler, tls=settings)
        port, client = rig.port_of("x"), authority.client(authority.issue("client", uris=(WEB,)))
        seen: set[str] = set()
        done, enough = asyncio.Event(), asyncio.Event()
        count = 0

        async def ask_again_and_again(*, keep: bool) -> None:
            nonlocal count
            reader, writer = await connect(port=port, tls=client)
            while not done.is_set():
                answer = await exchange(reader, writer, "GET", "/livez")
                assert answer.status == 200
                count += 1
                if count % 40 == 0:
                    enough.set()
                seen.add(str(writer.get_extra_info("peercert")["subject"][0][0][1]))
                if not keep or answer.headers.get("connection") == "close":
                    writer.close()
                    reader, writer = await connect(port=port, tls=client)
                await asyncio.sleep(0)
            writer.close()

        asking = [asyncio.create_task(ask_again_and_again(keep=number % 2 == 0)) for number in range(4)]
        for number in range(1, 6):
            await asyncio.to_thread(authority.issue, "server", common_name=f"number {number}")
            await reconciler.reconcile(key)
            enough.clear()
            await enough.wait()
        done.set()
        await asyncio.gather(*asking)
        assert seen == {f"number {number}" for number in range(6)}
        assert rig.series("tls_reloads_total", listener="x", result="success") == 5
        assert rig.series("tls_reloads_total", listener="x", result="failure") is None


async def test_a_half_written_pair(authority: Authority, tmp_path: Path) -> None:
    """Certificate and key of two writes do not fit: the old pair stays, it is said, and the rest of the write mends it."""
    async with endpoints() as rig:
        reconciler = ListenerReconciler(rig.context)
        pair = authority.issue("server", common_name="old")
        key = await reconciled(rig, reconciler, tls=tls(authority, pair))
        client = authority.client(authority.issue("client"))
        (tmp_path / "next").mkdir()
        new = authority.issue("next/server", common_name="new")

        new.cert.replace(pair.cert)
        await reconciler.reconcile(key)
        assert await status_of(rig, "/livez", client) == 200
        record = rig.context.observed.objects[key]
        assert record.state == "degraded"
        assert (
            record.why
            == f"the old certificate is in use: {pair.cert} cannot be used: it does not fit its key"
        )
        assert rig.series("tls_reloads_total", listener="x", result="failure") == 1

        new.key.replace(pair.key)
        await reconciler.reconcile(key)
        assert rig.context.observed.objects[key].state == "listening"
        _reader, writer = await connect(port=rig.port_of("x"), tls=client)
        assert writer.get_extra_info("peercert")["subject"][0][0][1] == "new"
        writer.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "cannot be used"),
        (b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "cannot be used"),
        (b"\0" * 100, "cannot be used"),
    ],
)
async def test_files_that_are_gone_or_damaged(
    authority: Authority, content: bytes | None, reason: str
) -> None:
    """Whatever happens to the files, what was loaded goes on; the metric says until when it is good for."""
    async with endpoints() as rig:
        reconciler = ListenerReconciler(rig.context)
        pair = authority.issue("server", ends=1800)
        key = await reconciled(rig, reconciler, tls=tls(authority, pair))
        until = rig.series("tls_certificate_expiry_timestamp_seconds", listener="x")
        assert until is not None
        if content is None:
            pair.cert.unlink()
        else:
            pair.cert.write_bytes(content)
        await reconciler.reconcile(key)
        assert reason in rig.context.observed.objects[key].why
        assert await status_of(rig, "/livez", authority.client(authority.issue("client"))) == 200
        assert rig.series("tls_certificate_expiry_timestamp_seconds", listener="x") == until
        await reconciled(rig, reconciler)
        assert rig.series("tls_certificate_expiry_timestamp_seconds", listener="x") is None
        assert key not in rig.context.observed.objects


async def test_a_new_authority_ends_what_the_old_one_opened(authority: Authority, tmp_path: Path) -> None:
    """When ca_file names another authority, connections of the old one end after their next answer."""
    async with endpoints() as rig:
        reconciler = ListenerReconciler(rig.context)
        key = await reconciled(rig, reconciler, tls=tls(authority, authority.issue("server")))
        old = authority.client(authority.issue("client"))
        reader, writer = await connect(port=rig.port_of("x"), tls=old)
        assert (await exchange(reader, writer, "GET", "/livez")).status == 200
        (tmp_path / "other").mkdir()
        other = Authority(tmp_path / "other")
        authority.ca.write_bytes(other.ca.read_bytes())
        await reconciler.reconcile(key)
        answer = await exchange(reader, writer, "GET", "/livez")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await reader.read() == b""
        writer.close()
        assert await status_of(rig, "/livez", old) == 0


async def test_a_definition_that_cannot_be_used_keeps_the_old_one(
    authority: Authority, tmp_path: Path
) -> None:
    """R1: a new definition with files that are not there leaves the listener as it was, and is tried again, less and less."""
    async with endpoints() as rig:
        reconciler = ListenerReconciler(rig.context)
        key = await reconciled(rig, reconciler, role="metrics")
        port = rig.port_of("x")
        broken = {"cert_file": str(tmp_path / "no.pem"), "key_file": "k", "ca_file": str(authority.ca)}
        rig.load({"listeners": {"x": {"address": "127.0.0.1:0", "tls": broken}}})
        delays = [(await reconciler.reconcile(key)).requeue_after for _ in range(7)]
        assert delays == [1, 2, 4, 8, 16, 30, 30]
        record = rig.context.observed.objects[key]
        assert record.state == "degraded"
        assert f"{tmp_path / 'no.pem'} cannot be used: No such file or directory" in record.why
        assert (await rig.get("/metrics", port=port)).status == 200
        assert (await rig.get("/status", port=port)).status == 403


@pytest.mark.parametrize("same_port", [False, True])
async def test_an_address_that_cannot_be_keeps_the_old_one(same_port: bool) -> None:
    """R1: the new address is somebody else's, or not this machine's; the old one still answers, and says why."""
    taken = socket.create_server(("127.0.0.1", 0))
    with taken:
        async with endpoints() as rig:
            reconciler = ListenerReconciler(rig.context)
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            key = await reconciled(rig, reconciler, address=f"127.0.0.1:{port}")
            address = f"192.0.2.1:{port}" if same_port else f"127.0.0.1:{taken.getsockname()[1]}"
            await reconciled(rig, reconciler, address=address)
            assert (await rig.get("/livez", port=port)).status == 200
            assert rig.context.observed.objects[key].state == "degraded"
            await reconciled(rig, reconciler, address=f"127.0.0.1:{port}", role="metrics")
            assert (await rig.get("/status", port=port)).status == 403


async def test_a_taken_address_takes_nothing_down() -> None:
    """R4: the listener is reported and tried again; the others serve; when the address is free, it comes up."""
    async with endpoints() as rig:
        reconciler = ListenerReconciler(rig.context)
        blocker = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
        address = f"127.0.0.1:{blocker.sockets[0].getsockname()[1]}"
        rig.load({"listeners": {"x": {"address": address}}})
        key = Key(Kind.LISTENER, "x")
        assert (await reconciler.reconcile(key)).requeue_after == 1
        record = rig.context.observed.objects[key]
        assert (record.state, record.why) == ("failed", f"the address {address} is taken by another program")
        assert (await rig.get("/livez")).status == 200
        blocker.close()
        await blocker.wait_closed()
        assert (await reconciler.reconcile(key)).requeue_after is None
        assert rig.context.observed.objects[key].state == "listening"


async def test_a_role_that_is_taken_away_ends_its_connections() -> None:
    """R3: who was connected when the definition changed has to come again."""
    async with endpoints() as rig:
        reconciler = ListenerReconciler(rig.context)
        key = await reconciled(rig, reconciler, role="read")
        reader, writer = await connect(port=rig.port_of("x"))
        assert (await exchange(reader, writer, "GET", "/events")).status == 200
        await reconciled(rig, reconciler, role="metrics")
        assert await asyncio.wait_for(rest(reader), 5) == b""
        writer.close()
        assert await status_of(rig, "/events", None) == 403
        await reconciled(rig, reconciler)
        assert rig.exposition.listening("x") is None
        assert key not in rig.context.observed.objects


async def rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_old_protocols_are_refused(authority: Authority) -> None:
    """TLS 1.2 is the oldest that is spoken, and no session is resumed."""
    async with endpoints() as rig:
        await rig.exposition.open("x", listener(tls=tls(authority, authority.issue("server"))))
        pair = authority.issue("client")
        client = authority.client(pair)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await status_of(rig, "/livez", client) == 200
        session = None
        for _ in range(2):
            _reader, writer = await connect(port=rig.port_of("x"), tls=client)
            found = writer.get_extra_info("ssl_object")
            assert not found.session_reused
            session = found.session
            writer.close()
        assert session is None or not session.has_ticket


async def test_a_key_with_a_password_is_said_so(authority: Authority) -> None:
    """Nobody is there who could type it; the agent must not wait for him."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key

    pair = authority.issue("server")
    key = load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
        )
    )
    definition = listener(tls=tls(authority, pair))
    with pytest.raises(TlsError, match="the key has a password"):
        await ServerContexts(definition.tls).load()


async def test_the_file_says_what_is_wrong_with_a_listener() -> None:
    """Every rule of the section, with its place."""
    from watchkeeper.config.load import parse
    from watchkeeper.errors import ConfigInvalidError

    wrong = {
        "a": {"address": "unix:relative", "tls": {"mode": "permissive"}, "token_file": "/t"},
        "b": {"address": "1.2.3.4:1", "tls": {"spiffe": ["spiffe://UPPER/x"], "exempt": ["x"]}},
        "c": {
            "address": "1.2.3.4:1",
            "peers": [{"role": "read", "users": ["x"], "names": ["y"]}, {"role": "read"}],
        },
        "d": {"address": "systemd:"},
        "f": {"address": "unix:/x", "socket_mode": "999"},
        "e": {"address": "1.2.3.4:1", "tls": {"mode": "permissive", "exempt": ["/livez"]}},
    }
    with pytest.raises(ConfigInvalidError) as caught:
        parse(json.dumps({"listeners": wrong}).encode(), file="f.yaml")
    found = "\n".join(caught.value.problems)
    for part in (
        "listeners.a.address: the path of a Unix socket begins with /",
        "listeners.a.tls: a Unix socket never leaves the machine",
        "listeners.a.token_file: a Unix socket knows its users",
        "listeners.b.tls: the mode strict needs cert_file",
        "listeners.b.tls: the mode strict needs ca_file",
        "listeners.b.tls.spiffe: SPIFFE IDs come from certificates",
        "'spiffe://UPPER/x' is not spiffe://TRUST-DOMAIN/PATH",
        "a path begins with /",
        "users and groups are known on a Unix socket only",
        "spiffe and names come from certificates",
        "nobody is named",
        "listeners.d.address: systemd:NAME wants",
        "listeners.f.socket_mode",
        "there is nothing to be exempt from",
    ):
        assert part in found, found


async def test_an_answer_on_its_way_outlives_its_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload that takes a listener away or changes it cuts no scrape in half; its connection ends with that answer."""
    size = 16 << 20

    async def large(*_arguments: object) -> bytes:
        return b"x" * size

    monkeypatch.setattr(scrape, "_written", large)
    async with endpoints() as rig:
        await rig.exposition.open("x", listener())
        reader, writer = await connect(port=rig.port_of("x"))
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        await rig.exposition.close("x")
        async with asyncio.timeout(20):
            assert await reader.read(-1) == b"x" * size
        writer.close()


async def test_a_token_that_is_replaced_gives_nothing_any_more(tmp_path: Path) -> None:
    """R5: neither over a new connection nor over one from before; a file that is no token leaves what there was."""
    file = tmp_path / "token"
    async with endpoints() as rig:
        reconciler = ListenerReconciler(rig.context)
        key = await reconciled(rig, reconciler, token_file=str(file))
        old = {"Authorization": f"Bearer {file.read_text().strip()}"}
        new = {"Authorization": "Bearer another-word-of-some-length"}
        reader, writer = await connect(port=rig.port_of("x"))
        assert (await exchange(reader, writer, "POST", "/control/reload", headers=old)).status == 202
        file.write_text("short")
        await reconciler.reconcile(key)
        assert (await exchange(reader, writer, "POST", "/control/reload", headers=old)).status == 202
        file.write_text("another-word-of-some-length")
        assert (await reconciler.reconcile(key)).requeue_after is not None
        assert (await exchange(reader, writer, "POST", "/control/reload", headers=old)).status == 401
        assert (await exchange(reader, writer, "POST", "/control/reload", headers=new)).status == 202
        writer.close()
        port = rig.port_of("x")
        assert (await ask("POST", "/control/reload", port=port, headers=old)).status == 401
