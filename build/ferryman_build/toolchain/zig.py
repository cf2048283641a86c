"""`zig cc`: the launcher's files into objects, and objects with a payload into an executable.

The payload becomes a section by assembling a few lines with `.incbin`. So whatever is signed later is signed over a
file in which it is a regular part, and no tool has to know how to patch three formats.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from ferryman_build.cmd import Runner, environment
from ferryman_build.errors import BuildStepError
from ferryman_build.interpreter import Headers
from ferryman_build.targets import Target
from ferryman_build.toolchain.recipe import SOURCES, read_recipe

# zig compiles a target's own C start files and libraries when it first links for it; mingw's take minutes.
_COMPILE_SECONDS, _LINK_SECONDS = 300.0, 1800.0
_REPORT = "Read the compiler's last lines; `ferryman doctor` says which zig this is."


class Toolchain(msgspec.Struct, frozen=True, kw_only=True):
    """The compiler, the folder with the decoder's sources, and where zig keeps what it compiled of its own."""

    zig: Path
    zstd: Path
    cache: Path

    def environment(self, local: Path | None = None) -> dict[str, str]:
        """Of a child: zig's caches are ours, and nothing of the caller's choice of flags counts."""
        own = {"ZIG_GLOBAL_CACHE_DIR": str(self.cache), "ZIG_LOCAL_CACHE_DIR": str(local or self.cache)}
        return environment(own)


def compile_launcher(
    toolchain: Toolchain,
    target: Target,
    *,
    python: str,
    headers: Headers,
    into: Path,
    runner: Runner,
    sources: Path = SOURCES,
) -> tuple[Path, ...]:
    """Object files of the launcher in ``into``/objects, for programs with CPython ``python`` ("3.11") on ``target``.

    The same sources give the same bytes, wherever they and ``into`` are.

    Raises:
        BuildStepError: a file does not compile.
    """
    folder = into / "objects"
    folder.mkdir(parents=True, exist_ok=True)
    units = _units(toolchain, target, python, headers, sources.resolve())

    def compile_one(unit: _Unit) -> Path:
        words: list[str | Path] = [*unit.flags, "-c", unit.source, "-o", unit.name]
        _cc(toolchain, target, words, f"compile {unit.source.stem}", runner, cwd=folder)
        return folder / unit.name

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return tuple(sorted(pool.map(compile_one, units)))


class _Unit(msgspec.Struct, frozen=True):
    """One C file, its object's name and its flags."""

    source: Path
    name: str
    flags: tuple[str, ...]


def _units(toolchain: Toolchain, target: Target, python: str, headers: Headers, sources: Path) -> list[_Unit]:
    recipe, zstd = read_recipe(), toolchain.zstd.resolve()
    common = (
        *recipe.compile_flags(target),
        f"-ffile-prefix-map={zstd}=zstd",
        f"-ffile-prefix-map={sources}=launcher",
    )
    ours = (
        *recipe.ours.flags,
        f'-DFERRYMAN_PYTHON="{python}"',
        *(f"-D{define}=1" for define in headers.defines),
        *("-isystem", str(zstd / "lib")),
        # Last: among CPython's headers are some with names that a system's own headers have too.
        *("-idirafter", str(headers.folder.resolve())),
        *common,
    )
    decoder = (*recipe.zstd.flags, *common)
    own = recipe.own_sources(target, sources)
    return [
        *(_Unit(path, f"{path.stem}.o", ours) for path in own),
        *(_Unit(zstd / name, f"zstd-{Path(name).stem}.o", decoder) for name in recipe.zstd.sources),
    ]


def link_launcher(
    toolchain: Toolchain,
    target: Target,
    *,
    objects: Iterable[Path],
    output: Path,
    runner: Runner,
    payload: Path | None = None,
) -> Path:
    """``output``: the launcher, with ``payload`` (a file) as its section when there is one.

    Raises:
        BuildStepError: it does not link.
    """
    recipe = read_recipe()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".link-", dir=output.parent) as name:
        # A cache of its own, gone afterwards: zig would keep every program that was ever linked, and would take the
        # object of another payload, because it does not look into what .incbin names.
        draft = Path(name).resolve()
        local = draft / "cache"
        parts: list[str | Path] = [path.resolve() for path in objects]
        if payload is not None:
            parts.append(_payload_object(toolchain, target, payload, draft, runner))
        made = (
            draft / f"program{target.suffix}"
        )  # a name without the project's: some linkers write it into the file
        _cc(toolchain, target, [*parts, *recipe.link_flags(target), "-o", made], "link launcher", runner,
            cwd=draft, local=local, seconds=_LINK_SECONDS)  # fmt: skip
        made.replace(output)
    return output


def _payload_object(toolchain: Toolchain, target: Target, payload: Path, draft: Path, runner: Runner) -> Path:
    """An object with the payload's section; the assembler finds it beside itself, so no path needs quoting."""
    here = draft / "payload"
    try:
        here.hardlink_to(payload)
    except OSError:  # another file system, or one without links
        shutil.copyfile(payload, here)
    system = read_recipe().system(target)
    mark = (line.format(size=payload.stat().st_size) for line in system.mark)
    lines = (system.section, '.incbin "payload"', *mark)
    (draft / "payload.S").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    flags = read_recipe().compile_flags(target)
    machine = [flag for flag in flags if flag.startswith("-mabi")]
    _cc(toolchain, target, [*machine, "-c", "payload.S", "-o", "payload.o"], "embed payload", runner,
        cwd=draft, local=draft / "cache")  # fmt: skip
    return draft / "payload.o"


def _cc(
    toolchain: Toolchain,
    target: Target,
    words: Sequence[str | Path],
    name: str,
    runner: Runner,
    *,
    cwd: Path,
    local: Path | None = None,
    seconds: float = _COMPILE_SECONDS,
) -> None:
    # In a folder of ours: zig names its own files in another way when they lie below the working directory, and would
    # then compile its C start files and libraries once more.
    runner.run(
        [toolchain.zig, "cc", "-target", target.zig, *words], name=f"{name} {target}", cwd=cwd,
        env=toolchain.environment(local), timeout=seconds, failure=BuildStepError, advice=_REPORT,
    )  # fmt: skip
