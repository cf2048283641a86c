"""The environment of a smoke run: what a fresh machine has, and nothing of the machine that built the program.

Each run gets a folder of its own with an empty home, an empty folder as PATH, an empty working directory and no
variable of ours. The temporary folders are read-only and noexec where the place can do that. All of it is told to the
program in the place's own spelling.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ferryman_build.runners.base import Command, Place
from ferryman_build.runners.native import Here, shared_tmp
from ferryman_build.targets import Os


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """The folders of one run, and the place that the program is started in.

    ``scratch`` is the one folder outside of home that the program may write to; it fills ``{tmp}``.
    """

    home: Path
    cwd: Path
    tmp: Path
    scratch: Path
    env: dict[str, str]
    folders: tuple[Path, ...]
    shown: tuple[Path, ...]
    denied: tuple[Path, ...]
    facts: tuple[str, ...]
    place: Place

    def command(self, program: Sequence[str | Path]) -> Command:
        """What starts ``program`` in this sandbox."""
        return self.place.command(
            program, cwd=self.cwd, env=self.env, folders=self.folders, shown=self.shown, denied=self.denied
        )

    @staticmethod
    def written(folder: Path) -> list[str]:
        """Names of what the run left in ``folder``, a slash behind those of folders."""
        return sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())


def make_sandbox(
    base: Path,
    *,
    place: Place,
    system: Os = Os.LINUX,
    keep: Iterable[Path] = (),
    shown: Iterable[Path] = (),
    needs_exec_tmp: bool = False,
    more: Mapping[str, str] | None = None,
) -> Sandbox:
    """Folders for one run, in the new folder ``base``.

    Args:
        base: absolute path of a folder that does not exist yet.
        place: where the program will run.
        system: of the target; Windows programs are told their folders by other variables.
        keep: further folders that the program may use.
        shown: folders that it must see and need not write to.
        needs_exec_tmp: give the program a writable, executable TMPDIR (PyInstaller's one-file unpacks into it).
        more: further variables, spelled already.
    """
    base.mkdir(parents=True)
    base = base.resolve()
    home, cwd, tmp, scratch, path = (base / name for name in ("home", "cwd", "tmp", "scratch", "path"))
    for folder in (home, cwd, tmp, scratch, path):
        folder.mkdir()
    if not place.denies and not needs_exec_tmp and system is not Os.WINDOWS:
        tmp.chmod(0o555)
    names = {"HOME": home, "PATH": path, "TMPDIR": tmp}
    if system is Os.WINDOWS:
        names |= {"USERPROFILE": home, "APPDATA": home, "LOCALAPPDATA": home, "TEMP": tmp, "TMP": tmp}
    env = {name: place.spell(folder) for name, folder in names.items()} | {"LC_ALL": "C.UTF-8"}
    return Sandbox(
        home=home, cwd=cwd, tmp=tmp, scratch=scratch, env={**env, **_system_variables(), **(more or {})}, place=place,
        folders=(*(folder.resolve() for folder in keep), home, cwd, tmp, scratch, path),
        shown=tuple(folder.resolve() for folder in shown),
        denied=(*shared_tmp(), *(() if needs_exec_tmp else (tmp,))),
        facts=_facts(place, system, needs_exec_tmp=needs_exec_tmp, more=more or {}),
    )  # fmt: skip


def _system_variables() -> dict[str, str]:
    """Without SYSTEMROOT, Windows cannot even open a socket."""
    return {"SYSTEMROOT": os.environ["SYSTEMROOT"]} if os.name == "nt" else {}


def cache_folder(base: Path) -> Path:
    """A new folder in which a program will keep a cache: it trusts no folder that other users can write to or exchange.

    That is ``base``/cache, or a folder of the system's temporary one where out/ belongs to a group that may write.
    """
    writable = [
        path for path in (base, *base.parents) if path.stat().st_mode & 0o022 and not _is_sticky(path)
    ]
    if writable and os.name != "nt":
        return Path(tempfile.mkdtemp(prefix="ferryman-smoke-")).resolve()
    (base / "cache").mkdir(mode=0o700)
    return base / "cache"


def _is_sticky(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_ISVTX)


def _facts(place: Place, system: Os, *, needs_exec_tmp: bool, more: Iterable[str]) -> tuple[str, ...]:
    return (
        "home: empty",
        "path: empty",
        f"variables: only {', '.join((*more, 'HOME', 'LC_ALL', 'PATH'))} and TMPDIR{_windows(system)}",
        _tmp_fact(place, system, needs_exec_tmp=needs_exec_tmp),
        *place.facts,
    )


def _windows(system: Os) -> str:
    return ", beside those that Windows needs" if system is Os.WINDOWS else ""


def _tmp_fact(place: Place, system: Os, *, needs_exec_tmp: bool) -> str:
    if needs_exec_tmp:
        return "tmp: writable, executable (this bundle needs it)"
    if place.denies:
        return "tmp: read-only, noexec"
    if system is Os.WINDOWS:
        return "tmp: fresh folder (Windows has no way to deny it)"
    if not isinstance(place, Here):
        return f"tmp: fresh folder ({place.label} does not deny it)"
    if os.geteuid() == 0:
        return "tmp: fresh folder (no mount namespace here, and root may write everywhere)"
    return "tmp: read-only directory (no mount namespace here)"
