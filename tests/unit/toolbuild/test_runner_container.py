"""The container runner: an engine's command line, an image of its own making, and no container that outlives its place.

The engine is a shell script that writes down what it was asked; tests/e2e/foreign has a real one.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ferryman_build.artifacts import Kind
from ferryman_build.cmd import Runner
from ferryman_build.errors import BuildStepError, ToolMissingError
from ferryman_build.runners import container, roots
from ferryman_build.runners.base import Purpose
from ferryman_build.runners.container import ContainerPlace, ContainerRunner
from ferryman_build.runners.roots import Root
from ferryman_build.settings import RunnerName
from ferryman_build.smoke import purpose_of
from ferryman_build.targets import parse_target

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the engine is a shell script")

AMD64, ARM64 = parse_target("linux-amd64"), parse_target("linux-arm64")
FLOOR = {"glibc": "2.31"}
IMAGES = "images.txt"
ENGINE = """#!/bin/sh
here=$(dirname "$0")
for word in "$@"; do printf '<%s>' "$word" >> "$here/asked"; done; echo >> "$here/asked"
case "$1" in
  --version) echo "podman version 4.3 of the test" ;;
  images) cat "$here/images.txt" 2>/dev/null || exit 0 ;;
  import) for word in "$@"; do last=$word; done; echo "$last" >> "$here/images.txt" ;;
  pull) echo "$2" >> "$here/images.txt" ;;
  info) cat "$here/rootless" 2>/dev/null || echo false ;;
  ps) cat "$here/running" 2>/dev/null || exit 0 ;;
esac
"""


@pytest.fixture(autouse=True)
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the one engine of this machine, and a home with nothing in it."""
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "podman").write_text(ENGINE)
    (folder / "podman").chmod(0o755)
    for name in (container.ENGINE_ARGS, container.IMAGE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(container.ENGINE, f"env {folder}/podman")  # several words
    monkeypatch.setenv("FERRYMAN_HOME", str(tmp_path / "home"))
    container.forget()
    yield folder
    container.forget()


def asked(engine: Path) -> str:
    file = engine / "asked"
    return file.read_text() if file.exists() else ""


def userland(purpose: Purpose = Purpose.TRY) -> Root:
    """One that the runner rootfs has made."""
    recipe = roots.recipes(AMD64, purpose, FLOOR)[0]
    root = Root(recipe=recipe, folder=roots.store(RunnerName.ROOTFS) / recipe.name)
    root.path.mkdir(parents=True)
    root.tar.write_bytes(b"a userland")
    (root.folder / "made.json").write_text("{}")
    return root


@pytest.fixture
def place(engine: Path, tmp_path: Path) -> Iterator[ContainerPlace]:
    (tmp_path / "work").mkdir()
    made = ContainerPlace(container.engine(), "localhost/image", None, tmp_path / "work", "Debian")
    yield made
    made.end()


def words_of(place: ContainerPlace, cwd: Path, **more: object) -> list[str]:
    fields: dict[str, object] = {"env": {}, **more}
    return list(place.command(["program"], cwd=cwd, **fields).words)  # type: ignore[arg-type]


def values(words: list[str], option: str) -> list[str]:
    return [after for word, after in itertools.pairwise(words) if word == option]


# --- engines and images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "host", "runs"),
    [
        ("linux-amd64", "linux-amd64", True),
        ("linux-arm64", "linux-amd64", True),
        ("linux-amd64-musl", "linux-amd64", True),
        ("windows-amd64", "linux-amd64", False),
        ("linux-amd64", "darwin-arm64", False),
    ],
)
def test_containers_run_linux_programs_on_linux(target: str, host: str, runs: bool) -> None:
    assert ContainerRunner().runs(parse_target(target), parse_target(host)) is runs


