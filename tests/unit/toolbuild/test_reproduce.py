"""reproduce: what is chosen, what is varied, and what is said of the result; the second build itself is a fake here."""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from ferryman_build.artifacts import Artifact, Kind, Manifest, ProjectInfo
from ferryman_build.cmd import Runner
from ferryman_build.commands.reproduce import _options, _runtimes
from ferryman_build.errors import InspectError, ManifestError, UsageError
from ferryman_build.manifest import manifest_bytes
from ferryman_build.project import load_project
from ferryman_build.provenance import effective
from ferryman_build.reproduce import again, elsewhere, session
from ferryman_build.reproduce.elsewhere import (
    Circumstance,
    Elsewhere,
    copy_caches,
    copy_source,
    copy_tool,
    make_elsewhere,
)
from ferryman_build.reproduce.session import Request, Verdict, choose, refuse_differences, reproduce, table
from ferryman_build.source import read_source
from ferryman_build.targets import host_target, parse_target
from ferryman_build.ui import PlainUi
from support.ferryman import write_one_module

HOST = host_target().id
NAMES = {
    "lamp.tar.gz": (HOST, Kind.ARCHIVE),
    "lamp.pyz": (HOST, Kind.PYZ),
    "far.pyz": ("linux-s390x", Kind.PYZ),
}


def artifact(path: str, content: bytes, collector: str = "pyinstaller") -> Artifact:
    target, kind = NAMES[path]
    return Artifact(kind=kind, target=target, path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest(),
                    collector=collector)  # fmt: skip


@pytest.fixture
def first(tmp_path: Path) -> Request:
    """A project with what a build of it has left."""
    project, dist = tmp_path / "project", tmp_path / "dist"
    project.mkdir()
    dist.mkdir()
    write_one_module(project, "lamp", "def main(): ...\n", "")
    for name in NAMES:
        (dist / name).write_bytes(name.encode())
    manifest = Manifest(
        project=ProjectInfo(name="lamp", version="1.0"), source=read_source(project), tools={},
        artifacts=tuple(artifact(name, name.encode()) for name in NAMES),
    )  # fmt: skip
    (dist / "manifest.json").write_bytes(manifest_bytes(manifest))
    return Request(project=project, out=tmp_path / "out", dist=dist)


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Elsewhere]]:
    """A second build that writes what it is told to; the places where it was."""

    def fake(**contents: bytes | None) -> list[Elsewhere]:
        places: list[Elsewhere] = []

        def build(
            request: Request, manifest: Manifest, wanted: Sequence[Artifact], place: Elsewhere, runner: Runner
        ) -> None:
            places.append(place)
            place.dist.mkdir()
            for one in wanted:
                content = contents.get(one.kind.value, one.path.encode())
                if content is not None:
                    (place.dist / one.path).write_bytes(content)

        monkeypatch.setattr(session, "_build_again", build)
        return places

    return fake


def quiet() -> PlainUi:
    return PlainUi(io.StringIO())


# --- choosing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "targets", "wanted"),
    [
        ((), (), list(NAMES)),
        (("lamp.pyz",), (), ["lamp.pyz"]),
        (("dist/lamp.pyz", "far.pyz"), (), ["lamp.pyz", "far.pyz"]),
        ((), ("linux-s390x",), ["far.pyz"]),
        ((), ("host",), ["lamp.tar.gz", "lamp.pyz"]),
    ],
)
def test_choose(names: tuple[str, ...], targets: tuple[str, ...], wanted: list[str]) -> None:
    """By name or path, by target, or everything; in the manifest's order."""
    manifest = Manifest(project=ProjectInfo(name="lamp", version="1"), source=session.read_source(Path(__file__).parent),
                        tools={}, artifacts=tuple(artifact(name, b"") for name in NAMES))  # fmt: skip
    found = choose(manifest, names, [parse_target(name) for name in targets])

    assert [one.path for one in found] == wanted


