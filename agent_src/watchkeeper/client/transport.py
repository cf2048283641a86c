"""Asks a running agent, over its Unix socket or over HTTP.

Where the agent is, in this order:
    A1  --url, --socket or --state-dir on the command line.
    A2  $WATCHKEEPER_URL or $WATCHKEEPER_SOCKET.
    A3  The first socket that is there: in $RUNTIME_DIRECTORY and $STATE_DIRECTORY, then where a unit file of
        `watchkeeper unit systemd` puts it.
    A4  http://127.0.0.1:9470, the default of agent.listen.

Orders need the socket: it tells the agent whose they are. Where there are no Unix sockets, a token does: --token-file, or
$WATCHKEEPER_TOKEN_FILE.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from watchkeeper.errors import AgentRefusesError, AgentUnreachableError, NotThereError

DEFAULT_URL = "http://127.0.0.1:9470"
TIMEOUT = 5.0
ADVICE = "Start it with `watchkeeper run --config FILE`, or name its address with --url http://HOST:PORT or --socket PATH."
PLACES = ("/run/watchkeeper/watchkeeper.sock", "/var/lib/watchkeeper/control.sock")
"""RuntimeDirectory= and StateDirectory= of the unit file."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body, or None: it is something else."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class Address:
    """Where an agent is: `socket` is a path, else `url` counts."""

    url: str = ""
    socket: str = ""
    token_file: str = ""

    def __str__(self) -> str:
        return self.socket or self.url


def find(
    *,
    url: str | None = None,
    socket: str | None = None,
    state_dir: str | None = None,
    token_file: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Address:
    """Rules A1 to A4."""
    token = token_file or environment.get("WATCHKEEPER_TOKEN_FILE", "")
    if state_dir and not socket:
        socket = os.path.join(state_dir, "control.sock")  # noqa: PTH118 - pathlib would be an import of its own
    if url or socket:
        return Address(_plain(url or ""), "" if url else socket or "", token)
    if environment.get("WATCHKEEPER_URL"):
        return Address(_plain(environment["WATCHKEEPER_URL"]), "", token)
    places = [environment.get("WATCHKEEPER_SOCKET", ""), *_places(environment)]
    found = next((place for place in places if place and os.path.exists(place)), "")  # noqa: PTH110
    return Address("" if found else DEFAULT_URL, found, token)


def request(
    address: Address, method: str, path: str, body: Any = None, *, timeout: float = TIMEOUT
) -> Answer:
    """One question.

    Raises:
        AgentUnreachableError: nobody answers, or somebody else does.
        NotThereError: the agent has nothing of that name.
        AgentRefusesError: it does not do that, or not for us.
    """
    with _asked(address, method, path, body, timeout) as response:
        return _judged(address, Answer(response.status, response.read()))


def stream(address: Address, path: str, *, timeout: float | None = None) -> Iterator[bytes]:
    """The lines of an answer as they come; None: wait for ever for the next.

    Raises:
        AgentError: as `request`.
    """
    with _asked(address, "GET", path, None, TIMEOUT) as response:
        if response.status != 200:
            _judged(address, Answer(response.status, response.read()))
        if timeout is None:
            _wait_for_ever(response)
        yield from response


def _wait_for_ever(response: http.client.HTTPResponse) -> None:
    raw = getattr(getattr(response.fp, "raw", None), "_sock", None)
    if raw is not None:
        raw.settimeout(None)


@contextmanager
def _asked(
    address: Address, method: str, path: str, body: Any, timeout: float
) -> Iterator[http.client.HTTPResponse]:
    headers = {"Host": "localhost", "Accept": "application/json", "Connection": "close"}
    content = None if body is None else json.dumps(body).encode()
    if content is not None:
        headers["Content-Type"] = "application/json"
    connection = _connection(address, timeout)
    try:
        headers |= _authorization(address)
        connection.request(method, _prefix(address) + path, content, headers)
        yield connection.getresponse()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreachable(address, error) from None
    finally:
        connection.close()


def _connection(address: Address, timeout: float) -> http.client.HTTPConnection:
    if address.socket:
        return UnixConnection(address.socket, timeout)
    try:
        parts = urlsplit(address.url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _unreachable(address, error) from None
    if parts.scheme not in ("http", "https") or not host:
        raise AgentUnreachableError(
            f"{address.url!r} is not an http address", "Write --url http://HOST:PORT."
        )
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=timeout)


class UnixConnection(http.client.HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("this system has no Unix sockets for Python; use --url")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _authorization(address: Address) -> dict[str, str]:
    if not address.token_file:
        return {}
    try:
        with open(address.token_file, encoding="utf-8") as stream:
            return {"Authorization": f"Bearer {stream.read().strip()}"}
    except (OSError, ValueError) as error:
        raise AgentRefusesError(
            f"the token in {address.token_file} cannot be read: {getattr(error, 'strerror', None) or error}",
            "Name the agent's token file with --token-file, as a user who may read it.",
        ) from None


def _judged(address: Address, answer: Answer) -> Answer:
    """The answer, if it is one that was asked for."""
    if answer.status < 300:
        return answer
    said = answer.json()
    if not isinstance(said, dict) or "error" not in said:
        raise AgentUnreachableError(f"{address} answers with status {answer.status}: not an agent", ADVICE)
    message, advice = str(said["error"]), str(said.get("advice", ""))
    if answer.status == 404:
        raise NotThereError(message, advice or _known(said))
    if answer.status in (401, 403):
        advice = (
            advice
            or "Ask through the agent's Unix socket as root or as the agent's user, or with --token-file."
        )
    raise AgentRefusesError(message, advice)


def _known(said: dict[str, Any]) -> str:
    names = said.get("services") or said.get("names") or said.get("kinds") or []
    return f"There are: {', '.join(map(str, names[:20]))}." if names else ""


def _unreachable(address: Address, error: Exception) -> AgentUnreachableError:
    if isinstance(error, PermissionError):
        return AgentUnreachableError(
            f"the agent's socket {address} may not be used by this user",
            "Ask as root or as the agent's user.",
        )
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return AgentUnreachableError(f"no agent answers at {address}: {reason}", ADVICE)


def _places(environment: Mapping[str, str]) -> list[str]:
    places = []
    if runtime := environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        places.append(f"{runtime}/watchkeeper.sock")
    if state := environment.get("STATE_DIRECTORY", "").partition(":")[0]:
        places.append(f"{state}/control.sock")
    return [*places, *PLACES]


def _plain(url: str) -> str:
    return url.rstrip("/")


def _prefix(address: Address) -> str:
    """The path of the URL: an agent may be behind a proxy that has put it below one."""
    return "" if address.socket else urlsplit(address.url).path
