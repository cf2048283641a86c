"""The memory check: what is left of the machine's memory."""

from __future__ import annotations

from typing import Any

import psutil

from watchkeeper.checks import Memory, Outcome, failed, passed, warned
from watchkeeper.checks.amounts import about
from watchkeeper.config.schema.checks import MemoryCheck


async def probe(spec: MemoryCheck, _memory: Memory) -> Outcome:
    """Ask the kernel once."""
    return judge(
        spec, psutil.virtual_memory(), psutil.swap_memory() if spec.max_swap_percent is not None else None
    )


def judge(spec: MemoryCheck, found: Any, swap: Any) -> Outcome:
    """What psutil's figures mean for a check."""
    used = 100.0 * (found.total - found.available) / found.total if found.total else 0.0
    said = f"{used:.1f} % are used, {about(found.available)} are available"
    if spec.max_used_percent is not None and used > spec.max_used_percent:
        return failed(f"{said}: {spec.max_used_percent:g} % is the limit")
    if spec.min_available is not None and found.available < spec.min_available:
        return failed(f"{said}: {about(spec.min_available)} are to be available")
    if spec.max_swap_percent is not None and swap is not None and swap.percent > spec.max_swap_percent:
        return failed(f"{swap.percent:.1f} % of the swap are used: {spec.max_swap_percent:g} % is the limit")
    if spec.warn_used_percent is not None and used > spec.warn_used_percent:
        return warned(f"{said}: {spec.warn_used_percent:g} % is the limit")
    if spec.warn_available is not None and found.available < spec.warn_available:
        return warned(f"{said}: {about(spec.warn_available)} are to be available")
    return passed(said)
