"""Ceph's own gateway on loopback: a monitor, one OSD that keeps everything in memory, and radosgw over http or https.

What broke first and must stay as it is: `auth none` (the OSD never boots) and other full ratios; so cephx, and the
defaults. Nothing is left: processes are ended by their numbers, and all files are in the folder that the caller gave.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.s3.moto import S3

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")
PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "radosgw-admin", "ceph-authtool", "monmaptool")
KEYS = {"AWS_ACCESS_KEY_ID": "FERRYMANTEST", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}
STRANGER = {"AWS_ACCESS_KEY_ID": "FERRYMANSTRANGER", "AWS_SECRET_ACCESS_KEY": "a-secret-of-a-stranger"}
_INSTALL_SECONDS, _START_SECONDS = 900, 120


def have_radosgw() -> None:
    """Install what is missing, where that can be done; else skip with what is missing."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"radosgw is not installed here: no {', '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    for command in (["apt-get", "update"], install):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
        if done.returncode:
            pytest.skip(f"radosgw cannot be installed here: {done.stderr.strip()[-300:]}")


def trusting(keys: Mapping[str, str], certificate: Path | None) -> dict[str, str]:
    """The environment of a publisher that trusts this certificate."""
    return {**keys, **({"AWS_CA_BUNDLE": str(certificate)} if certificate else {})}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Ceph:
    """A running cluster in ``folder``; `gateway` adds a radosgw to it."""

    folder: Path
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def conf(self) -> Path:
        return self.folder / "ceph.conf"

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_START_SECONDS, check=False, cwd=self.folder
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def ceph(self, *words: str) -> str:
        return self.run("ceph", "-c", str(self.conf), "--connect-timeout", "20", *words)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{words[0]}-{len(self.children)}.out", "wb") as log:
            child = subprocess.Popen(
                [words[0], "-c", str(self.conf), *words[1:], "-f"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        self.children.append(child)
        return child

    def end(self) -> None:
        for child in reversed(self.children):
            child.send_signal(signal.SIGKILL)
            child.wait()

    def log(self) -> str:
        texts = [path.read_text(errors="replace")[-1500:] for path in sorted(self.folder.glob("*.out"))]
        return "\n".join(texts)

    def gateway(self, *, certificate: Path | None = None) -> S3:
        """Start a radosgw; with a certificate (key and certificate in one file) over https."""
        port = free_port()
        how = f"endpoint=127.0.0.1:{port}"
        if certificate is not None:
            how = f"ssl_endpoint=127.0.0.1:{port} ssl_certificate={certificate}"
        child = self.start("radosgw", "--id", "rgw", f"--rgw-frontends=beast {how}")
        until_it_listens(port, child, self.log)
        scheme = "https" if certificate else "http"
        return S3(f"{scheme}://127.0.0.1:{port}", trusting(KEYS, certificate))


@contextlib.contextmanager
def ceph_cluster(folder: Path) -> Iterator[Ceph]:
    """A cluster in ``folder`` with two users: one has KEYS, and one no rights on the buckets of the first."""
    have_radosgw()
    folder.mkdir(parents=True)
    ceph = Ceph(folder)
    try:
        _monitor(ceph)
        _storage(ceph)
        for name, keys in (("tests", KEYS), ("stranger", STRANGER)):
            ceph.run(
                "radosgw-admin", "-c", str(ceph.conf), "--id", "rgw", "user", "create", f"--uid={name}",
                f"--display-name={name}", "--access-key", keys["AWS_ACCESS_KEY_ID"],
                "--secret-key", keys["AWS_SECRET_ACCESS_KEY"],
            )  # fmt: skip
        yield ceph
    finally:
        ceph.end()


def _monitor(ceph: Ceph) -> None:
    folder, fsid = ceph.folder, str(uuid.uuid4())
    keyring = folder / "keyring"
    ceph.conf.write_text(_conf(folder, fsid, (port := free_port())), encoding="ascii")
    ceph.run(
        "ceph-authtool",
        "--create-keyring",
        str(keyring),
        "--gen-key",
        "-n",
        "mon.",
        "--cap",
        "mon",
        "allow *",
    )
    for name, caps in {
        "client.admin": ("mon", "osd", "mgr", "mds"),
        "client.rgw": ("mon", "osd"),
        "osd.0": ("mon", "osd"),
    }.items():
        words = [word for cap in caps for word in ("--cap", cap, "allow *")]
        ceph.run("ceph-authtool", str(keyring), "--gen-key", "-n", name, *words)
    address = f"v2:127.0.0.1:{port}"
    monmap = folder / "monmap"
    ceph.run("monmaptool", "--create", "--addv", "a", f"[{address}]", "--fsid", fsid, str(monmap))
    ceph.run(
        "ceph-mon",
        "-c",
        str(ceph.conf),
        "--mkfs",
        "-i",
        "a",
        "--monmap",
        str(monmap),
        "--keyring",
        str(keyring),
    )
    ceph.start("ceph-mon", "-i", "a", "--keyring", str(keyring))


def _storage(ceph: Ceph) -> None:
    name = str(uuid.uuid4())
    (ceph.folder / "osd").mkdir()
    ceph.ceph("osd", "new", name, "0")
    ceph.run("ceph-osd", "-c", str(ceph.conf), "-i", "0", "--mkfs", "--osd-uuid", name)
    child = ceph.start("ceph-osd", "-i", "0")
    _until(lambda: '"num_up_osds": 1' in ceph.ceph("osd", "stat", "-f", "json-pretty"), child, ceph.log)


def _conf(folder: Path, fsid: str, port: int) -> str:
    return f"""[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
crash dir = {folder}
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
ms bind ipv6 = false
rgw data = {folder}/rgw
rgw enable usage log = false
rgw gc obj min wait = 60
"""


def until_it_listens(port: int, child: subprocess.Popen[Any], log: Callable[[], str]) -> None:
    """Wait for a server; raises with what it said when it ends instead."""
    _until(lambda: _listens(port), child, log)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as met:
        return bool(met.getsockname() != met.getpeername())  # a socket can meet itself on a free port
    return False


def _until(ready: Callable[[], bool], child: subprocess.Popen[Any], log: Callable[[], str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{child.args} did not start:\n{log()}")
        time.sleep(0.1)
