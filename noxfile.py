#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.2.9"]
# ///
"""Every task of this repository, for whoever has nox and for whoever has only Python.

    python3 noxfile.py -s build        the same as  nox -s build
    python3 noxfile.py -s tests        the same as  nox -s tests

Run as a script, the file first makes itself a private nox (tools/bootstrap.py), then hands over to it. A session is
thin: it installs a lock file and runs a command that works without nox as well. What follows `--` is handed on.

The lines up to the first `import nox` are read by any Python from 3.6 on, so that an old one can be told so.
"""

import os
import sys

if sys.version_info < (3, 11):
    sys.stderr.write(
        "This needs Python 3.11 or newer, and {} is Python {}.{}.\n"
        "Run it with a newer one, for instance: python3.11 {}\n".format(
            sys.executable, sys.version_info[0], sys.version_info[1], " ".join(sys.argv)
        )
    )
    sys.exit(4)

ROOT = os.path.dirname(os.path.abspath(__file__))

if __name__ == "__main__":
    sys.path.insert(0, os.path.join(ROOT, "tools"))
    import bootstrap

    sys.exit(bootstrap.main(ROOT, sys.argv[1:]))

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["build", "tests"]
nox.options.error_on_external_run = True

# What pip was told about its index holds for uv as well, unless uv was told otherwise.
PIP_TO_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
}
for theirs, ours in PIP_TO_UV.items():
    if theirs in os.environ:
        os.environ.setdefault(ours, os.environ[theirs])


# The distributions of this checkout.
CHECKOUT = (".", "release/client", "agent_src")

# import-linter has no `-m`; its own script would carry the path of a checkout that has since been moved.
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as main; main()"


def install(session: nox.Session, lock: str, *projects: str) -> None:
    """Install a lock file, then these projects in place, from what the lock file brought."""
    session.install("--require-hashes", "-r", "locks/{}.txt".format(lock))
    editable = [argument for project in projects for argument in ("-e", project)]
    session.install("--no-deps", "--no-build-isolation", *editable)


def lint_steps(session: nox.Session) -> None:
    """Style, format, layering, and the workflows."""
    session.run("python", "-m", "ruff", "check")
    session.run("python", "-m", "ruff", "format", "--check")
    session.run("python", "-c", LINT_IMPORTS, "--cache-dir", ".cache/import_linter")
    session.run("python", "tools/workflows.py")


def pytest(session: nox.Session, *where: str) -> None:
    """Run pytest there, with what was asked for after `--`."""
    session.run("python", "-m", "pytest", *where, *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the agent for this machine, run it, and list what was made in dist/."""
    install(session, "ferryman", ".")
    session.run("ferryman", "build", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Everything that must hold before a change lands: lint, types, unit and integration tests."""
    install(session, "dev", *CHECKOUT)
    lint_steps(session)
    session.run("python", "-m", "mypy")
    pytest(session)


@nox.session(default=False)
def ferryman(session: nox.Session) -> None:
    """Any command of Ferryman from this checkout: `-- plan --all --json`."""
    install(session, "ferryman", ".")
    session.run("ferryman", *session.posargs)


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Publish what is in dist/: `-- --snapshot` does all but that, into a local folder; `-- --to canary`."""
    install(session, "release", ".", "release/client")
    session.run("ferryman", "release", *session.posargs)


@nox.session(default=False)
def operator(session: nox.Session) -> None:
    """Any command of the release half: `-- promote 1.2.0 --to stable`, `-- keys status`, `-- refresh`."""
    install(session, "release", ".", "release/client")
    session.run("ferryman", *session.posargs)


@nox.session(default=False)
def wheels(session: nox.Session) -> None:
    """The agent's wheels with cibuildwheel, or `-- --cross` for all platforms with zig; then everything that checks them."""
    install(session, "ferryman", ".")
    session.install("--require-hashes", "-r", "locks/wheels.txt")
    session.run("python", "tools/wheels.py", *session.posargs)


@nox.session(default=False)
def unit(session: nox.Session) -> None:
    """The tests that need seconds."""
    install(session, "dev", *CHECKOUT)
    pytest(session, "tests/unit", "tests/test_layout.py")


@nox.session(default=False)
def integration(session: nox.Session) -> None:
    """The tests that build and run real artifacts."""
    install(session, "dev", *CHECKOUT)
    pytest(session, "tests/integration")


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """Style, format, layering, and the workflows."""
    install(session, "dev", *CHECKOUT)
    lint_steps(session)


@nox.session(default=False)
def types(session: nox.Session) -> None:
    """mypy, strict, on the three packages."""
    install(session, "dev", *CHECKOUT)
    session.run("python", "-m", "mypy", *session.posargs)


@nox.session(default=False)
def e2e(session: nox.Session) -> None:
    """Whole journeys; a word that names a folder of tests/e2e selects it (`-- launcher -k kill`)."""
    install(session, "dev", *CHECKOUT)
    chosen = [word for word in session.posargs if os.path.isdir(os.path.join(ROOT, "tests", "e2e", word))]
    where = ["tests/e2e/" + word for word in chosen] or ["tests/e2e"]
    options = [word for word in session.posargs if word not in chosen]
    session.run("python", "-m", "pytest", *where, "--timeout=3600", *options)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Size and start of what is built, as ratios measured in one run."""
    install(session, "dev", *CHECKOUT)
    session.run("python", "tests/bench/run.py", *session.posargs)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """The agent among everything that goes wrong, from one seed: `-- --minutes 5 --seed 1`; 30 minutes otherwise."""
    install(session, "dev", *CHECKOUT)
    session.run("python", "tests/soak/run.py", *session.posargs)


@nox.session(default=False)
def locks(session: nox.Session) -> None:
    """Write locks/*.txt again from locks/*.in; `-- --upgrade` takes the newest releases."""
    session.install("--require-hashes", "-r", "locks/nox.txt")
    session.run("python", "tools/lock.py", *session.posargs)
