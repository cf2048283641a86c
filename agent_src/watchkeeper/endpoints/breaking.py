"""Faults on the server's side: what faults/ decides is done to a request here."""

from __future__ import annotations

import socket
import struct

from watchkeeper.config.schema.faults import Side
from watchkeeper.endpoints import web
from watchkeeper.endpoints.answers import Refusal
from watchkeeper.endpoints.peers import Peer
from watchkeeper.faults.decision import INJECTED, ChaosHeaderError, Subject, trace_id_of
from watchkeeper.faults.state import Faults

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: the connection ends with RST, as if the machine had lost it."""


async def break_it(faults: Faults, request: web.BaseRequest, peer: Peer) -> None:
    """Let a request suffer what it has to.

    Raises:
        Refusal: it is aborted with a status, or its headers ask for nonsense (400).
        ConnectionResetError: the connection is torn.
    """
    subject = Subject(
        Side.SERVER,
        request.method,
        request.path,
        trace_id=trace_id_of(request.headers.get("traceparent")),
        header=request.headers.get,
        trusted=peer.role.includes(faults.settings.role),
    )
    try:
        fault = faults.decide(subject)
    except ChaosHeaderError as error:
        raise Refusal(400, str(error)) from None
    if not fault or not await faults.suffer(fault, Side.SERVER):
        return
    if fault.abort is not None:
        raise Refusal(fault.abort, "a fault was put in on purpose", headers={INJECTED: str(fault)})
    if fault.reset:
        _tear(request)


def _tear(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        transport.abort()
    raise ConnectionResetError("a fault was put in on purpose")
