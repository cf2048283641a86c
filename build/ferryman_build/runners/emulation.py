"""Programs of other processors: the kernel's binfmt_misc hands them to QEMU's user mode.

An entry is good for a userland only when the kernel holds its interpreter open (flag F): inside there is no QEMU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from ferryman_build.cmd import Runner, environment
from ferryman_build.errors import ToolMissingError
from ferryman_build.runners.roots import Machine

BINFMT = Path("/proc/sys/fs/binfmt_misc")
_PACKAGES = ("qemu-user-static", "binfmt-support")
_INSTALL = ("install", "--yes", "--no-install-recommends")
_TOOLS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Emulator(msgspec.Struct, frozen=True):
    """What answers for a processor: ``interpreter`` is a path, empty when there is a ``problem``."""

    interpreter: str = ""
    problem: str = ""


def emulator(machine: Machine, folder: Path = BINFMT) -> Emulator:
    """The entry that takes programs of ``machine``; ``folder`` is where binfmt_misc is mounted."""
    if not (folder / "status").exists():
        return Emulator(problem="binfmt_misc is not mounted")
    for entry in sorted(folder.iterdir()):
        if entry.name in ("register", "status"):
            continue
        facts = _facts(entry)
        if "enabled" in facts and _takes(facts, bytes.fromhex(machine.elf)):
            if "F" not in facts.get("flags:", ""):
                return Emulator(
                    problem=f"{entry.name} is registered without flag F, so no userland can use it"
                )
            # Debian registers a link whose name tells QEMU that argv[0] is handed over; by it, QEMU answers no question.
            return Emulator(interpreter=os.path.realpath(facts["interpreter"]))
    return Emulator(problem=f"no binfmt_misc entry takes programs of {machine.qemu}")


def _facts(entry: Path) -> dict[str, str]:
    try:
        lines = entry.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


def _takes(facts: dict[str, str], header: bytes) -> bool:
    """Whether the entry's magic, under its mask, is how such a program begins."""
    try:
        magic = bytes.fromhex(facts["magic"])
        mask = bytes.fromhex(facts.get("mask", "ff" * len(magic)))
        offset = int(facts.get("offset", "0"))
    except (KeyError, ValueError):
        return False
    if offset or len(magic) > len(header) or len(mask) != len(magic):
        return False
    return all((ours ^ theirs) & bits == 0 for ours, theirs, bits in zip(header, magic, mask, strict=False))


def version(found: Emulator) -> str:
    """Such as "QEMU 7.2.17"; "QEMU" when it does not say."""
    try:
        done = subprocess.run(
            [found.interpreter, "--version"], capture_output=True, text=True, timeout=10, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "QEMU"
    words = done.stdout.split()
    return f"QEMU {words[2]}" if words[1:2] == ["version"] and len(words) > 2 else "QEMU"


def install(machine: Machine, runner: Runner, say: Callable[[str], None], folder: Path = BINFMT) -> None:
    """See that programs of ``machine`` run: what is missing is installed and switched on, where this is root on a Debian.

    Raises:
        ToolMissingError: somebody else has to do it; the advice has the commands.
    """
    if emulator(machine, folder).interpreter:
        return
    _require_root(machine, folder)
    if (
        shutil.which(f"qemu-{machine.qemu}-static") is None
        or shutil.which("update-binfmts", path=_TOOLS) is None
    ):
        apt_install(_PACKAGES, runner, say)
    if not (folder / "status").exists():
        say("mounting binfmt_misc")
        runner.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(folder)], name="binfmt-mount", failure=ToolMissingError,
                   advice="This kernel has no binfmt_misc, or this is a container: set QEMU up on its host.")  # fmt: skip
    say(f"switching qemu-{machine.qemu} on")
    runner.run(["update-binfmts", "--enable", f"qemu-{machine.qemu}"], name="binfmt-enable", failure=ToolMissingError,
               env=environment({"PATH": _TOOLS}))  # fmt: skip
    if problem := emulator(machine, folder).problem:
        raise ToolMissingError(f"QEMU was set up, and still: {problem}.", advice=_advice(machine))


def apt_install(packages: tuple[str, ...], runner: Runner, say: Callable[[str], None]) -> None:
    """Install packages of Debian; only ever called by `ferryman runners setup`, as root.

    Raises:
        ToolMissingError: apt-get is not there, or failed.
    """
    say(f"apt-get install {' '.join(packages)}")
    runner.run(["apt-get", *_INSTALL, *packages], name="apt-install", failure=ToolMissingError,
               env=environment({"DEBIAN_FRONTEND": "noninteractive"}),
               advice="Run apt-get update and try again, or install them by hand.")  # fmt: skip


def _require_root(machine: Machine, folder: Path) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ToolMissingError(
            f"Programs of {machine.qemu} do not run here: {emulator(machine, folder).problem}.",
            advice=_advice(machine),
        )


def _advice(machine: Machine) -> str:
    return f"As root on a Debian: apt-get install {' '.join(_PACKAGES)} && update-binfmts --enable qemu-{machine.qemu}"
