"""A place in another userland: what it shows and hides, how it is entered, and what is said when it cannot be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from ferryman_build.cmd import Runner, end_group
from ferryman_build.errors import ToolMissingError
from ferryman_build.runners import enter, rootfs, roots
from ferryman_build.runners.base import Purpose, RunnerKind
from ferryman_build.runners.emulation import Emulator
from ferryman_build.runners.rootfs import Entry, Inside, Qemu, Rootfs, entry
from ferryman_build.runners.roots import Made, Recipe, Root, listing, recipes, store
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Libc, Target, parse_target

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="userlands are Linux's")

LINUX, MUSL, ARM, WINDOWS = (
    parse_target(name) for name in ("linux-amd64", "linux-amd64-musl", "linux-arm64", "windows-amd64")
)
RECIPE = Recipe(suite="bullseye", arch="amd64", libc=Libc.GNU, purpose=Purpose.TRY)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FERRYMAN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def put(name: RunnerName, recipe: Recipe) -> Root:
    """A userland of two files."""
    root = Root(recipe=recipe, folder=store(name) / recipe.name)
    (root.path / "usr/bin").mkdir(parents=True)
    (root.path / "usr/bin/python3").touch()
    made = Made(tar="", root=listing(root.path))
    (root.folder / "made.json").write_bytes(msgspec.json.encode(made))
    return root


# --- which targets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "target", "host", "runs"),
    [
        (Rootfs(), LINUX, LINUX, True),
        (Rootfs(), MUSL, LINUX, True),
        (Rootfs(), LINUX, MUSL, True),
        (Rootfs(), ARM, LINUX, False),
        (Rootfs(), LINUX, WINDOWS, False),
        (Rootfs(), WINDOWS, LINUX, False),
        (Qemu(), ARM, LINUX, True),
        (Qemu(), LINUX, ARM, True),
        (Qemu(), LINUX, MUSL, False),
        (Qemu(), WINDOWS, ARM, False),
        (Qemu(), ARM, WINDOWS, False),
    ],
)
def test_runs(kind: RunnerKind, target: Target, host: Target, runs: bool) -> None:
    """Linux programs on Linux: of the same processor in a userland, of another one with QEMU."""
    assert kind.runs(target, host) == runs


# --- ready ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lets us make namespaces."""
    monkeypatch.setattr(rootfs, "entry", lambda: Entry(user=False))


def test_nothing_set_up(allowed: None) -> None:
    """The advice is the command."""
    state = Rootfs().ready(LINUX, Purpose.TRY, LINUX.floor)

    assert (state.ready, state.found) == (False, "no userland is set up")
    assert state.advice == "ferryman runners setup rootfs --target linux-amd64"


@pytest.mark.parametrize(
    ("target", "floor", "more"),
    [
        (LINUX, {"glibc": "2.36"}, ' --floor "glibc 2.36"'),
        (LINUX, {"glibc": "2.17"}, ""),
        (LINUX, {}, ""),
        (MUSL, {"musl": "1.2.3"}, ' --floor "musl 1.2.3"'),
    ],
)
def test_the_advice_brings_the_userland_that_is_missing(
    allowed: None, target: Target, floor: dict[str, str], more: str
) -> None:
    """For another promise than the row's, the command names it; also where the target carries it already."""
    for one in (target, msgspec.structs.replace(target, floor=floor)):
        advice = Rootfs().ready(one, Purpose.TRY, floor).advice
        assert advice == f"ferryman runners setup rootfs --target {target}{more}"


def test_the_oldest_that_keeps_the_promise(allowed: None) -> None:
    """One that is older than the promise does not count, one that is newer does where there is none nearer."""
    bullseye, bookworm, _ = recipes(LINUX, Purpose.TRY, {})
    put(RunnerName.ROOTFS, bookworm)
    assert Rootfs().ready(LINUX, Purpose.TRY, {"glibc": "2.17"}).found == "Debian bookworm, glibc 2.36"
    put(RunnerName.ROOTFS, bullseye)
    assert Rootfs().ready(LINUX, Purpose.TRY, {"glibc": "2.17"}).found == "Debian bullseye, glibc 2.31"
    assert Rootfs().ready(LINUX, Purpose.TRY, {"glibc": "2.36"}).found == "Debian bookworm, glibc 2.36"

    assert not Rootfs().ready(LINUX, Purpose.TRY, {"glibc": "2.37"}).ready
    assert not Rootfs().ready(LINUX, Purpose.BUILD, {"glibc": "2.17"}).ready
    assert not Qemu().ready(ARM, Purpose.TRY, {"glibc": "2.17"}).ready


