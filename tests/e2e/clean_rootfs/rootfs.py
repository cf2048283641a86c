"""An empty Debian root filesystem, and commands run inside it.

Nothing of the host is visible inside but the network, the files that the network needs (name resolution, certificate
authorities) and a clone of the repository. No container engine is used: mmdebstrap makes the root, `unshare --mount`
keeps the mounts private, and they end with the process.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
PACKAGES = ("git", "python3", "python3-venv", "ca-certificates")
USER = "newcomer"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

# What a program may be told about the network; nothing else of the host's environment goes in.
NETWORK_NAMES = re.compile(
    r"(?i)^(https?|all|no)_proxy$|^(PIP|UV)_(INDEX_URL|DEFAULT_INDEX|DEFAULT_TIMEOUT|HTTP_TIMEOUT)$"
)
# What names a certificate bundle; inside, all of them name the copy.
CERTIFICATE_NAMES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")


class UnavailableError(Exception):
    """This host cannot make the root filesystem; the text says why."""


@dataclass(frozen=True)
class Mirror:
    """One apt source that the host itself uses."""

    uri: str
    suite: str
    component: str

    def line(self) -> str:
        """As a line of sources.list."""
        return f"deb {self.uri} {self.suite} {self.component}"


def host_mirrors(suite: str = SUITE) -> list[Mirror]:
    """The host's own sources for this suite and its updates: the one place that knows a reachable mirror."""
    asked = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI)|$(CODENAME)|$(RELEASE)|$(COMPONENT)",
            "Created-By: Packages",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = (line.split("|") for line in asked.stdout.splitlines())
    return [
        Mirror(uri, release, component)
        for uri, codename, release, component in rows
        if suite in (codename, release) or (codename.startswith(f"{suite}-") and component == "main")
    ]


def require_tools() -> None:
    """Say what this host lacks for the trial."""
    if os.geteuid() != 0:
        raise UnavailableError("chroot and mount need root")
    if missing := [tool for tool in ("mmdebstrap", "unshare", "apt-get") if shutil.which(tool) is None]:
        raise UnavailableError(f"not installed: {', '.join(missing)}")
    if not any(mirror.suite == SUITE for mirror in host_mirrors()):
        raise UnavailableError(f"the host's apt sources have no {SUITE}; run apt-get update, or add it")


def rootfs_tarball(cache: Path) -> Path:
    """The root filesystem as a tar, made once and kept; written beside its place and renamed."""
    ready = cache / f"{SUITE}-{'-'.join(PACKAGES)}.tar"
    if ready.exists():
        return ready
    cache.mkdir(parents=True, exist_ok=True)
    beside = ready.with_suffix(".partial.tar")
    sources = [mirror.line() for mirror in host_mirrors()]
    command = ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(PACKAGES)}"]
    made = subprocess.run(
        [*command, SUITE, str(beside), *sources],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        beside.unlink(missing_ok=True)
        raise UnavailableError("mmdebstrap failed:\n" + "\n".join(made.stderr.splitlines()[-15:]))
    beside.replace(ready)
    return ready


@dataclass(frozen=True)
class Root:
    """An unpacked root filesystem."""

    path: Path

    @classmethod
    def unpack(cls, tarball: Path, path: Path) -> Root:
        """Unpack, then give it a person, name resolution and the host's certificate authorities."""
        with tarfile.open(tarball) as archive:
            # The tree is one we made, and device nodes and absolute links belong in it.
            archive.extractall(path, filter="fully_trusted")
        root = cls(path)
        root.copy_in("/etc/resolv.conf", "/etc/hosts", CERTIFICATES)
        root.run(["useradd", "--create-home", "--shell", "/bin/bash", USER], user="root").check()
        return root

    def copy_in(self, *names: str) -> None:
        """Copy these files of the host to the same place inside."""
        for name in names:
            inside = self.path / name.lstrip("/")
            if Path(name).is_file():
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.unlink(missing_ok=True)
                shutil.copyfile(name, inside)

    def run(
        self,
        command: Iterable[str],
        *,
        user: str = USER,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
    ) -> Ran:
        """Run inside, with an environment made from nothing; /proc, /dev and /tmp are mounted and end with it."""
        home = "/root" if user == "root" else f"/home/{user}"
        inside = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": home,
            "USER": user,
            "LANG": "C.UTF-8",
        }
        inside |= network_environment(os.environ) | dict(env or {})
        words = list(command)
        as_user = (
            [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]
        )
        script = f"cd {shlex.quote(cwd)} && exec {shlex.join([*as_user, *words])}"
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "bash",
                "-euc",
                MOUNTS,
                "mounts",
                str(self.path),
                script,
            ],
            env=inside,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        return Ran(shlex.join(words), done.stdout, done.returncode)


# Device nodes are bound one by one: binding the host's /dev would show its terminals and disks as well.
MOUNTS = """
root=$1
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node" && mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" && mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
exec chroot "$root" /bin/bash -c "$2"
"""


@dataclass(frozen=True)
class Ran:
    """A command that ended: what was typed, what it printed, how it ended."""

    command: str
    output: str
    code: int

    def check(self) -> Ran:
        """Fail with the last lines when it did not succeed."""
        tail = "\n".join(self.output.splitlines()[-60:])
        assert self.code == 0, f"`{self.command}` ended with {self.code}:\n{tail}"
        return self


def network_environment(host: Mapping[str, str]) -> dict[str, str]:
    """The part of the host's environment without which its network cannot be used from inside."""
    passed = {name: value for name, value in host.items() if NETWORK_NAMES.search(name)}
    return passed | {name: CERTIFICATES for name in CERTIFICATE_NAMES if name in host}
