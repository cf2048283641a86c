"""Userlands: which one keeps a promise, how one is made, and that a half-made or damaged one is never used."""

from __future__ import annotations

import base64
import http.server
import io
import os
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman_build.cmd import Runner
from ferryman_build.errors import BuildStepError, SpaceError, ToolMissingError
from ferryman_build.runners import roots
from ferryman_build.runners.base import Purpose
from ferryman_build.runners.roots import (
    MIRROR,
    Recipe,
    Root,
    find,
    is_whole,
    make,
    mirror,
    offered,
    recipes,
    renew,
    store,
)
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Libc, parse_target

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links, modes and shell scripts of Unix")

RECIPE = Recipe(suite="bullseye", arch="amd64", libc=Libc.GNU, purpose=Purpose.TRY)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FERRYMAN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(MIRROR, "copy:/archive/debian")
    return tmp_path / "home"


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "logs")


def nothing(top: Path, recipe: Recipe) -> None:
    """No program of the userland is needed."""


# --- which one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "promise", "purpose", "suites"),
    [
        ("linux-amd64", {"glibc": "2.17"}, Purpose.TRY, ["bullseye", "bookworm", "trixie"]),
        ("linux-amd64", {"glibc": "2.31"}, Purpose.TRY, ["bullseye", "bookworm", "trixie"]),
        ("linux-amd64", {"glibc": "2.32"}, Purpose.TRY, ["bookworm", "trixie"]),
        ("linux-amd64", {"glibc": "2.36"}, Purpose.TRY, ["bookworm", "trixie"]),
        ("linux-amd64", {"glibc": "2.41"}, Purpose.TRY, ["trixie"]),
        ("linux-amd64", {"glibc": "2.100"}, Purpose.TRY, []),
        ("linux-amd64", {}, Purpose.TRY, ["bullseye", "bookworm", "trixie"]),
        ("linux-amd64", {"cpu": "x86-64-v3"}, Purpose.TRY, ["bullseye", "bookworm", "trixie"]),
        ("linux-amd64", {"glibc": "2.17"}, Purpose.BUILD, ["bookworm", "trixie"]),
        ("linux-amd64-musl", {"musl": "1.2"}, Purpose.TRY, ["bullseye", "bookworm", "trixie"]),
        ("linux-amd64-musl", {"musl": "1.2.3"}, Purpose.TRY, ["bookworm", "trixie"]),
        ("linux-amd64-musl", {"musl": "1.2"}, Purpose.BUILD, []),
        ("linux-riscv64", {"glibc": "2.31"}, Purpose.TRY, ["trixie"]),
    ],
)
def test_recipes(target: str, promise: dict[str, str], purpose: Purpose, suites: list[str]) -> None:
    """The oldest release whose C library has what is promised comes first; versions are numbers and not texts.

    To build in there must be a Python that the tools run on, which bullseye's is not; Debian has none for musl.
    """
    assert [recipe.suite for recipe in recipes(parse_target(target), purpose, promise)] == suites


def test_names_tell_userlands_apart() -> None:
    """By release, processor, C library and purpose, and by the packages, so that new ones make a new userland."""
    every = [
        Recipe(suite=suite, arch=arch, libc=libc, purpose=purpose)
        for suite in ("bullseye", "bookworm") for arch in ("amd64", "arm64") for libc in Libc for purpose in Purpose
    ]  # fmt: skip

    assert len({recipe.name for recipe in every}) == len(every)
    assert RECIPE.title == "Debian bullseye, glibc 2.31"
    assert RECIPE.name.startswith("bullseye-amd64-try-")


# --- where from -------------------------------------------------------------------------------------------------------