@pytest.mark.parametrize(
    ("names", "targets", "words"),
    [
        (("lamp.exe",), (), "lamp.exe is not in the manifest"),
        ((), ("windows-arm64",), "lists nothing of that kind"),
    ],
)
def test_choose_what_is_not_there(
    first: Request, names: tuple[str, ...], targets: tuple[str, ...], words: str
) -> None:
    """The answer lists what there is."""
    manifest = session._manifest(first)
    with pytest.raises(UsageError, match=words) as caught:
        choose(manifest, names, [parse_target(name) for name in targets])

    assert "lamp.pyz" in caught.value.advice


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda request: (request.dist / "manifest.json").unlink(), "no manifest.json"),
        (lambda request: shutil.rmtree(request.dist), "no manifest.json"),
        (
            lambda request: (request.dist / "lamp.pyz").write_bytes(b"x"),
            "not the file that manifest.json describes",
        ),
        (lambda request: (request.dist / "lamp.pyz").unlink(), "not the file that manifest.json describes"),
        (lambda request: (request.project / "lamp.py").write_text("x"), "not the one that"),
    ],
)
def test_a_first_build_that_is_not_what_it_was(
    first: Request, spoil: Callable[[Request], object], words: str
) -> None:
    """Nothing is built when the comparison could say nothing."""
    spoil(first)
    with pytest.raises(ManifestError, match=words):
        reproduce(first, quiet())


# --- comparing ------------------------------------------------------------------------------------------------------------


def test_the_same(first: Request, second: Callable[..., list[Elsewhere]]) -> None:
    """Every artifact is compared, nothing is left behind, and nothing is refused."""
    places = second()
    verdicts = reproduce(first, quiet())
    refuse_differences(verdicts, first.out)

    assert [(verdict.path, verdict.same) for verdict in verdicts] == [(name, True) for name in NAMES]
    assert [row[2] for row in table(verdicts)[1]] == ["same"] * 3
    assert not places[0].root.exists()
    assert not first.out.exists()


def test_a_difference(first: Request, second: Callable[..., list[Elsewhere]]) -> None:
    """It is named with its artifact; the other file is kept for whoever looks closer; the place is removed."""
    places = second(archive=b"lamp.tar.XX", pyz=None)
    verdicts = reproduce(first, quiet())
    with pytest.raises(InspectError, match="3 of 3 artifacts came out differently") as caught:
        refuse_differences(verdicts, first.out / "reproduced")

    assert caught.value.exit_code == 8
    assert (
        caught.value.details[0]
        == "lamp.tar.gz: the file: 11 bytes, first at 0x9: 67 7a and 58 58 (line 1: 'lamp.tar.gz' and 'lamp.tar.XX')"
    )
    assert "lamp.pyz: the file: the second build did not make it" in caught.value.details
    assert [row[2][:18] for row in table(verdicts)[1]] == [
        f"different: {verdicts[0].second[:7]}",
        "different: missing",
        "different: missing",
    ]
    assert (first.out / "reproduced" / "lamp.tar.gz").read_bytes() == b"lamp.tar.XX"
    assert not places[0].root.exists()


