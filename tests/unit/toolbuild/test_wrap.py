"""bundle and pyz: what the tools that write the one file are told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.cache import Blobs
from ferryman_build.cmd import Completed, Runner
from ferryman_build.collect.pyinstaller import PackRequest
from ferryman_build.errors import ResolutionError
from ferryman_build.settings import Bundler
from ferryman_build.targets import parse_target
from ferryman_build.toolchain import Toolchain
from ferryman_build.tree import Tree, TreeFile, read_tree
from ferryman_build.wrap import bundle, pyz
from ferryman_build.wrap.bundle import BUNDLERS, FerrymanOneFile, PyInstallerOneFile
from ferryman_build.wrap.payload import PayloadInfo, read_payload
from ferryman_build.wrap.pyz import PyzJob, install_site_packages, write_pyz


class Recorder(Runner):
    """Remembers the command, and what lay in ``look`` while it ran."""

    def run(self, args: Sequence[str | Path], **options: Any) -> Completed:
        self.words = [str(word) for word in args]
        self.options = options
        if "--site-packages" in self.words:
            site = Path(self.after("--site-packages"))
            self.saw = {
                path.relative_to(site).as_posix(): (path.read_text(), path.stat().st_mode & 0o777)
                for path in site.rglob("*")
                if path.is_file()
            }
        return Completed(0, "", None)

    def after(self, option: str) -> str:
        return self.words[self.words.index(option) + 1]

    def all_after(self, option: str) -> list[str]:
        return [self.words[number + 1] for number, word in enumerate(self.words) if word == option]


# --- one file ---------------------------------------------------------------------------------------------------------


def test_every_setting_has_a_bundler() -> None:
    """No value of the setting is without implementation."""
    assert BUNDLERS.keys() == set(Bundler)


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        (TreeFile("_internal/lib.so", 1, 0o644, ""), ("lib.so", "/tree/_internal/lib.so", "b")),
        (
            TreeFile("_internal/a/libx.so.1.0", 1, 0o644, ""),
            ("a/libx.so.1.0", "/tree/_internal/a/libx.so.1.0", "b"),
        ),
        (TreeFile("_internal/x.pyd", 1, 0o644, ""), ("x.pyd", "/tree/_internal/x.pyd", "b")),
        (TreeFile("_internal/x.dylib", 1, 0o644, ""), ("x.dylib", "/tree/_internal/x.dylib", "b")),
        (TreeFile("_internal/a.pyc", 1, 0o644, ""), ("a.pyc", "/tree/_internal/a.pyc", "x")),
        (TreeFile("_internal/x.so/data", 1, 0o644, ""), ("x.so/data", "/tree/_internal/x.so/data", "x")),
        (TreeFile("_internal/tool", 1, 0o755, ""), ("tool", "/tree/_internal/tool", "b")),
        (TreeFile("_internal/l.so", 0, 0o777, "", "l.so.1"), ("l.so", "l.so.1", "n")),
        (TreeFile("agent", 1, 0o755, ""), None),
    ],
)
def test_one_file_holds_the_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: TreeFile, wanted: tuple[str, str, str] | None
) -> None:
    """Every file of the tree but its launcher, with the type that keeps a link a link and a program executable."""
    asked: list[PackRequest] = []
    monkeypatch.setattr(bundle, "pack", lambda request, env, work, runner: asked.append(request))
    job = PyInstallerOneFile(
        tree=Tree(root=Path("/tree"), executable="agent", files=(file,)), scripts=(("boot", "/boot"),), optimize=2,
        libpython="lib", env=Path("/env"), blobs=Path("/blobs"), level=9, work=tmp_path,
    )  # fmt: skip
    job.write(Path("/out"), Runner())

    (request,) = asked
    assert request.files == ((wanted,) if wanted else ())
    assert (request.kind, request.scripts, request.optimize, request.level) == ("file", job.scripts, 2, 9)


def test_our_one_file_holds_the_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The payload has everything below the contents, links as links, with its groups; then the launcher is linked."""
    linked: list[dict[str, Any]] = []

    def link(toolchain: object, target: object, *, output: Path, payload: Path, **more: Any) -> None:
        linked.append({**more, "payload": read_payload(payload)})
        output.write_text("linked")

    monkeypatch.setattr(bundle, "link_launcher", link)
    root = tmp_path / "tree"
    (root / "_internal" / "pkg").mkdir(parents=True)
    for path in ("agent", "_internal/pkg/a.pyc", "_internal/libx.so.1"):
        (root / path).write_text(path)
    (root / "_internal/libx.so").symlink_to("libx.so.1")
    info = PayloadInfo(name="agent", version="1.2", keep_days=7)
    objects = (Path("/objects/a.o"),)
    FerrymanOneFile(
        tree=read_tree(root, "agent"), groups=dict.fromkeys(("pkg/a.pyc", "libx.so.1", "libx.so"), "app"), info=info,
        level=3, target=parse_target("linux-amd64"), toolchain=Toolchain(zig=tmp_path, zstd=tmp_path, cache=tmp_path),
        objects=objects, blobs=Blobs(tmp_path / "blobs"), work=tmp_path,
    ).write(tmp_path / "out", Runner())  # fmt: skip

    (call,) = linked
    payload = call["payload"]
    assert (call["objects"], payload.info) == (objects, info)
    assert [(file.path, file.link, content.decode()) for file, content in payload.unpack()] == [
        ("_internal/libx.so", "libx.so.1", ""),
        ("_internal/libx.so.1", "", "_internal/libx.so.1"),
        ("_internal/pkg/a.pyc", "", "_internal/pkg/a.pyc"),
    ]
    assert (tmp_path / "out").read_text() == "linked"
    assert not (tmp_path / "payload").exists()


