"""Targets: the rows of resources/targets.toml, and how a person may name them.

A target has one canonical id, ``os-arch[-libc]`` in Go's words. A Go pair (``linux/arm64``), a Rust triple, a wheel
platform tag or ``host`` is understood and turned into that id. No code branches on anything that a row can say.
"""

from __future__ import annotations

import difflib
import functools
import platform
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from importlib import resources

import msgspec

from ferryman_build.errors import ConfigError, UsageError


class Os(StrEnum):
    """Operating systems in Go's words."""

    LINUX = "linux"
    WINDOWS = "windows"
    DARWIN = "darwin"


class Libc(StrEnum):
    """C libraries of Linux."""

    GNU = "gnu"
    MUSL = "musl"


class Target(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """One row of the matrix. See the head of targets.toml for the meaning and unit of each field."""

    id: str
    os: Os
    arch: str
    tier: int
    floor: Mapping[str, str]
    suffix: str
    archive: str
    wheel_tags: tuple[str, ...]
    uv_platform: str
    rust: str
    zig: str
    runner: str
    machine: tuple[str, ...]
    libc: Libc | None = None
    cpu: str = ""
    libraries: str = ""

    def __str__(self) -> str:
        return self.id

    def __hash__(self) -> int:  # floor is a mapping: identity of a target is its id
        return hash(self.id)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Every other name of this target, lower case; the Go pair only for the first libc of a platform."""
        pair = (f"{self.os}/{self.arch}",) if self.libc is not Libc.MUSL else (f"{self.os}/{self.arch}/musl",)
        return tuple(name.lower() for name in (*pair, self.rust, *self.wheel_tags))

    @property
    def floor_text(self) -> str:
        """The floor as one word for people, such as ``glibc 2.17``."""
        return ", ".join(f"{name} {version}" for name, version in self.floor.items())

    @property
    def promise_text(self) -> str:
        """The floor and the processor: the form in which `floor` in the configuration says it."""
        return ", ".join(part for part in (self.floor_text, self.cpu and f"cpu {self.cpu}") if part)


CPU_LEVELS: Mapping[str, tuple[str, ...]] = {
    "amd64": ("x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4"),
    "arm64": (
        "armv8.0",
        "armv8.1",
        "armv8.2",
        "armv8.3",
        "armv8.4",
        "armv8.5",
        "armv8.6",
        "armv9.0",
        "apple-m1",
    ),
    "armv7": ("armv7", "armv8"),
}
"""Per architecture what `cpu` may promise, lowest first; other architectures are not measured."""


def with_promise(target: Target, text: str) -> Target:
    """``target`` with what ``text`` ("glibc 2.31, cpu x86-64-v2") says instead of its row; "" changes nothing.

    Raises:
        ConfigError: it names a system that the target is not, or a processor that its architecture does not have.
    """
    floor, cpu = dict(target.floor), target.cpu
    for part in (piece.strip() for piece in text.split(",") if piece.strip()):
        name, _, value = part.partition(" ")
        value = value.strip()
        if name == "cpu":
            cpu = _checked_cpu(target, value)
        elif name in target.floor and re.fullmatch(r"\d+(\.\d+)*", value):
            floor[name] = value
        else:
            known = " or ".join((*target.floor, "cpu"))
            raise ConfigError(
                f"A floor of {part!r} means nothing for {target}.",
                advice=f"Say {known} and a version, such as {target.promise_text!r}.",
            )
    return msgspec.structs.replace(target, floor=floor, cpu=cpu)


def _checked_cpu(target: Target, value: str) -> str:
    levels = CPU_LEVELS.get(target.arch, ())
    if value.split("+", maxsplit=1)[0] in levels:
        return value
    raise ConfigError(
        f"There is no processor level {value!r} for {target}.",
        advice=f"Levels are {', '.join(levels)}."
        if levels
        else f"Code for {target.arch} is not measured: leave it out.",
    )


@functools.cache
def all_targets() -> tuple[Target, ...]:
    """Every row, in the file's order."""
    text = resources.files("ferryman_build").joinpath("resources/targets.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)
    return tuple(msgspec.convert({"id": name, **row}, Target) for name, row in rows.items())


def parse_target(name: str, targets: Iterable[Target] | None = None) -> Target:
    """The target that ``name`` means: its id, one of its aliases, or ``host``.

    Raises:
        UsageError: no such target (the advice has the nearest names), or a tag that several targets accept.
    """
    known = all_targets() if targets is None else tuple(targets)
    wanted = name.strip().lower()
    if wanted == "host":
        return host_target(known)
    found = [target for target in known if wanted == target.id]
    found = found or [target for target in known if wanted in target.aliases]
    if len(found) == 1:
        return found[0]
    if found:
        ids = " or ".join(target.id for target in found)
        raise UsageError(f"{name!r} is not one target: it fits {ids}.", advice="Name the one you mean.")
    raise UsageError(f"There is no target called {name!r}.", advice=_nearest(wanted, known))


def _nearest(wanted: str, known: tuple[Target, ...]) -> str:
    owners: dict[str, list[str]] = {}
    for target in known:
        for alias in (target.id, *target.aliases):
            owners.setdefault(alias, []).append(target.id)
    matches = difflib.get_close_matches(wanted, owners, n=4, cutoff=0.55)
    near = dict.fromkeys(owner for match in matches for owner in owners[match])
    if near:
        return f"Did you mean {' or '.join(near)}? `ferryman targets` lists all of them."
    return f"Targets are {', '.join(target.id for target in known)}."


def parse_targets(text: str, targets: Iterable[Target] | None = None) -> tuple[Target, ...]:
    """A comma-separated list of target names, without repetition and in the order given; ``all`` is every row.

    Raises:
        UsageError: one of them is no target.
    """
    known = all_targets() if targets is None else tuple(targets)
    names = [part for part in (piece.strip() for piece in text.split(",")) if part]
    parsed = dict.fromkeys(parse_target(name, known) for name in names if name.lower() != "all")
    return known if any(name.lower() == "all" for name in names) else tuple(parsed)


def host_target(targets: Iterable[Target] | None = None) -> Target:
    """The target that this interpreter runs on.

    Raises:
        UsageError: this machine is not in the matrix.
    """
    known = all_targets() if targets is None else tuple(targets)
    system, machine, libc = _host_facts()
    for target in known:
        if target.os == system and machine in target.machine and target.libc in (None, libc):
            return target
    raise UsageError(
        f"This machine ({system} {machine}) is not one of Ferryman's targets.",
        advice="Name a target with --target, or add a row to targets.toml.",
    )


def _host_facts() -> tuple[str, str, str]:
    system = {"win32": "windows", "darwin": "darwin"}.get(sys.platform, "linux")
    # The empty string is what platform answers when the C library is not glibc; musl keeps no version symbol.
    libc = "gnu" if platform.libc_ver()[0] == "glibc" else "musl"
    return system, platform.machine().lower(), libc