def test_no_userland_can_be_had(allowed: None) -> None:
    """Said without a command that would not help."""
    state = Rootfs().ready(LINUX, Purpose.TRY, {"glibc": "2.99"})
    assert (state.found, state.advice) == (
        "Debian has no userland to try gnu amd64 programs in with 2.99 or newer",
        "",
    )
    state = Rootfs().ready(MUSL, Purpose.BUILD, {})
    assert (state.found, state.advice) == ("Debian has no userland to build musl amd64 programs in", "")


def test_no_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who may make no namespaces is told what would help."""
    monkeypatch.setattr(rootfs, "entry", lambda: None)
    put(RunnerName.ROOTFS, RECIPE)
    state = Rootfs().ready(LINUX, Purpose.TRY, LINUX.floor)

    assert (state.ready, state.found) == (False, "this user may make no namespaces")
    assert "user namespaces" in state.advice


def test_no_qemu(allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A userland alone does not run a foreign program; with QEMU it does."""
    put(RunnerName.QEMU, recipes(ARM, Purpose.TRY, {})[0])
    monkeypatch.setattr(
        rootfs.emulation, "emulator", lambda _: Emulator(problem="binfmt_misc is not mounted")
    )
    state = Qemu().ready(ARM, Purpose.TRY, ARM.floor)
    assert (state.ready, state.found) == (False, "binfmt_misc is not mounted")
    assert state.advice == "ferryman runners setup qemu --target linux-arm64"
    monkeypatch.setattr(rootfs.emulation, "emulator", lambda _: Emulator(interpreter="/opt/qemu"))

    assert Qemu().ready(ARM, Purpose.TRY, ARM.floor).found == "qemu-aarch64, Debian bullseye, glibc 2.31"


def test_opening_what_is_not_ready(allowed: None, tmp_path: Path) -> None:
    """An error with the same advice."""
    with (
        pytest.raises(
            ToolMissingError, match="cannot be run through rootfs: no userland is set up"
        ) as caught,
        Rootfs().open(LINUX, Purpose.TRY, LINUX.floor, tmp_path, Runner()),
    ):
        pass
    assert caught.value.advice == "ferryman runners setup rootfs --target linux-amd64"


