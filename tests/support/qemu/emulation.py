"""Programs of other machines, run here: the kernel's binfmt_misc hands them to QEMU's user mode.

What is already set up is used as it is. Otherwise an installed qemu-user-static is switched on, and where there is
none, QEMU is taken out of Debian's package into the cache and registered for as long as the tests run. Nothing is
installed.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from e2e.clean_rootfs.rootfs import UnavailableError

BINFMT = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True)
class Machine:
    """A machine in Debian's words and in QEMU's, and how its ELF files begin."""

    debian: str
    qemu: str
    number: int  # e_machine
    bits: int = 64
    big: bool = False

    @property
    def magic(self) -> bytes:
        """The first 20 bytes of its executables; what varies among them is 0."""
        order: Literal["big", "little"] = "big" if self.big else "little"
        ident = b"\x7fELF" + bytes([2 if self.bits == 64 else 1, 2 if self.big else 1, 1, 0]) + bytes(8)
        return ident + (2).to_bytes(2, order) + self.number.to_bytes(2, order)

    @property
    def mask(self) -> bytes:
        """Any ABI in byte 7, and 2 or 3 (position-independent) as the type of the file."""
        kind = b"\xff\xfe" if self.big else b"\xfe\xff"
        return b"\xff" * 7 + b"\x00" + b"\xff" * 8 + kind + b"\xff\xff"


MACHINES = {
    "arm64": Machine("arm64", "aarch64", 0xB7),
    "armv7": Machine("armhf", "arm", 0x28, bits=32),
    "ppc64le": Machine("ppc64el", "ppc64le", 0x15),
    "riscv64": Machine("riscv64", "riscv64", 0xF3),
    "s390x": Machine("s390x", "s390x", 0x16, big=True),
}


@contextlib.contextmanager
def emulated(arch: str, cache: Path) -> Iterator[None]:
    """While this lasts, programs of ``arch`` (Go's word) run, in a chroot too.

    Raises:
        UnavailableError: this host cannot; the text says why.
    """
    machine = MACHINES[arch]
    if platform.machine() == machine.qemu:
        yield  # the real thing
        return
    _require_binfmt()
    ours = None if _registered(machine) or _switched_on(machine) else _register(machine, cache)
    try:
        if not _registered(machine):
            raise UnavailableError(f"binfmt_misc was told about {machine.qemu} and does not know it")
        yield
    finally:
        if ours is not None:
            ours.write_text("-1")


def _require_binfmt() -> None:
    """Mount binfmt_misc where the kernel has it and nobody has mounted it."""
    if not Path("/proc/sys/fs").is_dir():
        raise UnavailableError("programs of other machines run on Linux only")
    if os.geteuid() != 0:
        raise UnavailableError("binfmt_misc, chroot and mount need root")
    if (BINFMT / "status").exists():
        return
    done = subprocess.run(
        ["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"the kernel has no binfmt_misc: {done.stderr.strip()}")


def _registered(machine: Machine) -> bool:
    """Whether an interpreter is registered that a chroot can use: one that the kernel holds open (flag F)."""
    for entry in BINFMT.iterdir():
        if entry.name in ("register", "status"):
            continue
        lines = entry.read_text(encoding="utf-8").splitlines()
        facts = {word: rest for word, _, rest in (line.partition(" ") for line in lines)}
        if lines[0] == "enabled" and facts.get("magic") == machine.magic.hex():
            if "F" not in facts.get("flags:", ""):
                raise UnavailableError(f"{entry} has not the flag F, so that no chroot can use it")
            return True
    return False


def _switched_on(machine: Machine) -> bool:
    """Enable what an installed qemu-user-static has told Debian's binfmt-support, and only this."""
    if shutil.which("update-binfmts") is None:
        return False
    command = ["update-binfmts", "--enable", f"qemu-{machine.qemu}"]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode == 0 and _registered(machine)


def _register(machine: Machine, cache: Path) -> Path:
    """Register a QEMU of our own; the entry to write -1 to when it is no longer needed."""
    interpreter = _qemu(machine, cache)
    name = f"ferryman-tests-{machine.qemu}"
    magic, mask = ("".join(f"\\x{byte:02x}" for byte in raw) for raw in (machine.magic, machine.mask))
    try:
        (BINFMT / "register").write_text(f":{name}:M:0:{magic}:{mask}:{interpreter}:PF")
    except OSError as error:
        raise UnavailableError(f"binfmt_misc does not take a QEMU for {machine.qemu}: {error}") from error
    return BINFMT / name


def _qemu(machine: Machine, cache: Path) -> Path:
    """QEMU out of Debian's qemu-user-static. The end of its name says that argv[0] is handed over (flag P)."""
    place = cache / "qemu" / f"{machine.qemu}-binfmt-P"
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    member = f"./usr/bin/qemu-{machine.qemu}-static"
    script = (
        'cd "$1" && apt-get download -q qemu-user-static && '
        'dpkg-deb --fsys-tarfile qemu-user-static_*.deb | tar -xO "$2" > draft && rm qemu-user-static_*.deb'
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "qemu", str(place.parent), member],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(
            "no QEMU: install qemu-user-static and binfmt-support\n" + done.stderr.strip()[-600:]
        )
    draft = place.parent / "draft"
    draft.chmod(0o755)
    draft.replace(place)
    return place
