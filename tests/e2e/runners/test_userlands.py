"""Real Debian userlands: how they are made, what a program sees in them, and what is said when they cannot be had.

Run by `nox -s e2e -- runners`. They come from the archive that this machine's own apt uses.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.runners.conftest import HOME, Try, ferryman
from ferryman_build.artifacts import Kind, Smoke
from ferryman_build.cmd import Runner
from ferryman_build.runners.base import Purpose, RunnerKind
from ferryman_build.runners.roots import find, is_whole, recipes
from ferryman_build.settings import RunnerName, SmokeSettings
from ferryman_build.targets import host_target
from support.ferryman import ROOT
from support.qemu.launchers import Works

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(1800)]

HOST = host_target()
MUSL = f"linux-{HOST.arch}-musl"
PROMISE = {"glibc": "2.17"}
SetUp = Callable[..., RunnerKind]

# The checks that a program in a userland can make of itself, in the words of a shell.
LOOK = r"""
case $(/bin/cat /etc/debian_version) in 11*) ;; *) echo "not bullseye"; exit 3;; esac
for path in / /etc /usr/bin /tmp /var/tmp /dev "$TMPDIR" {project}; do
  if (: > "$path/probe") 2> /dev/null; then echo "$path can be written"; exit 4; fi
done
for path in HOST; do [ ! -e "$path" ] || { echo "$path of this machine is seen"; exit 5; }; done
[ -f "$1/pyproject.toml" ] || { echo "no project at $1"; exit 6; }
: > "$HOME/a"; : > b; : > "$2/c"
[ -e "/proc/$$/exe" ] && [ -c /dev/null ] && echo text > /dev/null && /bin/ls / > /dev/null || exit 7
"""


def script(tmp_path: Path, text: str, name: str = "agent") -> Path:
    """An artifact that is a shell script: its interpreter is the userland's."""
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_set_up_once(set_up: SetUp) -> None:
    """The command makes the oldest release that keeps the promise, tells so in the list, and does nothing twice."""
    kind = set_up("rootfs", HOST.id)
    assert kind.ready(HOST, Purpose.TRY, PROMISE).found == "Debian bullseye, glibc 2.31"
    assert kind.ready(HOST, Purpose.BUILD, PROMISE).found == "Debian bookworm, glibc 2.36"
    listed = json.loads(ferryman("list", "rootfs", "--target", HOST.id, "--json").stdout)
    assert [(row["purpose"], row["ready"], row["advice"]) for row in listed] == [
        ("try", True, ""),
        ("build", True, ""),
    ]
    again = ferryman("setup", "rootfs", "--target", HOST.id)

    assert again.stderr.count("is there") == 2, again.stderr


def test_a_program_sees_that_userland_and_nothing_of_ours(
    set_up: SetUp, try_out: Try, person: str, tmp_path: Path
) -> None:
    """Nothing can be written but what it was given; the project can be read; of this machine's files there are none."""
    mark = tmp_path / "mark"
    mark.touch()
    ours = " ".join(
        f"'{path}'" for path in (mark, ROOT / "build", Path(sys.executable), "/etc/apt/sources.list")
    )
    path = script(tmp_path, LOOK.replace("HOST", ours).replace("{project}", '"$1"'))
    result = try_out(
        path, Kind.EXECUTABLE, HOST.id, set_up("rootfs", HOST.id), floor=PROMISE,
        smoke=SmokeSettings(commands=(("{project}", "{tmp}"),)),
    )  # fmt: skip

    assert result.status is Smoke.PASSED, result
    assert result.runner == "rootfs"
    assert {"tmp: read-only, noexec", "userland: Debian bullseye, glibc 2.31 (the promise is 2.17)"} <= set(
        result.environment
    )
    assert ("user: root of a user namespace" in result.environment) == (
        person != "as we are" or os.geteuid() != 0
    )


def test_the_promise_chooses_the_release(set_up: SetUp, try_out: Try, tmp_path: Path) -> None:
    """A program that is promised for glibc 2.36 is tried in bookworm."""
    kind = set_up("rootfs", HOST.id, "glibc 2.36")
    path = script(tmp_path, "/bin/cat /etc/debian_version; exit 1")
    result = try_out(path, Kind.EXECUTABLE, HOST.id, kind, floor={"glibc": "2.36"})

    assert result.checks[0].detail.splitlines()[1].startswith("12.")
    assert "userland: Debian bookworm, glibc 2.36" in result.environment


