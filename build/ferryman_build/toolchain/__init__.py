"""The cross toolchain of the launcher: zig from a lock, the zstd decoder's sources, and how the two make a program.

    prepare(into, interpreter, runner)      fetch both by hash
    open_toolchain(into, cache)             where they are
    shared_toolchain(interpreter, runner)   both, once for all checkouts of a user
    compile_launcher(…)                     once per target and Python: object files
    link_launcher(…)                        once per program: objects and a payload become an executable

Only the first needs a network. What is compiled and with which flags is data, resources/toolchain.toml.
"""

from __future__ import annotations

from ferryman_build.toolchain.fetch import open_toolchain, prepare, zig_lock
from ferryman_build.toolchain.recipe import SOURCES, Recipe, read_recipe
from ferryman_build.toolchain.shared import shared_toolchain, toolchain_key
from ferryman_build.toolchain.zig import Toolchain, compile_launcher, link_launcher

__all__ = [
    "SOURCES",
    "Recipe",
    "Toolchain",
    "compile_launcher",
    "link_launcher",
    "open_toolchain",
    "prepare",
    "read_recipe",
    "shared_toolchain",
    "toolchain_key",
    "zig_lock",
]
