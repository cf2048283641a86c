"""One artifact through several runners: every check is named, one failure is enough, and what was not run is told."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ferryman_build.artifacts import Kind, Smoke, SmokeResult
from ferryman_build.cmd import Child, Runner
from ferryman_build.errors import BuildStepError, SmokeError, SpaceError, ToolMissingError
from ferryman_build.project import Project
from ferryman_build.runners import KINDS
from ferryman_build.runners.base import Command, Purpose, Readiness, RunnerKind
from ferryman_build.settings import RunnerName, Service, Settings, SmokeSettings
from ferryman_build.smoke import raise_for_failure, smoke_artifact
from ferryman_build.targets import host_target, parse_target

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts and POSIX signals")

ARM = parse_target("linux-arm64" if host_target().id != "linux-arm64" else "linux-amd64")
WINDOWS = parse_target("windows-amd64")


class Place:
    """Programs start on this machine, in front of whatever ``before`` says; names are spelled with a drive."""

    root: Path | None = None

    def __init__(self, kind: Elsewhere) -> None:
        self.kind = kind
        self.label, self.facts, self.denies, self.pipes, self.python = (
            kind.label, (f"userland: {kind.label}",), kind.denies, kind.pipes, kind.python,
        )  # fmt: skip

    def spell(self, path: Path) -> str:
        return f"{self.kind.drive}{path}"

    def unspell(self, text: str) -> Path:
        return Path(text.removeprefix(self.kind.drive))

    def command(
        self,
        words: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str],
        folders: Sequence[Path] = (),
        shown: Sequence[Path] = (),
        denied: Sequence[Path] = (),
    ) -> Command:
        self.kind.asked.append(
            {"words": words, "env": env, "folders": folders, "shown": shown, "denied": denied}
        )
        program = [
            str(word) for word in words
        ]  # as this machine calls it, since it is this machine that starts it
        return Command(words=(*self.kind.before, *program), env=env, cwd=cwd)

    def stop(self, child: Child) -> None:
        self.kind.stopped += 1
        child.terminate()


class Watchful(Place):
    """A place whose programs leave something behind that no group shows."""

    def leftovers(self) -> list[str]:
        return ["services.exe (8)"]


class Elsewhere:
    """A runner with a place as the test wants it."""

    name: ClassVar[RunnerName]

    def __init__(
        self, name: str, *, label: str = "", before: Sequence[str] = (), pipes: bool = False, denies: bool = False,
        drive: str = "", python: Path | None = None, error: Exception | None = None,
        place: Callable[[Elsewhere], Place] = Place, ready: bool = True, lends: bool = False,
    ) -> None:  # fmt: skip
        self.name = RunnerName(name)  # type: ignore[misc]
        self.label, self.before, self.pipes, self.denies, self.drive = (
            label or name,
            before,
            pipes,
            denies,
            drive,
        )
        self.python, self.error, self.place = python, error, place
        self.is_ready, self.may_have_python = ready, lends
        self.lent: Path | None = None
        self.drive_folder = Path()
        self.asked: list[dict[str, Any]] = []
        self.opened: list[tuple[Purpose, Mapping[str, str]]] = []
        self.stopped = 0

    def runs(self, target: object, host: object) -> bool:
        return True

    def ready(self, target: object, purpose: Purpose, floor: Mapping[str, str]) -> Readiness:
        return Readiness(ready=self.is_ready)

    def setup(self, target: object, runner: Runner, say: Callable[[str], None]) -> None:
        raise AssertionError("nothing is installed without being asked")

    @contextlib.contextmanager
    def open(
        self, target: object, purpose: Purpose, floor: Mapping[str, str], work: Path, runner: Runner
    ) -> Iterator[Place]:
        self.opened.append((purpose, floor))
        if self.error:
            raise self.error
        assert work.is_dir()
        yield self.place(self)


def smoke(
    tmp_path: Path, *kinds: RunnerKind, text: str = "echo fine", target: Any = ARM, path: Path | None = None,
    kind: Kind = Kind.EXECUTABLE, keeps_cache: bool = False, **settings: Any,
) -> SmokeResult:  # fmt: skip
    """Try a shell script, or the artifact at ``path``, through these runners."""
    if path is None:
        path = tmp_path / "agent-1.0"
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
    (tmp_path / "project").mkdir(exist_ok=True)
    (tmp_path / "work").mkdir(exist_ok=True)
    project = Project(
        root=tmp_path / "project", name="agent", version="1.0", requires_python=">=3.11", dependencies=(),
        entry_point="agent:main", executable="agent", settings=Settings(smoke=SmokeSettings(**settings)),
    )  # fmt: skip
    result = smoke_artifact(
        path, kind, target, project, host=host_target(), runner=Runner(tmp_path / "logs"), python=Path(sys.executable),
        work=tmp_path / "work", kinds=kinds, floor={"glibc": "2.31"}, keeps_cache=keeps_cache,
    )  # fmt: skip
    assert list((tmp_path / "work").iterdir()) == []
    return result


# --- one ------------------------------------------------------------------------------------------------------------


def test_one_runner(tmp_path: Path) -> None:
    """Checks keep their names; the result says through what and in what they ran, for the promise that was given."""
    qemu = Elsewhere("qemu", label="bullseye", denies=True)
    result = smoke(tmp_path, qemu)

    assert (result.status, result.runner) == (Smoke.PASSED, "qemu")
    assert [check.name for check in result.checks] == ["agent --version"]
    assert {"userland: bullseye", "tmp: read-only, noexec"} <= set(result.environment)
    assert qemu.opened == [(Purpose.TRY, {"glibc": "2.31"})]
    assert [path.name for path in (tmp_path / "logs").iterdir()] == [
        "01-smoke-executable-bullseye---version.log"
    ]


def test_no_runner(tmp_path: Path) -> None:
    """An empty list is untested, and no failure."""
    result = smoke(tmp_path)

    assert (result.status, result.reason) == (Smoke.UNTESTED, f"no runner for {ARM} on this machine")


def test_the_target_s_own_promise(tmp_path: Path) -> None:
    """Where the caller has none, the row's floor chooses the userland."""
    qemu = Elsewhere("qemu")
    project = Project(root=tmp_path, name="a", version="1", requires_python="", dependencies=(), entry_point="a:m",
                      executable="agent", settings=Settings())  # fmt: skip
    (tmp_path / "agent").touch()
    smoke_artifact(tmp_path / "agent", Kind.EXECUTABLE, ARM, project, host=host_target(), runner=Runner(),
                   python=Path(sys.executable), work=tmp_path / "w", kinds=[qemu])  # fmt: skip

    assert qemu.opened == [(Purpose.TRY, ARM.floor)]


