"""What the agent spends its time on: from the C extension where the wheel brought one, else from its twin in Python.

Both have the same interface and give the same answers (tests/unit/agent/test_native_*.py hold them together):

    processes(proc="/proc", command=True) -> list[Process]    one pass over all processes of this machine
    give_memory_back() -> bool                                tells the C library's allocator to keep less
    Ring(fd, capacity, policy, ...)                           a bounded buffer of lines in front of a descriptor

`WATCHKEEPER_NATIVE=0` in the environment forces the twin. This package imports nothing but the standard library.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

__all__ = ["EXTENSION", "WHY_NOT", "Process", "Ring", "give_memory_back", "processes"]

ABI = 3
"""The interface between these files and the extension: one that was left over from another version is not taken."""

WHY_NOT = ""
"""Why the extension is not in use; empty when it is."""

if TYPE_CHECKING:
    from watchkeeper.native.allocator import give_memory_back
    from watchkeeper.native.proc import Process, processes
    from watchkeeper.native.ring import Ring
else:
    try:
        if os.environ.get("WATCHKEEPER_NATIVE") == "0":
            raise ImportError("WATCHKEEPER_NATIVE is 0")
        from watchkeeper import _native

        if _native.ABI != ABI:
            raise ImportError(f"the extension has interface {_native.ABI}, and {ABI} is needed")
        Process, Ring, processes = _native.Process, _native.Ring, _native.processes
        give_memory_back = _native.give_memory_back
    except ImportError as error:
        # Missing from a plain wheel, or made for another system: either way the agent does its work.
        from watchkeeper.native.allocator import give_memory_back
        from watchkeeper.native.proc import Process, processes
        from watchkeeper.native.ring import Ring

        WHY_NOT = str(error)

EXTENSION = not WHY_NOT
"""Whether the extension is in use."""
