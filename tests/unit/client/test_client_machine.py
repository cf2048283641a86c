"""What a machine is taken for."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from ferryman_client import machine as module
from ferryman_client.machine import TARGET_IDS, TARGETS, Machine, machine_id, platform_uuid, windows_version

ROOT = Path(__file__).resolve().parents[3]


def test_table_is_that_of_the_matrix() -> None:
    """Every target of targets.toml with each of its machines, in the same order, and nothing else."""
    rows = tomllib.loads((ROOT / "build/ferryman_build/resources/targets.toml").read_text(encoding="utf-8"))
    expected = {
        (row["os"], machine, row.get("libc", "")): name
        for name, row in rows.items()
        for machine in row["machine"]
    }

    assert expected == TARGETS
    assert set(TARGET_IDS) == set(rows)


def test_this_machine(tmp_path: Path) -> None:
    """The machine that runs the tests has a target, an identifier and, with glibc, its version."""
    seen = Machine.detect(tmp_path)

    assert seen.os == platform.system().lower()
    assert seen.id
    assert seen == Machine.detect(tmp_path)
    if seen.libc == "gnu":
        assert re.fullmatch(r"\d+\.\d+", seen.floor["glibc"])


@pytest.mark.parametrize(
    ("system", "arch", "libc", "target"),
    [
        ("Linux", "x86_64", ("gnu", "2.36"), "linux-amd64"), ("Linux", "aarch64", ("musl", "1.2.4"), "linux-arm64-musl"),
        ("Linux", "armv7l", ("gnu", "2.31"), "linux-armv7"), ("Linux", "i686", ("gnu", "2.36"), ""),
        ("Linux", "riscv64", ("musl", "1.2"), ""), ("Darwin", "arm64", None, "darwin-arm64"), ("Windows", "AMD64", None, "windows-amd64"),
        ("FreeBSD", "amd64", None, ""),
    ],
)  # fmt: skip
def test_target(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    system: str,
    arch: str,
    libc: tuple[str, str] | None,
    target: str,
) -> None:
    """System, processor and C library decide the target; an unknown combination has none."""
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: arch)
    monkeypatch.setattr(module, "_libc", lambda: libc)
    monkeypatch.setattr(module, "SOURCES", {})
    monkeypatch.setattr(sys, "maxsize", 2**63 - 1)

    assert Machine.detect(tmp_path).target == target


def test_32_bit_program_on_a_64_bit_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 32-bit process on arm64 wants the artifact for ARMv7: it has no 64-bit libraries."""
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)

    assert TARGETS["linux", module._arch("aarch64"), "gnu"] == "linux-armv7"
    assert module._arch("x86_64") == "x86_64"


@pytest.mark.parametrize(
    ("numbers", "version"),
    [((10, 0, 19045), "10.0.19045"), ((10, 0, 22631), "11.0.22631"), ((6, 1, 7601), "6.1.7601")],
)
def test_windows_version(numbers: tuple[int, int, int], version: str) -> None:
    """Windows 11 says that it is 10.0; its build tells."""
    assert windows_version(*numbers) == version


def test_windows_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """MachineGuid comes from the 64-bit view of the registry."""
    asked = []

    class Handle:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            asked.append("closed")

    def open_key(root: str, path: str, reserved: int, access: int) -> Handle:
        asked.append((root, path, access))
        return Handle()

    registry = SimpleNamespace(
        KEY_READ=1,
        KEY_WOW64_64KEY=256,
        HKEY_LOCAL_MACHINE="HKLM",
        OpenKey=open_key,
        QueryValueEx=lambda *_: ("4C4C-AB", 1),
    )
    monkeypatch.setitem(sys.modules, "winreg", registry)
    monkeypatch.setattr(sys, "platform", "win32")

    assert machine_id("windows") == "4c4c-ab"
    assert asked == [("HKLM", r"SOFTWARE\Microsoft\Cryptography", 257), "closed"]


def test_platform_uuid() -> None:
    """The UUID of a Mac is read from what ioreg prints; anything else is none."""
    said = '+-o Mac  <class IOPlatformExpertDevice>\n    "IOPlatformUUID" = "564D1A2B-0000-1111-2222-ABCDEF012345"\n'

    assert platform_uuid(said) == "564d1a2b-0000-1111-2222-abcdef012345"
    assert platform_uuid("") == ""


def test_mac_without_ioreg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where ioreg cannot be run there is still an identifier."""

    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", run)

    assert re.fullmatch(r"[0-9a-f]{32}", machine_id("darwin", tmp_path))


@pytest.mark.parametrize("text", ["", "uninitialized\n", "0" * 32, "b08dfa6083e7567a1921a715000001fb"])
def test_linux_machine_id(tmp_path: Path, text: str) -> None:
    """/etc/machine-id, unless it is that of an image; then the one of D-Bus."""
    first, second = tmp_path / "machine-id", tmp_path / "dbus"
    first.write_text(text, encoding="ascii")
    second.write_text("f" * 32, encoding="ascii")
    expected = text if text.startswith("b08") else "f" * 32

    assert module._linux((str(first), str(second))) == expected
    assert module._linux((str(tmp_path / "none"),)) == ""


def test_random_identifier_stays(tmp_path: Path) -> None:
    """A machine without an identifier keeps a random one, and replaces what is none."""
    first = machine_id("plan9", tmp_path / "state")
    assert machine_id("plan9", tmp_path / "state") == first
    (tmp_path / "state" / "machine-id").write_text("half", encoding="ascii")
    second = machine_id("plan9", tmp_path / "state")

    assert re.fullmatch(r"[0-9a-f]{32}", second)
    assert second != first
    assert machine_id("plan9", tmp_path / "state") == second
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["machine-id"]


def test_random_identifier_without_a_folder(tmp_path: Path) -> None:
    """Where nothing can be kept there is one for the moment."""
    (tmp_path / "file").write_text("")

    assert re.fullmatch(r"[0-9a-f]{32}", machine_id("plan9", tmp_path / "file"))
    assert re.fullmatch(r"[0-9a-f]{32}", machine_id("plan9", None))


def test_musl(tmp_path: Path) -> None:
    """musl says its version when its loader is run without a program."""
    loader = tmp_path / "ld-musl-x86_64.so.1"
    loader.write_text(
        '#!/bin/sh\nprintf "musl libc (x86_64)\\nVersion 1.2.5\\nDynamic Program Loader\\n" >&2\nexit 1\n'
    )
    loader.chmod(0o755)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ld-musl-x86_64.so.1").write_text("nothing")

    assert module.musl_version((str(broken), str(tmp_path))) == "1.2.5"
    assert module.musl_version((str(broken),)) == ""


@pytest.mark.parametrize("answer", ["glibc 2.36", None, ""])
def test_libc(monkeypatch: pytest.MonkeyPatch, answer: str | None) -> None:
    """What confstr does not know is musl."""
    monkeypatch.setattr(os, "confstr", lambda name: answer)
    monkeypatch.setattr(module, "musl_version", lambda: "1.2.5")

    assert module._libc() == (("gnu", "2.36") if answer else ("musl", "1.2.5"))
