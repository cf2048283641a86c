"""Connections of checks: what is left of one that was given up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from support.certificates import Authority
from watchkeeper.checks.connect import Tls, connect_to
from watchkeeper.config.schema.common import TlsClient

pytestmark = pytest.mark.asyncio


async def test_given_up_in_the_moment_in_which_tls_is_agreed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that ends just then leaves no transport behind that waits for the other side on a number that is free again.

    asyncio would say of the next socket with that number, whoever has it, that it is "used by transport".
    """
    agreed = ssl.SSLObject.getpeercert

    def give_up(of: ssl.SSLObject, *form: Any) -> Any:
        if of.server_side is False:
            looking.cancel()
        return agreed(of, *form)

    monkeypatch.setattr(ssl.SSLObject, "getpeercert", give_up)
    pair = Authority(tmp_path).issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(_silent, "127.0.0.1", 0, ssl=context)
    where = server.sockets[0].getsockname()
    tls = Tls(TlsClient(verify=False), "127.0.0.1")
    looking = asyncio.ensure_future(connect_to([(socket.AF_INET, where)], tls, 5.0))
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        with pytest.raises(asyncio.CancelledError):
            await looking
        await asyncio.sleep(0.01)
        for _ in range(20):  # the lowest numbers that are free
            later = stack.enter_context(socket.socket())
            later.setblocking(False)
            await loop.sock_connect(later, plain.getsockname())
    server.close()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await reader.read()
    writer.transport.abort()
