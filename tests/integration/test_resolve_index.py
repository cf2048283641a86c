"""The real uv against an index on loopback: resolved for all targets, and every way in which an index can be down."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.artifacts import Kind
from ferryman_build.cmd import Runner
from ferryman_build.errors import PackageIndexError, ResolutionError
from ferryman_build.locking import lock_text, packages_for, requirements_text, resolve, resolve_alone
from ferryman_build.plan import Status, plan_project
from ferryman_build.project import Project
from ferryman_build.settings import Settings
from ferryman_build.targets import all_targets, parse_target

PYTHON = "3.11"
PLATFORMS = ("manylinux_2_17_x86_64", "win_amd64", "macosx_11_0_arm64")


def make_wheel(
    folder: Path, name: str, version: str, tag: str, requires: tuple[str, ...] = (), salt: str = ""
) -> Path:
    """The smallest wheel that an installer accepts; ``salt`` gives it another hash."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}  # {salt}\n")
        archive.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def fill(folder: Path) -> None:
    """app needs core, and winonly on Windows; core 2.0 has fewer wheels than core 1.0."""
    folder.mkdir(exist_ok=True)
    make_wheel(folder, "app", "1.0", "py3-none-any", ("core", 'winonly; sys_platform == "win32"'))
    make_wheel(folder, "winonly", "3.0", "py3-none-any")
    for platform in PLATFORMS:
        make_wheel(folder, "core", "2.0", f"cp311-cp311-{platform}")
    for platform in (*PLATFORMS, "win_arm64"):
        make_wheel(folder, "core", "1.0", f"cp311-cp311-{platform}")


class Index(http.server.ThreadingHTTPServer):
    """PEP 503 over a folder of wheels. ``answer`` replaces every page when it is set; ``asked`` are the paths."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.asked: list[str] = []
        self.answer: tuple[int, str, bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.reply(*(self.server.answer or self.page()))

    do_HEAD = do_GET  # noqa: N815 - the name is the protocol of http.server

    def page(self) -> tuple[int, str, bytes]:
        parts = self.path.strip("/").split("/")
        if parts[0] == "files":
            return 200, "application/octet-stream", (self.server.folder / parts[1]).read_bytes()
        wheels = sorted(self.server.folder.glob(f"{parts[1]}-*.whl"))
        if not wheels:
            return 404, "text/plain", b"no such project"
        links = (f'<a href="/files/{w.name}#sha256={sha256(w)}">{w.name}</a>' for w in wheels)
        return 200, "text/html", f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()

    def reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index of our own, and a uv that knows no other, caches nothing from before and gives up at once."""
    fill(tmp_path / "wheels")
    server = Index(tmp_path / "wheels")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    for name in ("UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(tmp_path: Path, *dependencies: str, **more: Any) -> Any:
    return resolve(dependencies, PYTHON, runner=Runner(), cache=tmp_path / "cache", **more)


def test_one_question_answers_for_every_target(index: Index, tmp_path: Path) -> None:
    """A Windows-only dependency arrives on Windows alone; each target gets its own wheel, by hash."""
    lock = ask(tmp_path, "app")
    for name in ("linux-amd64", "windows-amd64", "darwin-arm64"):
        target = parse_target(name)
        packages = packages_for(lock, target, PYTHON)
        names = ["app", "core", "winonly"] if name.startswith("windows") else ["app", "core"]
        assert [package.name for package in packages] == names
        text = requirements_text(packages, target, PYTHON)
        (wheel,) = (w for w in index.folder.glob("core-2.0-*.whl") if target.wheel_tags[0] in w.name)
        assert f"core==2.0 \\\n    --hash=sha256:{sha256(wheel)}\n" in text


def test_a_second_question_asks_nobody(index: Index, tmp_path: Path) -> None:
    """The kept answer serves with the index down; refresh asks again and then says that it is down."""
    first = ask(tmp_path, "app")
    index.answer = (503, "text/plain", b"down")
    asked = len(index.asked)
    assert ask(tmp_path, "app") == first
    assert len(index.asked) == asked
    with pytest.raises(PackageIndexError):
        ask(tmp_path, "core<2", refresh=True)


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/simple/"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "refused"),
        ((503, "text/plain", b"busy"), "503"),
        ((401, "text/plain", b"who are you"), "user name"),
        ((200, "text/html", b"<html><body><form>Please log in</form></body></html>"), "login page"),
        ((200, "application/vnd.pypi.simple.v1+json", b"<html>Please log in</html>"), "not valid JSON"),
    ],
    ids=["closed-port", "503", "401", "html", "html-as-json"],
)
def test_an_index_that_does_not_answer_is_told_from_a_missing_version(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, words: str
) -> None:
    """Exit code 13, the reason and what to look at; nothing is kept."""
    index.answer = answer
    if answer is None:
        monkeypatch.setenv("UV_DEFAULT_INDEX", closed_port())
    with pytest.raises(PackageIndexError) as caught:
        ask(tmp_path, "app")
    assert caught.value.exit_code == 13
    assert words in str(caught.value)
    assert "UV_DEFAULT_INDEX" in caught.value.advice
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("dependencies", "words"),
    [
        (("core>99",), "core>99"),
        (("nosuchthing",), "nosuchthing was not found"),
        (("app", "core==1.0", "core==2.0"), "core"),
    ],
)
def test_no_solution_names_the_package(
    index: Index, tmp_path: Path, dependencies: tuple[str, ...], words: str
) -> None:
    """Exit code 6: the index answered, and there is nothing."""
    with pytest.raises(ResolutionError) as caught:
        ask(tmp_path, *dependencies)
    assert caught.value.exit_code == 6
    assert words in str(caught.value)
    assert caught.value.advice