def test_a_missing_engine_is_named_with_the_way_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whether it was looked for or named; opening says the same."""
    monkeypatch.setenv(container.ENGINE, "no-such-engine --remote")
    ready = ContainerRunner().ready(AMD64, Purpose.TRY, FLOOR)
    assert not ready.ready
    assert "no-such-engine" in ready.found
    assert "FERRYMAN_ENGINE" in ready.advice

    monkeypatch.delenv(container.ENGINE)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert "docker or podman" in ContainerRunner().ready(AMD64, Purpose.TRY, FLOOR).found
    with (
        pytest.raises(ToolMissingError, match="No container can run programs of linux-amd64") as caught,
        ContainerRunner().open(AMD64, Purpose.TRY, FLOOR, tmp_path / "work", Runner()),
    ):
        pass
    assert "apt-get install podman" in caught.value.advice


def test_an_engine_that_refuses_is_quoted(engine: Path) -> None:
    """A daemon that does not run, a cgroup layout that it does not like: its own words, and where options go."""
    (engine / "podman").write_text("#!/bin/sh\necho 'Error: hybrid mode is not supported'; exit 125\n")
    ready = ContainerRunner().ready(AMD64, Purpose.TRY, FLOOR)

    assert not ready.ready
    assert "hybrid mode is not supported" in ready.found
    assert "FERRYMAN_ENGINE_ARGS" in ready.advice


def test_the_engine_that_answers_is_taken(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A docker without its daemon does not hide a podman that works."""
    monkeypatch.delenv(container.ENGINE)
    monkeypatch.setenv("PATH", f"{engine}{os.pathsep}{os.environ['PATH']}")
    (engine / "docker").write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon'; exit 1\n")
    (engine / "docker").chmod(0o755)

    assert container.engine().words == ("podman",)


@pytest.mark.parametrize("code", [125, 126])
def test_an_engine_that_answers_and_starts_nothing_is_found_out_by_opening(
    engine: Path, tmp_path: Path, code: int
) -> None:
    """Once each engine and image is tried; what it says is why nothing was run."""
    root = userland()
    (engine / IMAGES).write_text(f"localhost/ferryman:{root.recipe.name}\n")
    (engine / "podman").write_text(
        ENGINE.replace("  ps)", f"  run) echo 'Error: no cgroups here'; exit {code} ;;\n  ps)")
    )
    kind = ContainerRunner()
    assert kind.ready(AMD64, Purpose.TRY, FLOOR).ready
    with (
        pytest.raises(ToolMissingError, match="starts no container: Error: no cgroups here") as caught,
        kind.open(AMD64, Purpose.TRY, FLOOR, tmp_path / "work", Runner()),
    ):
        pass
    assert "FERRYMAN_ENGINE_ARGS" in caught.value.advice

    (engine / "podman").write_text(ENGINE)
    (engine / "asked").unlink()
    for _ in range(2):
        with kind.open(AMD64, Purpose.TRY, FLOOR, tmp_path / "work", Runner()):
            pass
    assert asked(engine).count("<run>") == 1
    assert list((tmp_path / "work").iterdir()) == []


def test_without_an_image_the_advice_is_to_set_up(engine: Path, tmp_path: Path) -> None:
    """A userland alone is none, nor is an image without the userland that tells what is in it."""
    kind = ContainerRunner()
    (engine / IMAGES).write_text(f"localhost/ferryman:{roots.recipes(AMD64, Purpose.TRY, FLOOR)[0].name}\n")
    assert not kind.ready(AMD64, Purpose.TRY, FLOOR).ready

    (engine / IMAGES).unlink()
    container.forget()
    userland()
    ready = kind.ready(AMD64, Purpose.TRY, FLOOR)
    assert (ready.ready, ready.advice) == (False, "ferryman runners setup container --target linux-amd64")
    with (
        pytest.raises(ToolMissingError, match="no image"),
        kind.open(AMD64, Purpose.TRY, FLOOR, tmp_path, Runner()),
    ):
        pass


