"""What is known of a program before its inventory is taken: its files with who brought each, and who these are."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from ferryman_build.sbom.distributions import Distribution
from ferryman_build.sbom.natives import Found
from ferryman_build.sbom.packages import Package


class Owner(StrEnum):
    """Who brought a file. MACHINE: a library that came along with the interpreter, and is no part of it."""

    APPLICATION = "application"
    WHEEL = "wheel"
    INTERPRETER = "interpreter"
    MACHINE = "machine"
    STARTER = "starter"


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """What the bytes of a file in machine code say: libraries in it, names of libraries that the loader gives it."""

    found: tuple[Found, ...] = ()
    needed: tuple[str, ...] = ()


class Shipped(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it ships.

    ``wheel`` is the distribution's name where the owner is one; ``link`` the path of the file that a symbolic link means;
    ``package`` the package of a Linux distribution that it came from, as far as is known.
    """

    path: str
    sha256: str
    owner: Owner
    wheel: str = ""
    link: str = ""
    native: Native | None = None
    package: Package | None = None


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """The CPython inside: X.Y.Z, who built it, the digest of the archive that it came in, its licence."""

    version: str
    origin: str = ""
    sha256: str = ""
    licence: str = ""


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """A library that a starter was compiled with, known from its sources."""

    name: str
    version: str
    licence: str
    cpe: str
    says: str


class Starter(msgspec.Struct, frozen=True, kw_only=True):
    """What starts the program. ``purl`` without its version."""

    name: str
    version: str
    licence: str
    purl: str
    compiled: tuple[Compiled, ...] = ()


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``environment`` is what markers of requirements are evaluated with; the rest is as in the Inventory."""

    application: Distribution
    wheels: Mapping[str, Distribution]
    starter: Starter
    files: tuple[Shipped, ...]
    environment: Mapping[str, str]
    epoch: int
    interpreter: Interpreter | None = None
    tools: tuple[tuple[str, str], ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
