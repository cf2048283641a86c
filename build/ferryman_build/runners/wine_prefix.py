r"""Wine's drive C:, registry and settings: a prefix that is made once, and copies of it that are fresh and cost nothing.

    <home>/runners/wine/<version>         the template: made by `ferryman runners setup wine`, never run in
    <home>/runners/wine/<version>.state   what every file of it looked like then

A copy shares Wine's own libraries with the template (hard links) and has registry and user folders of its own, so that it
is there in a few hundredths of a second. Whoever writes into a shared library in place changes the template: that is seen
by its time and size, and the template is made anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from ferryman_build import homes
from ferryman_build.checkout import NO_SPACE
from ferryman_build.cmd import Child, Runner, end_group
from ferryman_build.errors import SpaceError, ToolMissingError

ADVICE = "Install it (Debian: apt-get install wine wine64), then run `ferryman runners setup wine`."
SETUP = "ferryman runners setup wine"
_NEEDED_BYTES = 1_500_000_000  # a draft takes half of it
_BOOT_SECONDS = 300.0
_START_SECONDS = 60.0
_SOCKET_SECONDS = 10.0
_END_SECONDS = 10.0

# What Wine shares between copies: code and fonts, which programs map and do not write.
_SHARED = re.compile(
    r"(?i).*\.(dll|exe|drv|sys|com|ocx|acm|ax|cpl|ds|tlb|nls|ttf|fon|msstyles|vxd|mui|winmd)"
)
# Windows 10 in name; and TEMP and TMP are those that a program is started with, not those of the registry.
_REGISTRY = r"""Windows Registry Editor Version 5.00

[HKEY_CURRENT_USER\Software\Wine]
"Version"="win10"

[HKEY_CURRENT_USER\Environment]
"TEMP"=-
"TMP"=-

[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Control\Session Manager\Environment]
"TEMP"=-
"TMP"=-
"""
# Each boot of a prefix writes APPDATA, LOCALAPPDATA and USERPROFILE there, and they would win over a program's own.
_PROFILE = r"HKCU\Volatile Environment"
# Variables of Unix that Wine keeps from Windows programs, unless they come with this prefix.
_RENAMED = ("PATH", "TEMP", "TMP", "HOME", "PWD")
# And this one tells Wine where its server's socket is; Windows programs read TEMP.
_OURS = ("TMPDIR",)
# Drives as Windows programs spell them, also behind the prefix for long paths.
_SPELLED = re.compile(r"(?:[\\/]{2}\?[\\/]|\\\?\?\\)?([A-Za-z]):[\\/](.*)", re.DOTALL)


class Tools:
    """Wine's programs on this machine.

    Raises:
        ToolMissingError: there is no Wine.
    """

    def __init__(self) -> None:
        self.wine = shutil.which("wine") or shutil.which("wine64") or ""
        self.server = shutil.which("wineserver") or ""
        if not (self.wine and self.server):
            raise ToolMissingError("Wine is not installed.", advice=ADVICE)

    def version(self, runner: Runner) -> str:
        """As Wine says it: "wine-8.0 (Debian 8.0~repack-4)"."""
        asked = runner.run([self.wine, "--version"], name="wine-version", failure=ToolMissingError, timeout=30,
                           env=_base_environment(), advice=ADVICE)  # fmt: skip
        return asked.output.strip().splitlines()[-1]


def _base_environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "WINEDEBUG": "-all", "WINEARCH": "win64"}


@dataclass(frozen=True)
class Prefix:
    """A folder with Wine's drive C: and registry in it."""

    path: Path

    @property
    def drive(self) -> Path:
        """C: as this machine sees it."""
        return self.path / "drive_c"

    def environment(
        self, program: Mapping[str, str] | None = None, *, home: str = "services"
    ) -> dict[str, str]:
        """Variables of Wine itself, and those of a Windows program under the names by which Wine lets them through.

        ``home`` is a folder of the prefix: programs have another one than Wine's services, so that what a program leaves
        running can be told from them.
        """
        folder = self.path / "homes" / home
        folder.mkdir(parents=True, exist_ok=True)
        wine = {
            **_base_environment(), "WINEPREFIX": str(self.path), "HOME": str(folder),
            "WINEDLLOVERRIDES": "winemenubuilder.exe=d",
        }  # fmt: skip
        given = {
            f"WINE{name}" if name.upper() in _RENAMED else name: value
            for name, value in (program or {}).items()
            if name.upper() not in _OURS
        }
        return {**given, **wine}

    def spell(self, path: Path) -> str:
        r"""C:\… for what lies on the drive, Z:\… for everything else."""
        whole = path.absolute()
        if whole.is_relative_to(self.drive):
            return str(PureWindowsPath("C:\\", *whole.relative_to(self.drive).parts))
        return str(PureWindowsPath("Z:\\", *whole.parts[1:]))

    def unspell(self, text: str) -> Path:
        """The path on this machine; letters as the files have them, where a program has changed their case.

        Raises:
            ValueError: it is no absolute path on C: or Z:.
        """
        found = _SPELLED.fullmatch(text)
        if found is None or found[1].upper() not in "CZ":
            raise ValueError(f"{text!r} is no path on C: or Z:")
        parts = PureWindowsPath(found[2]).parts
        start = self.drive if found[1].upper() == "C" else Path("/")
        exact = start.joinpath(*parts)
        return exact if os.path.lexists(exact) else _as_it_is(start, parts)


