"""This machine itself. A program is started as it is; only temporary folders can be denied to it.

They are read-only and noexec where the platform has mount namespaces (Linux, as root or through a user namespace): a small
tmpfs covers each of them, for the program and its children alone. `unshare` and `sh` replace themselves by the program,
so it keeps the process id that signals are sent to. The working folder is mounted on itself: by that the program's children
are known, whatever they have left (smoke/process.py).
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from ferryman_build.cmd import Child, Runner
from ferryman_build.runners.base import Command, Purpose, Readiness
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Target

_TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"
_PROBE_SECONDS = 10.0

# The tmpfs is filled beside its place, while what it will cover can still be seen: folders that the run needs (its own,
# the project, the interpreter of a .pyz) may themselves lie in a temporary folder, and are bound through.
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
"$mount" --rbind "$cwd" "$cwd"
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


class Here:
    """A Place: this machine. ``stage`` is an empty folder to prepare mounts in."""

    label = "native"
    pipes = False

    def __init__(self, isolation: Isolation, stage: Path, python: Path | None = None) -> None:
        self.isolation = isolation
        self.denies = bool(isolation.unshare)
        self.facts: tuple[str, ...] = (isolation.fact,) if isolation.fact else ()
        self.python: Path | None = python
        self.root: Path | None = None
        self._stage = stage

    def spell(self, path: Path) -> str:
        """As it is."""
        return str(path)

    def unspell(self, text: str) -> Path:
        """As it is."""
        return Path(text)

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
        """See base.Place; ``shown`` folders can be written to as well."""
        program = tuple(map(str, words))
        if not self.isolation.unshare:
            return Command(words=program, env=dict(env), cwd=cwd)
        # Parents first: binding one later would cover the mounts below it.
        kept = sorted({*shown, *folders}, key=lambda path: path.parts)
        lists = ("\n".join(map(str, paths)) for paths in (denied, kept))
        tools = (_tool("mount"), _tool("mkdir"))
        prefix = (*self.isolation.unshare, _tool("sh"), "-c", _SCRIPT, "sh", *tools, str(self._stage), str(cwd), *lists)  # fmt: skip
        return Command(words=(*prefix, *program), env=dict(env), cwd=cwd)

    def stop(self, child: Child) -> None:
        """SIGTERM, or Ctrl-Break on Windows."""
        if os.name == "nt":
            child.send_signal(signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined,unused-ignore]
        else:
            child.send_signal(signal.SIGTERM)


class Native:
    """The kind that needs nothing."""

    name: ClassVar[RunnerName] = RunnerName.NATIVE

    def runs(self, target: Target, host: Target) -> bool:
        """This machine's own target alone."""
        return target.id == host.id  # whatever either of them promises

    def ready(self, target: Target, purpose: Purpose, floor: Mapping[str, str]) -> Readiness:
        """Always."""
        del target, purpose, floor
        return Readiness(ready=True, found="this machine")

    def setup(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        """Nothing to do."""
        del target, runner
        say("this machine runs its own programs; there is nothing to set up")

    @contextlib.contextmanager
    def open(
        self, target: Target, purpose: Purpose, floor: Mapping[str, str], work: Path, runner: Runner
    ) -> Iterator[Here]:
        """See base.RunnerKind."""
        del target, floor, runner
        stage = work / "stage"
        stage.mkdir(parents=True, exist_ok=True)
        yield Here(probe(), stage.resolve(), Path(sys.executable) if purpose is Purpose.BUILD else None)


def shared_tmp() -> list[Path]:
    """The folders that every program may take for temporary files (tempfile's list), each once."""
    return list(dict.fromkeys(path.resolve() for path in (Path("/tmp"), Path("/var/tmp")) if path.is_dir()))  # noqa: S108 - named to be denied


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
        cwd, tmp, stage = (Path(folder).resolve() / name for name in ("cwd", "tmp", "stage"))
        for path in (cwd, tmp, stage):
            path.mkdir()
        command = Here(isolation, stage).command(
            program, cwd=cwd, env={"TMPDIR": str(tmp)}, folders=[cwd, tmp], denied=[*shared_tmp(), tmp]
        )
        try:
            done = subprocess.run(
                command.words, env=dict(command.env), cwd=cwd, capture_output=True, check=False,
                stdin=subprocess.DEVNULL, timeout=_PROBE_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0 and (cwd / "here").exists()
