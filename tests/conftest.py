"""Guard rails: a unit test reaches no network and starts no build tool.

An audit hook sees every connection and every process, however deep in a library it is made, and refuses what a unit
test has no business with. A refusal also fails the test at its end, in case the code under test swallowed it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.configuration
import pytest

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "tests" / "unit"
BUILD_TOOLS = frozenset({"pip", "pip3", "uv", "uvx", "pyinstaller", "shiv", "cibuildwheel"})
BUILD_MODULES = BUILD_TOOLS | {"PyInstaller", "build", "venv", "virtualenv"}


class OutOfBoundsError(AssertionError):
    """A unit test tried what only an integration test may do."""


def is_local(host: object) -> bool:
    """Whether an address stays on this machine; a name other than localhost would be asked of a name server."""
    text = host.decode() if isinstance(host, bytes) else host
    if text is None or text in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(text).split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def refuse_connect(_socket: object, address: object) -> str | None:
    """A connection to another machine; the address of a Unix socket is a path, not a tuple."""
    if isinstance(address, tuple) and len(address) >= 2 and not is_local(address[0]):
        return f"opened a connection to {address[0]}:{address[1]}"
    return None


def refuse_lookup(host: object, *_rest: object) -> str | None:
    """A name that a name server would be asked for; a literal address is not."""
    if is_local(host) or str(host).replace(".", "").isdigit() or ":" in str(host):
        return None
    return f"looked up the host {host}"


def refuse_process(executable: object, arguments: Any, *_rest: object) -> str | None:
    """A process that is a build tool, or a Python that runs one with -m."""
    words = (
        [os.fsdecode(word) for word in arguments]
        if isinstance(arguments, (list, tuple))
        else str(arguments).split()
    )
    name = Path(os.fsdecode(executable) if isinstance(executable, (str, bytes)) else words[0]).stem
    modules = {module for flag, module in itertools.pairwise(words) if flag == "-m"}
    if name in BUILD_TOOLS or (name.startswith("python") and modules & BUILD_MODULES):
        return f"started {' '.join(words[:4])}"
    return None


REFUSALS: dict[str, Callable[..., str | None]] = {
    "socket.connect": refuse_connect,
    "socket.sendto": refuse_connect,
    "socket.getaddrinfo": refuse_lookup,
    "socket.gethostbyname": refuse_lookup,
    "subprocess.Popen": refuse_process,
    "os.posix_spawn": refuse_process,
    "os.exec": refuse_process,
}


class Guard:
    """The audit hook, which Python cannot take away again, and the switch that makes it look."""

    def __init__(self) -> None:
        self.watching = False
        self.refused: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse what the table refuses."""
        refusal = REFUSALS.get(event) if self.watching else None
        if refusal is not None and (what := refusal(*arguments)):
            self.refused.append(what)
            raise OutOfBoundsError(f"a unit test {what}; make it an integration test, or hand in a fake")


GUARD = Guard()
sys.addaudithook(GUARD)


def pytest_configure() -> None:
    """Say that there is no event loop yet, and nothing of GitHub.

    Up to Python 3.13 pytest-asyncio's question for the current loop would otherwise make one that nobody closes, and
    its ResourceWarning would fail whichever test the garbage collector runs in.
    """
    for name in [name for name in os.environ if name.startswith("GITHUB_")]:
        del os.environ[
            name
        ]  # in CI a test would write for GitHub, and into the step's own files; one that wants that says so
    asyncio.set_event_loop(None)
    # Toolchain, runtimes and runners of the tests: not the user's own, and once for all of them.
    os.environ.setdefault("FERRYMAN_HOME", str(ROOT / ".cache" / "home"))


def pytest_sessionstart() -> None:
    """Hypothesis judges results and not seconds, which say more about the machine; its examples go where caches go."""
    hypothesis.configuration.set_hypothesis_home_dir(ROOT / ".cache" / "hypothesis")
    usual = hypothesis.settings.get_profile("ci" if "CI" in os.environ else "default")
    hypothesis.settings.register_profile("ferryman", parent=usual, deadline=None)
    hypothesis.settings.load_profile("ferryman")


@pytest.fixture(autouse=True)
def guard_rails(request: pytest.FixtureRequest) -> Iterator[Guard]:
    """Watch every test under tests/unit."""
    GUARD.watching = UNIT in request.path.parents
    GUARD.refused = []
    yield GUARD
    GUARD.watching = False
    if GUARD.refused:
        pytest.fail("\n".join(f"the test {what}" for what in GUARD.refused), pytrace=False)
