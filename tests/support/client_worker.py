"""A client in a process of its own, told what to do line by line: `python client_worker.py` imports no `cryptography`.

:func:`perform` does the same in the process of whoever calls it. A command is a JSON object: ``do`` (a name of
:data:`ACTIONS`), ``url``, ``state`` and ``root`` (paths; the root may be None), ``channel``, and what the action takes.
The answer has either ``error`` (the class), ``message`` and ``code``, or what the action says.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {
    "target": "linux-amd64",
    "os": "linux",
    "arch": "x86_64",
    "libc": "gnu",
    "version": "2.36",
    "id": "0" * 32,
}


def make_client(command: Mapping[str, Any]) -> Any:
    from ferryman_client import Client, HttpFetcher, Machine

    root = Path(command["root"]).read_bytes() if command.get("root") else None
    return Client(
        command["url"],
        command["state"],
        root=root,
        channel=command.get("channel", "stable"),
        machine=Machine(**MACHINE),
        fetcher=HttpFetcher(timeout=10),
    )


def said(status: Any) -> dict[str, Any]:
    return {
        "version": status.version, "fresh": status.fresh, "roles": dict(status.roles),
        "problem": status.problem.kind if status.problem else "",
        "message": status.problem.message if status.problem else "",
    }  # fmt: skip


def refresh(client: Any, command: Mapping[str, Any]) -> dict[str, Any]:
    return said(client.refresh())


def strict(client: Any, command: Mapping[str, Any]) -> dict[str, Any]:
    return said(client.strict_refresh())


def install(client: Any, command: Mapping[str, Any]) -> dict[str, Any]:
    client.strict_refresh()
    choice = client.choose(command.get("kind", "executable"))
    path = client.download(choice.offer, command["into"])
    return {"path": str(path), "version": choice.version}


def release(client: Any, command: Mapping[str, Any]) -> dict[str, Any]:
    client.strict_refresh()
    return {"files": [one.path for one in client.release(command["version"]).assets]}


def has_cryptography(client: Any, command: Mapping[str, Any]) -> dict[str, Any]:
    try:
        import cryptography
    except ImportError:
        return {"cryptography": ""}
    return {"cryptography": cryptography.__version__}


ACTIONS: dict[str, Callable[[Any, Mapping[str, Any]], dict[str, Any]]] = {
    "refresh": refresh,
    "strict": strict,
    "install": install,
    "release": release,
    "has-cryptography": has_cryptography,
}


def perform(command: Mapping[str, Any]) -> dict[str, Any]:
    """Do what a command says with a new client, as a program does that has just been started."""
    from ferryman_client import ClientError

    try:
        return ACTIONS[command["do"]](make_client(command), command)
    except ClientError as error:
        return {"error": type(error).__name__, "message": str(error), "code": error.exit_code}


class Absent:
    """An import hook that has no `cryptography` for anybody."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextmanager
def without_cryptography() -> Iterator[Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """:func:`perform` in a process that cannot import `cryptography`."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def ask(command: Mapping[str, Any]) -> dict[str, Any]:
            child.stdin.write(json.dumps(command) + "\n")
            child.stdin.flush()
            answer: dict[str, Any] = json.loads(child.stdout.readline())
            return answer

        try:
            yield ask
        finally:
            child.stdin.close()


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]
    sys.path.insert(0, str(ROOT / "release" / "client"))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(perform(json.loads(line))) + "\n")
        sys.stdout.flush()
