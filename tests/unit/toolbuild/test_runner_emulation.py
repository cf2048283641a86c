"""QEMU's user mode: what the kernel was told is read as the kernel reads it, and nothing is installed behind one's back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ferryman_build.cmd import Runner
from ferryman_build.errors import ToolMissingError
from ferryman_build.runners import emulation
from ferryman_build.runners.emulation import Emulator, emulator, install, version
from ferryman_build.runners.roots import userlands

pytestmark = pytest.mark.skipif(os.name == "nt", reason="binfmt_misc is Linux's")

ARM = userlands().machine["arm64"]
MAGIC = "7f454c460201010000000000000000000200b700"
MASK = "ffffffffffffff00fffffffffffffffffeffffff"


@pytest.fixture
def binfmt(tmp_path: Path) -> Path:
    """A mounted binfmt_misc without entries."""
    folder = tmp_path / "binfmt"
    folder.mkdir()
    for name in ("register", "status"):
        (folder / name).write_text("enabled\n", encoding="utf-8")
    return folder


def register(binfmt: Path, name: str = "qemu-aarch64", *, state: str = "enabled", flags: str = "PF",
             magic: str = MAGIC, mask: str = MASK, interpreter: str = "/opt/qemu") -> None:  # fmt: skip
    """An entry as the kernel shows it."""
    (binfmt / name).write_text(
        f"{state}\ninterpreter {interpreter}\nflags: {flags}\noffset 0\nmagic {magic}\nmask {mask}\n",
        encoding="utf-8",
    )


def test_not_mounted(tmp_path: Path) -> None:
    """A kernel without it, or a container that does not show it."""
    assert emulator(ARM, tmp_path).problem == "binfmt_misc is not mounted"


def test_nobody_registered(binfmt: Path) -> None:
    """Other processors and other kinds of programs do not count, and neither does what cannot be understood."""
    register(binfmt, "qemu-arm", magic="7f454c4601010100000000000000000002002800")
    register(binfmt, "qemu-broken", magic="no hex")
    register(binfmt, "qemu-long", magic=MAGIC + "00", mask=MASK + "ff")
    register(binfmt, "qemu-uneven", mask="ff")
    (binfmt / "python3").write_text(
        "enabled\ninterpreter /usr/bin/python3\nextension .pyc\n", encoding="utf-8"
    )
    register(binfmt, state="disabled")

    assert emulator(ARM, binfmt).problem == "no binfmt_misc entry takes programs of aarch64"


@pytest.mark.parametrize("name", ["qemu-aarch64", "something-else"])
def test_registered(binfmt: Path, name: str) -> None:
    """It is the magic that counts and not the name."""
    register(binfmt, name)

    assert emulator(ARM, binfmt) == Emulator(interpreter="/opt/qemu")


def test_not_held_open(binfmt: Path) -> None:
    """Without flag F the kernel would look for QEMU inside of the userland."""
    register(binfmt, flags="OC")

    assert (
        emulator(ARM, binfmt).problem
        == "qemu-aarch64 is registered without flag F, so no userland can use it"
    )


@pytest.mark.parametrize("arch", userlands().machine)
def test_every_machine_has_a_header(arch: str, binfmt: Path) -> None:
    """An entry that masks nothing takes exactly the executables of its own machine."""
    machine = userlands().machine[arch]
    register(binfmt, magic=machine.elf, mask="ff" * 20)
    taken = [name for name, other in userlands().machine.items() if emulator(other, binfmt).interpreter]

    assert len(bytes.fromhex(machine.elf)) == 20
    assert taken == [arch]


def test_the_link_is_followed(tmp_path: Path, binfmt: Path) -> None:
    """Debian registers a link whose name changes what QEMU makes of its words."""
    (tmp_path / "qemu-aarch64-static").touch()
    (tmp_path / "aarch64-binfmt-P").symlink_to("qemu-aarch64-static")
    register(binfmt, interpreter=str(tmp_path / "aarch64-binfmt-P"))

    assert emulator(ARM, binfmt).interpreter == str(tmp_path / "qemu-aarch64-static")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'qemu-aarch64 version 7.2.17 (Debian 1:7.2)'", "QEMU 7.2.17"),
        ("echo hello", "QEMU"),
        ("exit 1", "QEMU"),
    ],
)
def test_version(tmp_path: Path, script: str, said: str) -> None:
    """What it says of itself, if that is understood."""
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)

    assert version(Emulator(interpreter=str(program))) == said
    assert version(Emulator(interpreter=str(tmp_path / "absent"))) == "QEMU"


# --- setting it up ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with stand-ins that write down how they were called."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("apt-get", "mount", "update-binfmts"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(emulation, "_TOOLS", str(folder))
    monkeypatch.setattr(emulation.os, "geteuid", lambda: 0)
    return folder


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "calls"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def switch_on(tools: Path, binfmt: Path) -> None:
    """update-binfmts does what it is there for."""
    register(binfmt)
    entry = (binfmt / "qemu-aarch64").rename(tools / "entry")
    with (tools / "update-binfmts").open("a", encoding="utf-8") as file:
        file.write(f"/bin/cp {entry} {binfmt}/qemu-aarch64\n")


def test_nothing_to_do(tmp_path: Path, tools: Path, binfmt: Path) -> None:
    """What is registered is used as it is."""
    register(binfmt)
    install(ARM, Runner(), lambda _: None, binfmt)

    assert calls(tmp_path) == []


def test_root_installs_and_switches_on(tmp_path: Path, tools: Path, binfmt: Path) -> None:
    """Each step is told before it is done."""
    switch_on(tools, binfmt)
    said: list[str] = []
    install(ARM, Runner(), said.append, binfmt)

    assert calls(tmp_path) == [
        "apt-get install --yes --no-install-recommends qemu-user-static binfmt-support",
        "update-binfmts --enable qemu-aarch64",
    ]
    assert said == ["apt-get install qemu-user-static binfmt-support", "switching qemu-aarch64 on"]


def test_what_is_installed_is_not_installed_again(tmp_path: Path, tools: Path, binfmt: Path) -> None:
    """An installed QEMU is only switched on, and binfmt_misc mounted first where it is not."""
    (tools / "qemu-aarch64-static").touch(mode=0o755)
    switch_on(tools, binfmt)
    (binfmt / "status").unlink()
    with (tools / "mount").open("a", encoding="utf-8") as file:
        file.write(f": > {binfmt}/status\n")
    install(ARM, Runner(), lambda _: None, binfmt)

    assert calls(tmp_path) == [
        f"mount -t binfmt_misc binfmt_misc {binfmt}", "update-binfmts --enable qemu-aarch64",
    ]  # fmt: skip


def test_it_is_seen_that_nothing_came_of_it(tools: Path, binfmt: Path) -> None:
    """A kernel that does not take the entry is told from one that does."""
    with pytest.raises(ToolMissingError, match="QEMU was set up, and still: no binfmt_misc entry"):
        install(ARM, Runner(), lambda _: None, binfmt)


def test_no_rights(tmp_path: Path, tools: Path, binfmt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user gets the commands for somebody who may, and nothing was tried."""
    monkeypatch.setattr(emulation.os, "geteuid", lambda: 1000)
    with pytest.raises(
        ToolMissingError, match="Programs of aarch64 do not run here: no binfmt_misc"
    ) as caught:
        install(ARM, Runner(), lambda _: None, binfmt)

    assert caught.value.exit_code == 4
    assert caught.value.advice == (
        "As root on a Debian: apt-get install qemu-user-static binfmt-support && update-binfmts --enable qemu-aarch64"
    )
    assert calls(tmp_path) == []
