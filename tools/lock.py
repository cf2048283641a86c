"""Write the lock files: locks/NAME.txt, from the requirements that each one is made of.

    python tools/lock.py [NAME ...] [--upgrade]

A lock names no index, so that it holds behind any mirror; what pins a package is its hash (docs/adr/0002). A name that
no lock has, or an argument uv does not know, ends with uv's or argparse's own sentence.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Lock(NamedTuple):
    """A lock file: what it is made from, and the locks whose versions it takes over."""

    path: str
    sources: "tuple[str, ...]"
    agreeing: "tuple[str, ...]" = ()
    options: "tuple[str, ...]" = ()


# The extra, without the distribution that lies in this checkout and is installed from there.
RELEASE = ("--extra=release", "--no-emit-package=ferryman-client")

# What the agent can do with more libraries than it brings.
AGENT = ("--extra=otel", "--extra=watch")

# In the order in which they are written.
LOCKS = {
    "nox": Lock("locks/nox.txt", ("locks/nox.in",)),
    "ferryman": Lock("locks/ferryman.txt", ("pyproject.toml", "locks/ferryman.in"), ("nox",)),
    # What the job that holds credentials installs, and nothing else.
    "release": Lock(
        "locks/release.txt",
        ("pyproject.toml", "release/client/pyproject.toml", "locks/ferryman.in"),
        ("nox", "ferryman"),
        RELEASE,
    ),
    "dev": Lock(
        "locks/dev.txt",
        ("pyproject.toml", "release/client/pyproject.toml", "agent_src/pyproject.toml", "locks/dev.in"),
        ("nox", "ferryman", "release"),
        (*RELEASE, *AGENT, "--extra=kms", "--extra=pkcs11", "--extra=sigstore"),
    ),
    # What Ferryman installs beside an agent to build it; it ships inside the wheel.
    "tools": Lock(
        "build/ferryman_build/resources/locks/tools.txt",
        ("build/ferryman_build/resources/locks/tools.in",),
        options=("--no-annotate",),
    ),
    # What builds the peers that `nox -s bench -- launcher` measures against. Nuitka has no wheel.
    "bench": Lock("locks/bench.txt", ("locks/bench.in",), ("tools",), ("--only-binary=:none:",)),
    # Stores that ignore conditions, for tests/e2e/release, and the peer of `nox -s bench -- release`.
    "stores": Lock("locks/stores.txt", ("locks/stores.in",)),
    # What `nox -s wheels` builds and checks the agent's wheels with.
    "wheels": Lock("locks/wheels.txt", ("locks/wheels.in",), ("nox",)),
    # The compiler of the launcher, in an environment of its own.
    "zig": Lock(
        "build/ferryman_build/resources/locks/zig.txt",
        ("build/ferryman_build/resources/locks/zig.in",),
        options=("--no-annotate",),
    ),
}

OPTIONS = [
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "--quiet",
    # A dependency without wheels would need a compiler, which the machines we promise to work on do not have.
    "--only-binary=:all:",
    # The settings of whoever runs this must not choose what everyone installs.
    "--no-config",
]


def main(arguments: "list[str]") -> int:
    """Write the named locks, or all."""
    parser = argparse.ArgumentParser(description="Write locks/*.txt from what they are made of.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=", ".join(LOCKS) + "; all when none is given"
    )
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(LOCKS):
        parser.error("no such lock: {}; there are {}".format(", ".join(sorted(unknown)), ", ".join(LOCKS)))
    for name in LOCKS:
        if not options.names or name in options.names:
            write(name, upgrade=options.upgrade)
    return 0


def write(name: str, *, upgrade: bool) -> None:
    """Compile one lock, and refuse one that names a place."""
    lock = LOCKS[name]
    command = [sys.executable, "-m", "uv", "pip", "compile", *OPTIONS, *lock.options]
    command += ["--upgrade"] if upgrade else []
    for other in lock.agreeing:
        command += ["--constraint", LOCKS[other].path]
    output = ROOT / lock.path
    beside = output.with_suffix(".new")
    if output.exists() and not upgrade:
        beside.write_bytes(output.read_bytes())  # what uv finds there it keeps
    command += ["--output-file", str(beside.relative_to(ROOT)), *lock.sources]
    try:
        subprocess.run(command, cwd=ROOT, check=True)
        refuse_places(beside)
        beside.replace(output)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    finally:
        beside.unlink(missing_ok=True)
    sys.stdout.write(f"wrote {lock.path}\n")


def refuse_places(lock: Path) -> None:
    """Stop when a URL or a path came into the lock: it would be wrong on every other machine."""
    text = lock.read_text(encoding="utf-8")
    if found := re.findall(r"^.*(?:\w+://|--index|--find-links|^/).*$", text, re.MULTILINE):
        sys.exit(f"{lock.name} would name a place: {found[0]}\nRemove what put it there and run this again.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
