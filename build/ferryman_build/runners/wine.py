"""The Wine runner: Windows programs on Linux, each time in a prefix that nobody has used.

Wine is no Windows: what runs here is likely to run there, and nothing more (docs/windows.md, docs/foreign.md). Never is
the user's own ~/.wine looked at or changed.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from ferryman_build.cmd import Child, Runner
from ferryman_build.errors import ToolMissingError
from ferryman_build.runners import wine_prefix
from ferryman_build.runners.base import Command, Purpose, Readiness
from ferryman_build.runners.wine_prefix import Prefix, Tools
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Os, Target

# What every Windows program has; the place adds it where the caller does not say otherwise.
_SYSTEM = {"SYSTEMROOT": r"C:\windows", "WINDIR": r"C:\windows"}
_PROGRAMS = "programs"  # the HOME that tells programs from services
# Parts of Wine that a program starts by its mere being there.
_SERVICES = frozenset({"services.exe", "winedevice.exe", "plugplay.exe", "svchost.exe", "rpcss.exe", "explorer.exe",
                       "conhost.exe"})  # fmt: skip


class WineRunner:
    """Runs programs of windows-amd64 on an amd64 Linux.

    ``python_root`` is a folder with a CPython for Windows (python.exe, DLLs, Lib), for :attr:`Purpose.BUILD`; without
    it, the newest of ``<home>/runners/wine/python-X.Y``.
    """

    name: ClassVar[RunnerName] = RunnerName.WINE

    def __init__(self, python_root: Path | None = None) -> None:
        self.python_root = python_root

    def runs(self, target: Target, host: Target) -> bool:
        return (target.os, target.arch, host.os, host.arch) == (Os.WINDOWS, "amd64", Os.LINUX, "amd64")

    def ready(self, target: Target, purpose: Purpose, floor: Mapping[str, str]) -> Readiness:
        del target, floor
        try:
            version = Tools().version(Runner())
        except ToolMissingError as error:
            return Readiness(ready=False, found=str(error).rstrip("."), advice=error.advice.rstrip("."))
        if not wine_prefix.template(version).is_dir():
            return Readiness(ready=False, found=version, advice=wine_prefix.SETUP)
        found = f"{version}, as Windows 10"
        if purpose is Purpose.TRY:
            return Readiness(ready=True, found=found)
        python = self._python()
        if python is None:
            return Readiness(ready=False, found=version, advice=_no_python())
        return Readiness(ready=True, found=f"{found}, Python in {python}")

    def setup(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        del target
        say(f"prefix: {wine_prefix.ensure_template(Tools(), runner, say)}")

    @contextmanager
    def open(
        self, target: Target, purpose: Purpose, floor: Mapping[str, str], work: Path, runner: Runner
    ) -> Iterator[WinePlace]:
        ready = self.ready(target, purpose, floor)
        if not ready.ready:
            raise ToolMissingError(f"Wine cannot run programs of {target} here yet.", advice=ready.advice)
        tools = Tools()
        template = wine_prefix.ensure_template(
            tools, runner, lambda _: None
        )  # set up once; it may be damaged since
        work.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix="wine-", dir=work))
        try:
            prefix = wine_prefix.fresh_copy(template, holder / "prefix")
            with wine_prefix.served(prefix, tools, runner):
                python = self._python() if purpose is Purpose.BUILD else None
                yield WinePlace(prefix, tools, python and python / "python.exe", ready.found)
        finally:
            shutil.rmtree(holder, ignore_errors=True)

    def _python(self) -> Path | None:
        found = (
            [self.python_root]
            if self.python_root
            else sorted(wine_prefix.folder().glob("python-*"), key=_release)
        )
        return next((path for path in reversed(found) if (path / "python.exe").is_file()), None)


def _release(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.name.partition("-")[2].split(".") if part.isdigit())


def _no_python() -> str:
    return (
        "Name a CPython for Windows with `runtime` in [tool.ferryman.target.windows-amd64], or put one at "
        f"{wine_prefix.folder() / 'python-X.Y'}"
    )


class WinePlace:
    r"""A fresh prefix whose services run. What is asked of it is told by :class:`~ferryman_build.runners.base.Place`.

    ``user`` is the folder of its user on this machine, C:\users\NAME.
    """

    label = "wine"
    denies = False
    pipes = True

    def __init__(self, prefix: Prefix, tools: Tools, python: Path | None, found: str) -> None:
        self.prefix = prefix
        self.python: Path | None = python
        self.root: Path | None = prefix.path
        self.facts: tuple[str, ...] = (f"system: {found}", "drive C: fresh", "drive Z: this machine")
        self._tools = tools

    @property
    def user(self) -> Path:
        r"""C:\users\NAME, as this machine sees it."""
        users = self.prefix.drive / "users"
        return next(path for path in sorted(users.iterdir()) if path.name != "Public")

    def spell(self, path: Path) -> str:
        return self.prefix.spell(path)

    def unspell(self, text: str) -> Path:
        return self.prefix.unspell(text)

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
        """Drive Z: shows all ``folders``; nothing can be ``denied``, because the server opens files for its programs."""
        del folders, shown, denied
        known = {name.upper() for name in env}
        user = self.spell(self.user)
        usual = {**_SYSTEM, "USERPROFILE": user, "APPDATA": rf"{user}\AppData\Roaming", "TEMP": rf"{user}\Temp",
                 "TMP": rf"{user}\Temp", "LOCALAPPDATA": rf"{user}\AppData\Local"}  # fmt: skip
        program = {**{name: value for name, value in usual.items() if name not in known}, **env}
        spelled = (self.spell(word) if isinstance(word, Path) else word for word in words)
        return Command(
            words=(self._tools.wine, *spelled), env=self.prefix.environment(program, home=_PROGRAMS), cwd=cwd
        )

    def stop(self, child: Child) -> None:
        """SIGINT, which Wine turns into Ctrl-C; a Windows program without a console is stopped in no other way."""
        child.send_signal(signal.SIGINT)

    def leftovers(self) -> list[str]:
        """Programs of this prefix that run now, as ``name (pid)``, without Wine's own services."""
        return [f"{name} ({pid})" for pid, name in self._processes() if name not in _SERVICES]

    def _processes(self) -> Iterator[tuple[int, str]]:
        wanted = b"HOME=" + os.fsencode(self.prefix.environment(home=_PROGRAMS)["HOME"])
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # gone, or somebody else's
            if wanted in variables and words[0]:
                yield int(folder.name), os.fsdecode(words[0]).replace("\\", "/").rpartition("/")[2].lower()