def _as_it_is(start: Path, parts: tuple[str, ...]) -> Path:
    """The path whose names differ from ``parts`` in the case of letters alone, as far as there is one."""
    place = start
    for part in parts:
        following = place / part
        if not os.path.lexists(following):
            with contextlib.suppress(OSError):
                names = [name for name in os.listdir(place) if name.lower() == part.lower()]  # noqa: PTH208 - names only
                following = place / min(names, default=part)
        place = following
    return place


# --- the template -----------------------------------------------------------------------------------------------------


def template(version: str) -> Path:
    """Where the template of this version of Wine is, or would be."""
    return folder() / re.sub(r"[^A-Za-z0-9.+~-]+", "-", version).strip("-")


def folder() -> Path:
    """What all of Wine's runner is below."""
    return homes.home() / "runners" / "wine"


def intact(made: Path) -> bool:
    """Whether the template is there and every file of it as it was when it was made."""
    try:
        return _state_file(made).read_text(encoding="ascii") == _state(made)
    except (OSError, UnicodeDecodeError):
        return False


def _state_file(made: Path) -> Path:
    return made.with_name(f"{made.name}.state")


def _state(made: Path) -> str:
    """A digest over name, size and time of every file."""
    lines = []
    for path in sorted(_walk(made)):
        status = path.lstat()
        lines.append(f"{path.relative_to(made)}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_mode}")
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _walk(made: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(made):
        yield from (Path(here, name) for name in files)
        yield from (path for name in folders if (path := Path(here, name)).is_symlink())


def ensure_template(tools: Tools, runner: Runner, say: Callable[[str], None]) -> Path:
    """The template of the installed Wine, made where it is missing or damaged.

    Raises:
        ToolMissingError: Wine cannot make one.
        SpaceError: the disk is full.
    """
    made = template(tools.version(runner))
    with _alone():
        if not intact(made):
            say(f"making a prefix for {made.name}; this takes some seconds and 700 MB")
            _make_template(made, tools, runner)
    return made


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Nobody else makes the template meanwhile."""
    import fcntl

    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_template(made: Path, tools: Tools, runner: Runner) -> None:
    if shutil.disk_usage(made.parent).free < _NEEDED_BYTES:
        raise _full(made)
    draft = made.with_name(f".draft-{made.name}-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        _fill(Prefix(draft), tools, runner)
        _state_file(made).unlink(missing_ok=True)
        shutil.rmtree(made, ignore_errors=True)
        draft.rename(made)
        _state_file(made).write_text(_state(made), encoding="ascii")
    except OSError as error:
        if error.errno in NO_SPACE:
            raise _full(made) from error
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill(prefix: Prefix, tools: Tools, runner: Runner) -> None:
    settings = prefix.path / "settings.reg"
    settings.write_text(_REGISTRY, encoding="ascii")
    with served(prefix, tools, runner, first=("wineboot", "-i"), seconds=_BOOT_SECONDS):
        runner.run([tools.wine, "regedit", "/S", prefix.spell(settings)], name="wine-regedit", cwd=prefix.path,
                   env=prefix.environment(), timeout=_START_SECONDS, failure=ToolMissingError, advice=ADVICE)  # fmt: skip
    settings.unlink()
    shutil.rmtree(prefix.path / "homes", ignore_errors=True)
    # Debian's Wine keeps the name of its server's folder there.
    (prefix.path / "wineserver").unlink(missing_ok=True)
    registry = prefix.path / "user.reg"
    if not registry.is_file() or '"Version"="win10"' not in registry.read_text(
        encoding="utf-8", errors="replace"
    ):
        raise ToolMissingError(
            "Wine made a prefix that does not work.", advice=f"See what `wineboot` says. {ADVICE}"
        )
    _own_folders(prefix.drive / "users")


def _own_folders(users: Path) -> None:
    """Plain folders where Wine has made links to the user's own Documents, Desktop and so on."""
    for path in users.glob("*/*"):
        if path.is_symlink():
            path.unlink()
            path.mkdir()


def _full(made: Path) -> SpaceError:
    return SpaceError(
        f"A prefix of Wine takes 700 MB, and {made.parent} has not enough space for making one.",
        advice="Free some space, or name another folder with FERRYMAN_HOME.",
    )


# --- copies -----------------------------------------------------------------------------------------------------------


def fresh_copy(made: Path, into: Path) -> Prefix:
    """A prefix in the new folder ``into`` that nobody has used.

    Raises:
        SpaceError: the disk is full.
    """
    try:
        shutil.copytree(made, into, symlinks=True, copy_function=_share)
    except shutil.Error as error:  # one line for each file; the first says why
        raise _copy_failed(into, "; ".join(str(row[2]) for row in error.args[0][:1])) from error
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise _copy_failed(into, str(error)) from error
    return Prefix(into)


def _copy_failed(into: Path, why: str) -> SpaceError:
    return SpaceError(
        f"A fresh prefix of Wine could not be made in {into.parent}: {why}.",
        advice="Free some space, or name another folder with --out.",
    )


def _share(source: str, target: str) -> str:
    """A hard link; a symbolic one where the copy lies on another disk; a copy of what programs change."""
    if not _SHARED.fullmatch(source):
        return str(shutil.copy2(source, target, follow_symlinks=False))
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        Path(target).symlink_to(source)
    return target


# --- running ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(
    prefix: Prefix, tools: Tools, runner: Runner, first: tuple[str, ...] = ("reg", "delete", _PROFILE, "/f"),
    seconds: float = _START_SECONDS,
) -> Iterator[None]:  # fmt: skip
    """Wine's services run, and end with everything that was started in the prefix.

    The server stays although no program is there, so that only the first one waits for the services to start. They
    inherit the streams of that one, and whoever waits for the end of its output would wait for them: it has none.

    Raises:
        ToolMissingError: the first program does not end, or cannot be started.
    """
    how: dict[str, Any] = {"cwd": prefix.path, "env": prefix.environment(), "output": subprocess.DEVNULL}
    try:
        server = runner.start([tools.server, "--foreground", "--persistent"], **how)
    except OSError as error:
        raise ToolMissingError(
            f"{tools.server} cannot be started: {error.strerror}.", advice=ADVICE
        ) from error
    place: Path | None = None
    try:
        place = _await_socket(server)
        _boot([tools.wine, *first], seconds, runner, how)
        yield
    finally:
        _end(server)
        runner.forget(server)
        _tidy(place)


