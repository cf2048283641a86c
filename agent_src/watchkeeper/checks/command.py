"""The exec check: a command ends with status 0."""

from __future__ import annotations

import asyncio

from watchkeeper.checks import Outcome, failed, passed
from watchkeeper.config.model import ExecCheck
from watchkeeper.supervise.child import Child, SpawnError, spawn
from watchkeeper.system import describe_exit


async def probe_command(spec: ExecCheck) -> Outcome:
    """Run the command in a process group of its own; whatever is left of the group afterwards is killed."""
    output = bytearray()
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def keep(_stream: int, data: bytes) -> None:
        output.extend(data[: spec.output_limit - len(output)])

    def on_exit(_child: Child) -> None:
        if not ended.done():
            ended.set_result(None)

    try:
        child = await spawn(
            spec.command,
            environment=spec.environment,
            working_directory=spec.working_directory,
            on_output=keep,
            on_exit=on_exit,
        )
    except SpawnError as error:
        return failed(str(error))
    try:
        await ended
        # What the command wrote just before its end is already in the pipe; one turn of the loop reads it.
        await asyncio.sleep(0)
    finally:
        child.kill()
        child.close()
    return _judge(child.exit_code or 0, bytes(output))


def _judge(code: int, output: bytes) -> Outcome:
    text = output.decode("utf-8", "replace").strip()
    if code == 0:
        return passed(text or "exit status 0")
    return failed(f"{describe_exit(code)}: {text}" if text else describe_exit(code))
