"""Other circumstances for the same build: what differs on the second machine, as far as one machine can show it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ferryman_build import __file__ as package
from ferryman_build.cmd import PASSED_THROUGH, Runner
from ferryman_build.homes import home
from ferryman_build.source import source_files

# An offset that no zone has, in the form that needs no table of zones (POSIX, "TZ"): 13 h 45 min east.
TIME_ZONE = "XYZ-13:45"
HASH_SEED = "4242"
UMASK = "077"
_USERS = (4242, 4243)
# Of the first build's cache: the resolution, and what was fetched and checked by signature. Runtimes, zig and what zig compiles of
# its own (C start files, system libraries) lie in FERRYMAN_HOME, which both builds have.
KEPT_CACHES = ("index", "libpython", "headers")
# Where the second build has others: the first one's would take it back to where that was.
_OTHER_HERE = ("HOME", "USER", "LOGNAME", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


class Circumstance(msgspec.Struct, frozen=True):
    """What is varied, and to which value; ``varied`` false: ``value`` is the reason why it is not."""

    name: str
    value: str
    varied: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.value}" if self.varied else f"{self.name} not varied: {self.value}"


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """A place for the second build.

    ``prefix`` are the words that give it another user, ``processors`` 0 is all of them.
    """

    root: Path
    prefix: tuple[str, ...]
    processors: int
    locale: str
    circumstances: tuple[Circumstance, ...]

    @property
    def source(self) -> Path:
        """Folder of the copied checkout; the space is on purpose."""
        return self.root / "else where" / "a copy"

    @property
    def tool(self) -> Path:
        """Folder on PYTHONPATH with the copied Ferryman."""
        return self.root / "tool"

    @property
    def out(self) -> Path:
        return self.root / "o"

    @property
    def dist(self) -> Path:
        return self.root / "products"

    def environment(self, given: Mapping[str, str], epoch: int) -> dict[str, str]:
        """Of the second build: what reaches the index and the settings is the first one's, all else is another's."""
        kept = {
            name: value
            for name, value in given.items()
            if (name in PASSED_THROUGH and name not in _OTHER_HERE) or name.startswith("FERRYMAN_")
        }
        folders = {name: str(self.root / name.lower()) for name in ("HOME", "TMPDIR")}
        for folder in folders.values():
            Path(folder).mkdir(exist_ok=True)
        return {
            **kept, **folders, "PYTHONPATH": str(self.tool), "FERRYMAN_HOME": str(home()), "TZ": TIME_ZONE,
            "LC_ALL": self.locale, "PYTHONHASHSEED": HASH_SEED, "PYTHONDONTWRITEBYTECODE": "1",
            "SOURCE_DATE_EPOCH": str(epoch), "USER": "somebody", "LOGNAME": "somebody",
        }  # fmt: skip

    def command(self, words: list[str]) -> list[str]:
        """`ferryman WORDS` in it."""
        again = [sys.executable, "-m", "ferryman_build.reproduce.again", UMASK, str(self.processors)]
        return [*self.prefix, *again, *words]


def make_elsewhere(root: Path) -> Elsewhere:
    """What this machine can vary, with ``root`` as the new place."""
    prefix, user = _other_user()
    processors, workers = _fewer_processors()
    locale, language = _other_locale()
    listed = (
        Circumstance("path", str(root)), user, Circumstance("umask", UMASK), Circumstance("time zone", TIME_ZONE),
        language, Circumstance("hash seed", HASH_SEED), Circumstance("HOME and TMPDIR", "new and empty"), workers,
        Circumstance("files", "written in reverse order, dated now"),
        Circumstance("caches", f"new, but for {', '.join(KEPT_CACHES)} and FERRYMAN_HOME"),
    )  # fmt: skip
    return Elsewhere(root=root, prefix=prefix, processors=processors, locale=locale, circumstances=listed)


def _other_user() -> tuple[tuple[str, ...], Circumstance]:
    """In a user namespace the process has another number for its user, and no rights that it did not have."""
    unshare = shutil.which("unshare")
    if sys.platform != "linux" or unshare is None:
        return (), Circumstance("user", "there is no unshare(1)", varied=False)
    number = next(user for user in _USERS if user != os.getuid())
    prefix = (unshare, "--user", f"--map-user={number}", f"--map-group={number}")
    tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        reason = tried.stderr.strip() or "this machine allows no user namespaces"
        return (), Circumstance("user", reason, varied=False)
    return prefix, Circumstance("user", f"{number} instead of {os.getuid()}")


def _fewer_processors() -> tuple[int, Circumstance]:
    have = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    if have == 1:
        return 0, Circumstance("processors", "only one to be had, or not to be limited here", varied=False)
    return 1, Circumstance("processors", f"1 instead of {have}")


def _other_locale() -> tuple[str, Circumstance]:
    """One of another language where there is one; else the one of C and C.UTF-8 that is not used now."""
    now = os.environ.get("LC_ALL") or os.environ.get("LANG") or "C"
    listed: list[str] = []
    if program := shutil.which("locale"):
        done = subprocess.run([program, "-a"], capture_output=True, text=True, check=False)
        listed = [name for name in done.stdout.split() if "_" in name and not now.startswith(name[:5])]
    other = min(listed) if listed else ("C" if "utf" in now.lower() else "C.UTF-8")
    return other, Circumstance("locale", f"{other} instead of {now}")


# --- copies -----------------------------------------------------------------------------------------------------------


def copy_source(root: Path, place: Path, runner: Runner) -> Path:
    """Copy the checkout that the project ``root`` lies in to ``place``; the project's folder there.

    With git the copy is a clone with the working tree's files over it: whatever asks git for a version gets the same answer.
    Without git it is the files alone.
    """
    top = _top(root)
    place.parent.mkdir(parents=True, exist_ok=True)
    git = shutil.which("git") if (top / ".git").exists() else None
    if git:
        runner.run([git, "clone", "--quiet", "--shared", "--no-checkout", top, place], name="clone")
    place.mkdir(exist_ok=True)
    copy_files(top, source_files(top), place)
    if git:
        runner.run([git, "-C", place, "reset", "--quiet", "--mixed"], name="index")
    return place / root.relative_to(top)


def _top(root: Path) -> Path:
    return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)


def copy_files(top: Path, files: list[Path], place: Path) -> None:
    """The files in reverse order of their names, for their owner alone, with the date of now."""
    for path in sorted(files, reverse=True):
        copied = place / path.relative_to(top)
        copied.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            copied.symlink_to(path.readlink())
            continue
        copied.write_bytes(path.read_bytes())
        copied.chmod(0o700 if path.stat().st_mode & 0o100 else 0o600)


def copy_tool(place: Path) -> None:
    """Ferryman itself, so that its own path is another one as well."""
    source = Path(package).parent
    files = [
        path
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    ]
    copy_files(source.parent, files, place)


def copy_caches(first: Path, second: Path) -> None:
    """:data:`KEPT_CACHES`, where the first build has them."""
    for name in KEPT_CACHES:
        if (first / name).is_dir():
            shutil.copytree(first / name, second / name, symlinks=True)
