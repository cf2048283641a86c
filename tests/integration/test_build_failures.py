"""What a person can do wrong, seen from the command line: the sentence, the cure, the exit code, and dist/ as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from support.ferryman import Outcome, Workshop, environment, lantern, processes_naming

_HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from ferryman_build.checkout import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
EARLIER = {"lantern-0.1.tar.gz": "an earlier product"}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory, shared_out: Path) -> Path:
    """The shared cache, with the second agent's steps in it."""
    workshop = lantern(tmp_path_factory.mktemp("warm"), shared_out)
    outcome = workshop.run("build", "--kind", "archive")
    assert outcome.code == 0, outcome.err
    return shared_out


@pytest.fixture
def workshop(make_lantern: Callable[..., Workshop], warm: Path) -> Workshop:
    """A project whose dist/ holds a product of earlier days."""
    made = make_lantern()
    assert made.out == warm
    made.dist.mkdir()
    for name, text in EARLIER.items():
        (made.dist / name).write_text(text, encoding="utf-8")
    return made


def refused(
    workshop: Workshop, words: Sequence[str], code: int, *said: str, env: dict[str, str] | None = None
) -> Outcome:
    """Run, and see the exit code, the sentences and an untouched dist/."""
    before = workshop.delivered()
    outcome = workshop.run(*words, env=env)

    assert outcome.code == code, outcome.err
    for sentence in said:
        assert sentence in outcome.err
    assert "what to do: " in outcome.err
    assert "Traceback" not in outcome.err
    assert workshop.delivered() == before
    return outcome


def test_every_mistake_in_pyproject_is_reported_at_once(workshop: Workshop) -> None:
    """Two unknown keys and a wrong kind: three lines, each with file, line and a suggestion."""
    workshop.edit(
        "pyproject.toml", 'exclude-modules = ["ftplib"]', 'exclud-modules = ["ftplib"]\nkinds = ["exe"]'
    )
    workshop.edit("pyproject.toml", "[tool.ferryman.smoke]\n", "[tool.ferryman.smoke]\ncomands = []\n")
    refused(workshop, ["build"], 3, "pyproject.toml:", "exclude-modules", "executable", "commands")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(["build", "--target", "linux-amd46"], 2, ["did you mean linux-amd64"], id="target"),
        pytest.param(["build", "--kind", "execuable"], 2, ["executable"], id="kind"),
        pytest.param(["build", "--tagret", "host"], 2, ["Did you mean --target?"], id="option"),
        pytest.param(["build", "--python", "3.99"], 4, ["3.99"], id="python"),
        pytest.param(
            ["build", "--wheels", "nowhere"], 3, ["There is no folder", "cibuildwheel"], id="wheels"
        ),
        pytest.param(["build", "--runner", "wine"], 3, ["cannot be run through wine"], id="runner"),
        pytest.param(["build", "--floor", "glibc nine"], 3, ["means nothing"], id="floor"),
        pytest.param(
            ["build", "--target", "linux-armv7", "--kind", "archive"],
            5,
            ["no runtime", "linux-armv7"],
            id="blocked",
        ),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(
    workshop: Workshop, words: list[str], code: int, said: list[str]
) -> None:
    """A typo on the command line costs nothing but a sentence."""
    refused(workshop, words, code, *said)


def test_strict_makes_an_error_of_what_is_passed_over(workshop: Workshop) -> None:
    """`--all` alone passes over what is blocked (test_build.py); with --strict it is refused before anything is built."""
    refused(workshop, ["build", "--all", "--kind", "pyz", "--strict"], 5, "linux-s390x pyz")


def test_no_project_is_said(workshop: Workshop, tmp_path: Path) -> None:
    """A folder without pyproject.toml."""
    empty = Workshop(project=tmp_path, out=workshop.out, dist=workshop.dist)
    refused(empty, ["build"], 3, "pyproject.toml")