def test_a_committed_lock_decides_versions(index: Index, tmp_path: Path) -> None:
    """A newer version in the index changes nothing, and a lock applied to its own index changes nothing."""
    path = tmp_path / "requirements.lock"
    before = ask(tmp_path, "app")
    path.write_text(lock_text(before), encoding="utf-8")
    assert index.url not in path.read_text(encoding="utf-8")
    make_wheel(index.folder, "core", "9.0", "py3-none-any")
    assert ask(tmp_path, "app", constraints=path, refresh=True) == before


def test_a_wheel_changed_in_the_index_is_refused(index: Index, tmp_path: Path) -> None:
    """Same name, other bytes: the message has the package, the details the file."""
    path = tmp_path / "requirements.lock"
    path.write_text(lock_text(ask(tmp_path, "app")), encoding="utf-8")
    changed = make_wheel(index.folder, "app", "1.0", "py3-none-any", ("core",), salt="evil")
    with pytest.raises(
        ResolutionError, match=r"app 1\.0 do not have the hashes in requirements\.lock"
    ) as caught:
        ask(tmp_path, "app", constraints=path, refresh=True)
    assert any(changed.name in line for line in caught.value.details)


def test_a_target_alone_finds_the_older_version_that_has_a_wheel(index: Index, tmp_path: Path) -> None:
    """uv passes over core 2.0, which has no wheel for it; where no version has one the answer is empty."""

    def alone(name: str) -> dict[str, str]:
        return resolve_alone(["app"], PYTHON, parse_target(name), runner=Runner(), cache=tmp_path / "cache")

    assert alone("windows-arm64") == {"app": "1.0", "core": "1.0", "winonly": "3.0"}
    assert not alone("linux-arm64")


def test_every_uv_platform_of_the_matrix_is_one_that_uv_knows(index: Index, tmp_path: Path) -> None:
    """A misspelt one would quietly cost that target its better cure."""
    make_wheel(index.folder, "pure", "1.0", "py3-none-any")
    named = [target for target in all_targets() if target.uv_platform]
    unknown = [
        target.id
        for target in named
        if resolve_alone(["pure"], PYTHON, target, runner=Runner(), cache=tmp_path / "cache")
        != {"pure": "1.0"}
    ]
    assert unknown == []


def test_a_plan_asks_for_the_cure(index: Index, tmp_path: Path, make_project: Callable[..., Project]) -> None:
    """The blocked target is told which version has a wheel there."""
    host = parse_target("linux-amd64")
    made = plan_project(
        make_project("app"), all_targets(), (Kind.PYZ,), host, runner=Runner(), cache=tmp_path / "cache"
    )
    rows = {row.target: row for row in made.rows}
    assert {name for name, row in rows.items() if row.status is Status.READY} == {
        "linux-amd64",
        "windows-amd64",
        "darwin-arm64",
    }
    assert "core 2.0 has no wheel for windows-arm64 and CPython 3.11" in rows["windows-arm64"].reason
    assert rows["windows-arm64"].cure == "core 1.0 has one: constrain core<=1.0."
    assert "drop the target" in rows["linux-arm64"].cure


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Project]:
    def make(*dependencies: str) -> Project:
        return Project(
            root=tmp_path, name="demo", version="1.2", requires_python=">=3.11", dependencies=dependencies,
            entry_point="demo:main", executable="demo", settings=Settings(python=PYTHON),
        )  # fmt: skip

    return make
