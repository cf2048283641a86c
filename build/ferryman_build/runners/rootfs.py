"""Linux programs in another userland: the same processor ("rootfs"), or another one that QEMU plays ("qemu").

Both are one implementation; QEMU only adds that the kernel has to know it (emulation.py). What a program sees is an unpacked
Debian, read-only, and the folders of this machine that it was given, at the same absolute paths (enter.py). It has the
network, /proc and /sys of this machine, and keeps the PID that was started.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from ferryman_build.cmd import Child, Runner
from ferryman_build.errors import ToolMissingError
from ferryman_build.runners import emulation, roots
from ferryman_build.runners.base import Command, Purpose, Readiness
from ferryman_build.runners.roots import Recipe, Root
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Libc, Os, Target, parse_target

_ENTER = Path(__file__).with_name("enter.py")
_PROBE_SECONDS = 20.0
_FINISH_SECONDS = 1800.0
# Folders that every Linux has its own of; what else lies at the top of this machine is somebody's work.
_OWN = frozenset({"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "lost+found", "proc", "run", "sbin",
                  "sys", "usr", "var"})  # fmt: skip
# What the network needs of this machine, for tools that fetch something.
_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
# The standard library without its own tests: compiled once here, since a read-only userland keeps no bytecode.
_COMPILE = ("-m", "compileall", "-q", "-j", "0", "-x", "/(test|tests|idlelib|lib2to3|tkinter|turtledemo)/")


class Entry(msgspec.Struct, frozen=True):
    """How this machine lets us enter a userland: through a user namespace, or as the root that we are."""

    user: bool

    @property
    def facts(self) -> tuple[str, ...]:
        """What a program sees of it."""
        return ("user: root of a user namespace",) if self.user else ()

    def words(self, request: Mapping[str, object]) -> tuple[str, ...]:
        """The words that start enter.py."""
        text = json.dumps({"user": self.user, **request})
        return (sys.executable, "-I", "-S", str(_ENTER), text)


@functools.cache
def entry() -> Entry | None:
    """Found by doing it once; None where neither root's right nor a user namespace is given to us."""
    if sys.platform != "linux":
        return None
    candidates = (Entry(user=False), Entry(user=True)) if os.geteuid() == 0 else (Entry(user=True),)
    return next((one for one in candidates if _works(one)), None)


def _works(one: Entry) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                one.words({"probe": folder}), capture_output=True, check=False, stdin=subprocess.DEVNULL,
                timeout=_PROBE_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0


class Inside:
    """A Place: an unpacked userland with mounts that each program gets for itself."""

    denies = True
    pipes = False

    def __init__(
        self, root: Root, *, purpose: Purpose, top: Path, how: Entry, facts: tuple[str, ...]
    ) -> None:
        """``top`` is an empty folder to build in."""
        recipe = root.recipe
        self.root: Path | None = root.path
        self.label = recipe.suite if recipe.libc is Libc.GNU else f"{recipe.suite}-musl"
        self.facts = facts
        self.python = root.path / "usr/bin/python3" if purpose is Purpose.BUILD else None
        self._top, self._how = top, how
        self._seen = set(_work_folders()) if purpose is Purpose.BUILD else set()
        self._network = purpose is Purpose.BUILD

    def spell(self, path: Path) -> str:
        """The same; only the userland's own files have shorter names inside."""
        assert self.root is not None
        return f"/{path.relative_to(self.root)}" if path.is_relative_to(self.root) else str(path)

    def unspell(self, text: str) -> Path:
        """The same for what was shared; the rest lies below the userland's folder."""
        assert self.root is not None
        path = Path(text)
        if any(path.is_relative_to(folder) for folder in self._seen):
            return path
        return self.root / path.relative_to("/")

    def command(
        self,
        words: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str],
        folders: Sequence[Path] = (),
        shown: Sequence[Path] = (),
        denied: Sequence[Path] = (),
    ) -> Command:
        """See base.Place; what is given is seen by `unspell` from then on."""
        writable = {*self._seen, *folders, cwd}
        network = [Path(name) for name in _NETWORK if self._network and Path(name).exists()]
        self._seen |= {*folders, *shown, cwd}
        request = {
            "root": str(self.root), "top": str(self._top), "writable": sorted(map(str, writable)),
            "shown": sorted(str(path) for path in {*shown, *network} - writable),
            "denied": sorted(map(str, denied)), "cwd": str(cwd),
            "words": [self.spell(word) if isinstance(word, Path) else word for word in words],
        }  # fmt: skip
        return Command(words=self._how.words(request), env=dict(env), cwd=cwd)

    def stop(self, child: Child) -> None:
        """SIGTERM; the process that was started is the program."""
        child.send_signal(signal.SIGTERM)


