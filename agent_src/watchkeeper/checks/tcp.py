"""The tcp check: a connection can be opened, and what comes back over it is what was expected."""

from __future__ import annotations

import asyncio
import re

from watchkeeper.checks import Memory, Outcome, failed, own_fault, passed, reason, unreachable
from watchkeeper.checks.connect import Connection, UnreachableError, connect
from watchkeeper.config.schema.checks import TcpCheck


async def probe(spec: TcpCheck, _memory: Memory) -> Outcome:
    """Open a connection, say and hear what there is to be said and heard, and close it again."""
    try:
        connection = await connect(spec.address, None, spec.timeout)
        try:
            return await _talk(spec, connection)
        finally:
            connection.close()
    except UnreachableError as error:
        return unreachable(f"{spec.address}: {error}")
    except OSError as error:
        if own_fault(error):
            raise
        return unreachable(f"{spec.address}: {reason(error)}")


async def _talk(spec: TcpCheck, connection: Connection) -> Outcome:
    if spec.send is not None:
        await connection.send(spec.send.encode())
    if spec.expect is None:
        return passed(f"{spec.address} accepts connections")
    pattern = re.compile(spec.expect.encode())
    heard = bytearray()
    while len(heard) < spec.read_limit:
        data = await connection.receive()
        heard += data[: spec.read_limit - len(heard)]
        if pattern.search(heard):
            return passed(f"{spec.address} answers as expected")
        if not data:
            break
        await asyncio.sleep(0)  # who sends faster than is read must not keep the loop
    said = f"after {bytes(heard[:60])!r}" if heard else "and said nothing"
    ended = "it went on for too long" if len(heard) >= spec.read_limit else f"it hung up {said}"
    return failed(f"{spec.address}: {spec.expect!r} did not come; {ended}")
