"""What a target promises: the floor below which its program need not start, and which the compat gate holds it to.

    row of targets.toml  ◀  `floor` in [tool.ferryman], for the target or for all   ◀  this machine, for `--target host`

Whoever builds for `host` builds for machines like this one: the promise is what this machine has. Whoever names a target
builds for everyone who has it, and the row's promise holds unless the project says another one.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping

import msgspec

from ferryman_build.project import Project
from ferryman_build.targets import CPU_LEVELS, Libc, Os, Target, host_target, parse_targets, with_promise


def promised_targets(project: Project) -> tuple[Target, ...]:
    """The targets of the final settings, in order, each with the floor that holds.

    Raises:
        UsageError: one of them is no target.
    """
    return tuple(dict.fromkeys(_promised(project)))


def _promised(project: Project) -> Iterator[Target]:
    seen: set[str] = set()
    for name in project.settings.targets:
        for target in parse_targets(name):
            if target.id in seen:
                continue
            seen.add(target.id)
            yield promised(project, target, as_host=name.strip().lower() == "host")


def promised(project: Project, target: Target, *, as_host: bool = False) -> Target:
    """``target`` with the floor that holds; ``as_host``: it was asked for as the machine that this is."""
    text = project.for_target(target).floor
    if as_host and not text:
        return msgspec.structs.replace(target, floor={**target.floor, **own_floor(target)})
    return with_promise(target, _meant_for(target, text))


def _meant_for(target: Target, text: str) -> str:
    """Of a floor that was said for all targets, what this one can have: "glibc 2.31" says nothing of Windows."""
    levels = CPU_LEVELS.get(target.arch, ())
    parts = [part.strip().split() for part in text.split(",") if part.strip()]
    return ", ".join(
        " ".join(part)
        for part in parts
        if part[0] in target.floor or (part[0] == "cpu" and part[1].split("+")[0] in levels)
    )


def own_floor(target: Target) -> Mapping[str, str]:
    """What this machine has, in the words of a floor; {} when it does not say."""
    if target.os is Os.WINDOWS:
        return {"windows": platform.release()} if platform.release().isdigit() else {}
    if target.os is Os.DARWIN:
        release = ".".join(platform.mac_ver()[0].split(".")[:2])
        return {"macos": release} if release else {}
    if target.libc is Libc.MUSL:
        return {}
    version = platform.libc_ver()[1]
    return {"glibc": version} if version else {}


def with_own_promise(targets: tuple[Target, ...]) -> Target:
    """The target of this machine, with the promise that it was asked for with, if it was."""
    host = host_target()
    return next((target for target in targets if target.id == host.id), host)
