"""A dependency that has no wheel for a machine is not installed there: it would want a compiler."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from ferryman_build.lockfile import read_pins

ROOT = Path(__file__).resolve().parents[3]
MACHINES = {
    "linux-amd64": ("linux", "x86_64", True),
    "linux-arm64": ("linux", "aarch64", False),
    "linux-armv7": ("linux", "armv7l", False),
    "linux-ppc64le": ("linux", "ppc64le", False),
    "linux-riscv64": ("linux", "riscv64", False),
    "linux-s390x": ("linux", "s390x", False),
    "windows-amd64": ("win32", "AMD64", True),
    "windows-arm64": ("win32", "ARM64", False),
    "darwin-amd64": ("darwin", "x86_64", True),
    "darwin-arm64": ("darwin", "arm64", False),
}


def in_the_project() -> Marker:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = [Requirement(line) for line in tomllib.loads(text)["project"]["dependencies"]]
    return next(one.marker for one in wanted if one.name == "iced-x86" and one.marker)


def in_the_lock(name: str) -> Marker:
    pins = read_pins(ROOT / "locks" / f"{name}.txt")
    return Marker(next(pin.marker for pin in pins if pin.name == "iced-x86"))


@pytest.mark.parametrize(("system", "machine", "wanted"), MACHINES.values(), ids=MACHINES)
def test_iced_x86(system: str, machine: str, wanted: bool) -> None:
    """It is asked for where it has wheels, by the project and by every lock alike."""
    there = {"sys_platform": system, "platform_machine": machine}
    markers = [in_the_project(), *map(in_the_lock, ("ferryman", "release", "dev"))]
    assert [marker.evaluate(there) for marker in markers] == [wanted] * 4