def test_what_each_bundler_asks_of_a_machine() -> None:
    """Ours needs a place for its cache and no executable /tmp; PyInstaller's needs that one at every start."""
    ours, theirs = BUNDLERS[Bundler.FERRYMAN], BUNDLERS[Bundler.PYINSTALLER]

    assert (ours.needs_exec_tmp, ours.keeps_cache) == (False, True)
    assert (theirs.needs_exec_tmp, theirs.keeps_cache) == (True, False)
    assert all("allows executables" in kind.runtime_needs[0] for kind in (ours, theirs))


# --- pyz --------------------------------------------------------------------------------------------------------------


def test_site_packages(tmp_path: Path) -> None:
    """pip chooses among the target's wheels and resolves nothing; scripts do not stay."""
    (tmp_path / "site" / "bin").mkdir(parents=True)
    runner = Recorder()
    target = parse_target("linux-arm64")
    install_site_packages("a==1 --hash=sha256:00\n", target, "3.11", Path("/env"), tmp_path, runner)

    assert {"--no-deps", "--require-hashes", "--no-compile"} <= set(runner.words)
    assert runner.after("--only-binary") == ":all:"
    assert set(target.wheel_tags) <= set(runner.all_after("--platform"))
    assert all("aarch64" in tag for tag in runner.all_after("--platform"))
    assert (runner.after("--python-version"), runner.all_after("--abi")) == (
        "3.11",
        ["cp311", "abi3", "none"],
    )
    assert Path(runner.after("-r")).read_text() == "a==1 --hash=sha256:00\n"
    assert runner.options["failure"] is ResolutionError
    assert "linux-arm64" in runner.options["advice"]
    assert (tmp_path / "site").is_dir()
    assert not (tmp_path / "site" / "bin").exists()


def test_project_without_dependencies(tmp_path: Path) -> None:
    """pip makes no folder for nothing, and the next step finds one all the same."""
    install_site_packages("", parse_target("linux-amd64"), "3.11", Path("/env"), tmp_path, Recorder())

    assert list((tmp_path / "site").iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_pyz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Dependencies, program and data in one folder, the later one's file where two have one; their sources stay."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError()))
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError()))
    for name, content in {
        "site/a/__init__.py": "site",
        "site/same.py": "site",
        "app/same.py": "app",
        "app/b.py": "b",
        "site/a/data.txt": "site",
        "data.txt": "data",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    output = tmp_path / "out" / "agent.pyz"
    output.parent.mkdir()
    runner = Recorder()
    job = PyzJob(
        site=tmp_path / "site", app=tmp_path / "app", data=((str(tmp_path / "data.txt"), "a"),),
        entry_point="agent:main", python="3.11", epoch=7, env=Path("/env"), output=output,
    )  # fmt: skip
    write_pyz(job, runner)

    assert {name: content for name, (content, _) in runner.saw.items()} == {
        "a/__init__.py": "site", "same.py": "app", "b.py": "b", "a/data.txt": "data",
    }  # fmt: skip
    assert {mode for _, mode in runner.saw.values()} == {0o644}
    assert [(tmp_path / "site" / name).read_text() for name in ("same.py", "a/data.txt")] == ["site", "site"]
    assert runner.after("--entry-point") == "agent:main"
    assert runner.after("--python") == "/usr/bin/env python3.11"
    assert runner.after("--output-file") == str(output)
    assert "--reproducible" in runner.words
    assert runner.options["env"]["SOURCE_DATE_EPOCH"] == "7"
    assert list(output.parent.iterdir()) == []


def test_the_mode_of_a_cached_file_is_not_changed(tmp_path: Path) -> None:
    """A hard link has the mode of the file that it is another name for."""
    cached, linked = tmp_path / "cached.py", tmp_path / "site" / "linked.py"
    linked.parent.mkdir()
    cached.write_text("x")
    cached.chmod(0o600)
    os.link(cached, linked)
    pyz._plain_modes(linked.parent)

    assert [path.stat().st_mode & 0o777 for path in (cached, linked)] == [0o600, 0o644]
    assert linked.read_text() == "x"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {}),
        ({"UV_DEFAULT_INDEX": "https://a/simple"}, {"PIP_INDEX_URL": "https://a/simple"}),
        ({"UV_DEFAULT_INDEX": "own=https://a/x=y"}, {"PIP_INDEX_URL": "https://a/x=y"}),
        (
            {"UV_INDEX": "own=https://a https://b", "UV_EXTRA_INDEX_URL": "https://c"},
            {"PIP_EXTRA_INDEX_URL": "https://a https://b https://c"},
        ),
        ({"UV_FIND_LINKS": "/wheels,https://d"}, {"PIP_FIND_LINKS": "/wheels https://d"}),
    ],
)
def test_pip_looks_where_uv_has_looked(given: dict[str, str], wanted: dict[str, str]) -> None:
    """Indexes, named or not, and folders of wheels."""
    assert pyz.pip_sources(given) == wanted
