"""toolchain: which files are compiled for which target, with which flags, and where zig may leave something."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.cmd import Completed, Runner
from ferryman_build.errors import BuildStepError
from ferryman_build.interpreter import Headers
from ferryman_build.targets import all_targets, parse_target
from ferryman_build.toolchain import SOURCES, Toolchain, compile_launcher, link_launcher, read_recipe

TARGETS = [pytest.param(target, id=target.id) for target in all_targets()]
OWN = (
    "main.c",
    "elf.c",
    "macho.c",
    "posix_files.c",
    "platform_posix.c",
    "platform_windows.c",
    "windows_files.c",
)


class Zig(Runner):
    """Writes what `-o` names, and remembers how it was called and what it could see."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails
        self.calls: list[tuple[list[str], dict[str, str], Path]] = []
        self.assembled: list[tuple[str, bytes]] = []

    def run(
        self, args: Sequence[str | Path], *, cwd: Path | None = None, env: Any = None, failure: Any = None, **_: Any
    ) -> Completed:  # fmt: skip
        assert cwd is not None
        words = [str(word) for word in args]
        self.calls.append((words, env, cwd))
        if self.fails:
            raise failure("zig failed")
        if "payload.S" in words:
            self.assembled.append(((cwd / "payload.S").read_text(), (cwd / "payload").read_bytes()))
        (cwd / words[words.index("-o") + 1]).write_text(shlex.join(words))
        return Completed(0, "", None)


@pytest.fixture
def toolchain(tmp_path: Path) -> Toolchain:
    return Toolchain(zig=tmp_path / "zig", zstd=tmp_path / "zstd", cache=tmp_path / "zig-cache")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "c").mkdir()
    for name in (*OWN, "common.h"):
        (tmp_path / "c" / name).touch()
    return tmp_path / "c"


def compiled(toolchain: Toolchain, name: str, sources: Path, runner: Zig, **given: Any) -> tuple[Path, ...]:
    headers = given.pop("headers", Headers(folder=sources.parent / "include"))
    return compile_launcher(
        toolchain, parse_target(name), python="3.12", headers=headers, into=sources.parent / "into",
        runner=runner, sources=sources,
    )  # fmt: skip


def called(runner: Zig, source: str) -> list[str]:
    (words,) = [words for words, *_ in runner.calls if any(word.endswith(f"/{source}") for word in words)]
    return words


# --- which files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("linux-amd64", {"main", "elf", "posix_files", "platform_posix"}),
        ("linux-arm64-musl", {"main", "elf", "posix_files", "platform_posix"}),
        ("darwin-arm64", {"main", "macho", "posix_files", "platform_posix"}),
        ("windows-amd64", {"main", "platform_windows", "windows_files"}),
    ],
)
def test_files_of_a_system(toolchain: Toolchain, sources: Path, target: str, files: set[str]) -> None:
    """Each system gets what is everybody's and what is its own, and the decoder; the answer is sorted."""
    objects = compiled(toolchain, target, sources, Zig())

    own = {path.stem for path in objects if not path.stem.startswith("zstd-")}
    assert own == files
    assert len(objects) == len(own) + len(read_recipe().zstd.sources)
    assert list(objects) == sorted(objects)
    assert all(path.parent == sources.parent / "into" / "objects" and path.is_file() for path in objects)


@pytest.mark.parametrize("target", TARGETS)
def test_every_pattern_means_a_file(target: Any) -> None:
    """Of our real files some are everybody's, and some are left out for this system."""
    every = set(SOURCES.glob("*.c"))
    own = set(read_recipe().own_sources(target))

    assert SOURCES / "main.c" in own
    assert own < every


def test_targets_in_the_recipe_exist() -> None:
    """A misspelt row would be silently without its flags."""
    assert set(read_recipe().targets) <= {target.id for target in all_targets()}


# --- with which flags -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_triple(toolchain: Toolchain, sources: Path, target: Any) -> None:
    """Every call names the row's triple, which has the floor in it."""
    runner = Zig()
    objects = compiled(toolchain, target.id, sources, runner)
    link_launcher(toolchain, target, objects=objects, output=sources.parent / "program", runner=runner)

    assert runner.calls
    for words, *_ in runner.calls:
        assert words[:4] == [str(toolchain.zig), "cc", "-target", target.zig]