def test_a_hanging_program_is_ended(set_up: SetUp, try_out: Try, person: str, tmp_path: Path) -> None:
    """With the children that it started, which are in no namespace of their own."""
    path = script(tmp_path, "trap '' TERM; /bin/sleep 600 & echo $! >&2; /bin/sleep 600; /bin/sleep 600")
    result = try_out(
        path,
        Kind.EXECUTABLE,
        HOST.id,
        set_up("rootfs", HOST.id),
        floor=PROMISE,
        smoke=SmokeSettings(timeout=1.0),
    )
    problem, child = result.checks[0].detail.splitlines()

    assert problem == "did not finish within 1 s and was ended with its children"
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_stays_is_found(set_up: SetUp, try_out: Try, person: str, tmp_path: Path) -> None:
    """A command that leaves one behind has not ended well, wherever it ran."""
    path = script(tmp_path, "(trap '' HUP; exec /bin/sleep 600) & exit 0")
    result = try_out(path, Kind.EXECUTABLE, HOST.id, set_up("rootfs", HOST.id), floor=PROMISE)

    assert result.checks[0].detail.startswith("still running after it: sleep (")


# --- C libraries ------------------------------------------------------------------------------------------------------

# Its grandchild leaves the session, the variables and the working folder; nothing of it is ours but its mounts.
DAEMON = """#include <unistd.h>
#include <sys/wait.h>
int main(void) {
  char *words[] = {"sleep", "600", 0}, *none[] = {0};
  if (fork() == 0) {
    setsid();
    if (fork() == 0) { if (chdir("/") == 0) execve("/bin/sleep", words, none); }
    _exit(0);
  }
  wait(0);
  return 0;
}
"""
PROGRAM = '#include <stdio.h>\nint main(void) { puts("runs"); return 0; }\n'


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A dynamic C program for one of zig's triples."""
    folder = tmp_path_factory.mktemp("compiled")
    works = Works.open(ROOT / ".cache" / "launcher", folder, folder)

    def compile_for(triple: str, source: str = PROGRAM) -> Path:
        output = folder / f"{triple}-{len(source)}"
        (folder / "program.c").write_text(source, encoding="utf-8")
        words = [
            works.toolchain.zig,
            "cc",
            "-target",
            triple,
            "-dynamic",
            "-s",
            "-o",
            output,
            folder / "program.c",
        ]
        works.runner.run(words, name="cc", env=works.toolchain.environment(folder))
        return output

    return compile_for


def test_an_old_promise_is_kept_or_not(set_up: SetUp, try_out: Try, compiled: Callable[[str], Path]) -> None:
    """What needs glibc 2.17 runs in bullseye; what was linked for musl does not even start there, and that is said."""
    rows = (("gnu.2.17", Smoke.PASSED), ("musl", Smoke.FAILED))
    for libc, status in rows:
        program = compiled(f"{HOST.machine[0]}-linux-{libc}")
        result = try_out(program, Kind.EXECUTABLE, HOST.id, set_up("rootfs", HOST.id), floor=PROMISE)
        assert result.status is status, result
    assert "cannot be started in this userland: No such file or directory" in result.checks[0].detail


def test_a_daemon_is_found(set_up: SetUp, try_out: Try, compiled: Callable[..., Path], person: str) -> None:
    """Though it has left its group and forgotten its variables: it cannot leave the userland."""
    program = compiled(f"{HOST.machine[0]}-linux-gnu.2.17", DAEMON)
    result = try_out(program, Kind.EXECUTABLE, HOST.id, set_up("rootfs", HOST.id), floor=PROMISE)

    assert result.checks[0].detail.startswith("still running after it: sleep ("), result


def test_musl(set_up: SetUp, try_out: Try, compiled: Callable[[str], Path], person: str) -> None:
    """A userland with musl and no glibc runs programs for musl, and no others."""
    kind = set_up("rootfs", MUSL)
    program = compiled(f"{HOST.machine[0]}-linux-musl")
    result = try_out(program, Kind.EXECUTABLE, MUSL, kind, floor={"musl": "1.2"})
    assert result.status is Smoke.PASSED, result
    assert "userland: Debian bullseye, musl 1.2.2 (the promise is 1.2)" in result.environment
    other = compiled(f"{HOST.machine[0]}-linux-gnu.2.17")

    assert try_out(other, Kind.EXECUTABLE, MUSL, kind, floor={"musl": "1.2"}).status is Smoke.FAILED


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_damaged_userland_is_made_anew(set_up: SetUp, try_out: Try, tmp_path: Path) -> None:
    """A file that is gone or grown comes back before the next run, without a network."""
    kind = set_up("rootfs", HOST.id)
    root = find(RunnerName.ROOTFS, recipes(HOST, Purpose.TRY, PROMISE)[0])
    assert root is not None
    (root.path / "bin/cat").unlink()
    (root.path / "etc/hosts").write_text("more than before\n" * 9, encoding="utf-8")
    assert not is_whole(root)
    result = try_out(script(tmp_path, "/bin/cat /etc/hosts"), Kind.EXECUTABLE, HOST.id, kind, floor=PROMISE)

    assert result.status is Smoke.PASSED, result
    assert is_whole(root)


