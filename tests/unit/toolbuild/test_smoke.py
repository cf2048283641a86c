"""The smoke test sees what a user would see: a program that hangs, lies, litters or does not stop is found out."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from ferryman_build.artifacts import Kind, Smoke, SmokeCheck, SmokeResult
from ferryman_build.cmd import Runner
from ferryman_build.errors import InterruptedBuildError, SmokeError
from ferryman_build.project import Project
from ferryman_build.runners.native import NO_ISOLATION, Here, Isolation, probe
from ferryman_build.settings import Service, Settings, SmokeSettings
from ferryman_build.smoke import raise_for_failure, smoke_artifact
from ferryman_build.smoke.process import _as_mounted
from ferryman_build.smoke.run import fill
from ferryman_build.smoke.sandbox import cache_folder, make_sandbox
from ferryman_build.targets import host_target, parse_target

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts and POSIX signals")

PYTHON = Path(sys.executable)
ISOLATIONS = [pytest.param(None, id="as-probed"), pytest.param(NO_ISOLATION, id="without-namespaces")]

SERVER = """
import http.server, os, signal, subprocess, sys, time
mode, port, scratch, project = sys.argv[1:5]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wrong = mode == "not-ready" and self.path == "/readyz" or mode == "no-metrics" and self.path == "/metrics"
        body = b"up 1\\n" + mode.encode()
        self.send_response(503 if wrong else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

def stop(number, frame):
    print("stopping", flush=True)
    if mode == "bad-exit":
        os._exit(3)
    os._exit(0)

if mode == "dies":
    print("cannot read the configuration", flush=True)
    sys.exit(4)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "ignores-term" else stop)
if mode in ("leaves-child", "leaves-daemon"):
    subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
                     "print('child waits', flush=True); time.sleep(600)"], start_new_session=mode == "leaves-daemon")
if mode == "litters":
    try:
        open(os.environ["TMPDIR"] + "/litter", "w").close()
    except OSError:
        print("TMPDIR is denied", flush=True)
if mode == "home":
    open(os.environ["HOME"] + "/.settings", "w").close()
open(scratch + "/state", "w").close()
assert os.path.exists(project + "/pyproject.toml")
print("secret is", os.environ.get("HOME"), flush=True)
http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").touch()
    return make_project(root, SmokeSettings())


def make_project(root: Path, smoke: SmokeSettings) -> Project:
    return Project(
        root=root, name="agent", version="1.0", requires_python=">=3.11", dependencies=(), entry_point="agent:main",
        executable="agent", settings=Settings(smoke=smoke),
    )  # fmt: skip


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "logs")


def script(tmp_path: Path, text: str) -> Path:
    """An executable artifact. The shell's own commands only: PATH is empty."""
    path = tmp_path / "agent-1.0-host"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def pyz(tmp_path: Path, text: str = SERVER) -> Path:
    path = tmp_path / "agent-1.0.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", text)
    return path


def smoke(
    path: Path, kind: Kind, project: Project, runner: Runner, *, isolation: Isolation | None = None,
    settings: SmokeSettings | None = None, needs_exec_tmp: bool = False,
    keeps_cache: bool = False,
) -> SmokeResult:  # fmt: skip
    work = path.parent / "work"
    work.mkdir(exist_ok=True)
    result = smoke_artifact(
        path, kind, host_target(), make_project(project.root, settings or project.settings.smoke),
        host=host_target(), runner=runner, python=PYTHON, work=work, isolation=isolation,
        needs_exec_tmp=needs_exec_tmp, keeps_cache=keeps_cache,
    )  # fmt: skip
    assert list(work.iterdir()) == [], "the caller keeps this folder; nothing of the run belongs into it"
    return result


