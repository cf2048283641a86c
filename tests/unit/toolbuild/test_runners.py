"""Which runner a target gets, what is said of one that gets none, and how long its programs may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from ferryman_build import runners
from ferryman_build.cmd import Runner
from ferryman_build.errors import ConfigError
from ferryman_build.runners import KINDS, Outlook, kinds_for, pace, readiness
from ferryman_build.runners.base import Place, Purpose, Readiness, RunnerKind
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Target, all_targets, parse_target

LINUX, ARM, WINDOWS, MAC = (
    parse_target(name) for name in ("linux-amd64", "linux-arm64", "windows-amd64", "darwin-arm64")
)


class Fake:
    """A runner that runs what it is told to run, and is ready when it is told so."""

    name: ClassVar[RunnerName]

    def __init__(self, name: RunnerName, *targets: Target, ready: bool = True) -> None:
        self.name = name  # type: ignore[misc]
        self.targets, self.is_ready = targets, ready
        self.asked: list[tuple[Purpose, Mapping[str, str]]] = []

    def runs(self, target: Target, host: Target) -> bool:
        return target in self.targets

    def ready(self, target: Target, purpose: Purpose, floor: Mapping[str, str]) -> Readiness:
        self.asked.append((purpose, floor))
        if self.is_ready:
            return Readiness(ready=True, found=f"{self.name} 1.0")
        return Readiness(ready=False, found="nothing there", advice=f"set up {self.name}")

    def setup(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        raise AssertionError("nothing is installed without being asked")

    def open(
        self, target: Target, purpose: Purpose, floor: Mapping[str, str], work: Path, runner: Runner
    ) -> AbstractContextManager[Place]:
        raise AssertionError("a plan opens nothing")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with these runners."""

    def put(*kinds: Fake) -> None:
        monkeypatch.setattr(runners, "KINDS", {kind.name: kind for kind in kinds})

    return put


NATIVE, ROOTFS, QEMU, WINE, CONTAINER = (
    RunnerName(name) for name in ("native", "rootfs", "qemu", "wine", "container")
)


@pytest.mark.parametrize(
    ("target", "ready", "wanted"),
    [
        (LINUX, (NATIVE,), [NATIVE]),
        (LINUX, (NATIVE, ROOTFS), [NATIVE, ROOTFS]),
        (LINUX, (NATIVE, ROOTFS, CONTAINER), [NATIVE, ROOTFS]),
        (ARM, (NATIVE, QEMU, CONTAINER), [QEMU]),
        (ARM, (NATIVE, CONTAINER), [CONTAINER]),
        (ARM, (NATIVE,), [QEMU]),
        (WINDOWS, (NATIVE, WINE), [WINE]),
        (WINDOWS, (NATIVE,), [WINE]),
        (MAC, (NATIVE, QEMU, WINE), []),
    ],
)
def test_auto(
    machine: Callable[..., None], target: Target, ready: tuple[RunnerName, ...], wanted: list[RunnerName]
) -> None:
    """This machine for its own, with a clean userland beside it if there is one; a container where nothing else is.

    What is not ready is named only when nothing is, so that its advice can be given.
    """
    able = {NATIVE: (LINUX,), ROOTFS: (LINUX,), QEMU: (ARM,), WINE: (WINDOWS,), CONTAINER: (LINUX, ARM)}
    machine(*(Fake(name, *targets, ready=name in ready) for name, targets in able.items()))

    assert [kind.name for kind in kinds_for(target, LINUX)] == wanted


def test_the_promise_chooses(machine: Callable[..., None]) -> None:
    """A runner is asked for what the caller promises, and for the target's own floor without a promise."""
    fake = Fake(QEMU, ARM)
    machine(fake)
    kinds_for(ARM, LINUX, floor={"glibc": "2.31"})
    kinds_for(ARM, LINUX)

    assert fake.asked == [(Purpose.TRY, {"glibc": "2.31"}), (Purpose.TRY, ARM.floor)]


