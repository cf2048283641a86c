"""The command that says whether a service may be started."""

from __future__ import annotations

import asyncio

from watchkeeper.config.schema.services import Service
from watchkeeper.supervise.child import Child, SpawnError, spawn
from watchkeeper.supervise.warden import Warden
from watchkeeper.system import describe_exit

LIMIT = 30.0
SAID = 200
"""Characters of its output that are kept for /status."""


async def ask(spec: Service, keep_track: Warden | None = None) -> tuple[bool, str]:
    """Whether the condition holds, and why not. It has as long as its period, at most LIMIT seconds.

    Args:
        keep_track: who ends it should the agent be killed.
    """
    output = bytearray()
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def keep(_stream: int, data: bytes) -> None:
        output.extend(data[: 4 * SAID - len(output)])

    def on_exit(_child: Child) -> None:
        if not ended.done():
            ended.set_result(None)

    try:
        child = await spawn(
            spec.condition or (),
            environment={},
            working_directory=getattr(spec, "working_directory", None),
            on_output=keep,
            on_exit=on_exit,
            prepare=None if keep_track is None else keep_track.at_the_gate(0),
        )
    except SpawnError as error:
        return False, f"its condition cannot be asked: {error}"
    limit = min(LIMIT, spec.condition_period)
    try:
        async with asyncio.timeout(limit):
            await ended
        await asyncio.sleep(0)
    except TimeoutError:
        return False, f"its condition did not answer within {limit:g} s"
    finally:
        child.kill()
        child.close()
        if keep_track is not None:
            keep_track.release(child.pid)
    if child.exit_code == 0:
        return True, ""
    said = output.decode("utf-8", "replace").strip()[:SAID]
    how = describe_exit(child.exit_code or 0)
    return False, f"its condition does not hold: {how}{': ' + said if said else ''}"