def test_a_dependency_without_a_wheel_is_named(workshop: Workshop) -> None:
    """The distribution is named before anything is built."""
    workshop.edit("pyproject.toml", '"PyYAML>=6"', '"PyYAML>=6", "ferryman-has-no-such-distribution>=1"')
    refused(workshop, ["build", "--kind", "archive"], 6, "ferryman-has-no-such-distribution")


def test_an_index_that_does_not_answer_is_told_from_a_missing_package(
    workshop: Workshop, tmp_path: Path
) -> None:
    """A closed port is exit 13, not a resolution failure."""
    alone = Workshop(project=workshop.project, out=tmp_path / "own out", dist=workshop.dist)
    env = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0", "UV_NO_CACHE": "1"}
    refused(alone, ["build"], 13, env=env)


def test_a_backend_that_wants_a_compiler_says_so(workshop: Workshop) -> None:
    """A project whose wheel compiles an extension with this machine's compiler, on a PATH without one."""
    (workshop.project / "lamp.c").write_text("int lamp;\n", encoding="utf-8")
    (workshop.project / "setup.py").write_text(
        "from setuptools import Extension, setup\nsetup(ext_modules=[Extension('lamp', ['lamp.c'])])\n",
        encoding="utf-8",
    )
    workshop.edit("pyproject.toml", 'requires = ["hatchling"]', 'requires = ["setuptools>=77"]')
    workshop.edit(
        "pyproject.toml", 'build-backend = "hatchling.build"', 'build-backend = "setuptools.build_meta"'
    )
    workshop.edit("pyproject.toml", "[tool.ferryman]\n", '[tool.ferryman]\ncompiler = "system"\n')
    env = {"CC": "no-such-compiler", "PATH": _path_without_compilers(workshop)}
    refused(workshop, ["build", "--kind", "pyz"], 7, "C compiler", "log: ", env=env)


def _path_without_compilers(workshop: Workshop) -> str:
    folder = workshop.dist.parent / "bin"
    folder.mkdir()
    for name in ("git", "ldd", "sh", "unshare", "mount", "env", "apt-get", "dpkg-query", "dpkg-deb"):
        found = next(
            (Path(place, name) for place in os.defpath.split(":") if Path(place, name).exists()), None
        )
        if found:
            (folder / name).symlink_to(found)
    return str(folder)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param("return 3", ["exit code 3"], id="fails"),
        pytest.param("import time; time.sleep(600)", ["2 s"], id="hangs"),
        pytest.param("import os, time; os.fork(); time.sleep(600)", ["2 s"], id="hangs-with-a-child"),
    ],
)
def test_an_artifact_that_does_not_run_is_not_delivered(
    workshop: Workshop, line: str, said: list[str]
) -> None:
    """A smoke test that fails or hangs: the command is named, its processes are ended, dist/ is as it was."""
    workshop.edit(
        "pyproject.toml",
        'commands = [["--version"], ["check"], ["where"]]',
        'commands = [["check"]]\ntimeout = 2',
    )
    workshop.edit("src/lantern/command.py", "def check():\n", f"def check():\n    {line}\n")
    outcome = refused(workshop, ["build", "--kind", "archive"], 9, "check", *said)

    assert "smoke" in outcome.err
    assert not processes_naming(str(workshop.out))


def test_a_service_that_never_gets_ready_is_ended(workshop: Workshop) -> None:
    """The service's URL is named, with how long was waited."""
    workshop.edit(
        "pyproject.toml",
        'ready = "http://127.0.0.1:{port}/ready"',
        'ready = "http://127.0.0.1:9/"\ntimeout = 1.5',
    )
    refused(workshop, ["build", "--kind", "archive"], 9, "127.0.0.1:9", "1.5 s")