def processes_with(text: str) -> list[str]:
    """Command lines of living processes that have ``text`` in their environment or arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in line and path.name != str(os.getpid()):
            found.append(line[:80].decode("utf-8", "replace"))
    return found


# --- commands ---


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_commands_pass(tmp_path: Path, project: Project, runner: Runner, isolation: Isolation | None) -> None:
    """Each command is one check with its time, and its output is in a log."""
    settings = SmokeSettings(commands=(("--version",), ("check", "--file", "{project}/pyproject.toml")))
    path = script(tmp_path, 'echo "got $*"; [ "$1" = --version ] || [ -f "$3" ]')
    result = smoke(path, Kind.EXECUTABLE, project, runner, settings=settings, isolation=isolation)
    assert result.status is Smoke.PASSED, result
    assert [check.name for check in result.checks] == [
        "agent --version", "agent check --file '{project}/pyproject.toml'",
    ]  # fmt: skip
    assert result.runner == "native"
    logs = sorted((tmp_path / "logs").iterdir())
    assert len(logs) == 2
    assert "got --version" in logs[0].read_text(encoding="utf-8")
    raise_for_failure(result, "agent", runner.log_dir)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("echo broken; exit 3", "ended with exit code 3\nbroken"),
        ("kill -9 $$", "ended with exit code -9"),
        ("exec /no/such/program", "ended with exit code 127"),
        ("[ -z \"$LD_LIBRARY_PATH$PYTHONPATH$SECRET_TOKEN\" ] && command -v python3", "ended with exit code"),
        ("command -v ls cat", "ended with exit code"),
        ("exit 1 # \N{BELL}", "ended with exit code 1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_commands_fail(
    text: str, problem: str, tmp_path: Path, project: Project, runner: Runner, isolation: Isolation | None
) -> None:
    """The check says with what code, and shows the last lines."""
    result = smoke(script(tmp_path, text), Kind.EXECUTABLE, project, runner, isolation=isolation)
    assert result.status is Smoke.FAILED
    assert result.checks[0].detail.startswith(problem)


def test_the_environment_is_clean(
    tmp_path: Path, project: Project, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this process's variables nothing arrives; home, working directory and PATH are empty and new."""
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "SECRET_TOKEN", "VIRTUAL_ENV", "HTTP_PROXY"):
        monkeypatch.setenv(name, "/leak")
    text = """set -e
    export -p
    [ "$LC_ALL" = C.UTF-8 ]
    for folder in "$HOME" . "$PATH"; do for file in "$folder"/* "$folder"/.[!.]*; do [ ! -e "$file" ]; done; done
    case "$HOME$PWD" in *"$(umask)"never*) exit 9;; esac
    """
    result = smoke(script(tmp_path, text), Kind.EXECUTABLE, project, runner)
    assert result.status is Smoke.PASSED, result
    log = next((tmp_path / "logs").iterdir()).read_text(encoding="utf-8")
    names = set(re.findall(r"^export (\w+)", log, re.MULTILINE))
    assert names <= {"HOME", "PATH", "TMPDIR", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
    assert "/leak" not in log
    assert {"home: empty", "path: empty"} <= set(result.environment)


def test_a_hanging_command(tmp_path: Path, project: Project, runner: Runner) -> None:
    """It is ended with its children at the limit, even one that ignores TERM, and the error names both."""
    text = "trap '' TERM; /bin/sleep 600 & echo waiting; /bin/sleep 600; /bin/sleep 600"
    settings = SmokeSettings(commands=(("--version",),), timeout=0.5)
    started = time.monotonic()
    result = smoke(script(tmp_path, text), Kind.EXECUTABLE, project, runner, settings=settings)
    assert time.monotonic() - started < 60  # the program itself would take 600
    assert processes_with(str(tmp_path / "work")) == []
    with pytest.raises(SmokeError, match=r"agent --version: did not finish within 0\.5 s") as caught:
        raise_for_failure(result, "agent (executable)", runner.log_dir)
    assert caught.value.exit_code == 9
    assert caught.value.details == ("waiting",)
    assert caught.value.log == runner.log_dir
    assert caught.value.advice


def test_a_hang_that_ends_well_is_still_a_hang(tmp_path: Path, project: Project, runner: Runner) -> None:
    """Exit code 0 in answer to our TERM is no success."""
    text = "trap 'exit 0' TERM; while :; do /bin/sleep 0.1; done"
    settings = SmokeSettings(timeout=0.5)
    result = smoke(script(tmp_path, text), Kind.EXECUTABLE, project, runner, settings=settings)
    assert result.status is Smoke.FAILED


def _alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="leftovers are found through /proc")
@pytest.mark.parametrize("start", ["", "/usr/bin/env -i "])
def test_a_command_that_leaves_a_process(
    start: str, tmp_path: Path, project: Project, runner: Runner
) -> None:
    """Success with a child left behind is none, even one that has emptied its environment; the child is ended."""
    text = f"{start}/bin/sleep 600 & echo child $! > {project.root}/pid; exit 0"
    result = smoke(script(tmp_path, text), Kind.EXECUTABLE, project, runner)
    assert result.status is Smoke.FAILED
    assert re.match(r"still running after it: (sleep|env|agent) \(", result.checks[0].detail)
    pid = int((project.root / "pid").read_text(encoding="utf-8").split()[1])
    deadline = time.monotonic() + 5  # a signal that was sent needs a moment to be obeyed
    while _alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_writing_into_home_is_told(tmp_path: Path, project: Project, runner: Runner) -> None:
    """No failure, but whoever reads the manifest knows it; the next run has an empty home again."""
    settings = SmokeSettings(commands=(("a",), ("b",)))
    text = '[ ! -e "$HOME/.agent" ] || exit 5; : > "$HOME/.agent"'
    result = smoke(script(tmp_path, text), Kind.EXECUTABLE, project, runner, settings=settings)
    assert result.status is Smoke.PASSED
    assert [check.detail for check in result.checks] == ["wrote into its home: .agent"] * 2


