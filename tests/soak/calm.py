"""What has to be so again once nothing is wrong any more: the configuration in force wants it, and it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from soak import cast
from soak.machine import Process, of_user, processes
from soak.world import World

SILENT = ("done", "failed", "not-there")
"""Services without a process."""


def unmet(world: World, *, outputs: bool) -> list[str]:
    """A sentence for each thing that is not as it has to be; `outputs`: whether these must have recovered as well."""
    try:
        status = world.agent.status()
    except (OSError, ValueError) as error:
        return [f"there is no status: {error}"]
    found = [
        *_services(world, status),
        *_processes(world, status),
        *_checks(world, status),
        *_objects(status, outputs=outputs),
    ]
    if status["config"]["last_reload_error"]:
        found.append(f"the configuration is refused: {status['config']['problems']}")
    consul = world.consul.status("calm-0-127.0.0.1-8000")
    if set(consul.values()) != {"passing"}:
        found.append(f"the registration in Consul says {consul}")
    return found


def _services(world: World, status: dict[str, Any]) -> Iterator[str]:
    there, wanted = {each["name"]: each for each in status["services"]}, world.wanted()
    for name in sorted(wanted.keys() - there.keys()):
        yield f"service {name} is wanted and not there"
    for name in sorted(there.keys() - wanted.keys()):
        yield f"service {name} is there and not wanted: {there[name]['state']} {there[name]['why']}"
    for name in sorted(wanted.keys() & there.keys()):
        state, why = there[name]["state"], there[name]["why"]
        if state not in wanted[name].states:
            yield f"service {name} is {state} ({why}) and has to be {' or '.join(wanted[name].states)}"


def _processes(world: World, status: dict[str, Any]) -> Iterator[str]:
    by_service: dict[str, list[Process]] = {}
    for process in processes(world.mark):
        if process.service:
            by_service.setdefault(process.service, []).append(process)
    wanted, pids = world.wanted(), {each["name"]: each["pid"] for each in status["services"]}
    for name, manner in wanted.items():
        found = by_service.pop(name, [])
        if not manner.fewest <= len(found) <= manner.most:
            commands = [(each.pid, *each.command[:4]) for each in found]
            yield f"service {name} has {len(found)} processes and may have {manner.fewest} to {manner.most}: {commands}"
        elif manner.version and not any(manner.version in each.command for each in found):
            yield f"service {name} runs {[each.command for each in found]} and has to run version {manner.version}"
        elif manner.states == ("running",) and pids.get(name) not in {each.pid for each in found}:
            yield f"service {name} is said to be {pids.get(name)} and is {[each.pid for each in found]}"
    for name, left in by_service.items():
        yield f"{len(left)} processes of service {name} are left, which nobody wants: {[each.pid for each in left]}"
    if world.root and (bombs := of_user(cast.BOMB_USER)):
        yield f"{len(bombs)} processes of the fork bomb are left"


def _checks(world: World, status: dict[str, Any]) -> Iterator[str]:
    there = {each["name"]: each for each in status["checks"]}
    wanted = {*world.checks(), "default.soak"}
    wanted |= {
        f"{name}/{check}" for name, manner in world.base.items() for check in manner.spec.get("checks", ())
    }
    for name in sorted(wanted ^ there.keys()):
        yield f"check {name} is {'wanted and not there' if name in wanted else 'there and not wanted'}"
    for name in sorted(wanted & there.keys()):
        state = "failure" if name.startswith("never-") else "success"
        if there[name]["state"] != state:
            yield f"check {name} is {there[name]['state']} and has to be {state}: {there[name]['why']}"


def _objects(status: dict[str, Any], *, outputs: bool) -> Iterator[str]:
    good = {"source": ("active",), **({"output": ("writing",)} if outputs else {})}
    kinds = Counter(each["kind"] for each in status["objects"])
    if kinds["output"] != 3 or kinds["source"] < 4:
        yield f"there are {dict(kinds)} objects"
    for each in status["objects"]:
        if each["kind"] in good and each["state"] not in good[each["kind"]]:
            yield f"{each['kind']} {each['name']} is {each['state']}: {each['why']} ({each['last_error']})"