def test_no_space_left_is_said_before_anything_is_built(workshop: Workshop) -> None:
    """A real, small file system for out/: preflight says how much is missing."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = workshop.dist.parent / "small"
    small.mkdir()
    words = Workshop(project=workshop.project, out=small / "out", dist=workshop.dist).command("build")
    script = f'mount -t tmpfs -o size=30m tmpfs "{small}" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *words],
        env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 10, done.stderr
    assert "MB free" in done.stderr
    assert "what to do: " in done.stderr


@pytest.mark.parametrize("megabytes", [50, 70, 90])
def test_a_disk_that_fills_up_during_the_build_is_said(workshop: Workshop, megabytes: int) -> None:
    """A real file system that is full half-way: exit 10, nothing half in dist/."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = workshop.dist.parent / "small"
    small.mkdir()
    own = Workshop(project=workshop.project, out=small / "out", dist=small / "dist")
    code = (
        "import sys; from ferryman_build import cli, preflight; "
        "preflight.space_problem = lambda folder: ''; sys.exit(cli.main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, *own.command("build", "--kind", "archive,executable")[3:]]
    listing = f'"$@"; code=$?; ls -A "{small}/dist" >&2; exit $code'
    script = f'mount -t tmpfs -o size={megabytes}m tmpfs "{small}" && ( {listing} )'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *words],
        env=environment({"UV_LINK_MODE": "copy"}), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip

    assert done.returncode == 10, done.stderr
    assert "what to do: " in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith((".lantern", "lantern-"))]


def test_two_builds_at_once_in_one_checkout(workshop: Workshop) -> None:
    """The second one names the process that holds the lock, and ends at once."""
    holder = subprocess.Popen(
        [sys.executable, "-c",
         _HOLD_THE_LOCK, workshop.out],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        refused(workshop, ["build"], 11, f"process {holder.pid}")
        holder.kill()
    assert workshop.run("build", "--kind", "archive").code == 0  # the lock ended with its process


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_ends_its_children_and_says_what_is_left(
    workshop: Workshop, tmp_path: Path, sent: signal.Signals
) -> None:
    """Ctrl-C in the middle of PyInstaller's analysis: exit 130, no child left, dist/ as it was."""
    alone = Workshop(project=workshop.project, out=tmp_path / "own out", dist=workshop.dist)
    before = alone.delivered()
    child = subprocess.Popen(
        alone.command("build", "--kind", "archive"), env=environment(), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    _wait_for(lambda: bool(list((alone.out / "cache").glob("analyse/.draft-*/work/*"))), 60)
    child.send_signal(sent)
    _, err = child.communicate(timeout=30)

    assert child.returncode == 130, err
    assert "Child processes were ended" in err
    assert alone.delivered() == before
    assert not processes_naming(str(alone.out))


def _wait_for(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_git_makes_the_difference_that_it_should(workshop: Workshop) -> None:
    """Without git: no commit. With a commit: its hash, clean. With an edited file: dirty."""
    words = ("build", "--kind", "pyz")
    seen = []
    for prepare in (lambda: None, lambda: _commit(workshop.project), lambda: _touch(workshop.project)):
        prepare()
        outcome = workshop.run(*words)
        assert outcome.code == 0, outcome.err
        seen.append(workshop.manifest()["source"])

    assert [(bool(source["commit"]), source["dirty"]) for source in seen] == [
        (False, False),
        (True, False),
        (True, True),
    ]


def _commit(project: Path) -> None:
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", project, *words], check=True, capture_output=True)


def _touch(project: Path) -> None:
    (project / "lamps" / "harbour.yaml").write_text("harbour:\n  wick: new\n", encoding="utf-8")


def test_merge_refuses_what_contradicts(workshop: Workshop, tmp_path: Path) -> None:
    """Two manifests of different source: exit 12, and the destination is not touched."""
    assert workshop.run("build", "--kind", "pyz").code == 0
    other = tmp_path / "other"
    other.mkdir()
    manifest = workshop.manifest()
    manifest["project"]["version"] = "9.9.9"
    for path in workshop.dist.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    into = tmp_path / "into"
    words = [
        sys.executable,
        "-m",
        "ferryman_build",
        "merge",
        str(workshop.dist),
        str(other),
        "--into",
        str(into),
    ]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)

    assert done.returncode == 12, done.stderr
    assert "9.9.9" in done.stderr
    assert not into.exists() or not list(into.iterdir())