def test_setup_imports_the_userlands_of_the_other_runners(engine: Path) -> None:
    """Once each, for the target's processor; then both purposes are ready."""
    tried, built = userland(), userland(Purpose.BUILD)
    target = msgspec.structs.replace(AMD64, floor=FLOOR)
    for _ in range(2):
        ContainerRunner().setup(target, Runner(), lambda _: None)

    assert asked(engine).count("<import>") == 2
    assert (
        f"<import><--arch><amd64><--os><linux><{tried.tar}><localhost/ferryman:{tried.recipe.name}>"
        in asked(engine)
    )
    assert "Debian bullseye" in ContainerRunner().ready(AMD64, Purpose.TRY, FLOOR).found
    with ContainerRunner().open(AMD64, Purpose.BUILD, FLOOR, built.folder / "work", Runner()) as place:
        assert place.python == built.path / "usr/bin/python3"
        assert place.spell(built.path / "usr/bin/python3") == "/usr/bin/python3"
        assert place.unspell("/usr/lib/x") == built.path / "usr/lib/x"


def test_docker_is_told_the_platform_in_its_own_words(engine: Path) -> None:
    """It has no --arch."""
    (engine / "podman").write_text(ENGINE.replace("podman version", "Docker version"))
    userland()
    userland(Purpose.BUILD)
    ContainerRunner().setup(msgspec.structs.replace(AMD64, floor=FLOOR), Runner(), lambda _: None)

    assert "<import><--platform><linux/amd64>" in asked(engine)


@pytest.mark.parametrize("listed", ["registry.example/agent:1", "localhost/agent:1"])
def test_an_image_of_ones_own_is_for_trying(
    engine: Path, monkeypatch: pytest.MonkeyPatch, listed: str
) -> None:
    """It has to be there, or be pulled when that is asked for; it cannot be read as a folder, so nothing is built in it."""
    monkeypatch.setenv(container.IMAGE, "agent:1")
    assert not ContainerRunner().ready(ARM64, Purpose.TRY, {}).ready

    (engine / IMAGES).write_text(f"{listed}\n")
    container.forget()
    assert ContainerRunner().ready(ARM64, Purpose.TRY, {}).found.endswith("agent:1")
    assert not ContainerRunner().ready(ARM64, Purpose.BUILD, {}).ready
    ContainerRunner().setup(ARM64, Runner(), lambda _: None)
    assert "<pull><agent:1>" in asked(engine)


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_program_sees_what_it_was_given_and_a_root_that_it_cannot_change(
    place: ContainerPlace, tmp_path: Path
) -> None:
    """Folders under their own names, writable or not, denied ones as read-only and noexec; nothing is pulled meanwhile."""
    own, read, denied = tmp_path / "own é, 灯", tmp_path / "read", tmp_path / "own é, 灯" / "tmp"
    words = words_of(place, own, folders=(own, denied), shown=(read,), denied=(denied,))

    assert values(words, "--volume") == [f"{own}:{own}:rw", f"{read}:{read}:ro"]
    assert values(words, "--tmpfs") == [f"{denied}:ro,noexec,nosuid,nodev,size=1m,mode=1777"]
    assert values(words, "--workdir") == [str(own)]
    assert {"--rm", "--interactive", "--read-only", "--pull=never", "--network=host"} <= set(words)
    assert words[-2:] == ["localhost/image", "program"]


