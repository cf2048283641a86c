"""The environment of a smoke run: what a fresh machine has, and nothing of the machine that built the program.

Each run gets a folder of its own with an empty home, an empty folder as PATH, an empty working directory and no
variable of ours. The temporary folders are read-only and noexec where the platform has mount namespaces (Linux, as
root or through a user namespace): a small tmpfs covers each of them, for the program and its children alone.

`unshare` and `sh` replace themselves by the program, so it keeps the process id that signals are sent to.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

_TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"
_PROBE_SECONDS = 10.0

# The tmpfs is filled beside its place, while what it will cover can still be seen: folders that the run needs (this
# one, the project, the interpreter of a .pyz) may themselves lie in a temporary folder, and are bound through.
_SCRIPT = """
set -ef
mount=$1 mkdir=$2 stage=$3 cwd=$4 denied=$5 kept=$6
shift 6
IFS='
'
for folder in $denied; do
  "$mount" -t tmpfs -o size=1m,mode=1777,nosuid,nodev,noexec tmpfs "$stage"
  for inside in $kept; do
    case "$inside" in "$folder"/*)
      "$mkdir" -p "$stage/${inside#"$folder"/}"
      "$mount" --rbind "$inside" "$stage/${inside#"$folder"/}" ;;
    esac
  done
  case "$stage" in "$folder"/*) "$mkdir" -p "$stage/${stage#"$folder"/}" ;; esac
  "$mount" --rbind "$stage" "$folder"
  "$mount" -o remount,bind,ro,nosuid,nodev,noexec "$folder"
done
unset IFS
cd "$cwd"
exec "$@"
"""


class Isolation(msgspec.Struct, frozen=True):
    """How this machine lets us deny a temporary folder. ``unshare`` is empty where it does not.

    ``fact`` says what a program sees of it besides the folder itself.
    """

    unshare: tuple[str, ...] = ()
    fact: str = ""


NO_ISOLATION = Isolation()


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """The folders of one run and what to start in front of the program.

    ``scratch`` is the one folder outside of home that the program may write to; it fills ``{tmp}``.
    """

    home: Path
    cwd: Path
    tmp: Path
    scratch: Path
    env: dict[str, str]
    prefix: tuple[str, ...]
    facts: tuple[str, ...]

    def command(self, program: Sequence[str | Path]) -> list[str]:
        """The words that start ``program`` in this sandbox."""
        return [*self.prefix, *map(str, program)]

    @staticmethod
    def written(folder: Path) -> list[str]:
        """Names of what the run left in ``folder``, a slash behind those of folders."""
        return sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())


def make_sandbox(
    base: Path,
    *,
    keep: Iterable[Path] = (),
    needs_exec_tmp: bool = False,
    more: Mapping[str, str] | None = None,
    isolation: Isolation | None = None,
) -> Sandbox:
    """Folders for one run, in the new folder ``base``.

    Args:
        base: absolute path of a folder that does not exist yet.
        keep: folders that the program must still see although a temporary folder holds them.
        needs_exec_tmp: give the program a writable, executable TMPDIR (PyInstaller's one-file unpacks into it).
        more: further variables.
        isolation: what the machine can do; probed when None.
    """
    base.mkdir(parents=True)
    base = base.resolve()
    names = ("home", "cwd", "tmp", "scratch", "path", "stage")
    home, cwd, tmp, scratch, path, stage = (base / name for name in names)
    for folder in (home, cwd, tmp, scratch, path, stage):
        folder.mkdir()
    isolation = probe() if isolation is None else isolation
    denied = [*_shared_tmp(), *(() if needs_exec_tmp else (tmp,))]
    prefix: tuple[str, ...] = ()
    if isolation.unshare:
        prefix = _prefix(isolation, stage, cwd, denied, _visible(base, keep))
    elif not needs_exec_tmp:
        tmp.chmod(0o555)
    env = {**_environment(home, tmp, path), **(more or {})}
    return Sandbox(
        home=home, cwd=cwd, tmp=tmp, scratch=scratch, env=env, prefix=prefix,
        facts=_facts(isolation, needs_exec_tmp=needs_exec_tmp, more=more or {}),
    )  # fmt: skip


def _visible(base: Path, keep: Iterable[Path]) -> list[Path]:
    # base comes last: the others may hold it, and binding them later would cover its mounts.
    parts = ("home", "cwd", "tmp", "scratch", "path")
    return [*(path.resolve() for path in keep), *(base / part for part in parts)]


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


def _shared_tmp() -> list[Path]:
    """The folders that every program may take for temporary files (tempfile's list), each once."""
    return list(dict.fromkeys(path.resolve() for path in (Path("/tmp"), Path("/var/tmp")) if path.is_dir()))  # noqa: S108 - named to be denied


def _environment(home: Path, tmp: Path, path: Path) -> dict[str, str]:
    env = {"HOME": str(home), "PATH": str(path), "TMPDIR": str(tmp), "LC_ALL": "C.UTF-8"}
    if os.name == "nt":
        folders = {"USERPROFILE": home, "APPDATA": home, "LOCALAPPDATA": home, "TEMP": tmp, "TMP": tmp}
        # Without SYSTEMROOT, Windows cannot even open a socket.
        env |= {
            **{name: str(folder) for name, folder in folders.items()},
            "SYSTEMROOT": os.environ["SYSTEMROOT"],
        }
    return env


def _facts(isolation: Isolation, *, needs_exec_tmp: bool, more: Iterable[str]) -> tuple[str, ...]:
    if needs_exec_tmp:
        tmp = "tmp: writable, executable (this bundle needs it)"
    elif isolation.unshare:
        tmp = "tmp: read-only, noexec"
    elif os.name == "nt":
        tmp = "tmp: fresh folder (Windows has no way to deny it)"
    elif os.geteuid() == 0:
        tmp = "tmp: fresh folder (no mount namespace here, and root may write everywhere)"
    else:
        tmp = "tmp: read-only directory (no mount namespace here)"
    facts = (
        "home: empty",
        "path: empty",
        f"variables: only {', '.join((*more, 'HOME', 'LC_ALL', 'PATH'))} and TMPDIR",
        tmp,
        isolation.fact,
    )
    return tuple(fact for fact in facts if fact)


def _prefix(
    isolation: Isolation, stage: Path, cwd: Path, denied: Sequence[Path], kept: Sequence[Path]
) -> tuple[str, ...]:
    lists = ("\n".join(map(str, paths)) for paths in (denied, kept))
    tools = (_tool("mount"), _tool("mkdir"))
    return (*isolation.unshare, _tool("sh"), "-c", _SCRIPT, "sh", *tools, str(stage), str(cwd), *lists)


def _tool(name: str) -> str:
    return shutil.which(name, path=_TOOLS) or name


def _candidates() -> list[Isolation]:
    unshare = shutil.which("unshare", path=_TOOLS)
    if sys.platform != "linux" or unshare is None:
        return []
    private = ("--mount", "--propagation", "private")
    found = [Isolation((unshare, "--user", "--map-root-user", *private), "user: root of a user namespace")]
    if os.geteuid() == 0:
        found.insert(0, Isolation((unshare, *private)))
    return found


@functools.cache
def probe() -> Isolation:
    """What this machine can do, found by doing it once; :data:`NO_ISOLATION` when nothing works."""
    return next((one for one in _candidates() if _works(one)), NO_ISOLATION)


def _works(isolation: Isolation) -> bool:
    # The program of the probe succeeds only where TMPDIR refuses to be written and the working directory does not.
    program = (_tool("sh"), "-c", ': > here && ! (: > "$TMPDIR/x")')
    with tempfile.TemporaryDirectory() as folder:
        sandbox = make_sandbox(Path(folder, "probe"), isolation=isolation)
        try:
            done = subprocess.run(
                sandbox.command(program), env=sandbox.env, cwd=sandbox.cwd, capture_output=True, check=False,
                stdin=subprocess.DEVNULL, timeout=_PROBE_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0 and (sandbox.cwd / "here").exists()