def test_a_damaged_userland_is_mended_when_it_is_opened(
    allowed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a whole one is left alone."""
    root = put(RunnerName.ROOTFS, RECIPE)
    renewed: list[Root] = []
    monkeypatch.setattr(roots, "renew", lambda damaged, _: renewed.append(damaged))
    with Rootfs().open(LINUX, Purpose.TRY, LINUX.floor, tmp_path, Runner()):
        assert renewed == []
    (root.path / "usr/bin/python3").unlink()
    with Rootfs().open(LINUX, Purpose.TRY, LINUX.floor, tmp_path, Runner()):
        assert renewed == [root]


@pytest.mark.parametrize(
    ("floor", "fact"),
    [
        ({"glibc": "2.17"}, "userland: Debian bullseye, glibc 2.31 (the promise is 2.17)"),
        ({"glibc": "2.31"}, "userland: Debian bullseye, glibc 2.31"),
        ({}, "userland: Debian bullseye, glibc 2.31"),
    ],
)
def test_facts(allowed: None, tmp_path: Path, floor: dict[str, str], fact: str) -> None:
    """The manifest says what the program saw, and where that is not yet the promise."""
    put(RunnerName.ROOTFS, RECIPE)
    with Rootfs().open(LINUX, Purpose.TRY, floor, tmp_path, Runner()) as place:
        assert place.facts == (fact,)
        assert place.label == "bullseye"
        assert place.denies


# --- names and words --------------------------------------------------------------------------------------------------


def inside(purpose: Purpose, tmp_path: Path) -> Inside:
    root = Root(recipe=RECIPE, folder=Path("/store/bullseye"))
    return Inside(root, purpose=purpose, top=tmp_path, how=Entry(user=True), facts=())


def request(words: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(words[-1])
    return found


def test_spelling(tmp_path: Path) -> None:
    """What is shared has the same name; what is the userland's own is named from its top, and both ways agree."""
    place = inside(Purpose.BUILD, tmp_path)
    assert place.python == Path("/store/bullseye/root/usr/bin/python3")
    assert place.spell(place.python) == "/usr/bin/python3"
    assert place.unspell("/usr/bin/python3") == place.python
    assert place.spell(Path("/srv/a b/é")) == "/srv/a b/é"
    place.command(["x"], cwd=Path("/var/lib/ci/cwd"), env={}, folders=[Path("/var/lib/ci/out")])

    assert place.unspell("/var/lib/ci/out/lib.so") == Path("/var/lib/ci/out/lib.so")
    assert place.unspell("/var/lib/dpkg") == Path("/store/bullseye/root/var/lib/dpkg")


def test_what_a_program_under_test_sees(tmp_path: Path) -> None:
    """The folders it is given and no others; a path among its words is spelled, a text is not touched."""
    place = inside(Purpose.TRY, tmp_path)
    command = place.command(
        [Path("/store/bullseye/root/bin/x"), "/store/bullseye/root/bin/x"], cwd=Path("/a/cwd"), env={"HOME": "/a"},
        folders=[Path("/a")], shown=[Path("/p"), Path("/a")], denied=[Path("/tmp")],
    )  # fmt: skip
    asked = request(command.words)

    assert asked["words"] == ["/bin/x", "/store/bullseye/root/bin/x"]
    assert (asked["writable"], asked["shown"], asked["denied"]) == (["/a", "/a/cwd"], ["/p"], ["/tmp"])
    assert asked["user"] is True
    assert (command.env, command.cwd) == ({"HOME": "/a"}, Path("/a/cwd"))
    assert place.python is None


def test_what_a_build_tool_sees(tmp_path: Path) -> None:
    """Everything of this machine but what every Linux has of its own."""
    asked = request(inside(Purpose.BUILD, tmp_path).command(["x"], cwd=tmp_path, env={}).words)
    tops = {str(path) for path in Path("/").iterdir() if path.is_dir()}

    assert set(map(str, asked["writable"])) & tops == tops - {f"/{name}" for name in rootfs._OWN}  # type: ignore[call-overload]
    assert str(tmp_path) in asked["writable"]  # type: ignore[operator]


# --- entering ---------------------------------------------------------------------------------------------------------

# The userland is this machine's own, which every machine has; with the real ones: tests/e2e/runners.
HOW = entry()
NAMESPACES = pytest.mark.skipif(
    HOW is None, reason="NOT TESTED: this machine lets us make no mount namespace"
)


class Run:
    """Programs started with the host's own files as their userland."""

    def __init__(self, tmp_path: Path) -> None:
        self.base = tmp_path.resolve()
        self.top, self.data, self.shown = (self.base / name for name in ("top", "data", "shown"))
        for folder in (self.top, self.data, self.shown):
            folder.mkdir()

    def words(self, *program: str, **more: object) -> tuple[str, ...]:
        assert HOW is not None
        return HOW.words({
            "root": "/", "top": str(self.top), "writable": [str(self.data)], "shown": [str(self.shown)],
            "denied": ["/tmp", "/var/tmp"], "cwd": str(self.data), "words": list(program), **more,
        })  # fmt: skip

    def sh(
        self, text: str, env: dict[str, str] | None = None, **more: object
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words("/bin/sh", "-c", text, **more), env=env or {}, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@NAMESPACES
def test_only_what_is_given_can_be_written(run: Run) -> None:
    """Everything else is read-only, and the temporary folders are empty; what is written is seen outside at once."""
    (run.shown / "file").write_text("seen\n")
    done = run.sh(
        f"""cat {run.shown}/file && echo made > {run.data}/made
        for path in / /etc /usr /tmp /var/tmp /dev {run.shown} {run.base}; do
          (: > $path/probe) 2> /dev/null && echo "$path can be written"
        done
        ls /tmp/* -d; : > /dev/shm/x && echo shared memory""",
        {"PATH": "/usr/bin:/bin"},
    )

    assert done.stdout.splitlines() == [
        "seen",
        *([str(Path(*run.base.parts[:3]))] if run.base.is_relative_to("/tmp") else []),
        "shared memory",
    ]
    assert (run.data / "made").read_text() == "made\n"
    assert list(run.top.iterdir()) == [], "the mounts have ended with the process"


@NAMESPACES
def test_this_machine_cannot_be_changed(run: Run) -> None:
    """/sys and the kernel's own settings are read-only with all that is mounted in them, whoever builds; /proc is not."""
    done = run.sh(
        """while read -r a b c d point options rest; do echo "$point ${options%%,*}"; done < /proc/self/mountinfo
        (: >> /proc/sys/kernel/domainname) 2> /dev/null && echo "settings can be written"
        : >> /proc/self/comm && echo "its own can be written"
        """
    )
    lines = done.stdout.splitlines()
    sealed = [line for line in lines if line.startswith(("/sys ", "/sys/", "/proc/sys ", "/proc/sys/"))]

    assert {line.split()[0] for line in sealed} >= {"/sys", "/proc/sys"}
    last = dict(line.split() for line in sealed)  # of two at one place the later covers the other
    assert set(last.values()) == {"ro"}
    assert lines[-1] == "its own can be written"
    assert "settings can be written" not in lines


@NAMESPACES
@pytest.mark.parametrize("person", ["as we are", "through a user namespace"])
def test_root_is_root_of_little(run: Run, person: str) -> None:
    """A program can neither mount, trace nor load anything, nor get such a right back; it still owns its files."""
    program = (
        'while read -r name value; do echo "$name$value"; done < /proc/self/status; : > made; chown 0 made && echo owned;'
        "mount -o remount,rw,bind / 2> /dev/null && echo mounted"
    )
    how = Entry(user=person != "as we are")
    if not rootfs._works(how):
        pytest.skip(f"NOT TESTED: no userland is entered here {person}")
    request = json.loads(run.words("/bin/sh", "-c", program)[-1])
    done = subprocess.run(
        how.words({name: value for name, value in request.items() if name != "user"}), env={"PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = dict(line.partition(":")[::2] for line in done.stdout.splitlines())

    allowed = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 10, 18))
    assert {
        int(said[name], 16) & ~allowed for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")
    } == {0}
    assert (said["NoNewPrivs"], "owned" in said, "mounted" in said) == ("1", True, False), done


@pytest.mark.parametrize(
    ("written", "name"), [(b"/a", "/a"), (rb"/a\040gift\0111\134", "/a gift\t1\\"), ("/für".encode(), "/für")]
)
def test_mount_points_as_the_kernel_writes_them(written: bytes, name: str) -> None:
    """Octal digits stand for what would end a field; a digit behind them is the name's own."""
    assert enter.unescaped(written) == name


@NAMESPACES
def test_nothing_executes_from_a_denied_folder(run: Run) -> None:
    """They are noexec; the folder for data is not."""
    done = run.sh(
        'for path in /tmp /var/tmp /dev/shm; do while read -r line; do case "$line" in *" $path "*) echo "$line";; esac; done < /proc/self/mounts; done'
    )

    for line in done.stdout.splitlines():
        assert "noexec" in line.split()[3].split(",")
    assert len(done.stdout.splitlines()) == 3
    (run.data / "x").write_text("#!/bin/sh\necho runs\n")
    (run.data / "x").chmod(0o755)
    assert run.sh("./x").stdout == "runs\n"


@NAMESPACES
def test_the_environment_is_exactly_what_was_given(run: Run) -> None:
    """Python adds nothing on the way, in a locale that it would like to change as well."""
    given = {"LC_ALL": "C", "EMPTY": "", "ODD": "a=b\nc"}
    done = subprocess.run(
        run.words(sys.executable, "-I", "-c", "print(sorted(open('/proc/self/environ').read().split(chr(0))))",
                  writable=[str(run.data), *map(str, pythons())]),
        env=given, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stdout.strip() == repr(sorted(["", *(f"{name}={value}" for name, value in given.items())])), (
        done
    )


def pythons() -> list[Path]:
    """The folders of this interpreter, which may lie in a temporary one."""
    return [Path(sys.prefix), Path(sys.base_prefix)]


@NAMESPACES
def test_the_process_is_the_program(run: Run) -> None:
    """Its PID, its exit code, its signals; and SIGPIPE ends it, which Python would ignore."""
    process = subprocess.Popen(run.words("/bin/sh", "-c", "echo $$; exec sleep 600"), env={"PATH": "/usr/bin:/bin"},
                               stdout=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip
    try:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGPIPE)
        assert process.wait(30) == -signal.SIGPIPE
        process.stdout.close()
    finally:
        end_group(process)
    assert run.sh("exit 42").returncode == 42


@NAMESPACES
def test_its_group_can_be_killed(run: Run) -> None:
    """There is no PID namespace in between: children die with the group, however they hang."""
    process = subprocess.Popen(
        run.words("/bin/sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait; sleep 600"), env={"PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    child = int(process.stdout.readline())
    end_group(process, 0.2)
    process.stdout.close()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@NAMESPACES
def test_a_program_that_is_not_there(run: Run) -> None:
    """127 and a sentence; PATH is searched inside."""
    done = run.sh("true", words=["/no/such/program"])
    assert done.returncode == 127
    assert done.stderr == "/no/such/program cannot be started in this userland: No such file or directory\n"
    assert run.sh("", {"PATH": "/usr/bin:/bin"}, words=["sh", "-c", "exit 5"]).returncode == 5


@NAMESPACES
@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"root": "/no/root"}, "No such file"), ({"writable": ["/no/folder"]}, "No such file")],
)
def test_a_userland_that_cannot_be_entered(run: Run, wrong: dict[str, object], says: str) -> None:
    """126 and a sentence, and no traceback."""
    done = run.sh("true", **wrong)

    assert done.returncode == 126
    assert done.stderr.startswith("the userland cannot be entered: ")
    assert says in done.stderr


@NAMESPACES
def test_awkward_names(run: Run) -> None:
    """Blanks, quotes, line breaks and letters beyond ASCII are a folder's own business."""
    folder = run.base / "a gift\nfür 'you' 你"
    folder.mkdir()
    done = run.sh("echo here > file", writable=[str(folder)], cwd=str(folder))

    assert done.returncode == 0, done.stderr
    assert (folder / "file").read_text() == "here\n"


@NAMESPACES
def test_many_at_once(run: Run) -> None:
    """Runs do not see each other's mounts."""
    started = [
        subprocess.Popen(run.words("/bin/sh", "-c", f"echo {number} > {number}; exit {number}"), env={})
        for number in range(6)
    ]

    assert [process.wait(60) for process in started] == list(range(6))
    assert sorted(path.name for path in run.data.iterdir()) == [str(number) for number in range(6)]


@pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="becoming somebody else needs root")
def test_an_ordinary_user() -> None:
    """The same through a user namespace, with a person's own rights outside: the system's Python is enough for it."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    person = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")
    try:
        allowed = (
            subprocess.run(
                [*person, "unshare", "--user", "true"], capture_output=True, check=False
            ).returncode
            == 0
        )
    except FileNotFoundError:
        allowed = False
    if python is None or not allowed:
        pytest.skip("NOT TESTED: no setpriv, no user namespaces or no python3 of the system")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is for one user alone
        in_another_name(Path(folder).resolve(), (*person, python, "-I", "-S"))


def in_another_name(base: Path, python: tuple[str, ...]) -> None:
    """Enter a userland as that person, and look at who made a file there."""
    base.chmod(0o755)
    shutil.copy(Path(rootfs.__file__).with_name("enter.py"), base / "enter.py")
    for name in ("top", "data"):
        (base / name).mkdir()
        os.chown(base / name, 12345, 12345)
    asked = {"user": True, "root": "/", "top": str(base / "top"), "writable": [str(base / "data")], "shown": [],
             "denied": ["/tmp", "/var/tmp"], "cwd": str(base / "data"),
             "words": ["/bin/sh", "-c", "id -u; echo made > made; : > /etc/probe"]}  # fmt: skip
    done = subprocess.run([*python, str(base / "enter.py"), json.dumps(asked)], capture_output=True,
                          text=True, check=False)  # fmt: skip

    assert done.stdout == "0\n", done
    assert done.returncode != 0
    assert (base / "data/made").stat().st_uid == 12345