def test_an_unknown_release(tmp_path: Path) -> None:
    """An archive that has none of the releases that keep the promise: exit code 4, nothing made."""
    done = ferryman("setup", "rootfs", "--target", HOST.id, FERRYMAN_HOME=str(tmp_path / "home"),
                    FERRYMAN_DEBIAN_MIRROR=tmp_path.as_uri())  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "The mirror has no release bullseye, bookworm, trixie for" in done.stderr
    assert not (tmp_path / "home/runners").exists()


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    """mmdebstrap's own last words, its log, exit code 7, and nothing left behind."""
    for name in ("Release", f"main/binary-{recipes(HOST, Purpose.TRY, {})[0].machine.debian}/Release"):
        path = tmp_path / "dists/bullseye" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Suite: bullseye\n", encoding="utf-8")
    done = ferryman("setup", "rootfs", "--target", HOST.id, FERRYMAN_HOME=str(tmp_path / "home"),
                    FERRYMAN_DEBIAN_MIRROR=tmp_path.as_uri())  # fmt: skip

    assert done.returncode == 7, done.stderr
    assert "mmdebstrap-bullseye" in done.stderr
    assert list((tmp_path / "home/runners/rootfs").iterdir()) == []


def test_nothing_is_removed_but_what_was_set_up(set_up: SetUp, tmp_path: Path) -> None:
    """By runner, or of one target alone; twice is no error."""
    for name in ("rootfs/bullseye-amd64-try-0", "rootfs/other", "qemu/x"):
        (tmp_path / "runners" / name).mkdir(parents=True)
    for recipe in recipes(HOST, Purpose.TRY, {})[:1]:
        (tmp_path / "runners/rootfs" / recipe.name).mkdir()
    assert ferryman("remove", "rootfs", "--target", HOST.id, FERRYMAN_HOME=str(tmp_path)).returncode == 0
    assert {path.name for path in (tmp_path / "runners/rootfs").iterdir()} == {
        "bullseye-amd64-try-0",
        "other",
    }
    assert ferryman("remove", "rootfs", FERRYMAN_HOME=str(tmp_path)).returncode == 0
    assert [path.name for path in (tmp_path / "runners").iterdir()] == ["qemu"]

    assert "nothing was set up" in ferryman("remove", "rootfs", FERRYMAN_HOME=str(tmp_path)).stdout


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="a full disk of one's own needs root"
)
def test_no_space(tmp_path: Path) -> None:
    """On a disk of 30 MB: exit code 10, a way out, and the disk as empty as it was."""
    text = (
        f"mount -t tmpfs -o size=30m tmpfs {tmp_path} && {sys.executable} -m ferryman_build runners setup rootfs "
        f"--target {HOST.id} --plain --out {HOME}/out; code=$?; ls -A {tmp_path}/runners/rootfs; exit $code"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", text], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "build"), "FERRYMAN_HOME": str(tmp_path)}, cwd="/",
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (10, ""), done.stderr
    assert "FERRYMAN_HOME" in done.stderr or "--out" in done.stderr


def test_without_mmdebstrap(tmp_path: Path) -> None:
    """Somebody who may not install it gets the command, exit code 4, and no half of anything."""
    text = (
        "import sys, os; from ferryman_build import cli; from ferryman_build.runners import roots;"
        "roots.tool = lambda name: None;"
        f"sys.exit(cli.main(['runners', 'setup', 'rootfs', '--target', '{HOST.id}', '--plain', '--out', '{tmp_path}/out']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT / "build"), "FERRYMAN_HOME": str(tmp_path / "home")},
    )  # fmt: skip

    assert done.returncode == 4, done.stderr
    assert "As root: apt-get install mmdebstrap" in done.stderr
    assert list((tmp_path / "home/runners/rootfs").iterdir()) == []


def test_a_place_can_be_opened_many_times_at_once(set_up: SetUp, tmp_path: Path) -> None:
    """Builds of several targets use one userland together."""
    kind = set_up("rootfs", HOST.id)
    started = []
    for number in range(4):
        work = tmp_path / str(number)
        work.mkdir()
        with kind.open(HOST, Purpose.TRY, PROMISE, work, Runner()) as place:
            command = place.command(["/bin/sh", "-c", f"echo {number} > n; exit {number}"], cwd=work, env={})
            started.append(subprocess.Popen(command.words, env=dict(command.env), cwd=command.cwd))

    assert [process.wait(60) for process in started] == [0, 1, 2, 3]
    assert [(tmp_path / str(number) / "n").read_text() for number in range(4)] == ["0\n", "1\n", "2\n", "3\n"]