def test_secrets_stay_out(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program prints of the builder's secrets is in no detail and no log."""
    monkeypatch.setenv("DEPLOY_TOKEN", "hunter2-hunter2")
    runner = Runner(tmp_path / "logs")
    result = smoke(script(tmp_path, "echo key hunter2-hunter2; exit 1"), Kind.EXECUTABLE, project, runner)
    assert result.checks[0].detail == "ended with exit code 1\nkey $DEPLOY_TOKEN"
    assert all("hunter2" not in path.read_text(encoding="utf-8") for path in (tmp_path / "logs").iterdir())


def test_no_runner(tmp_path: Path, project: Project, runner: Runner) -> None:
    """What cannot run here is untested with the reason, and is no failure."""
    other = parse_target("darwin-arm64" if host_target().id != "darwin-arm64" else "linux-amd64")
    result = smoke_artifact(
        tmp_path / "absent", Kind.ARCHIVE, other, project, host=host_target(), runner=runner, python=PYTHON,
        work=tmp_path,
    )  # fmt: skip
    assert (result.status, result.reason) == (Smoke.UNTESTED, f"no runner for {other} on this machine")
    raise_for_failure(result, "agent", None)


def test_nothing_is_started_when_the_build_ends(tmp_path: Path, project: Project, runner: Runner) -> None:
    """After Ctrl-C no further program starts, and the folder is clean."""
    runner.end_all()
    with pytest.raises(InterruptedBuildError):
        smoke(script(tmp_path, ""), Kind.EXECUTABLE, project, runner)
    assert list((tmp_path / "work").iterdir()) == []


# --- temporary folders ---


def test_tmp_is_denied(tmp_path: Path, project: Project, runner: Runner) -> None:
    """With a mount namespace TMPDIR, /tmp and /var/tmp can neither be written nor executed from, by anyone."""
    if probe() == NO_ISOLATION:
        pytest.skip("NOT TESTED: this machine lets us make no mount namespace")
    text = """
    for folder in "$TMPDIR" /tmp /var/tmp; do
      if (: > "$folder/probe") 2> /dev/null; then echo "$folder can be written"; exit 3; fi
    done
    : > "$HOME/a" && : > ./b && [ -d "$TMPDIR" ]
    """
    result = smoke(script(tmp_path, text), Kind.EXECUTABLE, project, runner)
    assert result.status is Smoke.PASSED, result
    assert "tmp: read-only, noexec" in result.environment


def test_what_the_machine_can_is_used() -> None:
    """Where a tmpfs can be mounted in a namespace of our own, by hand, the probe must have found it."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    words = (
        "unshare",
        *user,
        "--mount",
        "--propagation",
        "private",
        "mount",
        "-t",
        "tmpfs",
        "tmpfs",
        "/var/tmp",
    )
    try:
        by_hand = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        by_hand = False
    assert (probe() != NO_ISOLATION) == by_hand


def test_the_denied_folders_are_noexec(tmp_path: Path) -> None:
    """As the kernel tells it: each of the mounts is ro and noexec; those bound through are as they were."""
    if probe() == NO_ISOLATION:
        pytest.skip("NOT TESTED: this machine lets us make no mount namespace")
    (tmp_path / "stage").mkdir()
    sandbox = make_sandbox(tmp_path / "box", place=Here(probe(), tmp_path / "stage"))
    command = sandbox.command(
        ["/bin/sh", "-c", 'while read -r line; do echo "$line"; done < /proc/self/mounts']
    )
    text = subprocess.run(command.words, env=sandbox.env, capture_output=True, text=True, check=True).stdout
    for folder in ("/tmp", "/var/tmp", str(sandbox.tmp)):
        (line,) = [line for line in text.splitlines() if line.split()[1] == folder][-1:]
        assert {"ro", "noexec"} <= set(line.split()[3].split(","))


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_bundle_that_needs_tmp(
    tmp_path: Path, project: Project, runner: Runner, isolation: Isolation | None
) -> None:
    """It gets a TMPDIR that is writable and executable, and the result says so."""
    text = """set -e
    echo '#!/bin/sh' > "$TMPDIR/x"; /bin/chmod 755 "$TMPDIR/x"; "$TMPDIR/x"
    """
    result = smoke(
        script(tmp_path, text), Kind.EXECUTABLE, project, runner, isolation=isolation, needs_exec_tmp=True
    )
    assert result.status is Smoke.PASSED, result
    assert "tmp: writable, executable (this bundle needs it)" in result.environment


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_bundle_that_keeps_a_cache(tmp_path: Path, runner: Runner, isolation: Isolation | None) -> None:
    """All runs share one folder that only we can write to, in which programs run; its name is said, and it goes away."""
    root = tmp_path / "project"
    root.mkdir()
    project = make_project(root, SmokeSettings(commands=(("first",), ("second",))))
    text = """set -e
    if [ "$1" = first ]; then echo '#!/bin/sh' > "$FERRYMAN_CACHE/x"; /bin/chmod 755 "$FERRYMAN_CACHE/x"; fi
    "$FERRYMAN_CACHE/x"
    echo "$FERRYMAN_CACHE" > "{place}"
    """.replace("{place}", str(root / "place"))
    result = smoke(
        script(tmp_path, text), Kind.EXECUTABLE, project, runner, isolation=isolation, keeps_cache=True
    )

    assert result.status is Smoke.PASSED, result
    assert "variables: only FERRYMAN_CACHE, HOME, LC_ALL, PATH and TMPDIR" in result.environment
    assert "home: empty" in result.environment
    assert not Path((root / "place").read_text().strip()).exists()


@pytest.mark.parametrize(("mode", "inside"), [(0o755, True), (0o700, True), (0o775, False), (0o777, False)])
def test_a_cache_lies_where_only_we_can_write(tmp_path: Path, mode: int, inside: bool) -> None:
    """Where the group or the world may exchange a folder on the way, the cache is put elsewhere."""
    base = tmp_path / "shared" / "base"
    base.mkdir(parents=True)
    base.parent.chmod(mode)
    made = cache_folder(base)

    try:
        assert (made == base / "cache") is inside
        assert made.is_dir()
        assert made.stat().st_mode & 0o777 == 0o700
    finally:
        made.rmdir()


def test_without_namespaces_it_is_said(tmp_path: Path, project: Project, runner: Runner) -> None:
    """The result claims no more than was done."""
    result = smoke(script(tmp_path, ""), Kind.EXECUTABLE, project, runner, isolation=NO_ISOLATION)
    (fact,) = [fact for fact in result.environment if fact.startswith("tmp:")]
    assert "no mount namespace here" in fact
    assert ("read-only" in fact) == (os.geteuid() != 0)


def test_a_namespace_that_does_not_work_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An `unshare` that is there and refuses (a hardened kernel, a container) leads to the plain folder."""
    monkeypatch.setattr("ferryman_build.runners.native._candidates", lambda: [Isolation(("/bin/false",))])
    assert probe.__wrapped__() == NO_ISOLATION
    monkeypatch.setattr(
        "ferryman_build.runners.native._candidates", lambda: [Isolation(("/usr/bin/env", "--"))]
    )
    monkeypatch.setattr("ferryman_build.runners.native._SCRIPT", 'shift 6; cd "$TMPDIR/../cwd"; exec "$@"')
    assert probe.__wrapped__() == NO_ISOLATION


# --- kinds ---


def archive(tmp_path: Path, text: str, form: str, name: str = "agent", top: str = "agent-1.0") -> Path:
    path = tmp_path / f"agent-1.0.{form}"
    content = f"#!/bin/sh\n{text}\n".encode()
    if form == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            info = zipfile.ZipInfo(f"{top}/{name}")
            info.external_attr = 0o100755 << 16
            packed.writestr(info, content)
    else:
        with tarfile.open(path, "w:gz") as packed_tar:
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mode = len(content), 0o755
            packed_tar.addfile(member, io.BytesIO(content))
    return path


def test_a_top_folder_with_the_program_s_name(tmp_path: Path, project: Project, runner: Runner) -> None:
    """Is not taken for the program."""
    result = smoke(archive(tmp_path, "exit 0", "tar.gz", top="agent"), Kind.ARCHIVE, project, runner)

    assert result.status is Smoke.PASSED, result


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_archives(
    form: str, tmp_path: Path, project: Project, runner: Runner, isolation: Isolation | None
) -> None:
    """Unpacked where the path has a blank and a letter outside of ASCII, and run from there."""
    text = 'case "$0" in *" "*/agent-1.0/agent) ;; *) exit 3;; esac; echo "$0"'
    result = smoke(archive(tmp_path, text, form), Kind.ARCHIVE, project, runner, isolation=isolation)
    assert result.status is Smoke.PASSED, result
    log = next((tmp_path / "logs").iterdir()).read_text(encoding="utf-8")
    assert re.search(r"/[^/\n]* [^/\n]*[^\x00-\x7f][^/\n]*/agent-1\.0/agent", log)


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_unusable_archives(form: str, tmp_path: Path, project: Project, runner: Runner) -> None:
    """One without the program, and one that is cut off, fail as such."""
    result = smoke(archive(tmp_path, "", form, name="other"), Kind.ARCHIVE, project, runner)
    assert result.checks[0].detail == "has no agent at its top"
    result = smoke(_cut(archive(tmp_path, "", form)), Kind.ARCHIVE, project, runner)
    assert result.checks[0].detail.startswith("cannot be unpacked")
    with pytest.raises(SmokeError, match="unpack: cannot be unpacked"):
        raise_for_failure(result, "agent", None)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_pyz(tmp_path: Path, project: Project, runner: Runner, isolation: Isolation | None) -> None:
    """It is run by the interpreter that was given, although PATH has none."""
    path = pyz(
        tmp_path,
        "import sys, os; assert sys.argv[1:] == ['--version'] and not os.listdir(os.environ['PATH'])",
    )
    assert smoke(path, Kind.PYZ, project, runner, isolation=isolation).status is Smoke.PASSED


# --- service ---


def test_what_replaced_a_placeholder_is_left_alone() -> None:
    """A project in a folder that is itself called like a placeholder gets its own path."""
    words = {"{port}": "1", "{project}": "/work/{tmp}", "{tmp}": "/tmp/x"}

    assert fill(("{project}/a:{port}", "{tmp}", "{other}"), words) == ["/work/{tmp}/a:1", "/tmp/x", "{other}"]


def service(mode: str, **more: object) -> SmokeSettings:
    url = "http://127.0.0.1:{port}"
    fields: dict[str, object] = {
        "args": (mode, "{port}", "{tmp}", "{project}"), "ready": f"{url}/readyz", "get": (f"{url}/metrics", f"{url}/x"),
        "expect": ("up 1", mode), "timeout": 10.0,
    }  # fmt: skip
    return SmokeSettings(commands=(), service=Service(**{**fields, **more}))  # type: ignore[arg-type]


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("mode", ["good", "home"])
def test_a_service(
    mode: str, tmp_path: Path, project: Project, runner: Runner, isolation: Isolation | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Start, ready, read, stop, nothing left: one check each, no proxy asked."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    result = smoke(pyz(tmp_path), Kind.PYZ, project, runner, settings=service(mode), isolation=isolation)
    assert result.status is Smoke.PASSED, result
    names = [re.sub(r":\d+/", ":PORT/", check.name) for check in result.checks]
    assert names[:8] == [
        "ready: http://127.0.0.1:PORT/readyz", "GET http://127.0.0.1:PORT/metrics", "GET http://127.0.0.1:PORT/x",
        "answers contain 'up 1'", f"answers contain '{mode}'", "stops on SIGTERM", "leaves no process",
        "leaves no temporary file",
    ]  # fmt: skip
    notes = [check.detail for check in result.checks[8:]]
    assert notes == (["wrote into its home: .settings"] if mode == "home" else [])


BAD: tuple[tuple[str, dict[str, object], str, str], ...] = (
    ("dies", {}, "ready", "ended with exit code 4 before it was ready\ncannot read the configuration"),
    ("not-ready", {"timeout": 3.0}, "ready", "no answer 200 within 3 s; the last one was: status 503"),
    ("no-metrics", {}, "GET", "answered 503 instead of 200"),
    ("good", {"expect": ("down",)}, "answers contain 'down'", "not in the"),
    ("bad-exit", {}, "stops on SIGTERM", "stopped with exit code 3 instead of 0"),
    ("ignores-term", {"timeout": 2.0}, "stops on SIGTERM", "did not stop within 2 s"),
    ("good", {"ready": "http://127.0.0.1:1/", "timeout": 1.0}, "ready", "Connection refused"),
)


@pytest.mark.parametrize(("mode", "more", "step", "detail"), BAD)
def test_a_bad_service(
    mode: str,
    more: dict[str, object],
    step: str,
    detail: str,
    tmp_path: Path,
    project: Project,
    runner: Runner,
) -> None:
    """The first step that does not hold ends the run, and says what was seen; nothing keeps running."""
    result = smoke(pyz(tmp_path), Kind.PYZ, project, runner, settings=service(mode, **more))
    assert result.status is Smoke.FAILED
    failed = [check for check in result.checks if not check.passed]
    assert len(failed) == 1
    assert failed[0].name.startswith(step)
    assert detail in failed[0].detail
    assert result.checks[-1] == failed[0]
    assert processes_with(str(tmp_path / "work")) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="leftovers are found through /proc")
@pytest.mark.parametrize("mode", ["leaves-child", "leaves-daemon"])
def test_a_service_that_leaves_a_process(mode: str, tmp_path: Path, project: Project, runner: Runner) -> None:
    """A child that ignores TERM, in the group or in a session of its own, is found, named and ended."""
    result = smoke(pyz(tmp_path), Kind.PYZ, project, runner, settings=service(mode))
    failed = result.checks[-1]
    assert (failed.name, failed.passed) == ("leaves no process", False)
    assert re.match(r"still running after the stop: \S+ \(\d+\)\n", failed.detail)
    assert "child waits" in failed.detail
    assert processes_with(str(tmp_path / "work")) == []


@pytest.mark.skipif(
    probe() == NO_ISOLATION, reason="NOT TESTED: this machine lets us make no mount namespace"
)
def test_who_forgets_everything_is_found_by_its_mounts(
    tmp_path: Path, project: Project, runner: Runner
) -> None:
    """A grandchild in a session of its own, with no variable left and another working folder: named, and ended."""
    text = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.chdir("/")
        os.execve("/bin/sleep", ["sleep", "600"], {})
    os._exit(0)
os.wait()
"""
    result = smoke(pyz(tmp_path, text), Kind.PYZ, project, runner)
    found = re.match(r"still running after it: sleep \((\d+)\)", result.checks[0].detail)

    assert result.status is Smoke.FAILED
    assert found, result
    assert not Path(f"/proc/{found[1]}").exists() or " Z " in Path(f"/proc/{found[1]}/stat").read_text()


@pytest.mark.parametrize(
    ("folder", "written"),
    [("/a b", rb"/a\040b"), ("/a\\\n\tb", rb"/a\134\012\011b"), ("/für", "/für".encode())],
)
def test_folders_as_the_kernel_writes_them(folder: str, written: bytes) -> None:
    """So that a folder with a blank in its name is found among the mounts."""
    assert _as_mounted(folder) == written


def test_litter_in_tmp(tmp_path: Path, project: Project, runner: Runner) -> None:
    """Where TMPDIR could be written after all (root without namespaces), what is left there fails the run."""
    result = smoke(
        pyz(tmp_path), Kind.PYZ, project, runner, settings=service("litters"), isolation=NO_ISOLATION
    )
    if os.geteuid() == 0:
        assert result.checks[-1].detail.startswith("left in TMPDIR: litter")
    else:
        assert result.status is Smoke.PASSED


@pytest.mark.parametrize(("text", "passes"), [("/bin/sleep 600 & wait", True), ("exit 0", False)])
def test_a_service_without_ready(
    text: str, passes: bool, tmp_path: Path, project: Project, runner: Runner
) -> None:
    """It only has to stay up for a second; SIGTERM's own exit code may be allowed."""
    settings = SmokeSettings(commands=(), service=Service(args=(), exit_codes=(0, 143, -15)))
    path = script(tmp_path, f"trap 'kill $!; exit 143' TERM; {text}")
    result = smoke(path, Kind.EXECUTABLE, project, runner, settings=settings)
    assert (result.status is Smoke.PASSED) == passes, result
    assert result.checks[0].name == "stays up"


# --- error ---


@pytest.mark.parametrize("detail", ["", "only this", "this\nline 1\nline 2"])
def test_raise_for_failure(detail: str) -> None:
    """Names the artifact, the first failed check and what was seen; further lines are details."""
    checks = (
        SmokeCheck(name="a", passed=True, seconds=1.0),
        SmokeCheck(name="b", passed=False, seconds=1.0, detail=detail),
    )
    with pytest.raises(SmokeError, match=r"agent \(pyz\) .*: b: ") as caught:
        raise_for_failure(SmokeResult(status=Smoke.FAILED, checks=checks), "agent (pyz)", None)
    assert caught.value.details == tuple(detail.splitlines()[1:])
    assert caught.value.advice