def test_everything_is_spelled(tmp_path: Path) -> None:
    """Variables and placeholders are names of the place; the program's path is left to it."""
    wine = Elsewhere("wine", drive="Z:", pipes=True)
    result = smoke(tmp_path, wine, commands=(("{project}", "{tmp}"),), target=WINDOWS, text="echo $1 $2")
    (asked,) = wine.asked

    assert result.status is Smoke.PASSED, result
    program, project, scratch = asked["words"]
    assert isinstance(program, Path)
    assert program.name == "agent.exe"
    assert project == f"Z:{tmp_path / 'project'}"
    assert scratch.startswith("Z:")
    names = {"HOME", "PATH", "TMPDIR", "TEMP", "TMP", "USERPROFILE", "APPDATA", "LOCALAPPDATA"}
    assert {name for name, value in asked["env"].items() if value.startswith("Z:/")} == names
    assert asked["env"].keys() == names | {"LC_ALL"}
    assert tmp_path / "project" in asked["shown"]
    assert tmp_path / "project" not in asked["folders"]
    assert "tmp: fresh folder (Windows has no way to deny it)" in result.environment


def test_what_a_place_cannot_deny_is_said(tmp_path: Path) -> None:
    """No promise of a read-only temporary folder where it is only a directory without rights."""
    result = smoke(tmp_path, Elsewhere("container"))

    assert "tmp: fresh folder (container does not deny it)" in result.environment


