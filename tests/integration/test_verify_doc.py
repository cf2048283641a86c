"""docs/verify.md is true: each block verifies a release, and refuses the same release with one byte changed."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ferryman_release.keys.minisign import MinisignKey
from support.release_keys import private_key
from support.releasing import ROOT, World, make_world
from support.web import serving

pytestmark = pytest.mark.integration

ARTIFACT = "lantern-1.0.0-linux-amd64.tar.gz"
PAGE = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
UNTESTED = re.findall(r"^```sh untested\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PUBLISHED = "https://releases.example.org/agent/"
TOOLS = ("minisign", "openssl", "sha256sum", "base64")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"))
    made.release(channel="stable")
    return made


@pytest.fixture
def downloads(world: World, tmp_path: Path) -> Path:
    """The folder that a reader is in: everything of the version; what is trusted and a mirror are beside it."""
    trusted = tmp_path / "trusted"
    shutil.copytree(world.keys.folder.path, trusted / "keys")
    shutil.copy(trusted / "keys" / "minisign.pub", trusted)
    shutil.copy(trusted / "keys" / "metadata" / "1.root.json", trusted / "root.json")
    public = private_key("provenance").public_key()
    (trusted / "provenance.pem").write_bytes(
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    shutil.copytree(world.store, tmp_path / "mirror")
    shutil.copytree(world.store / "artifacts" / "lantern" / "1.0.0", tmp_path / "downloads")
    return tmp_path / "downloads"


def execute(block: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The block in `sh`, in ``folder``, with a `ferryman` that is this checkout's."""
    for tool in TOOLS:
        if re.search(rf"\b{tool}\b", block) and shutil.which(tool) is None:
            pytest.skip(f"{tool}, which a block of docs/verify.md uses, is not installed")
    tools = folder.parent / "bin"
    tools.mkdir(exist_ok=True)
    command = tools / "ferryman"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom ferryman_release.cli import main\nsys.exit(main())\n"
    )
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    path = os.pathsep.join(str(ROOT / name) for name in ("build", "release", "release/client"))
    env = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder.parent), "PYTHONPATH": path}
    return subprocess.run(
        ["sh", "-eu", "-c", block],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run(block: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The same, with the published repository behind the page's URL."""
    with serving(folder.parent / "mirror") as web:
        return execute(block.replace(PUBLISHED, web.url), folder)


def test_the_page_has_blocks() -> None:
    """What is run is most of the page; what is not run needs a workflow's identity, or a public authority."""
    assert len(BLOCKS) >= 10
    assert len(UNTESTED) == 3
    assert {word for block in BLOCKS for word in TOOLS[:3] if word in block} == set(TOOLS[:3])


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_accepts_the_release(block: str, downloads: Path) -> None:
    """As it stands on the page."""
    done = run(block, downloads)

    assert done.returncode == 0, done.stdout + done.stderr


def changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_refuses_a_changed_download(block: str, downloads: Path) -> None:
    """One bit of the artifact; or of the comment, in the block that is about it."""
    about_comment = "> comment" in block
    for folder in (downloads, downloads.parent / "mirror" / "artifacts" / "lantern" / "1.0.0"):
        if about_comment:
            text = (folder / "SHA256SUMS.minisig").read_text()
            (folder / "SHA256SUMS.minisig").write_text(text.replace("version:1.0.0", "version:9.0.0"))
        else:
            changed(folder / ARTIFACT)

    done = run(block, downloads)

    assert done.returncode != 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_refuses_another_key(block: str, downloads: Path) -> None:
    """Everything is as it was published, and the reader trusts somebody else."""
    trusted = downloads.parent / "trusted"
    key = private_key("somebody else").public_key()
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    (trusted / "provenance.pem").write_bytes(
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    for place in (trusted, trusted / "keys"):
        (place / "minisign.pub").write_text(MinisignKey.of(raw).text())
    known = trusted / "keys" / "keys.json"
    known.write_text(known.read_text().replace(_hex("provenance"), raw.hex()))
    if "policy tuf" in block:
        shutil.rmtree(trusted / "keys" / "metadata")

    assert run(block, downloads).returncode != 0


def _hex(name: str) -> str:
    return private_key(name).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