def _boot(words: list[str], seconds: float, runner: Runner, how: Mapping[str, Any]) -> None:
    booted = runner.start(words, **how)
    try:
        booted.wait(
            seconds
        )  # its group is let alone then: what it has started for the services may still be at work
    except subprocess.TimeoutExpired:
        end_group(booted)
        raise ToolMissingError(
            f"Wine did not start within {seconds:g} s.", advice=f"Try `wine cmd /c ver`. {ADVICE}"
        ) from None
    finally:
        runner.forget(booted)


def _await_socket(server: Child) -> Path | None:
    """The server's own folder, once its socket is in it: a program that came earlier would start another server."""
    deadline = time.monotonic() + _SOCKET_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            place = Path(f"/proc/{server.pid}/cwd").readlink()
            if (place / "socket").exists():
                return place
        time.sleep(0.01)
    return None


def _end(server: Child) -> None:
    """SIGINT makes the server kill every process of its prefix, write the registry and end."""
    with contextlib.suppress(ProcessLookupError):
        server.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(_END_SECONDS)
    end_group(server)


def _tidy(place: Path | None) -> None:
    """The server leaves the folder of its socket behind: server-DEVICE-INODE in one of the user."""
    if place and place.name.startswith("server-"):
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):  # other servers have theirs in it
            place.parent.rmdir()