def test_pipes(tmp_path: Path) -> None:
    """A place that wants pipes gets them, and the output is kept all the same, to its last line."""
    text = "[ -p /dev/stdout ] && [ -p /dev/stderr ] || exit 3; i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; echo end >&2; exit 4"
    result = smoke(tmp_path, Elsewhere("wine", pipes=True), text=text)

    assert result.checks[0].detail.splitlines()[0] == "ended with exit code 4"
    assert result.checks[0].detail.splitlines()[-2:] == ["line 4999", "end"]
    (log,) = (tmp_path / "logs").iterdir()
    assert "line 0\n" in log.read_text(encoding="utf-8")


def test_a_grandchild_that_holds_the_pipe(tmp_path: Path) -> None:
    """It is found, ended, and keeps nobody waiting."""
    started = time.monotonic()
    result = smoke(tmp_path, Elsewhere("wine", pipes=True), text="/bin/sleep 600 & echo done")

    assert time.monotonic() - started < 60
    assert result.checks[0].detail.startswith("still running after it: sleep (")


def test_a_place_that_knows_more(tmp_path: Path) -> None:
    """What it says is left over is believed."""
    result = smoke(tmp_path, Elsewhere("rootfs", place=Watchful))

    assert result.checks[0].detail.startswith("still running after it: services.exe (8)")


class Lodged(Place):
    """A place with a user of its own."""

    @property
    def user(self) -> Path:
        return self.kind.drive_folder


def test_a_place_with_a_user_keeps_the_cache(tmp_path: Path) -> None:
    """In that user's folder, which nobody else can write to, spelled as the place does; it is gone after the run."""
    wine = Elsewhere("wine", drive="Z:", place=Lodged)
    wine.drive_folder = tmp_path / "drive_c/users/me"
    wine.drive_folder.mkdir(parents=True)
    text = 'echo unpacked > "${FERRYMAN_CACHE#Z:}/tree"'
    result = smoke(tmp_path, wine, text=text, keeps_cache=True)
    cache = wine.drive_folder / "cache"

    assert result.status is Smoke.PASSED, result
    assert wine.asked[0]["env"]["FERRYMAN_CACHE"] == f"Z:{cache}"
    assert cache in wine.asked[0]["folders"]
    assert not cache.exists()


# --- slow and hanging -------------------------------------------------------------------------------------------------


def test_limits_follow_the_pace(tmp_path: Path) -> None:
    """Emulation has eight times as long, and the limit that is told is the one that held."""
    text = "/bin/sleep 1.5"
    assert smoke(tmp_path, Elsewhere("qemu"), text=text, timeout=0.5).status is Smoke.PASSED
    result = smoke(tmp_path, Elsewhere("rootfs"), text=text, timeout=0.5)
    assert result.checks[0].detail.startswith("did not finish within 0.5 s")
    result = smoke(tmp_path, Elsewhere("wine"), text="/bin/sleep 600", timeout=0.1)
    assert result.checks[0].detail.startswith("did not finish within 0.4 s")


