"""Artifacts and the manifest: what a build made, in the one form that both halves of Ferryman read.

The JSON Schema is published by `ferryman schema manifest`. Field names are kebab-case in JSON.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

SCHEMA_VERSION = 1


class Kind(StrEnum):
    """The shippable forms. ``ARCHIVE`` and ``EXECUTABLE`` wrap the same tree; ``PYZ`` needs a Python on the target."""

    ARCHIVE = "archive"
    EXECUTABLE = "executable"
    PYZ = "pyz"


class Smoke(StrEnum):
    """How a smoke test ended. An artifact that FAILED is never delivered."""

    PASSED = "passed"
    FAILED = "failed"
    UNTESTED = "untested"


class Struct(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """Base of everything in the manifest: immutable, keyword-only, kebab-case, no unknown fields."""


class SmokeCheck(Struct, frozen=True, kw_only=True):
    """One command or service run of a smoke test: what was run, whether it held, how long it took (seconds)."""

    name: str
    passed: bool
    seconds: float
    detail: str = ""


class SmokeResult(Struct, frozen=True, kw_only=True):
    """``status`` untested has a ``reason``; ``environment`` says what the run was denied (noexec tmp, empty home …)."""

    status: Smoke
    reason: str = ""
    runner: str = ""
    environment: tuple[str, ...] = ()
    checks: tuple[SmokeCheck, ...] = ()


class Needs(Struct, frozen=True, kw_only=True):
    """What an artifact needs of its machine, measured from its bytes.

    ``floor`` maps glibc/macos/windows to the lowest version that has every symbol used; ``libraries`` are the shared
    libraries loaded from outside the artifact; ``python`` is a version range for a .pyz; ``runtime`` says what else
    must hold (such as an executable temporary directory for PyInstaller's one-file).
    """

    floor: dict[str, str] = {}
    libraries: tuple[str, ...] = ()
    python: str = ""
    runtime: tuple[str, ...] = ()


class Material(Struct, frozen=True, kw_only=True):
    """Something that went into an artifact: ``name`` says as what, ``sha256`` which bytes they were.

    ``uri`` is where it lies: a URL, or the path in the project or in Ferryman; '' when it was made here, or is this machine's.
    """

    name: str
    uri: str = ""
    sha256: str


class Artifact(Struct, frozen=True, kw_only=True):
    """One file in dist/. ``path`` is relative to the manifest; ``size`` in bytes; ``seconds`` spent building it.

    ``python`` is the version of the interpreter inside (X.Y.Z), ``runtime`` who made it where it is not this machine's own;
    ``promise`` is what its target promises (glibc, macos …, and cpu), which the compat gate has held ``needs`` to.
    ``materials`` are what it was made from beside the source and the tools of the manifest.
    """

    kind: Kind
    target: str
    path: str
    size: int
    sha256: str
    collector: str
    bundler: str = ""
    python: str = ""
    runtime: str = ""
    files: int = 0
    seconds: float = 0.0
    needs: Needs = Needs()
    promise: dict[str, str] = {}
    materials: tuple[Material, ...] = ()
    smoke: SmokeResult = SmokeResult(status=Smoke.UNTESTED, reason="not run yet")
    sbom: str = ""
    sbom_sha256: str = ""

    @property
    def files_and_sums(self) -> tuple[tuple[str, str], ...]:
        """(path, SHA-256) of the artifact and of what lies beside it."""
        return (self.path, self.sha256), *(((self.sbom, self.sbom_sha256),) if self.sbom else ())


class Source(Struct, frozen=True, kw_only=True):
    """Where the program came from. ``dirty`` is true when the checkout differs from ``commit``; no git: commit ''."""

    commit: str = ""
    dirty: bool = False
    digest: str = ""
    epoch: int = 0


class ProjectInfo(Struct, frozen=True, kw_only=True):
    """Which program: the names of `[project]`, as the built wheel has them."""

    name: str
    version: str


class Manifest(Struct, frozen=True, kw_only=True):
    """dist/manifest.json. ``tools`` maps a tool that took part (python, pyinstaller, uv, shiv …) to its version."""

    schema_version: int = SCHEMA_VERSION
    project: ProjectInfo
    source: Source
    tools: dict[str, str]
    artifacts: tuple[Artifact, ...] = ()
