"""start, stop, restart, reload, log-level: what an operator asks a running agent to do."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

from watchkeeper.client import asking, transport
from watchkeeper.client.transport import Address
from watchkeeper.errors import AgentRefusesError, ConfigInvalidError, NotThereError

POLL = 0.1
RESTING = frozenset({"stopped", "finished", "failed"})


def order(address: Address, what: str, word: str, *, wait: float | None) -> str:
    """Give an order; with `wait`, see it carried out within so many seconds. What to tell people.

    Raises:
        NotThereError: there is no such service.
        AgentRefusesError: it may not be asked for, or was not carried out in time.
    """
    name = service_name(word)
    before = _service(address, name) if wait is not None else None
    transport.request(address, "POST", f"/control/{what}/{quote(name, safe='')}")
    if wait is None or before is None:
        return f"{what} of {name} is asked for; `watchkeeper explain service/{name}` says how it goes"
    return _see(address, what, name, before, wait)


def service_name(word: str) -> str:
    """The name in service/NAME or NAME.

    Raises:
        NotThereError: it is something that cannot be ordered about.
    """
    kind, slash, name = word.partition("/")
    if not slash:
        return word
    if kind != "service":
        raise NotThereError(
            f"{word} is no service; only services can be started and stopped", "Write service/NAME."
        )
    return name


def _see(address: Address, what: str, name: str, before: dict[str, Any], wait: float) -> str:
    deadline = time.monotonic() + wait
    while True:
        now = _service(address, name)
        if _done(what, before, now):
            return f"{name}: {now['state']}" + (f", pid {now['pid']}" if now.get("pid") else "")
        if time.monotonic() > deadline:
            raise AgentRefusesError(
                f"{what} of {name} was not done within {wait:g} s; it is {now['state']}: {now['why']}",
                f"`watchkeeper explain service/{name}` says what it waits for.",
            )
        time.sleep(POLL)


def _done(what: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    if what == "stop":
        return now["state"] in RESTING or (
            not now.get("pid") and now["state"] not in ("starting", "running", "stopping")
        )
    fresh = now.get("instance") != before.get("instance")
    if now["state"] == "finished":  # it had one thing to do, and may have done it between two looks
        return fresh
    return bool(now["state"] == "running" and (fresh or what == "start"))


def _service(address: Address, name: str) -> dict[str, Any]:
    found: dict[str, Any] = transport.request(
        address, "GET", f"/status/service/{quote(name, safe='')}"
    ).json()
    return found


def reload(address: Address, *, wait: float | None) -> str:
    """Have the configuration looked at; with `wait`, see what becomes of it.

    Raises:
        ConfigInvalidError: it was refused.
        AgentRefusesError: nothing was heard of it in time.
    """
    before = _config(address)
    transport.request(address, "POST", "/control/reload")
    if wait is None:
        return "a reload is asked for; `watchkeeper status` shows what becomes of it"
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        time.sleep(POLL)
        now = _config(address)
        if now["loaded_at"] != before["loaded_at"]:
            new = now["generation"] != before["generation"]
            return f"{'in force' if new else 'unchanged'}: generation {now['generation']}"
        # An agent that has not looked yet still shows what was wrong before.
        if now["last_reload_error"] and now.get("refused_at") != before.get("refused_at"):
            problems = now["problems"] or [now["last_reload_error"]]
            raise ConfigInvalidError(now["file"], tuple(problems))
    raise AgentRefusesError(f"the agent has not looked at its configuration within {wait:g} s")


def _config(address: Address) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asking.status(address))["config"]
    return found


def log_level(address: Address, level: str) -> str:
    """Change what is logged, until the configuration or the next start says otherwise."""
    answer = transport.request(address, "PUT", "/control/log-level", {"level": level}).json() or {}
    return f"the log level is {answer.get('level', level)} now"
