"""The tcp check: a connection can be opened."""

from __future__ import annotations

import asyncio
import contextlib

from watchkeeper.checks import Outcome, failed, passed, reason
from watchkeeper.config.model import TcpCheck, split_address


async def probe_tcp(spec: TcpCheck) -> Outcome:
    """Open a connection and close it again."""
    host, port = split_address(spec.address)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return failed(f"{spec.address}: {reason(error)}")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return passed(f"{spec.address} accepts connections")
