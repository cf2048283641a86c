"""What a project may say in `[tool.ferryman]`, as types.

Every field has its meaning in the comment behind or above it; `ferryman schema` prints the same as a JSON Schema.
Field names are kebab-case in TOML. :mod:`ferryman_build.project` reads and checks them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ferryman_build.artifacts import Kind


class Collector(StrEnum):
    """How a tree is made: by PyInstaller's analysis, or from a standalone runtime and wheels alone.

    AUTO is PyInstaller for the target that this machine is, and standalone for every other.
    """

    AUTO = "auto"
    PYINSTALLER = "pyinstaller"
    STANDALONE = "standalone"


class Bundler(StrEnum):
    """What starts the tree and turns it into one file: Ferryman's own launcher, or PyInstaller's bootloader."""

    FERRYMAN = "ferryman"
    PYINSTALLER = "pyinstaller"


class Compiler(StrEnum):
    """What compiles an extension of the project's own wheel.

    ZIG, for every target alike, the machine's own among them; or this machine's compiler, for this machine alone.
    """

    ZIG = "zig"
    SYSTEM = "system"


class RunnerName(StrEnum):
    """What runs a target's programs: smoke tests, and PyInstaller where it is to analyse for another machine.

    AUTO: what this machine has for the target. ROOTFS: the same processor, another userland. NONE: nothing is run.
    """

    AUTO = "auto"
    NATIVE = "native"
    ROOTFS = "rootfs"
    QEMU = "qemu"
    WINE = "wine"
    CONTAINER = "container"
    NONE = "none"


OLDEST_PYTHON = (3, 10)
"""What PyInstaller and shiv, as locks/tools.txt pins them, still run on."""


class Table(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """Base of every table: immutable, kebab-case, unknown keys are errors."""


Seconds = Annotated[float, Meta(gt=0, le=3600, description="seconds")]
ModuleName = Annotated[
    str, Meta(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", description="a dotted module name")
]


FloorText = Annotated[
    str,
    Meta(
        pattern=r"^$|^(glibc|musl|macos|windows|cpu) [\w.+-]+(, *(glibc|musl|macos|windows|cpu) [\w.+-]+)*$",
        description='system and version, such as "glibc 2.31" or "macos 12.0, cpu x86-64-v2"',
    ),
]


class Data(Table, frozen=True, kw_only=True):
    """Files to put into the tree: ``source`` is a glob relative to pyproject.toml, ``into`` a folder of the tree."""

    source: str
    into: str = "."


class Service(Table, frozen=True, kw_only=True):
    """The smoke test that starts the program, waits until it is ready, reads it and stops it.

    In ``args``, ``ready`` and ``get`` the words ``{port}`` (a free port on loopback), ``{project}`` (the folder of
    pyproject.toml) and ``{tmp}`` (a fresh folder) are replaced.
    """

    args: tuple[str, ...]
    ready: str = (
        ""  # URL that must answer 200 before `timeout`; empty: the program only has to stay up for a second
    )
    get: tuple[str, ...] = ()  # further URLs that must answer 200
    expect: tuple[str, ...] = ()  # each must occur in the joined answers of `get`
    exit_codes: tuple[int, ...] = (0,)  # allowed after SIGTERM
    timeout: Seconds = 20.0  # for start-up, and again for the stop


class SmokeSettings(Table, frozen=True, kw_only=True):
    """How to see that an artifact runs. `commands` must each exit 0 within `timeout`."""

    commands: tuple[tuple[str, ...], ...] = (("--version",),)
    service: Service | None = None
    timeout: Seconds = 30.0


class TargetSettings(Table, frozen=True, kw_only=True):
    """Overrides for one target, in `[tool.ferryman.target.<id or alias>]`; what is not set is taken from above."""

    collector: Collector | UnsetType = UNSET
    bundle: Bundler | UnsetType = UNSET
    kinds: tuple[Kind, ...] | UnsetType = UNSET
    python: str | UnsetType = UNSET
    runner: RunnerName | UnsetType = UNSET
    runtime: str | UnsetType = UNSET
    floor: FloorText | UnsetType = UNSET
    hidden_imports: tuple[ModuleName, ...] | UnsetType = UNSET  # added to the project's
    exclude_modules: tuple[ModuleName, ...] | UnsetType = UNSET  # added to the project's


class Compat(StrEnum):
    """How checksums travel to a store.

    AUTO: as the probe has found. STRICT: boto3's defaults, a checksum behind the body. RELAXED: only where an operation
    demands one; older servers answer 411 to anything else over https.
    """

    AUTO = "auto"
    STRICT = "strict"
    RELAXED = "relaxed"


ChannelName = Annotated[
    str,
    Meta(pattern=r"^(?!(?:root|targets|snapshot|timestamp)$)[a-z][a-z0-9-]{0,31}$", description="a channel"),
]
RoleName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="a role, or a channel")]
Days = Annotated[int, Meta(ge=1, le=3650, description="days")]


class ReleaseSettings(Table, frozen=True, kw_only=True):
    """`[tool.ferryman.release]`: where releases go, and who signs them."""

    url: str = ""  # "s3://bucket/prefix" or "file:///folder"; default: out/repository beside pyproject.toml
    public_url: str = ""  # where everyone reads; default: what `url` and `endpoint` make
    endpoint: str = ""  # of a store that is not AWS: "https://s3.example.org"
    region: str = "us-east-1"
    path_style: bool = False  # bucket in the path instead of the host name; always so with `endpoint`
    compat: Compat = Compat.AUTO
    encryption: str = ""  # server-side: "AES256", or "aws:kms" with a key as "aws:kms:KEY"
    channels: tuple[ChannelName, ...] = ("canary", "beta", "stable")  # a release goes to the first
    keys: str = "keys"  # folder of public keys and root metadata, to be committed
    signers: dict[RoleName, str] = {}  # role → where its private key is; `ferryman keys` lists the schemes
    expires: dict[RoleName, Days] = {}  # role → days that its metadata holds; "channel" is for all channels
    changelog: str = "CHANGELOG.md"  # must have an entry for the version; empty: none is needed
    tag: str = "v{version}"  # what a released commit must be tagged with; empty: no tag is needed
    github: str = ""  # "owner/repository" that gets a GitHub release as well
    keep: Annotated[int, Meta(ge=1, le=10000)] = 10  # releases that `ferryman gc` keeps, beside those in use


class Settings(Table, frozen=True, kw_only=True):
    """`[tool.ferryman]` of an agent's pyproject.toml."""

    entry_point: str = ""  # "package.module:function"; default: from `script`
    script: str = ""  # a key of [project.scripts]; default: the only one, or the one named like the project
    name: str = ""  # of the executable; default: the script's name
    targets: tuple[str, ...] = ("host",)  # built when --target is not given; ids, aliases, host or all
    kinds: tuple[Kind, ...] = (Kind.ARCHIVE, Kind.EXECUTABLE, Kind.PYZ)
    collector: Collector = Collector.AUTO
    bundle: Bundler = Bundler.FERRYMAN
    python: Annotated[str, Meta(pattern=r"^(3\.\d+|/.*|)$")] = (
        ""  # "3.12" or a path; default: the one that runs us
    )
    runner: RunnerName = RunnerName.AUTO  # through what artifacts are tried
    runtime: str = ""  # of a standalone tree: a folder, an archive or its URL; default: from `runtimes`
    runtimes: str = ""  # folder or URL with a runtimes.toml: a mirror, an offline cache, runtimes of one's own; default: Ferryman's
    keep_parts: tuple[str, ...] = ()  # parts of a runtime that resources/runtime_parts.toml would leave out
    floor: FloorText = ""  # what the oldest machine has, where the target's row promises more or less
    wheels: str = ""  # folder with wheels of the project itself (from cibuildwheel); default: built here, with zig where need be
    compiler: Compiler = Compiler.ZIG  # of an extension in the project's own wheel
    allow: tuple[
        str, ...
    ] = ()  # findings of the compat gate that are known and accepted: "code:path", both may have *
    optimize: Annotated[int, Meta(ge=0, le=2)] = (
        1  # as python -O: 1 drops asserts, 2 drops docstrings as well
    )
    strip: bool = True  # drop symbol tables and debug sections from native libraries
    compress_level: Annotated[int, Meta(ge=1, le=9)] = 6  # gzip/zip level of archives
    payload_level: Annotated[int, Meta(ge=1, le=22)] = (
        19  # zstd level of the one file: what it costs is paid once, by the build
    )
    cache_days: Annotated[int, Meta(ge=0, le=3650)] = (
        30  # the one file prunes unpacked trees that nobody used for so many days; 0: never
    )
    interpreter: bool = True  # FERRYMAN_INTERPRETER=1 makes the program a plain Python over its own modules
    sbom_option: Annotated[str, Meta(pattern=r"^(--?[A-Za-z0-9][A-Za-z0-9-]*)?$")] = (
        "--sbom"  # as the only argument it prints what the program consists of; empty: no argument does
    )
    data: tuple[Data, ...] = ()
    hidden_imports: tuple[ModuleName, ...] = ()  # imported only by name at run time
    exclude_modules: tuple[ModuleName, ...] = ()  # never collected, with everything below them
    keep_modules: tuple[
        ModuleName, ...
    ] = ()  # collected although resources/exclusions.toml would leave them out
    plugins: tuple[str, ...] = ()  # entry-point groups whose every module is collected
    collect_data: tuple[
        ModuleName, ...
    ] = ()  # dependencies whose package data is collected although no hook says so
    collect_submodules: tuple[ModuleName, ...] = ()  # packages whose every module is collected
    metadata: tuple[str, ...] = ()  # further distributions whose metadata is collected
    lock: str = (
        ""  # a requirements file with hashes (`ferryman lock` writes one); default: resolved when it changes
    )
    service_name: str = ""  # what a service manager calls it; default: name
    smoke: SmokeSettings = SmokeSettings()
    release: ReleaseSettings = ReleaseSettings()
    target: dict[str, TargetSettings] = {}


class WorkspaceSettings(Table, frozen=True, kw_only=True):
    """`[tool.ferryman.workspace]` in the pyproject.toml of a repository that is not itself an agent."""

    project: str = "."  # folder of the agent that `ferryman build` builds when --project is not given
