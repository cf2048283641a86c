"""`ferryman runners`: what is listed, for whom something is set up, and how wrong words are answered."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ferryman_build.cmd import Runner
from ferryman_build.commands import runners
from ferryman_build.errors import ConfigError, ToolMissingError, UsageError
from ferryman_build.runners.base import Place, Purpose, Readiness
from ferryman_build.runners.roots import recipes, store
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Target, parse_target

HOST = parse_target("linux-amd64")
ARM, MUSL, RISC = (parse_target(name) for name in ("linux-arm64", "linux-arm64-musl", "linux-riscv64"))


class Emulator:
    """A runner that remembers what it was asked for."""

    name: ClassVar[RunnerName] = RunnerName.QEMU

    def __init__(self) -> None:
        self.set_up: list[tuple[str, Mapping[str, str]]] = []

    def runs(self, target: Target, host: Target) -> bool:
        return target in (ARM, MUSL, RISC)

    def ready(self, target: Target, purpose: Purpose, floor: Mapping[str, str]) -> Readiness:
        if purpose is Purpose.TRY:
            return Readiness(ready=True, found=f"for {floor}")
        return Readiness(ready=False, found="nothing", advice=f"set up {target}")

    def setup(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        say("working")
        self.set_up.append((target.id, target.floor))

    def open(
        self, target: Target, purpose: Purpose, floor: Mapping[str, str], work: Path, runner: Runner
    ) -> AbstractContextManager[Place]:
        raise AssertionError("nothing is run")


@pytest.fixture(autouse=True)
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Emulator:
    made = Emulator()
    monkeypatch.setattr(runners, "KINDS", {made.name: made})
    monkeypatch.setattr(runners, "host_target", lambda: HOST)
    monkeypatch.setenv("FERRYMAN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return made


def run(action: str, name: str = "qemu", **options: Any) -> int:
    usual = {"target": None, "all": False, "floor": None, "project": None, "json": False, "plain": True,
             "verbose": False, "out": Path("out")}  # fmt: skip
    return runners.run(argparse.Namespace(action=action, name=name, **{**usual, **options}))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Every target that a runner could run here, to try and to build; the advice stands below, each once."""
    assert run("list", "") == 0
    lines = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines() if line]

    assert [line[:3] for line in lines[2:8]] == [
        ["qemu", target.id, purpose] for target in (ARM, MUSL, RISC) for purpose in ("try", "build")
    ]
    assert [" ".join(line) for line in lines[8:]] == [f"set up {target}" for target in (ARM, MUSL, RISC)]


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs; --target and --floor hold."""
    assert run("list", target="linux/arm64,windows-amd64", floor="glibc 2.31", json=True) == 0
    rows = json.loads(capsys.readouterr().out)

    assert [(row["runner"], row["target"], row["purpose"], row["ready"], row["advice"]) for row in rows] == [
        ("qemu", "linux-arm64", "try", True, ""),
        ("qemu", "linux-arm64", "build", False, "set up linux-arm64"),
    ]
    assert rows[0]["found"] == "for {'glibc': '2.31'}"


def test_set_up(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a target for those of tier 1; the promise comes along, and what is done is said."""
    assert run("setup") == 0
    assert emulator.set_up == [(ARM.id, ARM.floor), (MUSL.id, MUSL.floor)]
    assert "linux-arm64: working" in capsys.readouterr().err
    assert run("setup", target="linux-riscv64", floor="glibc 2.41") == 0

    assert emulator.set_up[2:] == [(RISC.id, {"glibc": "2.41"})]
    assert run("setup", floor="glibc 2.36") == 0

    assert emulator.set_up[3:] == [(ARM.id, {"glibc": "2.36"}), (MUSL.id, MUSL.floor)]


def test_this_machine_promises_itself(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--target host` is for machines like this one, in a project or not."""
    monkeypatch.setattr("ferryman_build.promises.own_floor", lambda _: {"glibc": "2.36"})
    monkeypatch.setattr(runners, "parse_targets", lambda _: (ARM,))
    run("setup", target="host")

    assert emulator.set_up == [(ARM.id, {"glibc": "2.36"})]


def test_the_project_s_promise(emulator: Emulator, tmp_path: Path) -> None:
    """`floor` of [tool.ferryman], for the target or for all, where --floor says nothing."""
    (tmp_path / "a.py").write_text("def main(): ...\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "a"\nversion = "1"\nrequires-python = ">=3.11"\n[project.scripts]\na = "a:main"\n'
        '[tool.ferryman.target.linux-arm64]\nfloor = "glibc 2.36"\n',
        encoding="utf-8",
    )
    run("setup", target="linux-arm64,linux-riscv64")

    assert emulator.set_up == [(ARM.id, {"glibc": "2.36"}), (RISC.id, RISC.floor)]
    with pytest.raises(ConfigError):
        run("setup", project=tmp_path / "absent")


@pytest.mark.parametrize(
    ("action", "name", "target", "error", "words"),
    [
        ("setup", "", None, UsageError, "No runner was named"),
        ("setup", "quemu", None, UsageError, "no runner called 'quemu'"),
        ("remove", "", None, UsageError, "No runner was named"),
        ("list", "quemu", None, UsageError, "no runner called 'quemu'"),
        ("list", "", "linux-arm65", UsageError, "no target called 'linux-arm65'"),
        ("setup", "qemu", "linux-arm64", ConfigError, "A floor of 'musl 9' means nothing for linux-arm64"),
        (
            "setup",
            "qemu",
            "windows-amd64",
            ConfigError,
            "The runner qemu does not run windows-amd64 on a machine",
        ),
        ("setup", "qemu", "linux-arm64,linux-amd64", ConfigError, "does not run linux-amd64 on"),
    ],
)
def test_wrong_words(
    emulator: Emulator, action: str, name: str, target: str | None, error: type[UsageError], words: str
) -> None:
    """A sentence with what there is instead, before anything is set up."""
    with pytest.raises(error, match=words) as caught:
        run(action, name, target=target, floor="musl 9" if "musl 9" in words else None)

    assert caught.value.advice
    assert emulator.set_up == []


def test_what_cannot_be_set_up(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind's own error and advice come through."""

    def refuse(*_: object) -> None:
        raise ToolMissingError("QEMU is missing.", advice="As root: apt-get install qemu-user-static")

    monkeypatch.setattr(emulator, "setup", refuse)
    with pytest.raises(ToolMissingError, match="QEMU is missing"):
        run("setup")


def test_remove(capsys: pytest.CaptureFixture[str]) -> None:
    """All that was set up for a runner, or the userlands of one target; nothing else of the home."""
    arm, risc = (recipes(target, Purpose.TRY, {})[0].name for target in (ARM, RISC))
    kept = store(RunnerName.WINE) / "prefix"
    for folder in (store(RunnerName.QEMU) / arm, store(RunnerName.QEMU) / risc, kept):
        folder.mkdir(parents=True)
    assert run("remove", target="linux-arm64") == 0
    assert [path.name for path in store(RunnerName.QEMU).iterdir()] == [risc]
    assert run("remove") == 0
    assert not store(RunnerName.QEMU).exists()
    assert kept.exists()
    capsys.readouterr()
    assert run("remove") == 0

    assert capsys.readouterr().out.startswith("nothing was set up for qemu")