def apt(folder: Path, *rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apt-get that knows these sources."""
    monkeypatch.delenv(MIRROR)
    program = folder / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(rows) + "\nEND\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_the_mirror_is_apt_s_own(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first source of a release itself: not its security updates, which have few packages; by either of its names."""
    apt(
        tmp_path,
        "http://a.example/debian-security/|bookworm-security|stable-security|main",
        "http://b.example/debian/|bookworm|stable|non-free",
        "http://c.example/debian/|bookworm|stable|main",
        monkeypatch=monkeypatch,
    )

    assert mirror(runner) == "http://c.example/debian/"


def test_no_mirror(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Ubuntu's sources have no Debian; the advice says how to name one, and naming one is enough."""
    apt(tmp_path, "http://a.example/ubuntu/|noble|noble|main", monkeypatch=monkeypatch)
    with pytest.raises(ToolMissingError, match="name no Debian archive") as caught:
        mirror(runner)
    assert MIRROR in caught.value.advice
    monkeypatch.setenv(MIRROR, "https://d.example/debian")

    assert mirror(runner) == "https://d.example/debian"


def test_the_oldest_that_the_mirror_has(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that the mirror has dropped, for this machine at least, is passed over; one that apt alone can look for is believed."""
    found = recipes(parse_target("linux-amd64"), Purpose.TRY, {"glibc": "2.17"})
    assert offered(found, runner).suite == "bullseye"
    for machine, suite in (("s390x", "bullseye"), ("amd64", "bookworm")):
        (tmp_path / f"dists/{suite}/main/binary-{machine}").mkdir(parents=True)
        (tmp_path / f"dists/{suite}/main/binary-{machine}/Release").touch()
    monkeypatch.setenv(MIRROR, tmp_path.as_uri())

    assert offered(found, runner).suite == "bookworm"
    with pytest.raises(ToolMissingError, match="no release trixie for amd64") as caught:
        offered(found[2:], runner)
    assert caught.value.exit_code == 4
    assert MIRROR in caught.value.advice


def test_a_mirror_with_a_password(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is asked with it, as apt would ask."""
    asked: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(200 if "bookworm" in self.path else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(MIRROR, f"http://me:p%40ss@127.0.0.1:{server.server_port}/debian/")
        found = offered(recipes(parse_target("linux-amd64"), Purpose.TRY, {}), runner)
        server.shutdown()

    word = "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert found.suite == "bookworm"
    assert asked == [
        (f"/debian/dists/{suite}/main/binary-amd64/Release", word) for suite in ("bullseye", "bookworm")
    ]


@pytest.mark.parametrize(("host", "told"), [("127.0.0.1", True), ("localhost", False)])
def test_a_password_is_for_one_server(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, host: str, told: bool
) -> None:
    """The mirror sends us on: elsewhere on itself it is told again, and another server never learns it."""
    asked: list[tuple[str, bool]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append((self.path.split("/")[1], bool(self.headers["Authorization"])))
            moved = self.path.startswith("/debian/")
            self.send_response(302 if moved else 200)
            if moved:
                self.send_header("Location", f"http://{host}:{server.server_port}/store{self.path}")
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815 - http.server calls it so

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(MIRROR, f"http://me:secret@127.0.0.1:{server.server_port}/debian")
        offered([RECIPE], runner)
        server.shutdown()

    assert asked == [("debian", True), ("store", told)]


def test_a_mirror_that_is_down(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not taken for one without that release; a password in its address is not told."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv(MIRROR, f"http://user:secret@127.0.0.1:{port}/debian")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ToolMissingError, match=r"does not answer: .*refused") as caught:
        offered([RECIPE], runner)

    assert "secret" not in str(caught.value)
    assert MIRROR in caught.value.advice


# --- making one -------------------------------------------------------------------------------------------------------

MEMBERS = {
    "./usr/bin/true": b"#!",
    "./usr/share/doc/x/copyright": b"text",
    "./etc/hosts": b"10.0.0.1 secret\n",
}


def archive(path: Path) -> None:
    """What mmdebstrap makes: files, a link, a device."""
    with tarfile.open(path, "w") as tar:
        for name, content in MEMBERS.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
        link, device = tarfile.TarInfo("./bin"), tarfile.TarInfo("./dev/null")
        link.type, link.linkname, device.type = tarfile.SYMTYPE, "usr/bin", tarfile.CHRTYPE
        tar.addfile(link)
        tar.addfile(device)


@pytest.fixture
def mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A stand-in that keeps its words and then does what the test says; $out is the file to make."""
    archive(tmp_path / "made.tar")
    program = tmp_path / "mmdebstrap"
    monkeypatch.setattr(roots, "tool", lambda name: str(program) if program.exists() else None)

    def write(act: str) -> Path:
        text = f'#!/bin/sh\necho "$@" > {tmp_path}/words\nfor word; do case $word in *.tar) out=$word;; esac; done\n{act}\n'
        program.write_text(text.replace("MADE", str(tmp_path / "made.tar")), encoding="utf-8")
        program.chmod(0o755)
        return tmp_path / "words"

    write('cp MADE "$out"')
    return write


def test_a_userland_is_made(mmdebstrap: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    """Unpacked without devices, documentation and what this machine's setup put into it, and found again as a whole."""
    assert find(RunnerName.ROOTFS, RECIPE) is None
    finished: list[Path] = []
    made = make(RECIPE, RunnerName.ROOTFS, runner, lambda top, _: finished.append(top))

    assert find(RunnerName.ROOTFS, RECIPE) == made
    assert is_whole(made)
    assert (made.path / "bin/true").read_bytes() == b"#!"
    assert not (made.path / "usr/share/doc").exists()
    assert not (made.path / "dev/null").exists()
    assert "secret" not in (made.path / "etc/hosts").read_text(encoding="utf-8")
    assert len(finished) == 1
    assert sorted(path.name for path in store(RunnerName.ROOTFS).iterdir()) == [RECIPE.name]
    words = (tmp_path / "words").read_text(encoding="utf-8").split()
    assert {"--variant=extract", "--architectures=amd64", "bullseye"} <= set(words)
    assert words[-4:] == ["deb", "copy:/archive/debian", "bullseye", "main"]


def failed(runner: Runner, error: type[Exception], match: str) -> Exception:
    """Making it fails with that, and nothing stays behind."""
    with pytest.raises(error, match=match) as caught:
        make(RECIPE, RunnerName.ROOTFS, runner, nothing)
    assert list(store(RunnerName.ROOTFS).iterdir()) == []
    return caught.value


def test_mmdebstrap_is_missing(mmdebstrap: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    """Exit code 4 and the command that installs it."""
    (tmp_path / "mmdebstrap").unlink()
    error = failed(runner, ToolMissingError, "mmdebstrap, which was not found")

    assert isinstance(error, ToolMissingError)
    assert (error.exit_code, error.advice) == (4, "As root: apt-get install mmdebstrap")


def test_mmdebstrap_fails(mmdebstrap: Callable[[str], Path], runner: Runner) -> None:
    """An unknown release, a key that is missing: its own last words and the log."""
    mmdebstrap("echo 'E: unknown suite' >&2; exit 25")
    error = failed(runner, BuildStepError, "mmdebstrap-bullseye-amd64 failed with exit code 25")

    assert isinstance(error, BuildStepError)
    assert error.details == ("E: unknown suite",)
    assert error.log is not None


def test_no_space_for_mmdebstrap(mmdebstrap: Callable[[str], Path], runner: Runner) -> None:
    """Its message is understood."""
    mmdebstrap('echo half > "$out"; echo "E: tar: No space left on device" >&2; exit 1')
    failed(runner, SpaceError, "disk is full")


def test_no_space_to_unpack(
    mmdebstrap: Callable[[str], Path], runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where the disk fills up in the middle of the unpacking."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    error = failed(runner, SpaceError, "No space left for a userland")

    assert isinstance(error, SpaceError)
    assert error.exit_code == 10
    assert "FERRYMAN_HOME" in error.advice


def test_what_its_programs_cannot_finish_is_not_kept(
    mmdebstrap: Callable[[str], Path], runner: Runner
) -> None:
    """A userland without its library cache is none."""

    def refuse(top: Path, recipe: Recipe) -> None:
        raise ToolMissingError("no namespaces")

    with pytest.raises(ToolMissingError):
        make(RECIPE, RunnerName.ROOTFS, runner, refuse)
    assert list(store(RunnerName.ROOTFS).iterdir()) == []


# --- damage -----------------------------------------------------------------------------------------------------------


def cut(root: Root) -> None:
    (root.path / "usr/bin/true").write_bytes(b"")


def lose(root: Root) -> None:
    (root.path / "usr/bin/true").unlink()


def add(root: Root) -> None:
    (root.path / "etc/ld.so.preload").write_text("/tmp/evil.so")


def weaken(root: Root) -> None:
    (root.path / "usr/bin/true").chmod(0o600)


def turn(root: Root) -> None:
    (root.path / "bin").unlink()
    (root.path / "bin").symlink_to("sbin")


def empty(root: Root) -> None:
    shutil.rmtree(root.path)


def forget(root: Root) -> None:
    (root.folder / "made.json").write_text("{}")


@pytest.mark.parametrize("harm", [cut, lose, add, weaken, turn, empty], ids=lambda harm: harm.__name__)
def test_a_damaged_userland_is_made_anew(
    harm: Callable[[Root], None], mmdebstrap: Callable[[str], Path], runner: Runner
) -> None:
    """From the archive that was kept, without mmdebstrap or a network."""
    made = make(RECIPE, RunnerName.ROOTFS, runner, nothing)
    mmdebstrap("exit 1")
    harm(made)
    assert not is_whole(made)
    renew(made, nothing)

    assert is_whole(made)
    assert (made.path / "usr/bin/true").read_bytes() == b"#!"
    assert sorted(path.name for path in store(RunnerName.ROOTFS).iterdir()) == [RECIPE.name]


def test_two_builds_mend_it_once(mmdebstrap: Callable[[str], Path], runner: Runner) -> None:
    """Whoever comes second waits, and finds it whole; so does a second setup."""
    made = make(RECIPE, RunnerName.ROOTFS, runner, nothing)
    lose(made)
    finished: list[Path] = []

    def slow(top: Path, recipe: Recipe) -> None:
        time.sleep(0.3)
        finished.append(top)

    threads = [threading.Thread(target=renew, args=(made, slow)) for _ in range(3)]
    threads.append(threading.Thread(target=make, args=(RECIPE, RunnerName.ROOTFS, runner, slow)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(finished) == 1
    assert is_whole(made)


@pytest.mark.parametrize("rest", ["archive", "list"])
def test_damage_that_cannot_be_mended(rest: str, mmdebstrap: Callable[[str], Path], runner: Runner) -> None:
    """With the archive or the list of hashes gone as well, the advice is to set it up again; what there is stays."""
    made = make(RECIPE, RunnerName.ROOTFS, runner, nothing)
    lose(made)
    if rest == "archive":
        made.tar.write_bytes(b"half")
    else:
        forget(made)
    assert not is_whole(made)
    with pytest.raises(ToolMissingError, match="is damaged, and so is the archive") as caught:
        renew(made, nothing)

    assert "ferryman runners setup" in caught.value.advice
    assert made.folder.is_dir()