def test_the_users_own_arguments_are_in_every_run(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quoted words stay whole; another network replaces this machine's."""
    monkeypatch.setenv(
        container.ENGINE_ARGS, "--cgroups=disabled --ulimit nofile=1024:1024 --network=none '--label=a b'"
    )
    place = ContainerPlace(container.engine(), "image", None, tmp_path, "x")
    words = words_of(place, tmp_path)

    assert values(words, "--ulimit") == ["nofile=1024:1024"]
    assert "--label=a b" in words
    assert "--network=host" not in words


ORDINARY = (1001, 1002)


@pytest.mark.parametrize(
    ("title", "says", "person", "words"),
    [
        ("podman", "false", (0, 0), ["--user=0:0"]),
        ("podman", "true", ORDINARY, ["--userns=keep-id", "--user=1001:1002"]),
        ("podman", "false", ORDINARY, ["--user=1001:1002"]),
        ("Docker", "[name=seccomp,profile=builtin name=cgroupns]", ORDINARY, ["--user=1001:1002"]),
        ("Docker", "[name=seccomp,profile=builtin name=rootless]", ORDINARY, ["--user=0:0"]),
        ("Docker", "[name=trueish,profile=rootless]", ORDINARY, ["--user=1001:1002"]),
        ("Docker", "[]", (0, 0), ["--user=0:0"]),
    ],
)
def test_a_program_runs_as_whoever_builds(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str, says: str, person: tuple[int, int],
    words: list[str],
) -> None:  # fmt: skip
    """In the engine's count: else a program finds its folders to be another's, and leaves files that we cannot remove."""
    (engine / "podman").write_text(ENGINE.replace("podman version", f"{title} version"))
    (engine / "rootless").write_text(f"{says}\n")
    for name, value in zip(("geteuid", "getegid"), person, strict=True):
        monkeypatch.setattr(os, name, lambda value=value: value)
    place = ContainerPlace(container.engine(), "image", None, tmp_path, "x")
    given = words_of(place, tmp_path)

    assert [word for word in given if word.startswith("--user")] == words
    assert given.index(words[-1]) < given.index("image")
    assert ("<info>" in asked(engine)) is (person == ORDINARY)


@pytest.mark.parametrize("said", ["--user=7", "-u 7", "--userns=auto"])
def test_another_user_may_be_named(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """In FERRYMAN_ENGINE_ARGS, and then only there."""
    monkeypatch.setenv(container.ENGINE_ARGS, said)
    place = ContainerPlace(container.engine(), "image", None, tmp_path, "x")
    users = [word for word in words_of(place, tmp_path) if word.startswith(("--user", "-u"))]

    assert users == [said.split(maxsplit=1)[0]]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("echo /usr/local/bin/python3.11", Path("/usr/local/bin/python3.11")),
        ("echo 'Error: executable file not found'; exit 127", None),
        ("echo what; exit 0", None),
    ],
)
def test_an_image_of_ones_own_may_have_a_python(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, found: Path | None
) -> None:
    """Then a .pyz can be tried in it; an imported userland has its own, and lends none."""
    assert purpose_of(ContainerRunner(), Kind.PYZ) is Purpose.BUILD
    monkeypatch.setenv(container.IMAGE, "agent:1")
    (engine / IMAGES).write_text("agent:1\n")
    (engine / "podman").write_text(
        ENGINE.replace("  ps)", f'  run) case "$*" in *sys.executable*) {answer} ;; esac ;;\n  ps)')
    )
    purpose = purpose_of(ContainerRunner(), Kind.PYZ)
    with ContainerRunner().open(AMD64, purpose, {}, tmp_path / "work", Runner()) as place:
        assert place.find_python(Runner()) == found
        assert place.spell(Path("/usr/local/bin/python3.11")) == "/usr/local/bin/python3.11"
    assert [purpose_of(ContainerRunner(), kind) for kind in Kind] == [Purpose.TRY] * 3


def test_variables_are_in_a_file_that_only_we_read(place: ContainerPlace, tmp_path: Path) -> None:
    """A secret is in no list of processes; a value with a line break, which such a file cannot hold, is handed over."""
    words = words_of(place, tmp_path, env={"TOKEN": "x=y ü", "LINES": "a\nb"})
    (file,) = map(Path, values(words, "--env-file"))

    assert file.read_text(encoding="utf-8") == "TOKEN=x=y ü\n"
    assert file.stat().st_mode & 0o077 == 0
    assert values(words, "--env") == ["LINES=a\nb"]
    place.end()
    assert not file.exists()


