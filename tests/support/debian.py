"""Programs of Debian's packages, without installing them: downloaded, unpacked beside each other, started from there.

Nothing is registered as a service, nothing starts by itself, and the machine's own packages stay as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "out" / "cache" / "debian"


def program(package: str, path: str, *, also: tuple[str, ...] = ()) -> Path:
    """A program of a package; the test is skipped, and says so, where apt is missing or does not know the package.

    Args:
        package: its name, such as "etcd-server".
        path: where the package has it, from its root: "usr/bin/etcd".
        also: packages whose files it needs beside its own.
    """
    root = unpacked(package, *also)
    found = root / path
    assert found.exists(), f"{package} has no {path}; it has: {sorted(map(str, root.rglob('*bin/*')))}"
    return found


def unpacked(*packages: str) -> Path:
    """A folder with the files of these packages."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip(f"LOUD: {packages[0]} is needed, and this system has no apt-get")
    root = FOLDER / "+".join(packages)
    if root.is_dir():
        return root
    FOLDER.mkdir(parents=True, exist_ok=True)
    partial = FOLDER / f".{os.getpid()}-{packages[0]}"
    archives = partial / "archives"
    archives.mkdir(parents=True)
    try:
        for package in packages:
            _download(package, archives)
        for archive in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", archive, partial / "root"], check=True)
        (partial / "root").rename(root)
    except OSError:
        if not root.is_dir():  # somebody else was faster
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _download(package: str, folder: Path) -> None:
    command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", package]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if answer.returncode:  # the lists may never have been fetched
        subprocess.run(["apt-get", "update"], capture_output=True, check=False)
        answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"LOUD: the package {package} cannot be fetched: {answer.stderr.strip()}")