def _work_folders() -> list[Path]:
    return [path for path in Path("/").iterdir() if path.is_dir() and path.name not in _OWN]


class _InUserland:
    """What both kinds share; the name of the kind is that of its store."""

    name: ClassVar[RunnerName]

    def runs(self, target: Target, host: Target) -> bool:
        """Whether Debian has such a machine, and this one could play it."""
        linux = target.os is Os.LINUX and host.os is Os.LINUX
        return linux and bool(roots.recipes(target, Purpose.TRY, {})) and self._plays(target, host)

    def _plays(self, target: Target, host: Target) -> bool:
        raise NotImplementedError

    def _processor(self, target: Target) -> Readiness:
        """Whether programs of the target's processor start."""
        raise NotImplementedError

    def _install(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        """Get what :meth:`_processor` asks for."""
        raise NotImplementedError

    def ready(self, target: Target, purpose: Purpose, floor: Mapping[str, str]) -> Readiness:
        """The oldest userland that was set up and has what ``floor`` promises."""
        wanted = roots.recipes(target, purpose, floor)
        if not wanted:
            return Readiness(ready=False, found=_no_userland(target, purpose, floor))
        if not (processor := self._processor(target)).ready:
            return processor
        if entry() is None:
            return Readiness(ready=False, found="this user may make no namespaces", advice=_RIGHTS)
        root = self._root(target, purpose, floor)
        if root is None:
            return Readiness(
                ready=False, found="no userland is set up", advice=_setup(self.name, target, floor)
            )
        found = ", ".join(text for text in (processor.found, root.recipe.title) if text)
        return Readiness(ready=True, found=found)

    def _root(self, target: Target, purpose: Purpose, floor: Mapping[str, str]) -> Root | None:
        found = (roots.find(self.name, recipe) for recipe in roots.recipes(target, purpose, floor))
        return next((root for root in found if root), None)

    def setup(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        """Userlands to try in and to build in, of the oldest releases that keep the floor of ``target``.

        Raises:
            ToolMissingError: see roots.make and emulation.install.
            SpaceError: the disk is full.
        """
        self._install(target, runner, say)
        if os.geteuid() == 0 and roots.tool("mmdebstrap") is None and roots.tool("apt-get"):
            emulation.apt_install(("mmdebstrap",), runner, say)
        for purpose in Purpose:
            wanted = roots.recipes(target, purpose, target.floor)
            if wanted:
                self._set_up(roots.offered(wanted, runner), runner, say)
            else:
                say(_no_userland(target, purpose, target.floor))

    def _set_up(self, recipe: Recipe, runner: Runner, say: Callable[[str], None]) -> None:
        old = roots.find(self.name, recipe)
        if old is not None and roots.is_whole(old):
            say(f"{recipe.title}, to {recipe.purpose}: is there")
            return
        say(f"{recipe.title}, to {recipe.purpose}: unpacking packages of {recipe.machine.debian}")
        roots.make(recipe, self.name, runner, functools.partial(_finish, runner))

    @contextlib.contextmanager
    def open(
        self, target: Target, purpose: Purpose, floor: Mapping[str, str], work: Path, runner: Runner
    ) -> Iterator[Inside]:
        """See base.RunnerKind; a userland that is damaged is unpacked again first."""
        ready = self.ready(target, purpose, floor)
        root, how = self._root(target, purpose, floor), entry()
        if not ready.ready or root is None or how is None:
            raise ToolMissingError(
                f"Programs of {target} cannot be run through {self.name}: {ready.found}.", advice=ready.advice
            )
        if not roots.is_whole(root):
            roots.renew(root, functools.partial(_finish, runner))
        top = work / "userland"
        top.mkdir(parents=True, exist_ok=True)
        facts = (_userland_fact(root.recipe, roots.promise(target, floor)), *self._facts(target), *how.facts)
        yield Inside(root, purpose=purpose, top=top.resolve(), how=how, facts=facts)

    def _facts(self, target: Target) -> tuple[str, ...]:
        raise NotImplementedError


class Rootfs(_InUserland):
    """Another userland on the same processor: a clean one, an older one, or one with musl."""

    name = RunnerName.ROOTFS

    def _plays(self, target: Target, host: Target) -> bool:
        return target.arch == host.arch

    def _processor(self, target: Target) -> Readiness:
        return Readiness(ready=True)

    def _install(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        """Nothing."""

    def _facts(self, target: Target) -> tuple[str, ...]:
        return ()


class Qemu(_InUserland):
    """A userland of another processor, under QEMU's user mode."""

    name = RunnerName.QEMU

    def _plays(self, target: Target, host: Target) -> bool:
        return target.arch != host.arch

    def _processor(self, target: Target) -> Readiness:
        machine = roots.userlands().machine[target.arch]
        found = emulation.emulator(machine)
        if found.problem:
            return Readiness(ready=False, found=found.problem, advice=_setup(self.name, target, target.floor))
        return Readiness(ready=True, found=f"qemu-{machine.qemu}")

    def _install(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        emulation.install(roots.userlands().machine[target.arch], runner, say)

    def _facts(self, target: Target) -> tuple[str, ...]:
        machine = roots.userlands().machine[target.arch]
        return (f"processor: {machine.qemu}, played by {emulation.version(emulation.emulator(machine))}",)


_RIGHTS = "Run as root, or let users make user namespaces (sysctl user.max_user_namespaces, and AppArmor on Ubuntu)."


def _setup(name: RunnerName, target: Target, floor: Mapping[str, str]) -> str:
    """The command; it names the promise where that is not the row's own, which would bring another userland."""
    least, usual = (roots.promise(target, one) for one in (floor, parse_target(target.id).floor))
    more = (
        f' --floor "{"musl" if target.libc is Libc.MUSL else "glibc"} {least}"'
        if least not in ("", usual)
        else ""
    )
    return f"ferryman runners setup {name} --target {target}{more}"


def _no_userland(target: Target, purpose: Purpose, floor: Mapping[str, str]) -> str:
    """Why there can be none to ``purpose`` in."""
    least = roots.promise(target, floor)
    kind = f"{target.libc or ''} {target.arch}".strip()
    return f"Debian has no userland to {purpose} {kind} programs in" + (
        f" with {least} or newer" if least else ""
    )


def _userland_fact(recipe: Recipe, promised: str) -> str:
    same = promised in ("", recipe.release.version(recipe.libc))
    return f"userland: {recipe.title}" + ("" if same else f" (the promise is {promised})")


def _finish(runner: Runner, top: Path, recipe: Recipe) -> None:
    """Programs of the userland do what its packages leave to their configuration: the library cache, bytecode."""
    if recipe.purpose is not Purpose.BUILD:
        return
    library = f"/usr/lib/python{recipe.release.python}"
    _run_inside(runner, top, ["/sbin/ldconfig"])
    _run_inside(runner, top, ["/usr/bin/python3", *_COMPILE, library])


def _run_inside(runner: Runner, top: Path, words: Sequence[str]) -> None:
    how = entry()
    if how is None:
        raise ToolMissingError("A userland to build in is finished by its own programs.", advice=_RIGHTS)
    with tempfile.TemporaryDirectory() as folder:
        request = {"root": str(top), "top": folder, "writable": [], "shown": [], "denied": ["/tmp"],  # noqa: S108
                   "cwd": "/", "words": list(words), "open": True}  # fmt: skip
        runner.run(
            how.words(request), name=f"userland-{Path(words[0]).name}", cwd=top, timeout=_FINISH_SECONDS,
            env={"PATH": "/usr/sbin:/usr/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