def test_a_folder_with_a_comma_in_it_holds_no_variables(engine: Path, tmp_path: Path) -> None:
    """Podman takes the path of such a file for several."""
    work = tmp_path / "a, b"
    work.mkdir()
    place = ContainerPlace(container.engine(), "image", None, work, "x")
    (file,) = map(Path, values(words_of(place, tmp_path), "--env-file"))

    assert "," not in str(file)
    place.end()
    assert not file.parent.exists()


def test_the_client_is_not_told_apart_by_the_users_home(place: ContainerPlace, tmp_path: Path) -> None:
    """Leftovers are looked for by HOME: with the user's own, all that this user runs would be one of them."""
    given = place.command(["x"], cwd=tmp_path, env={"HOME": "/fresh/home"})
    without = place.command(["x"], cwd=tmp_path, env={})

    assert given.env["HOME"] == "/fresh/home"
    assert without.env["HOME"].startswith(str(tmp_path))
    assert given.words[1] == f"HOME={os.environ.get('HOME', '/')}"  # for the engine's own settings


def test_a_path_with_a_colon_is_refused(place: ContainerPlace, tmp_path: Path) -> None:
    with pytest.raises(BuildStepError, match="cannot be shown to a container") as caught:
        words_of(place, tmp_path / "a:b")

    assert "--out" in caught.value.advice


# --- ends -------------------------------------------------------------------------------------------------------------


def test_stop_asks_the_engine(place: ContainerPlace, engine: Path, tmp_path: Path) -> None:
    """The client may be behind a word that keeps signals for itself."""
    command = place.command(["x"], cwd=tmp_path, env={})
    child = subprocess.Popen([shutil.which("true") or "true", *command.words[1:]])
    child.wait()
    place.stop(child)

    (name,) = values(list(command.words), "--name")
    assert f"<kill><--signal><TERM><{name}>" in asked(engine)


def test_what_still_runs_at_the_end_is_killed_and_nothing_else(
    place: ContainerPlace, engine: Path, tmp_path: Path
) -> None:
    """Engines refuse a list in which one name is gone, so only those that are there are named."""
    names = [values(words_of(place, tmp_path), "--name")[0] for _ in range(3)]
    (engine / "running").write_text(f"{names[1]}\nsomebody-elses\n")
    place.end()

    assert f"<kill><{names[1]}>\n" in asked(engine)
    assert f"<rm><--force><{names[1]}>\n" in asked(engine)
    assert "somebody-elses" not in asked(engine)


def test_an_engine_that_hangs_is_ended_and_named(
    place: ContainerPlace, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a place nobody waits for it for ever."""
    monkeypatch.setattr(container, "_END_SECONDS", 0.2)
    words_of(place, tmp_path)
    working = (engine / "podman").read_text()
    (engine / "podman").write_text("#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(BuildStepError, match=r"container-ps did not finish within 0\.2 s"):
        place.end()
    (engine / "podman").write_text(working)


@pytest.mark.parametrize(
    ("code", "said", "problem"),
    [
        (125, "Error: image not known\n", "the engine failed: Error: image not known"),
        (
            125,
            "docker: Error response from daemon: no such image.\nSee 'docker run --help'.",
            "the engine failed: docker: Error",
        ),
        (
            126,
            "Error: crun: open executable: Permission denied",
            "the program cannot be executed: Error: crun",
        ),
        (
            127,
            "starting\nError: crun: executable file `/x` not found",
            "there is no such program: Error: crun",
        ),
        (127, "sh: 1: nope: not found", ""),
        (125, "", ""),
        (1, "Error: the program's own", ""),
        (0, "", ""),
    ],
)
def test_the_engines_exit_codes_are_told_from_the_programs(code: int, said: str, problem: str) -> None:
    """By the number and the engine's way of speaking together: a program may answer 127 as well."""
    found = ContainerPlace.problem(code, said)

    assert found.startswith(problem)
    assert bool(found) is bool(problem)
