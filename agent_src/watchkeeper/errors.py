"""Every failure that the agent reports: its class, what to do about it, and the exit code.

Exit codes (they are part of the interface; scripts and service managers rely on them):

==== =========================================================================================
   0 it worked; `run` was told to stop and stopped in order
   1 a defect in the agent itself
   2 the command line was not understood
   3 the configuration is wrong
   4 the configuration cannot be read
   5 the listening address cannot be used
   6 no agent answers at the address that was asked
   7 the state directory cannot be used
   8 the drain limit passed before everything had stopped; what was left was killed
   9 the agent has nothing of that name
  10 the agent refuses: no right, or not now
  11 the system has too little left for a start: file descriptors, memory, processes
  12 the service manager of this system refuses (`watchkeeper service`)
  13 a service with the policy exit-agent could not be started, or failed its check; when it ended by itself, the agent
     exits with its status, 128 + the number for a signal
 130 a second signal ended the agent at once; its services were killed
==== =========================================================================================
"""

from __future__ import annotations

import enum
from typing import Any, Self


class ExitCode(enum.IntEnum):
    """The process exit codes; the module docstring says what each means."""

    OK = 0
    DEFECT = 1
    USAGE = 2
    CONFIG_INVALID = 3
    CONFIG_UNREADABLE = 4
    LISTEN_FAILED = 5
    AGENT_UNREACHABLE = 6
    STATE_UNUSABLE = 7
    DRAIN_INCOMPLETE = 8
    NOT_THERE = 9
    REFUSED = 10
    NO_RESOURCES = 11
    MANAGER_REFUSES = 12
    SERVICE_FAILED = 13
    ABORTED = 130


class ErrorClass(enum.StrEnum):
    """The closed taxonomy: the `error_class` of log lines, of /status and of watchkeeper_errors_total."""

    CONFIG_INVALID = "CONFIG_INVALID"
    CONFIG_UNREADABLE = "CONFIG_UNREADABLE"
    STATE_UNUSABLE = "STATE_UNUSABLE"
    LISTEN_FAILED = "LISTEN_FAILED"
    AGENT_UNREACHABLE = "AGENT_UNREACHABLE"
    NETWORK_FAILURE = "NETWORK_FAILURE"
    CHECK_FAILED = "CHECK_FAILED"
    CHECK_TIMEOUT = "CHECK_TIMEOUT"
    CHECK_INTERNAL = "CHECK_INTERNAL"
    SERVICE_EXITED = "SERVICE_EXITED"
    SERVICE_SPAWN_FAILED = "SERVICE_SPAWN_FAILED"
    SERVICE_STOP_TIMEOUT = "SERVICE_STOP_TIMEOUT"
    RECONCILE_FAILED = "RECONCILE_FAILED"
    TASK_CRASHED = "TASK_CRASHED"
    DRAIN_TIMEOUT = "DRAIN_TIMEOUT"
    JOB_FAILED = "JOB_FAILED"
    OUTPUT_FAILED = "OUTPUT_FAILED"
    REGISTRY_FAILED = "REGISTRY_FAILED"
    NO_RESOURCES = "NO_RESOURCES"
    COLLECTOR_FAILED = "COLLECTOR_FAILED"
    ALERT_FAILED = "ALERT_FAILED"
    INTERNAL = "INTERNAL"


class AgentError(Exception):
    """A failure with one sentence that says what happened and one that says what to do."""

    exit_code: ExitCode = ExitCode.DEFECT
    error_class: ErrorClass = ErrorClass.INTERNAL

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice

    def bare(self) -> Self:
        """The words alone, to be kept: a traceback holds whatever its frames did, here a configuration with all that it was read from."""
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self


class ConfigUnreadableError(AgentError):
    """The configuration file is missing, forbidden, too large, or in no known format."""

    exit_code = ExitCode.CONFIG_UNREADABLE
    error_class = ErrorClass.CONFIG_UNREADABLE


class ConfigInvalidError(AgentError):
    """The configuration was read and is wrong.

    `problems` are its lines, each with its position; `findings` the same as config.document.Problem.
    """

    exit_code = ExitCode.CONFIG_INVALID
    error_class = ErrorClass.CONFIG_INVALID

    def __init__(self, file: str, problems: tuple[str, ...], findings: tuple[Any, ...] = ()) -> None:
        noun = "problem" if len(problems) == 1 else "problems"
        listing = "\n".join(problems)
        super().__init__(f"{file} has {len(problems)} {noun}:\n{listing}")
        self.advice = (
            "Correct the lines above; `watchkeeper check-config FILE` checks a file without running it."
        )
        self.problems = problems
        self.findings = findings


class ListenError(AgentError):
    """The listening address is taken, forbidden or not an address of this machine."""

    exit_code = ExitCode.LISTEN_FAILED
    error_class = ErrorClass.LISTEN_FAILED


class AgentUnreachableError(AgentError):
    """`status` got no answer, or one that is not an agent's."""

    exit_code = ExitCode.AGENT_UNREACHABLE
    error_class = ErrorClass.AGENT_UNREACHABLE


class NotThereError(AgentError):
    """The agent has no service, check or other thing of that name."""

    exit_code = ExitCode.NOT_THERE


class AgentRefusesError(AgentError):
    """The agent answers, and does not do what it was asked to."""

    exit_code = ExitCode.REFUSED


class ResourcesError(AgentError):
    """The system gives no more file descriptors, memory or processes."""

    exit_code = ExitCode.NO_RESOURCES
    error_class = ErrorClass.NO_RESOURCES


class ManagerError(AgentError):
    """The service manager does not do what it was asked to."""

    exit_code = ExitCode.MANAGER_REFUSES


class StateError(AgentError):
    """The state directory cannot be made or written."""

    exit_code = ExitCode.STATE_UNUSABLE
    error_class = ErrorClass.STATE_UNUSABLE
