"""bundle: what the tools that write the one file are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ferryman_build.cache import Blobs
from ferryman_build.cmd import Runner
from ferryman_build.collect.pyinstaller import PackRequest
from ferryman_build.settings import Bundler
from ferryman_build.targets import parse_target
from ferryman_build.toolchain import Toolchain
from ferryman_build.tree import Tree, TreeFile, read_tree
from ferryman_build.wrap import bundle
from ferryman_build.wrap.bundle import BUNDLERS, FerrymanOneFile, PyInstallerOneFile
from ferryman_build.wrap.payload import PayloadInfo, read_payload

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
