"""A machine with a real systemd as process 1: a Debian root in namespaces of its own, with the agent's sources in it.

systemd wants a cgroup tree that it may write to, and must not get the host's. So it is started through `own-cgroup`, a
program that runs its arguments in a fresh sub-cgroup, seen as the root of a private cgroup namespace, and removes that
sub-cgroup afterwards; $OWN_CGROUP names it, else it is looked for in $PATH. /proc/sys and /sys are read-only inside: what
systemd would set there it would set on the host.
"""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import tarfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.clean_rootfs.rootfs import UnavailableError, host_mirrors
from support.ferryman import ROOT

CACHE = ROOT / "out" / "cache" / "systemd"
SUITE = "trixie"
"""Debian 13 has systemd 257; Type=notify-reload came with 253."""
PACKAGES = (
    "systemd,systemd-sysv,dbus,procps,python3,python3-aiohttp,python3-msgspec,python3-prometheus-client,python3-psutil,"
    "python3-yaml"
)
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "ldconfig.service",
    "systemd-hostnamed.socket",
    "systemd-journal-catalog-update.service",
    "systemd-logind.service",
    "systemd-sysctl.service",
    "systemd-tmpfiles-clean.timer",
    "sys-fs-fuse-connections.mount",
)
BOOT = """
set -e
mount --bind $ROOT $ROOT
cd $ROOT
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
touch dev/console
mount --bind $CONSOLE dev/console
mount -t sysfs -o ro sysfs sys
mount --bind /sys/fs/cgroup sys/fs/cgroup
mkdir -p opt/watchkeeper .old
mount --bind $SOURCES opt/watchkeeper
mount -o remount,bind,ro opt/watchkeeper
exec 0<$CONSOLE 1>$CONSOLE 2>&1
pivot_root . .old
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -c \
  'cd /; umount -l /.old; exec /usr/lib/systemd/systemd --log-target=console'
"""
PROGRAM = '#!/bin/sh\nPYTHONPATH=/opt/watchkeeper PYTHONDONTWRITEBYTECODE=1 exec python3 -W error -m watchkeeper "$@"\n'


class Machine:
    """It runs from `boot` to `off`."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._console, self._theirs = pty.openpty()
        self._process: subprocess.Popen[bytes] | None = None
        self.init = 0
        """systemd, as the host numbers it."""

    def boot(self) -> None:
        """Returns when it is up.

        Raises:
            UnavailableError: this host cannot do it; the text says why.
        """
        wrapper = _own_cgroup()
        with tarfile.open(_tarball()) as archive:
            archive.extractall(self.root, filter="fully_trusted", members=_without_devices(archive))
        self._prepare()
        names = {"ROOT": self.root, "CONSOLE": os.ttyname(self._theirs), "SOURCES": ROOT / "agent_src"}
        command = [wrapper, "unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "bash", "-c", BOOT]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **{name: str(value) for name, value in names.items()}},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        os.set_blocking(self._console, False)
        try:
            self.wait(self._is_up, "systemd to be up", 60)
        except AssertionError as error:
            self.off()
            raise UnavailableError(f"systemd does not boot here: {error}") from None

    def off(self) -> None:
        """Power off, and wait for the wrapper to clean up."""
        if self._process is None:
            return
        init = self.init or self._find_init()
        if init:
            os.kill(init, signal.SIGRTMIN + 4)  # poweroff.target (systemd(1))
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            if init:
                os.kill(init, signal.SIGKILL)
            self._process.wait(20)
        if self._process.stderr:
            self._process.stderr.close()
        os.close(self._theirs)
        os.close(self._console)

    def run(self, *command: str, check: bool = True) -> str:
        """A command inside, as root; its standard output, and where it may fail its errors as well."""
        enter = ["nsenter", f"--target={self.init}", "--all"]
        bare = ["env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8"]
        done = subprocess.run(
            [*enter, *bare, *command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, (
            f"{command} ended with {done.returncode}:\n{said}\n{self.journal()}"
        )
        return done.stdout if check else said

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file inside; it appears complete. A folder that systemd mounts something on is not seen through this."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(target.name + ".new")
        beside.write_text(text)
        beside.chmod(mode)
        beside.replace(target)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """What systemd says of a unit."""
        said = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties))
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def journal(self, unit: str = "watchkeeper") -> str:
        """What a unit has written."""
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit, check=False)

    def wait(self, condition: Callable[[], Any], what: str, limit: float = 30.0) -> Any:
        """Until something is so."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if found := condition():
                return found
            if self._process is not None and self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"{what} did not come\n{self._said()}")

    def _said(self) -> str:
        try:
            console = os.read(self._console, 1 << 20).decode(errors="replace")
        except OSError:
            console = ""
        errors = b""
        if (
            self._process is not None
            and self._process.poll() is not None
            and self._process.stderr is not None
        ):
            errors = self._process.stderr.read()
        return console[-3000:] + errors.decode(errors="replace")[-2000:]

    def _is_up(self) -> bool:
        self.init = self.init or self._find_init()
        if not self.init:
            return False
        return self.run("systemctl", "is-active", "multi-user.target", check=False).strip() == "active"

    def _find_init(self) -> int:
        """The first process in the new pid namespace, once it is systemd."""
        waiting = [self._process.pid] if self._process else []
        while waiting:
            pid = waiting.pop()
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                continue
            if name == "systemd":
                return pid
            waiting += map(int, children)
        return 0

    def _prepare(self) -> None:
        for name in MASKED:
            mask = self.root / "etc/systemd/system" / name
            mask.unlink(missing_ok=True)
            mask.symlink_to("/dev/null")
        self.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        self.write("/usr/local/bin/watchkeeper", PROGRAM, 0o755)


def _own_cgroup() -> str:
    found = os.environ.get("OWN_CGROUP") or shutil.which("own-cgroup")
    if os.geteuid() or not found:
        raise UnavailableError(
            textwrap.fill(
                "systemd needs root and a cgroup of its own: put own-cgroup in PATH, or name it in OWN_CGROUP"
            )
        )
    if missing := [
        tool for tool in ("mmdebstrap", "unshare", "nsenter", "pivot_root") if not shutil.which(tool)
    ]:
        raise UnavailableError(f"not installed: {', '.join(missing)}")
    return found


def _tarball() -> Path:
    ready = CACHE / f"{SUITE}.tar"
    if ready.exists():
        return ready
    mirrors = [mirror.uri for mirror in host_mirrors()]
    if not mirrors:
        raise UnavailableError("the host's apt sources name no mirror of Debian")
    CACHE.mkdir(parents=True, exist_ok=True)
    beside = ready.with_suffix(f".{os.getpid()}.tar")
    source = f"deb {mirrors[0]} {SUITE} main"
    command = [
        "mmdebstrap",
        "--variant=minbase",
        "--mode=root",
        f"--include={PACKAGES}",
        SUITE,
        str(beside),
        source,
    ]
    made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if made.returncode:
        beside.unlink(missing_ok=True)
        raise UnavailableError("mmdebstrap failed:\n" + "\n".join(made.stderr.splitlines()[-8:]))
    beside.replace(ready)
    return ready


def _without_devices(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    return [member for member in archive.getmembers() if not (member.ischr() or member.isblk())]
