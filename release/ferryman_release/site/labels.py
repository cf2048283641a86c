"""What people call targets, kinds, sizes and moments."""

from __future__ import annotations

from ferryman_release.site.model import SiteFile

SYSTEMS = {"linux": "Linux", "darwin": "macOS", "windows": "Windows"}
PROCESSORS = {
    "amd64": "x86-64",
    "arm64": "ARM64",
    "armv7": "ARMv7",
    "ppc64le": "POWER, little-endian",
    "riscv64": "RISC-V",
    "s390x": "IBM Z",
}
KINDS = {"executable": "One file", "archive": "Folder", "pyz": "For your own Python"}
FLOORS = {"glibc": "glibc", "musl": "musl", "macos": "macOS", "windows": "Windows"}


def target_label(target: str) -> str:
    """`linux-amd64-musl` → `Linux x86-64, musl`; what is not known stays as it is."""
    system, _, rest = target.partition("-")
    processor, _, libc = rest.partition("-")
    if system not in SYSTEMS:
        return target
    name = {"darwin-arm64": "Apple silicon", "darwin-amd64": "Intel"}.get(
        target, PROCESSORS.get(processor, processor)
    )
    return f"{SYSTEMS[system]} {name}".rstrip() + (f", {libc}" if libc else "")


def target_order(target: str) -> tuple[int, str]:
    """Linux, macOS, Windows, and then the rest."""
    known = list(SYSTEMS)
    system = target.partition("-")[0]
    return (known.index(system) if system in known else len(known), target)


def kind_label(kind: str) -> str:
    """What the form is good for."""
    return KINDS.get(kind, kind)


def size_label(size: int) -> str:
    """Bytes as people read them: `11.2 MB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def needs_label(file: SiteFile) -> str:
    """What the machine must have, in one line; "" when nothing is known."""
    floors = [f"{FLOORS.get(key, key)} {value}+" for key, value in sorted(file.floor.items())]
    python = [f"Python {file.python}"] if file.python else []
    return ", ".join([*floors, *python, *file.runtime])


def day(moment: str) -> str:
    """The day of an ISO 8601 moment."""
    return moment[:10]
