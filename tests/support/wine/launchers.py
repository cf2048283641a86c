"""What the tests run on Windows: launchers and payloads, made by the toolchain and the packer that builds use."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

from ferryman_build.cache import Blobs
from ferryman_build.interpreter import Headers
from ferryman_build.targets import parse_target
from ferryman_build.toolchain import SOURCES, compile_launcher, link_launcher
from ferryman_build.wrap.payload import PayloadFile, PayloadInfo, write_payload
from support.ferryman import ROOT
from support.launcher_targets import tools
from support.windows_tree import NAME
from support.wine.cpython import cpython
from support.wine.prefix import CACHE

PROBE = ROOT / "tests" / "support" / "wine" / "probe.c"
AMD64, ARM64 = "windows-amd64", "windows-arm64"
_WARNINGS = ("-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror")


def build_probe(output: Path) -> Path:
    """tests/support/wine/probe.c with the launcher's Windows files."""
    toolchain, _, _ = tools()
    sources = [PROBE, SOURCES / "common.c", *sorted(SOURCES.glob("*windows*.c"))]
    words = [toolchain.zig, "cc", "-target", "x86_64-windows-gnu", *_WARNINGS, "-s", "-I", SOURCES, *sources]
    done = subprocess.run(
        [*words, "-lshell32", "-o", output],
        env=toolchain.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return output


def build_rival(output: Path) -> Path:
    """A library that ends whoever loads it with 77."""
    toolchain, _, _ = tools()
    source = output.with_suffix(".c")
    source.write_text(
        "__declspec(dllimport) void __stdcall ExitProcess(unsigned code);\n"
        "int __stdcall DllMain(void *self, unsigned why, void *more) { ExitProcess(77); return 1; }\n"
    )
    words = [toolchain.zig, "cc", "-target", "x86_64-windows-gnu", "-shared", "-s", source, "-o", output]
    done = subprocess.run(words, env=toolchain.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


@functools.cache
def objects(target: str) -> tuple[Path, ...]:
    """The launcher, compiled through the headers of the CPython that the tree has.

    Raises:
        UnavailableError: there is no CPython for Windows.
    """
    toolchain, _, runner = tools()
    headers = Headers(folder=cpython() / "include")
    into = Path(tempfile.mkdtemp(prefix=f"ferryman-{target}-"))
    return compile_launcher(
        toolchain, parse_target(target), python="3.11", headers=headers, into=into, runner=runner
    )


def build_launcher(target: str, output: Path, payload: Path | None = None) -> Path:
    """A launcher, with a payload in it when there is one."""
    toolchain, _, runner = tools()
    made = objects(target)
    return link_launcher(
        toolchain, parse_target(target), objects=made, output=output, runner=runner, payload=payload
    )


def build_payload(tree: Path, output: Path, version: str) -> Path:
    """The tree as a payload; level 3, because the tests are not about its size."""
    files = [
        PayloadFile(path.relative_to(tree).as_posix(), 0o644, path, "", "stdlib")
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    ]
    write_payload(files, PayloadInfo(name=NAME, version=version), output, Blobs(CACHE / "blobs"), level=3)
    return output