def test_a_runner_that_hangs(tmp_path: Path) -> None:
    """It is killed with its group, though it ignores TERM and started others, and the error names it."""
    mark = tmp_path / "mark"
    hang = (
        "/bin/sh",
        "-c",
        f"trap '' TERM; /bin/sleep 600 & echo $! > {mark}; echo stuck; /bin/sleep 600; /bin/sleep 600",
    )
    result = smoke(
        tmp_path,
        Elsewhere("rootfs", label="fine"),
        Elsewhere("rootfs", label="bullseye", before=hang),
        timeout=0.5,
    )
    with pytest.raises(
        SmokeError, match=r"bullseye: agent --version: did not finish within 0\.5 s"
    ) as caught:
        raise_for_failure(result, "agent", None)

    assert (caught.value.exit_code, caught.value.details) == (9, ("stuck",))
    state = Path(f"/proc/{mark.read_text().strip()}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and " Z " not in state.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_runner_that_fails_to_start(tmp_path: Path) -> None:
    """A place that broke or hung while it was opened is a failure with its own words; one that is missing is none."""
    broken = BuildStepError(
        "wineboot did not finish within 300 s and was ended with its children.", details=["err: x"]
    )
    result = smoke(tmp_path, Elsewhere("wine", error=broken))
    assert (result.status, result.checks[0].name) == (Smoke.FAILED, "the runner starts")
    assert result.checks[0].detail == f"{broken}\nerr: x"
    missing = Elsewhere("qemu", error=ToolMissingError("No QEMU.", advice="Run setup."), ready=False)
    result = smoke(tmp_path, missing)
    assert (result.status, result.reason, result.checks) == (Smoke.UNTESTED, "No QEMU. Run setup.", ())


def test_a_full_disk_is_raised(tmp_path: Path) -> None:
    """It is nobody's fault that could be written into a manifest."""
    with pytest.raises(SpaceError):
        smoke(tmp_path, Elsewhere("qemu", error=SpaceError("full")))
    assert list((tmp_path / "work").iterdir()) == []


# --- several ----------------------------------------------------------------------------------------------------------


def test_several_runners(tmp_path: Path) -> None:
    """All of them run, and everything says where."""
    result = smoke(
        tmp_path, KINDS[RunnerName.NATIVE], Elsewhere("rootfs", label="bullseye"), target=host_target()
    )

    assert (result.status, result.runner) == (Smoke.PASSED, "native, rootfs")
    assert [check.name for check in result.checks] == ["native: agent --version", "bullseye: agent --version"]
    assert {"native: home: empty", "bullseye: home: empty", "bullseye: userland: bullseye"} <= set(
        result.environment
    )


def test_one_failure_is_enough(tmp_path: Path) -> None:
    """And it is named, though all others passed."""
    fails = Elsewhere("rootfs", label="bullseye", before=("/bin/sh", "-c", "echo too old; exit 69"))
    result = smoke(tmp_path, Elsewhere("rootfs", label="bookworm"), fails)

    assert result.status is Smoke.FAILED
    with pytest.raises(SmokeError, match="bullseye: agent --version: ended with exit code 69") as caught:
        raise_for_failure(result, "agent", None)
    assert caught.value.details == ("too old",)


def test_what_was_not_run_is_told(tmp_path: Path) -> None:
    """One that ran is enough to pass, under its plain names; the other's reason stays in the manifest."""
    missing = Elsewhere("rootfs", error=ToolMissingError("It is damaged.", advice="Set it up."), ready=False)
    result = smoke(tmp_path, Elsewhere("qemu"), missing)

    assert (result.status, result.runner) == (Smoke.PASSED, "qemu")
    assert [check.name for check in result.checks] == ["agent --version"]
    assert "rootfs: not run: It is damaged. Set it up." in result.environment
    assert result.reason == ""
    assert smoke(tmp_path, missing, missing).reason == "It is damaged. Set it up.; It is damaged. Set it up."


def test_what_was_ready_and_could_not_be_opened(tmp_path: Path) -> None:
    """That is no answer about the artifact: alone it is an error, and beside others it is told, so that nobody keeps it."""
    gone = ToolMissingError("The engine does not answer.", advice="Start it.")
    lost = Elsewhere("container", error=gone)
    missing = Elsewhere("rootfs", error=ToolMissingError("No userland.", advice="Set it up."), ready=False)
    for kinds in ((lost,), (missing, lost), (lost, missing)):
        with pytest.raises(ToolMissingError, match="The engine does not answer") as caught:
            smoke(tmp_path, *kinds)
        assert caught.value is gone
    result = smoke(tmp_path, Elsewhere("qemu"), lost, missing)

    assert (result.status, result.runner) == (Smoke.PASSED, "qemu")
    assert result.reason == "container: not run: The engine does not answer. Start it."
    assert "rootfs: not run: No userland. Set it up." in result.environment


def test_an_archive_that_cannot_be_unpacked(tmp_path: Path) -> None:
    """Fails in each place, before anything is run."""
    path = tmp_path / "agent.tar.gz"
    path.write_bytes(b"no archive")
    result = smoke(
        tmp_path, Elsewhere("qemu", label="a"), Elsewhere("rootfs", label="b"), path=path, kind=Kind.ARCHIVE
    )

    assert [check.name for check in result.checks] == ["a: unpack", "b: unpack"]


# --- service ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "step"), [(ARM, "stops on SIGTERM"), (WINDOWS, "stops when asked")])
def test_a_service_is_stopped_by_the_place(tmp_path: Path, target: Any, step: str) -> None:
    """Which knows how its programs are asked."""
    kind = Elsewhere("rootfs")
    result = smoke(
        tmp_path, kind, commands=(), service=Service(args=(), exit_codes=(0, 143, -15)), target=target,
        text="trap 'kill $!; exit 143' TERM; /bin/sleep 600 & wait",
    )  # fmt: skip

    assert result.status is Smoke.PASSED, result
    assert step in [check.name for check in result.checks]
    assert kind.stopped == 1


# --- .pyz -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pyz(tmp_path: Path) -> Path:
    path = tmp_path / "agent.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "print('runs')")
    return path


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_pyz_is_run_by_the_place_s_python(tmp_path: Path, pyz: Path) -> None:
    """For which a place to build in is opened; this machine's own is asked only for its version."""
    python = script(tmp_path, f'exec {sys.executable} "$@"')
    kind = Elsewhere("qemu", python=python)
    result = smoke(tmp_path, kind, path=pyz, kind=Kind.PYZ)

    assert result.status is Smoke.PASSED, result
    assert kind.opened[0][0] is Purpose.BUILD
    assert [asked["words"][0] for asked in kind.asked] == [python, python]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo 2.7", r"the Python of bullseye is 2\.7, and the \.pyz is for 3\.\d+"),
        ("exit 1", r"the Python of bullseye is not running, and the \.pyz is for 3\.\d+"),
    ],
)
def test_a_pyz_and_another_python(tmp_path: Path, pyz: Path, text: str, reason: str) -> None:
    """It was made for one version and is untested with any other."""
    result = smoke(
        tmp_path, Elsewhere("qemu", label="bullseye", python=script(tmp_path, text)), path=pyz, kind=Kind.PYZ
    )

    assert result.status is Smoke.UNTESTED
    assert re.fullmatch(reason, result.reason)


