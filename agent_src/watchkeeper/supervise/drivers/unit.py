"""Units of systemd, through systemctl: its `show` is made for programs, and needs no library for D-Bus."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from watchkeeper import system
from watchkeeper.config.schema.services import UnitService
from watchkeeper.supervise.drivers.polled import FAILED, RemoteError, Seen

LIMIT = 10.0
"""Seconds that systemctl may take for a look."""
START_LIMIT = 300.0
"""And for a start, which ends when the unit is active; systemd's own limit (TimeoutStartSec=) is usually shorter."""
PROPERTIES = ("LoadState", "ActiveState", "SubState", "Result", "MainPID", "ExecMainCode", "ExecMainStatus")
GONE = frozenset({"inactive", "failed"})
CLD_EXITED = "1"
OUTPUT_LIMIT = 64 * 1024


class Unit:
    """One unit."""

    def __init__(self, _name: str, spec: UnitService) -> None:
        self._unit, self._program = spec.unit, spec.systemctl

    async def start(self) -> None:
        with contextlib.suppress(RemoteError):
            # Whoever has failed too often is not started by systemd any more; how often is this agent's business.
            await self._run("reset-failed", self._unit)
        await self._run("start", self._unit, limit=START_LIMIT)

    async def stop(self) -> None:
        await self._run("stop", "--no-block", self._unit)

    async def kill(self) -> None:
        await self._run("kill", "--signal=KILL", self._unit)

    async def look(self) -> Seen:
        text = await self._run("show", f"--property={','.join(PROPERTIES)}", self._unit)
        return seen(self._unit, dict(line.split("=", 1) for line in text.splitlines() if "=" in line))

    async def change(self, period: float) -> None:
        await asyncio.sleep(period)

    async def _run(self, *words: str, limit: float = LIMIT) -> str:
        """What systemctl prints.

        Raises:
            RemoteError: it is missing, has failed, or does not end.
        """
        program = self._program[0]
        variables = system.child_environment() | {
            "LC_ALL": "C",
            "SYSTEMD_COLORS": "0",
            "SYSTEMD_PAGER": "",
            "SYSTEMD_LOG_TARGET": "console",
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *self._program,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=variables,
                limit=OUTPUT_LIMIT,
                **system.spawn_options(),
            )
        except OSError as error:
            raise RemoteError(f"{program} cannot be run: {error.strerror or error}") from None
        try:
            async with asyncio.timeout(limit):
                output, errors = await process.communicate()
        except TimeoutError:
            raise RemoteError(f"{program} {words[0]} did not end within {limit:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            raise RemoteError(_said(errors) or f"{program} {words[0]}: exit status {process.returncode}")
        return output.decode("utf-8", "replace")


def seen(unit: str, properties: Mapping[str, str]) -> Seen:
    """What the properties of a unit say.

    Raises:
        RemoteError: there is no such unit, or this is no answer.
    """
    if properties.get("LoadState") in ("not-found", "masked"):
        raise RemoteError(f"systemd has no unit {unit}: it is {properties['LoadState']}")
    state = properties.get("ActiveState")
    if not state:
        raise RemoteError(f"systemctl says nothing of {unit}")
    if state not in GONE:
        pid = properties.get("MainPID", "0")
        return Seen(True, pid=int(pid) if pid.isdigit() else 0)
    result = properties.get("Result", "success")
    why = f"systemd calls it {state}" + ("" if result == "success" else f": {result}")
    return Seen(False, exit_code=_exit_code(result, properties), why=why)


def _exit_code(result: str, properties: Mapping[str, str]) -> int:
    """As subprocess says it; systemd knows which ends are clean, by what the unit calls so."""
    if result == "success":
        return 0
    status = properties.get("ExecMainStatus", "")
    if not status.isdigit() or int(status) == 0:
        return FAILED
    return int(status) if properties.get("ExecMainCode") == CLD_EXITED else -int(status)


def _said(errors: bytes) -> str:
    lines = [line.strip() for line in errors.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[0] if lines else ""