def test_warnings_are_errors_in_our_files_alone(toolchain: Toolchain, sources: Path) -> None:
    """The decoder's are somebody else's."""
    runner = Zig()
    compiled(toolchain, "linux-amd64", sources, runner)

    assert {"-Werror", "-Wall", "-Wextra", "-Os", '-DFERRYMAN_PYTHON="3.12"'} <= set(called(runner, "main.c"))
    decoder = set(called(runner, "zstd_decompress.c"))
    assert {"-DZSTD_DISABLE_ASM=1", "-fstack-protector-strong"} <= decoder
    assert not decoder & {"-Werror", '-DFERRYMAN_PYTHON="3.12"'}


def test_headers_come_last(toolchain: Toolchain, sources: Path) -> None:
    """CPython's folder is looked into after the system's own: it has names that a system has too."""
    runner = Zig()
    folder = sources.parent / "include"
    compiled(
        toolchain,
        "linux-amd64",
        sources,
        runner,
        headers=Headers(folder=folder, defines=("Py_GIL_DISABLED",)),
    )

    words = called(runner, "main.c")
    assert words[words.index("-idirafter") + 1] == str(folder)
    assert "-DPy_GIL_DISABLED=1" in words
    assert "-DPy_GIL_DISABLED=1" not in called(runner, "zstd_decompress.c")


def test_names_of_folders_are_replaced(toolchain: Toolchain, sources: Path) -> None:
    """What the compiler writes down of a path is the same on every machine."""
    runner = Zig()
    compiled(toolchain, "linux-amd64", sources, runner)

    assert f"-ffile-prefix-map={sources}=launcher" in called(runner, "main.c")
    assert f"-ffile-prefix-map={toolchain.zstd}=zstd" in called(runner, "xxhash.c")


def test_where_zig_keeps_things(toolchain: Toolchain, sources: Path) -> None:
    """Its own libraries in the given cache; of a link nothing is kept, and no call runs where the caller happens to be."""
    runner = Zig()
    objects = compiled(toolchain, "linux-amd64", sources, runner)
    before = len(runner.calls)
    output = sources.parent / "made" / "program"
    link_launcher(toolchain, parse_target("linux-amd64"), objects=objects, output=output, runner=runner)

    assert {env["ZIG_GLOBAL_CACHE_DIR"] for _, env, _ in runner.calls} == {str(toolchain.cache)}
    assert {env["ZIG_LOCAL_CACHE_DIR"] for _, env, _ in runner.calls[:before]} == {str(toolchain.cache)}
    (linked,) = runner.calls[before:]
    assert Path(linked[1]["ZIG_LOCAL_CACHE_DIR"]).is_relative_to(linked[2])
    assert list(output.parent.iterdir()) == [output]


# --- the payload ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "section"),
    [
        ("linux-amd64", '.section .ferryman,"",%progbits'),
        ("windows-arm64", '.section .fman,"dr"'),
        ("darwin-arm64", ".section __FERRYMAN,__payload,regular,no_dead_strip"),
    ],
)
def test_payload_is_assembled(toolchain: Toolchain, tmp_path: Path, target: str, section: str) -> None:
    """Its path may hold anything, because the assembler sees a fixed name."""
    payload = tmp_path / 'a "quoted" \\ 名'
    payload.write_bytes(b"FERRYMAN")
    runner = Zig()
    output = link_launcher(
        toolchain, parse_target(target), objects=[tmp_path / "main.o"], output=tmp_path / "x" / "program",
        runner=runner, payload=payload,
    )  # fmt: skip

    [(text, content)] = runner.assembled
    assert text.startswith(f'{section}\n.incbin "payload"\n')
    assert content == b"FERRYMAN"
    # Only an ELF file can lose its section table and still run.
    assert ("ferryman_payload_size: .quad 8\n" in text) is target.startswith("linux")
    words = shlex.split(output.read_text())
    assert [Path(word).name for word in words if word.endswith(".o")] == ["main.o", "payload.o"]
    assert payload.read_bytes() == b"FERRYMAN"


def test_payload_on_another_file_system(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it cannot be linked it is copied."""

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    (tmp_path / "payload").write_bytes(b"FERRYMAN")
    runner = Zig()
    link_launcher(
        toolchain, parse_target("linux-amd64"), objects=[], output=tmp_path / "x" / "program", runner=runner,
        payload=tmp_path / "payload",
    )  # fmt: skip

    assert runner.assembled[0][1] == b"FERRYMAN"


def test_a_link_that_fails_leaves_nothing(toolchain: Toolchain, tmp_path: Path) -> None:
    """Neither a program nor a draft."""
    output = tmp_path / "made" / "program"
    with pytest.raises(BuildStepError):
        link_launcher(
            toolchain, parse_target("linux-amd64"), objects=[], output=output, runner=Zig(fails=True)
        )

    assert list(output.parent.iterdir()) == []
