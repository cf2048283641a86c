"""For each error class: where its cause usually lies, and what to do first. `watchkeeper explain CHECK_TIMEOUT` says it.

The domains are a closed list as well: they decide who is called, the classes what for.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from watchkeeper.errors import ErrorClass


class Domain(enum.StrEnum):
    """Where a cause lies."""

    CONFIG = "config"
    """In what somebody has written."""
    APP = "app"
    """In a supervised or probed program."""
    NETWORK = "infra:network"
    """Between machines."""
    HOST = "infra:host"
    """On this machine: disk, memory, descriptors, rights."""
    REMOTE = "infra:remote"
    """In a system that the agent talks to: a registry, a collector, a source."""
    AGENT = "agent"
    """In the agent itself."""


@dataclass(frozen=True)
class Entry:
    """What an error class asks for."""

    domain: Domain
    action: str


RUNBOOK: dict[ErrorClass, Entry] = {
    ErrorClass.CONFIG_INVALID: Entry(
        Domain.CONFIG,
        "Correct the lines that `watchkeeper check-config` names; what was in force before stays.",
    ),
    ErrorClass.CONFIG_UNREADABLE: Entry(
        Domain.CONFIG, "Look at the path, the owner and the mode of the configuration, or at its source."
    ),
    ErrorClass.STATE_UNUSABLE: Entry(
        Domain.HOST, "Look at the free space and the owner of the state directory."
    ),
    ErrorClass.LISTEN_FAILED: Entry(
        Domain.HOST, "Find out who holds the address (ss -ltnp), or choose another one."
    ),
    ErrorClass.AGENT_UNREACHABLE: Entry(Domain.AGENT, "Start the agent, or name its address."),
    ErrorClass.NETWORK_FAILURE: Entry(
        Domain.NETWORK,
        "Reach the address from this machine: name resolution, routes, firewalls, certificates.",
    ),
    ErrorClass.CHECK_FAILED: Entry(
        Domain.APP, "Read why with `watchkeeper explain check/NAME`; then the log of the program."
    ),
    ErrorClass.CHECK_TIMEOUT: Entry(
        Domain.APP, "The target is slower than the check's timeout: look at its load, or allow it more."
    ),
    ErrorClass.CHECK_INTERNAL: Entry(
        Domain.AGENT, "The probe could not be made: look at the agent's log and its descriptors and rights."
    ),
    ErrorClass.SERVICE_EXITED: Entry(
        Domain.APP, "Read the last lines of the service (`watchkeeper logs NAME`) and its exit status."
    ),
    ErrorClass.SERVICE_SPAWN_FAILED: Entry(
        Domain.CONFIG,
        "The program, its directory or its user is not there, or a limit is reached: the message says which.",
    ),
    ErrorClass.SERVICE_STOP_TIMEOUT: Entry(
        Domain.APP, "The service does not end when asked: give it more grace, or another signal."
    ),
    ErrorClass.JOB_FAILED: Entry(Domain.APP, "Read what the job wrote, and run its command by hand."),
    ErrorClass.OUTPUT_FAILED: Entry(
        Domain.REMOTE,
        "Look at the output's destination; what waits and what is lost is in /status and /metrics.",
    ),
    ErrorClass.REGISTRY_FAILED: Entry(
        Domain.REMOTE,
        "Look at the registry and the agent's rights there; services run on, and are announced again later.",
    ),
    ErrorClass.RECONCILE_FAILED: Entry(
        Domain.AGENT,
        "It is tried again by itself. If it stays, the traceback in the log is what a report needs.",
    ),
    ErrorClass.TASK_CRASHED: Entry(
        Domain.AGENT,
        "The task was started again. If it stays, the traceback in the log is what a report needs.",
    ),
    ErrorClass.DRAIN_TIMEOUT: Entry(
        Domain.APP, "Somebody needed longer to stop than drain_timeout allows: the log names him."
    ),
    ErrorClass.NO_RESOURCES: Entry(
        Domain.HOST,
        "Raise the limit that the message names (descriptors, processes, memory), or find who uses it up.",
    ),
    ErrorClass.COLLECTOR_FAILED: Entry(
        Domain.HOST, "Often a mount that hangs or a right that is missing; the other collectors go on."
    ),
    ErrorClass.ALERT_FAILED: Entry(
        Domain.REMOTE,
        "A notification did not arrive: look at the webhook's server; the alert itself is in /status.",
    ),
    ErrorClass.INTERNAL: Entry(Domain.AGENT, "A defect: the traceback in the log is what a report needs."),
}


def entry(error_class: str) -> Entry:
    """What to do about a class, by its name; a class that nobody knows is a defect of the agent."""
    try:
        return RUNBOOK[ErrorClass(error_class)]
    except (ValueError, KeyError):
        return RUNBOOK[ErrorClass.INTERNAL]
