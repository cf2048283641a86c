"""install.sh for hours rather than seconds: under every shell, on systems with next to nothing, after a real publish."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman_build.artifacts import Kind
from ferryman_build.targets import host_target
from support.dist_factory import file_name, make_dist
from support.installer import MUTATING, SHELLS, Machine, climb, need
from support.release_factory import sbom
from support.releasing import make_world
from support.site_factory import Published, program, publish
from support.site_server import serving

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="the machines of these tests have Linux's programs"),
]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Published]:
    (tmp_path / "public").mkdir()
    with serving(tmp_path / "public") as server:
        yield publish(server.root, server.url, targets=tuple({"linux-arm64", host_target().id}))


@pytest.fixture
def machine(tmp_path: Path, site: Published) -> Machine:
    need("curl")
    (tmp_path / "a machine").mkdir()
    return Machine(folder=tmp_path / "a machine", installer=site.root / "install.sh").having()


@pytest.mark.parametrize("locking", ["flock", "folder"])
@pytest.mark.parametrize("shell", SHELLS)
def test_killed_at_any_change_under_any_shell(
    machine: Machine, site: Published, shell: str, locking: str
) -> None:
    """SIGKILL before each command that changes a file, with either lock: one version or the other, and a rerun ends it."""
    need(SHELLS[shell][0], "openssl", *(["flock"] if locking == "flock" else []))
    tools = ["curl", "openssl", *(["flock"] if locking == "flock" else [])]

    assert climb(machine.under(shell), site, tools) > 10


def test_killed_at_any_command(machine: Machine, site: Published) -> None:
    """The same at each command that only reads or writes into a pipe: between any two steps there may be an end."""
    need("dash", "minisign")

    assert climb(machine, site, ("curl", "minisign"), (*MUTATING, "cat", "readlink", "sha256sum")) > 40


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A root folder with busybox, the libraries that it loads, and nothing else: no /proc, no passwd, no libc-bin."""
    need("busybox", "chroot", "ldd")
    root = tmp_path / "tiny"
    for folder in ("bin", "tmp", "dev", "root"):
        (root / folder).mkdir(parents=True)
    (root / "dev" / "null").write_text("")
    busybox = shutil.which("busybox") or ""
    shutil.copy(busybox, root / "bin" / "busybox")
    listed = subprocess.run(["ldd", busybox], capture_output=True, text=True, check=False).stdout
    for name in re.findall(r"(/\S+) \(0x", listed):
        (root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, root / name.lstrip("/"))
    for name in subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        if not (root / "bin" / name).exists():
            (root / "bin" / name).symlink_to("busybox")
    return root


@as_root
def test_a_system_of_busybox_alone(tiny: Path, site: Published) -> None:
    """Installed, updated, gone back and removed, from a folder as a mirror, with hashes that the script brings."""
    shutil.copytree(site.root, tiny / "public")
    published = Published(root=tiny / "public", url=site.url, targets=site.targets, channels=site.channels)

    def run(*args: str) -> str:
        done = subprocess.run(
            [shutil.which("chroot"), tiny, "/bin/sh", "/public/install.sh", "--mirror", "file:///public", *args],
            env={"PATH": "/bin", "HOME": "/root"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def says() -> str:
        done = subprocess.run(
            ["chroot", tiny, "/usr/local/bin/lantern"], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert "lantern 1.0.0 is installed" in run()
    assert says() == "lantern 1.0.0"
    published.offer("stable", "2.0.0", published.add_version("2.0.0"))
    run("--kind", "archive")
    assert says() == "lantern 2.0.0"
    run("--uninstall")
    assert not list((tiny / "usr" / "local").rglob("lantern*"))


@as_root
def test_a_clean_debian(tmp_path: Path, site: Published) -> None:
    """Without curl, wget and minisign: OpenSSL verifies for a person's installation, Python for root's, for all users."""
    from e2e.clean_rootfs.rootfs import Root, UnavailableError, require_tools, rootfs_tarball

    cache = Path(__file__).resolve().parents[3] / ".cache" / "rootfs"
    try:
        require_tools()
        root = Root.unpack(rootfs_tarball(cache), tmp_path / "debian")
    except UnavailableError as error:
        pytest.skip(f"NOT TESTED: {error}")
    shutil.copytree(site.root, root.path / "public")

    for user, prefix, verifier in (
        ("newcomer", "/home/newcomer/.local", "openssl"),
        ("root", "/usr/local", "python3"),
    ):
        ran = root.run(["sh", "/public/install.sh", "--mirror", "file:///public"], user=user)
        assert ran.code == 0, ran.output
        assert f"lantern 1.0.0 is installed: {prefix}/bin/lantern" in ran.output
        assert root.run([f"{prefix}/bin/lantern", "--version"]).output.strip() == "lantern 1.0.0"
        receipt = (
            root.path / prefix.lstrip("/") / "lib" / "lantern-agent" / "current" / "install-receipt.json"
        )
        text = root.run(["cat", f"/{receipt.relative_to(root.path)}"], user=user).output
        assert f'"verified-by": "{verifier}"' in text
        (root.path / "usr" / "bin" / "openssl").unlink(missing_ok=True)


@pytest.mark.parametrize("verifier", ["minisign", "openssl", "python3"])
def test_what_the_pipeline_has_published_can_be_installed(tmp_path: Path, verifier: str) -> None:
    """`ferryman release`, its keys, its pages: the installer takes the release, the next one, and refuses a changed file."""
    need("dash", *(() if verifier == "python3" else (verifier,)))
    target = host_target().id
    world = make_world(tmp_path / "world")
    world.targets = (target,)
    executables = {v: file_name("lantern", v, target, Kind.EXECUTABLE) for v in ("1.0.0", "2.0.0", "3.0.0")}
    for version, name in executables.items():
        make_dist(
            world.root / f"dist-{version}", version, targets=world.targets, sbom=sbom,
            contents={name: program("lantern", version)},
        )  # fmt: skip
    world.release("1.0.0")
    public = Path(world.place().public_url.removeprefix("file://"))
    (tmp_path / "machine").mkdir()
    machine = Machine(folder=tmp_path / "machine", installer=public / "install.sh", name="lantern").having(
        verifier
    )

    machine.install("--channel", "canary")
    assert machine.says() == "lantern 1.0.0"
    world.release("2.0.0")
    machine.install()
    assert machine.says() == "lantern 2.0.0"
    machine.install("--version", "1.0.0")
    assert machine.says() == "lantern 1.0.0"
    world.release("3.0.0")
    published = public / "artifacts" / "lantern" / "3.0.0" / executables["3.0.0"]
    published.chmod(0o644)
    published.write_bytes(published.read_bytes() + b"\n")
    machine.refuse(7)
    assert machine.says() == "lantern 1.0.0"