def test_a_pyz_without_a_python(tmp_path: Path, pyz: Path) -> None:
    """Untested with the reason."""
    result = smoke(tmp_path, Elsewhere("qemu", label="bullseye"), path=pyz, kind=Kind.PYZ)

    assert (result.status, result.reason) == (Smoke.UNTESTED, "bullseye has no Python to run a .pyz with")


class Unbuilt(Place):
    """A place that has to be asked for its Python."""

    def find_python(self, runner: Runner) -> Path | None:
        return self.kind.lent


def test_a_pyz_and_a_place_that_has_to_be_asked(tmp_path: Path, pyz: Path) -> None:
    """An image of one's own is opened for trying, and its Python runs the .pyz; without one it is untested."""
    python = script(tmp_path, f'exec {sys.executable} "$@"')
    kind = Elsewhere("container", place=Unbuilt, lends=True)
    kind.lent = python
    result = smoke(tmp_path, kind, path=pyz, kind=Kind.PYZ)

    assert result.status is Smoke.PASSED, result
    assert kind.opened[0][0] is Purpose.TRY
    assert [asked["words"][0] for asked in kind.asked] == [python, python]
    kind.lent = None
    assert (
        smoke(tmp_path, kind, path=pyz, kind=Kind.PYZ).reason == "container has no Python to run a .pyz with"
    )


def test_a_python_that_hangs(tmp_path: Path, pyz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and that is a failure of the runner."""
    monkeypatch.setattr("ferryman_build.smoke.through._VERSION_SECONDS", 0.5)
    python = script(tmp_path, "exec /bin/sleep 600")
    result = smoke(tmp_path, Elsewhere("rootfs", label="bullseye", python=python), path=pyz, kind=Kind.PYZ)

    assert result.status is Smoke.FAILED
    assert result.checks[0].detail.startswith(
        "python-version-bullseye did not finish within 0.5 s and was ended"
    )