def test_a_named_runner(machine: Callable[..., None]) -> None:
    """It is taken, ready or not; `none` is none."""
    machine(Fake(NATIVE, LINUX), Fake(ROOTFS, LINUX, ready=False))

    assert [kind.name for kind in kinds_for(LINUX, LINUX, ROOTFS)] == [ROOTFS]
    assert kinds_for(LINUX, LINUX, RunnerName.NONE) == ()


@pytest.mark.parametrize(
    ("target", "wanted", "advice"),
    [(LINUX, WINE, "native or rootfs"), (WINDOWS, QEMU, "wine"), (MAC, NATIVE, "nothing can run them here")],
)
def test_a_named_runner_that_cannot(
    machine: Callable[..., None], target: Target, wanted: RunnerName, advice: str
) -> None:
    """A mistake in the configuration, with the runners that can."""
    machine(Fake(NATIVE, LINUX), Fake(ROOTFS, LINUX), Fake(QEMU, ARM), Fake(WINE, WINDOWS))
    with pytest.raises(ConfigError, match=f"Programs of {target} cannot be run through {wanted}") as caught:
        kinds_for(target, LINUX, wanted)

    assert caught.value.exit_code == 3
    assert advice in caught.value.advice


def test_outlook(machine: Callable[..., None]) -> None:
    """Which runners and what they are; or why nothing is tried, with the command that would change it."""
    machine(Fake(NATIVE, LINUX), Fake(ROOTFS, LINUX), Fake(QEMU, ARM, ready=False))

    assert readiness(LINUX, LINUX) == Outlook(names=(NATIVE, ROOTFS), found=("native 1.0", "rootfs 1.0"))
    assert readiness(ARM, LINUX) == Outlook(untested="qemu: nothing there", advice="set up qemu")
    assert readiness(MAC, LINUX) == Outlook(untested="nothing runs programs of darwin-arm64 on this machine")
    assert readiness(LINUX, LINUX, RunnerName.NONE) == Outlook(untested='runner = "none"')
    with pytest.raises(ConfigError):
        readiness(LINUX, LINUX, WINE)


def test_outlook_to_build_in(machine: Callable[..., None]) -> None:
    """A collector asks whether its tools could run there."""
    fake = Fake(QEMU, ARM, ready=False)
    machine(fake)

    assert readiness(ARM, LINUX, purpose=Purpose.BUILD).advice == "set up qemu"
    assert fake.asked[-1][0] is Purpose.BUILD


@pytest.mark.parametrize("target", all_targets(), ids=str)
@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_real_kinds(kind: RunnerKind, target: Target) -> None:
    """Each is found under its name; nothing runs macOS programs elsewhere, and a machine runs its own."""
    assert KINDS[kind.name] is kind
    assert kind.name is NATIVE or not (kind.runs(MAC, LINUX) or kind.runs(MAC, WINDOWS))
    assert kind.runs(target, target) or kind.name is not NATIVE
    assert kind.name is not NATIVE or target == LINUX or not kind.runs(target, LINUX)


def test_a_promise_makes_no_other_machine() -> None:
    """This machine's own target is that whatever floor it was given for."""
    promised = msgspec.structs.replace(LINUX, floor={"glibc": "2.36"})

    assert KINDS[NATIVE].runs(promised, LINUX)
    assert kinds_for(promised, LINUX)[0].name is NATIVE


@pytest.mark.parametrize(
    ("name", "target", "slower"),
    [(NATIVE, LINUX, 1), (ROOTFS, LINUX, 1), (QEMU, ARM, 8), (WINE, WINDOWS, 4), (CONTAINER, LINUX, 2), (CONTAINER, ARM, 8)],
)  # fmt: skip
def test_pace(name: RunnerName, target: Target, slower: float) -> None:
    """Limits are longer where programs are slower, in a container for another processor as well."""
    assert pace(name, target, LINUX) == slower