def test_a_second_build_that_fails_leaves_nothing(first: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is removed however it ends."""
    seen: list[Path] = []

    def fail(*arguments: object) -> None:
        place = arguments[3]
        assert isinstance(place, Elsewhere)
        seen.append(place.root)
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "_build_again", fail)
    with pytest.raises(KeyboardInterrupt):
        reproduce(first, quiet())
    assert not seen[0].exists()


def test_one_that_differs_is_counted(tmp_path: Path) -> None:
    """Those that are the same are not listed among the differences."""
    same = Verdict(path="a", first="1", second="1")
    with pytest.raises(InspectError, match="1 of 2"):
        refuse_differences([same, Verdict(path="b", first="1", second="2")], tmp_path)


# --- the second build's command and circumstances ----------------------------------------------------------------------------


class Recorder(Runner):
    """Remembers what was to be run, and leaves the manifest that the second build would."""

    def __init__(self, manifest: bytes) -> None:
        super().__init__()
        self.manifest = manifest
        self.words: list[str] = []
        self.calls: list[list[str]] = []

    def run(self, args: Sequence[str | Path], **options: object) -> None:  # type: ignore[override]
        self.words = [str(word) for word in args]
        self.calls.append(self.words)
        place = Path(self.after("--dist"))
        place.mkdir(exist_ok=True)
        (place / "manifest.json").write_bytes(self.manifest)

    def after(self, option: str) -> str:
        return self.words[self.words.index(option) + 1]


@pytest.mark.parametrize(("collector", "runs"), [("pyinstaller", True), ("standalone", False)])
def test_the_second_build(first: Request, tmp_path: Path, collector: str, runs: bool) -> None:
    """From the copies, with copied tool, into a folder of its own; runners only where one takes part in the making."""
    manifest = session._manifest(first)
    wanted = [artifact("lamp.pyz", b""), artifact("far.pyz", b"", collector)]
    wanted[0] = msgspec.structs.replace(wanted[0], collector=collector)
    root = tmp_path / "again"
    root.mkdir()
    place = make_elsewhere(root)
    runner = Recorder((first.dist / "manifest.json").read_bytes())
    session._build_again(first, manifest, wanted, place, runner)

    assert runner.words[: len(place.prefix)] == list(place.prefix)
    assert runner.words[len(place.prefix) + 1 :][:4] == [
        "-m",
        "ferryman_build.reproduce.again",
        "077",
        str(place.processors),
    ]
    assert runner.after("--target") == f"{HOST},linux-s390x"
    assert runner.after("--kind") == "pyz"
    assert runner.after("--collector") == collector
    assert len(runner.calls) == 1
    assert Path(runner.after("--project")) == place.source
    assert ("--runner" not in runner.words) is runs
    assert (place.source / "lamp.py").read_text() == (first.project / "lamp.py").read_text()
    assert (place.tool / "ferryman_build" / "cli.py").is_file()


def test_promises_are_kept_by_the_second_build(first: Request, tmp_path: Path) -> None:
    """What was built for this very machine is not built for the oldest one of its kind, nor what has another promise."""
    promise = {"glibc": "2.36", "cpu": parse_target("host").cpu}
    wanted = [
        msgspec.structs.replace(artifact("lamp.pyz", b"", "pip"), promise=promise),
        artifact("far.pyz", b"", "pip"),
    ]
    (tmp_path / "again").mkdir()
    runner = Recorder((first.dist / "manifest.json").read_bytes())
    session._build_again(first, session._manifest(first), wanted, make_elsewhere(tmp_path / "again"), runner)
    floors = {words[words.index("--target") + 1]: "--floor" in words for words in runner.calls}

    assert floors == {HOST: True, "linux-s390x": False}
    assert runner.calls[0][runner.calls[0].index("--floor") + 1] == "glibc 2.36"


def test_what_it_was_made_of_is_said_first(first: Request, second: Callable[..., list[Elsewhere]]) -> None:
    """Another runtime or promise is the cause of all other differences, and its name says what to hand on."""
    manifest = session._manifest(first)
    other = [msgspec.structs.replace(one, runtime="another one") for one in manifest.artifacts]
    place = make_elsewhere(first.project.parent)
    place.dist.mkdir()
    (place.dist / "manifest.json").write_bytes(
        manifest_bytes(msgspec.structs.replace(manifest, artifacts=tuple(other)))
    )
    (place.dist / "lamp.pyz").write_bytes(b"lamp.pyX")
    verdict = session._compare(
        next(one for one in manifest.artifacts if one.path == "lamp.pyz"), first, place
    )

    assert verdict.differences[0].what == "made with another runtime: '' and 'another one'"
    assert len(verdict.differences) == 2


def test_a_copy_that_is_another_source(first: Request, tmp_path: Path) -> None:
    """A second build of something else proves nothing."""
    manifest = session._manifest(first)
    changed = (first.dist / "manifest.json").read_bytes().replace(manifest.source.digest.encode(), b"0" * 64)
    (tmp_path / "again").mkdir()
    with pytest.raises(ManifestError, match="not the same source"):
        session._build_again(
            first,
            manifest,
            [artifact("lamp.pyz", b"")],
            make_elsewhere(tmp_path / "again"),
            Recorder(changed),
        )


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the index and the settings stays; what could leak into a file is another; the rest is gone."""
    place = make_elsewhere(tmp_path)
    given = {"PATH": "/bin", "HOME": "/home/me", "TZ": "UTC", "UV_DEFAULT_INDEX": "https://a", "FERRYMAN_OPTIMIZE": "2",
             "PYTHONPATH": "/mine", "XDG_CACHE_HOME": "/home/me/c", "SECRET": "x", "USER": "me"}  # fmt: skip
    env = place.environment(given, 99)

    assert {name: env[name] for name in ("PATH", "UV_DEFAULT_INDEX", "FERRYMAN_OPTIMIZE", "SOURCE_DATE_EPOCH")} == {
        "PATH": "/bin", "UV_DEFAULT_INDEX": "https://a", "FERRYMAN_OPTIMIZE": "2", "SOURCE_DATE_EPOCH": "99",
    }  # fmt: skip
    assert not {"SECRET", "XDG_CACHE_HOME"} & env.keys()
    assert (env["TZ"], env["PYTHONHASHSEED"], env["PYTHONPATH"]) == ("XYZ-13:45", "4242", str(place.tool))
    assert all(
        Path(env[name]).is_relative_to(tmp_path) and Path(env[name]).is_dir() for name in ("HOME", "TMPDIR")
    )
    assert "me" not in (env["USER"], env["LOGNAME"])


def test_everything_that_is_varied_is_said(tmp_path: Path) -> None:
    """With its value, or with the reason why it is not varied here."""
    found = {one.name: one for one in make_elsewhere(tmp_path).circumstances}

    assert found.keys() == {
        "path", "user", "umask", "time zone", "locale", "hash seed", "HOME and TMPDIR", "processors", "files", "caches",
    }  # fmt: skip
    assert str(Circumstance("user", "no unshare", varied=False)) == "user not varied: no unshare"
    assert str(Circumstance("umask", "077")) == "umask 077"


@pytest.mark.parametrize(("code", "varied"), [(0, True), (1, False)])
def test_another_user(monkeypatch: pytest.MonkeyPatch, code: int, varied: bool) -> None:
    """Where user namespaces are forbidden it is said, and the build goes on as the same user."""
    monkeypatch.setattr(elsewhere.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(
        elsewhere.subprocess,
        "run",
        lambda words, **_: subprocess.CompletedProcess(words, code, "", "no: denied\n"),
    )
    monkeypatch.setattr(sys, "platform", "linux")
    prefix, told = elsewhere._other_user()

    assert (bool(prefix), told.varied) == (varied, varied)
    assert varied or told.value == "no: denied"


def test_no_other_user_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and Windows have no unshare."""
    monkeypatch.setattr(elsewhere.shutil, "which", lambda name: None)

    assert elsewhere._other_user()[1] == Circumstance("user", "there is no unshare(1)", varied=False)


@pytest.mark.parametrize(
    ("listed", "now", "wanted"),
    [
        ("C\nC.utf8\nPOSIX\n", "C.UTF-8", "C"),
        ("C\nC.utf8\nPOSIX\n", "C", "C.UTF-8"),
        ("C\nde_DE.utf8\ntr_TR.utf8\n", "de_DE.UTF-8", "tr_TR.utf8"),
        ("C\nde_DE.utf8\n", "en_US.UTF-8", "de_DE.utf8"),
    ],
)
def test_another_locale(monkeypatch: pytest.MonkeyPatch, listed: str, now: str, wanted: str) -> None:
    """Another language where there is one."""
    monkeypatch.setenv("LC_ALL", now)
    monkeypatch.setattr(elsewhere.shutil, "which", lambda name: "/bin/locale")
    monkeypatch.setattr(
        elsewhere.subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 0, listed, "")
    )

    assert elsewhere._other_locale()[0] == wanted


@pytest.mark.skipif(sys.platform != "linux", reason="processors are limited on Linux only")
def test_the_process_of_the_second_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """umask and processors are set before anything of the build runs."""
    seen: dict[str, object] = {}
    monkeypatch.setattr(os, "umask", lambda mask: seen.update(umask=mask))
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cpus: seen.update(cpus=len(cpus)))
    monkeypatch.setattr("ferryman_build.cli.main", lambda words: seen.update(words=words) or 3)

    assert again.main(["077", "1", "build", "--plain"]) == 3
    assert seen == {"umask": 0o77, "cpus": 1, "words": ["build", "--plain"]}


# --- copies -----------------------------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    identity = [
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@example.org",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "init.defaultBranch=main",
    ]
    return subprocess.run(
        ["git", "-C", folder, *identity, *words], capture_output=True, text=True, check=True
    ).stdout


def test_copy_of_a_checkout(tmp_path: Path) -> None:
    """Commit, tags and what is not committed are as they were; what git ignores is not there; modes are their owner's."""
    top = tmp_path / "top"
    (top / "agent").mkdir(parents=True)
    git(tmp_path, "init", "--quiet", str(top))
    for name, text in {
        "agent/a.py": "1",
        "gone.py": "1",
        "run": "1",
        ".gitignore": "out\n",
        "changed.py": "1",
    }.items():
        (top / name).write_text(text)
    (top / "run").chmod(0o755)
    (top / "link").symlink_to("agent")
    git(top, "add", "-A")
    git(top, "commit", "--quiet", "-m", "first")
    git(top, "tag", "-a", "v1.2", "-m", "v1.2")
    (top / "gone.py").unlink()
    (top / "changed.py").write_text("2")
    (top / "new.py").write_text("new")
    (top / "out").write_text("ignored")
    project = copy_source(top / "agent", tmp_path / "x" / "copy", Runner())
    copy = tmp_path / "x" / "copy"

    assert project == copy / "agent"
    assert git(copy, "describe") == git(top, "describe") == "v1.2\n"
    assert git(copy, "status", "--porcelain") == git(top, "status", "--porcelain")
    assert read_source(copy) == read_source(top)
    assert not (copy / "out").exists()
    assert (copy / "link").readlink() == Path("agent")
    assert [stat.S_IMODE((copy / name).stat().st_mode) for name in ("run", "changed.py")] == [0o700, 0o600]


def test_copy_without_git(tmp_path: Path) -> None:
    """The files alone."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "a.py").write_text("1")
    copied = copy_source(tmp_path / "project", tmp_path / "copy", Runner())

    assert [path.name for path in copied.iterdir()] == ["a.py"]


def test_copy_of_the_tool(tmp_path: Path) -> None:
    """All of Ferryman with its data, and no bytecode."""
    copy_tool(tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}

    assert {
        "ferryman_build/cli.py",
        "ferryman_build/resources/targets.toml",
        "ferryman_build/launcher/main.c",
    } <= found
    assert not [name for name in found if name.endswith(".pyc")]


def test_copy_of_the_caches(tmp_path: Path) -> None:
    """Only what was resolved, or checked when it was fetched; what steps and the compiler made is made again."""
    for name in ("index", "zig", "tree", "wheel", "blobs", "headers"):
        (tmp_path / "first" / name).mkdir(parents=True)
    copy_caches(tmp_path / "first", tmp_path / "second")

    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == ["headers", "index"]


@pytest.mark.parametrize(
    ("given", "settings", "wanted"),
    [
        ({}, "", []),
        ({"floor": "glibc 2.31", "python": "3.11"}, "", ["--python", "3.11", "--floor", "glibc 2.31"]),
        ({"wheels": "w"}, 'wheels = "other"', ["--wheels", "{cwd}/w"]),
        ({}, 'wheels = "out/wheels"', ["--wheels", "{project}/out/wheels"]),
        ({"runtimes": "https://a/b"}, "", ["--runtimes", "https://a/b"]),
    ],
)
def test_what_the_first_build_was_told(
    tmp_path: Path, given: dict[str, str], settings: str, wanted: list[str]
) -> None:
    """The same words; folders that are no part of the source are where they were."""
    write_one_module(tmp_path, "lamp", "def main(): ...\n", settings)
    names = ("python", "collector", "runner", "floor", "runtimes", "wheels")
    args = argparse.Namespace(**{**dict.fromkeys(names), **given})

    assert list(_options(args, load_project(tmp_path))) == [
        word.format(cwd=Path.cwd(), project=tmp_path) for word in wanted
    ]


@pytest.mark.parametrize(
    ("settings", "variables", "wanted"),
    [
        ("", {}, {}),
        ('runtime = "../rt"', {}, dict.fromkeys(["linux-arm64", "windows-amd64"], "{project}/../rt")),
        ('[tool.ferryman.target.linux-arm64]\nruntime = "rt.tar"', {}, {"linux-arm64": "{project}/rt.tar"}),
        ('[tool.ferryman.target.linux-arm64]\nruntime = "https://a/rt"', {}, {"linux-arm64": "https://a/rt"}),
        ('[tool.ferryman.target.linux-arm64]\nruntime = "/a"', {"FERRYMAN_RUNTIME": "/b"},
         dict.fromkeys(["linux-arm64", "windows-amd64"], "/b")),
    ],
)  # fmt: skip
def test_runtimes_of_targets(
    tmp_path: Path, settings: str, variables: dict[str, str], wanted: dict[str, str]
) -> None:
    """As the first build's settings had them, from where the first build's project is."""
    write_one_module(tmp_path, "lamp", "def main(): ...\n", settings)
    found = _runtimes(effective(load_project(tmp_path), variables, {}).project)

    assert {name: found[name] for name in ("linux-arm64", "windows-amd64") if name in found} == {
        name: value.format(project=tmp_path) for name, value in wanted.items()
    }


def test_places_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative one means a folder beside whoever calls; the second build runs elsewhere."""
    write_one_module(tmp_path, "lamp", "def main(): ...\n", "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    project = effective(load_project(tmp_path), {"FERRYMAN_RUNTIMES": "mine"}, {}).project

    assert _options(argparse.Namespace(), project) == ("--runtimes", str(tmp_path / "mine"))
