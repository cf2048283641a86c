"""Which machine this is: what decides the artifact that fits, and the cohort that it is in.

The machine's identifier is hashed with the seed of a rollout and never leaves the machine (choice.py, rule 3).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# os-arch[-libc] of the matrix, for (system, platform.machine(), libc): the rows of Ferryman's targets.toml, as far as a
# client needs them; a test compares the two.
TARGETS = {
    ("linux", "x86_64", "gnu"): "linux-amd64",
    ("linux", "amd64", "gnu"): "linux-amd64",
    ("linux", "aarch64", "gnu"): "linux-arm64",
    ("linux", "arm64", "gnu"): "linux-arm64",
    ("linux", "x86_64", "musl"): "linux-amd64-musl",
    ("linux", "amd64", "musl"): "linux-amd64-musl",
    ("linux", "aarch64", "musl"): "linux-arm64-musl",
    ("linux", "arm64", "musl"): "linux-arm64-musl",
    ("linux", "armv7l", "gnu"): "linux-armv7",
    ("linux", "armv8l", "gnu"): "linux-armv7",
    ("linux", "riscv64", "gnu"): "linux-riscv64",
    ("linux", "s390x", "gnu"): "linux-s390x",
    ("linux", "ppc64le", "gnu"): "linux-ppc64le",
    ("windows", "amd64", ""): "windows-amd64",
    ("windows", "x86_64", ""): "windows-amd64",
    ("windows", "arm64", ""): "windows-arm64",
    ("windows", "aarch64", ""): "windows-arm64",
    ("darwin", "arm64", ""): "darwin-arm64",
    ("darwin", "x86_64", ""): "darwin-amd64",
}
TARGET_IDS = tuple(dict.fromkeys(TARGETS.values()))
MACHINE_ID = "machine-id"
_FLOOR = {"gnu": "glibc", "musl": "musl"}
_CRYPTOGRAPHY = r"SOFTWARE\Microsoft\Cryptography"
_WINDOWS_11 = 22000  # the build from which Windows calls itself 11; its version still begins with 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """``target`` is empty when no row of the matrix fits; ``version`` is that of the libc, of macOS or of Windows."""

    target: str
    os: str
    arch: str
    id: str
    libc: str = ""
    version: str = ""

    @property
    def floor(self) -> dict[str, str]:
        """What the machine has, in the words of a floor: {"glibc": "2.36"}; empty where it could not be found out."""
        name = _FLOOR.get(self.libc) or {"darwin": "macos", "windows": "windows"}.get(self.os, "")
        return {name: self.version} if name and self.version else {}

    @classmethod
    def detect(cls, state_dir: Path | None = None) -> Machine:
        """This machine, as the running process sees it: under Rosetta or WOW64 the emulated one.

        ``state_dir`` keeps a random identifier for a machine that has none of its own.
        """
        import platform

        system = platform.system().lower()
        arch = _arch(platform.machine().lower())
        libc, version = _libc() if system == "linux" else ("", _system_version(system))
        return cls(
            target=TARGETS.get((system, arch, libc), ""),
            os=system,
            arch=arch,
            libc=libc,
            version=version,
            id=machine_id(system, state_dir),
        )


def _arch(machine: str) -> str:
    """A 32-bit program on a 64-bit ARM kernel is a program for ARMv7."""
    return "armv8l" if machine in ("aarch64", "arm64") and sys.maxsize < 2**32 else machine


# --- versions ---------------------------------------------------------------------------------------------------------


def _libc() -> tuple[str, str]:
    """("gnu", "2.36") or ("musl", "1.2.5"): the C library of this process, which is that of the agent's target."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):
        name, version = "", ""
    return ("gnu", version) if name == "glibc" else ("musl", musl_version())


def musl_version(folders: tuple[str, ...] = ("/lib", "/usr/lib", "/usr/local/lib")) -> str:
    """What musl's loader says of itself on standard error when it is run without a program; "" where it cannot be run."""
    import subprocess

    for loader in (path for folder in folders for path in sorted(Path(folder).glob("ld-musl-*.so.1"))):
        try:
            said = subprocess.run([loader], capture_output=True, text=True, timeout=5, check=False).stderr
        except (OSError, subprocess.SubprocessError):
            continue
        if found := re.search(r"^Version (\d[\d.]*)", said, re.MULTILINE):
            return found.group(1)
    return ""


def _system_version(system: str) -> str:
    """Of macOS or Windows; 10.0.19045, and 11.0.22631 for what the market calls 11."""
    if system == "darwin":
        import platform

        return platform.mac_ver()[0]
    if sys.platform == "win32":
        seen = sys.getwindowsversion()
        return windows_version(seen.major, seen.minor, seen.build)
    return ""


def windows_version(major: int, minor: int, build: int) -> str:
    """The number that a floor is compared with: a floor of "11" means a build of Windows 11."""
    return f"11.0.{build}" if major == 10 and build >= _WINDOWS_11 else f"{major}.{minor}.{build}"


# --- the identifier ---------------------------------------------------------------------------------------------------


def machine_id(system: str, state_dir: Path | None = None) -> str:
    """The operating system's own identifier of this installation; else a random one, kept in ``state_dir``."""
    found = SOURCES.get(system, _no_source)()
    return found or _kept(state_dir)


def _no_source() -> str:
    return ""


def _linux(paths: tuple[str, ...] = ("/etc/machine-id", "/var/lib/dbus/machine-id")) -> str:
    """Empty or "uninitialized" in images that are meant to be copied."""
    for path in paths:
        try:
            text = Path(path).read_text(encoding="ascii").strip().lower()
        except (OSError, ValueError):
            continue
        if re.fullmatch(r"[0-9a-f]{32}", text) and text.strip("0"):
            return text
    return ""


def _darwin() -> str:
    """IOPlatformUUID, which only a program of the system tells."""
    import subprocess

    try:
        said = subprocess.run(
            ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return platform_uuid(said)


def platform_uuid(said: str) -> str:
    """The UUID in what ioreg prints."""
    found = re.search(r'"IOPlatformUUID" = "([0-9A-Fa-f-]{36})"', said)
    return found.group(1).lower() if found else ""


def _windows() -> str:
    """MachineGuid, from the registry of the machine itself also when this process is a 32-bit one."""
    if sys.platform == "win32":
        import winreg

        access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _CRYPTOGRAPHY, 0, access) as where:
                return str(winreg.QueryValueEx(where, "MachineGuid")[0]).lower()
        except OSError:
            return ""
    return ""


SOURCES: dict[str, Callable[[], str]] = {"linux": _linux, "darwin": _darwin, "windows": _windows}


def _kept(state_dir: Path | None) -> str:
    """A random identifier: the one that is kept, or a new one, kept if that is possible."""
    import uuid

    new = uuid.uuid4().hex
    if state_dir is None:
        return new
    path = state_dir / MACHINE_ID
    if found := _valid(path):
        return found
    own = state_dir / f"{MACHINE_ID}.{new}"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        own.write_text(f"{new}\n", encoding="ascii")
        own.replace(path)
    except OSError:
        return new
    return _valid(path) or new  # another process may have made its own meanwhile; the last one stays


def _valid(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else ""
