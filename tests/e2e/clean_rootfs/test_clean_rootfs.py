"""The README's promise: git, python3 and python3-venv are enough for each of the two commands.

Run by `nox -s e2e`. The transcripts are kept in out/clean-rootfs/.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import USER, Ran, Root, UnavailableError, require_tools, rootfs_tarball

REPOSITORY = Path(__file__).resolve().parents[3]
# A person's folder may be called anything.
CHECKOUT = f"/home/{USER}/mes agents é/ferryman"

# A whole run of the tests inside takes minutes.
pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(2400)]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """An empty Debian with a clone of what is committed here, owned by an ordinary user."""
    try:
        require_tools()
        tarball = rootfs_tarball(REPOSITORY / ".cache" / "rootfs")
    except UnavailableError as reason:
        pytest.skip(str(reason))
    empty = Root.unpack(tarball, tmp_path / "root")
    clone(empty)
    yield empty
    # Gigabytes are not kept for pytest's usual three runs.
    subprocess.run(["rm", "-rf", "--one-file-system", str(empty.path)], check=False)


def clone(root: Root) -> None:
    """Clone inside, with the git that is there, from a bundle of the current commit."""
    bundle = root.path / "home" / USER / "ferryman.bundle"
    subprocess.run(["git", "bundle", "create", "--quiet", str(bundle), "HEAD"], cwd=REPOSITORY, check=True)
    bundle.chmod(0o644)
    root.run(["git", "clone", "--quiet", f"/home/{USER}/ferryman.bundle", CHECKOUT]).check()


def type_command(root: Root, command: str, name: str, *, user: str = USER) -> Ran:
    """Type a command in the clone and keep what was seen."""
    ran = root.run(["bash", "-c", command], cwd=CHECKOUT, user=user)
    kept = REPOSITORY / "out" / "clean-rootfs" / f"{name}.txt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(f"$ {command}\n{ran.output}[exit code {ran.code}]\n", encoding="utf-8")
    return ran


def readme_commands() -> list[str]:
    """The commands in the README's shell blocks: the trial types what a reader would type."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("python3 noxfile.py")]


def test_build_command(root: Root) -> None:
    """The first command ends well as an ordinary user, and what it made in dist/ runs outside the checkout."""
    type_command(root, readme_commands()[0], "build").check()

    made = root.run(["find", f"{CHECKOUT}/dist", "-maxdepth", "1", "-type", "f"]).check().output.splitlines()
    names = {Path(line).name for line in made}
    assert {"manifest.json", "SHA256SUMS"} <= names
    root.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=f"{CHECKOUT}/dist").check()
    assert root.run(["git", "status", "--porcelain"], cwd=CHECKOUT).check().output == ""


def test_tests_command(root: Root) -> None:
    """The second command ends well, and pytest's summary is the last thing it prints before nox's own line."""
    ran = type_command(root, readme_commands()[1], "tests").check()

    said = [line for line in ran.output.splitlines() if not line.startswith("nox >")]
    assert re.search(r"\d+ passed", said[-1])


def test_without_venv_says_what_to_install(root: Root) -> None:
    """Without python3-venv the first command names the package and ends with code 4, leaving nothing behind."""
    root.run(["bash", "-c", "dpkg --purge --force-depends python3-venv python3.11-venv"], user="root").check()

    ran = type_command(root, readme_commands()[0], "no-venv")

    assert ran.code == 4
    assert "apt-get install python3-venv" in ran.output
    assert "Traceback" not in ran.output
    assert root.run(["git", "status", "--porcelain", "--ignored"], cwd=CHECKOUT).check().output in (
        "",
        "!! tools/__pycache__/\n",
    )


def test_without_network_says_so(root: Root) -> None:
    """When no index answers, the first command says that, what to check, and ends with code 13."""
    (root.path / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (root.path / "etc" / "hosts").write_text("127.0.0.1 localhost\n")

    ran = type_command(root, "env -u HTTPS_PROXY -u https_proxy " + readme_commands()[0], "no-network")

    assert ran.code == 13
    assert "package index could not be reached" in ran.output
    assert "Traceback" not in ran.output
