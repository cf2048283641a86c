"""The commands. Each takes the parsed arguments and returns what to print and the exit code; cli.py prints and exits."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from watchkeeper._version import __version__
from watchkeeper.errors import ConfigInvalidError, ConfigUnreadableError, ExitCode

DEFAULT_URL = "http://127.0.0.1:9470"


@dataclass(frozen=True)
class Answer:
    """What a command has to say."""

    text: str = ""
    exit_code: int = ExitCode.OK
    to_stderr: bool = False


def execute(arguments: list[str]) -> Answer:
    """Carry out one command line.

    Raises:
        AgentError: what went wrong, with the exit code.
        SystemExit: argparse's answer to --help and to a line that it does not understand (2).
    """
    options = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], Answer] = options.command
    return command(options)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="watchkeeper",
        description="Keeps services alive, checks them, and takes its configuration while it runs.",
        epilog="Exit codes: 0 done, 2 usage, 3 configuration wrong, 4 configuration unreadable, 5 address cannot be "
        "used, 6 no agent answers, 7 state directory cannot be used, 8 drain limit passed, 9 nothing of that name, 10 refused by the agent, 11 too little left for "
        "a start, 12 refused by the service manager, 130 aborted by a second "
        "signal, 1 a defect in the agent.",
    )
    top.add_argument("--version", action="version", version=f"watchkeeper {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run_parser = commands.add_parser("run", help="run the agent until SIGTERM or SIGINT; SIGHUP reloads")
    run_parser.add_argument("--config", required=True, metavar="FILE", help="configuration in YAML or TOML")
    run_parser.add_argument(
        "--listen", metavar="HOST:PORT", help="where the endpoints are; port 0 takes a free one"
    )
    run_parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    run_parser.add_argument(
        "--state-dir",
        metavar="DIR",
        help="keeps the last good configuration, for a start with a wrong one; default: $STATE_DIRECTORY, else none",
    )
    run_parser.add_argument(
        "--init",
        action="store_true",
        help="reap orphans as process 1 of a container does; automatic when it is process 1",
    )
    run_parser.set_defaults(command=run)

    check_parser = commands.add_parser(
        "check-config", help="say whether a configuration is right, without running it"
    )
    check_parser.add_argument("file", metavar="FILE")
    check_parser.add_argument("--json", action="store_true", help="print one JSON object")
    check_parser.set_defaults(command=check_config)

    status_parser = commands.add_parser("status", help="ask a running agent what it sees")
    status_parser.add_argument("--url", default=DEFAULT_URL, help=f"default: {DEFAULT_URL}")
    status_parser.add_argument("--json", action="store_true", help="print the agent's answer as it comes")
    status_parser.set_defaults(command=status)

    version_parser = commands.add_parser("version", help="print the version")
    version_parser.set_defaults(command=version)
    return top


def version(_options: argparse.Namespace) -> Answer:
    """Reached with options beside the word; cli.py answers the bare word itself."""
    return Answer(f"watchkeeper {__version__}")


def check_config(options: argparse.Namespace) -> Answer:
    """Print "ok: ..." or every problem with its position."""
    from watchkeeper.config.load import load_file

    try:
        config = load_file(options.file).config
    except (ConfigInvalidError, ConfigUnreadableError) as error:
        if not options.json:
            raise
        problems = error.problems if isinstance(error, ConfigInvalidError) else (str(error),)
        return Answer(_json({"ok": False, "problems": problems}), error.exit_code)
    services, checks = len(config.services), config.check_count
    if options.json:
        return Answer(_json({"ok": True, "services": services, "checks": checks}))
    return Answer(f"ok: {_count(services, 'service')}, {_count(checks, 'check')}")


def run(options: argparse.Namespace) -> Answer:
    """Run the agent; its exit code says how it ended."""
    from watchkeeper.life.init import become_init, needed

    if needed(options.init):  # before anything else is imported: the parent stays small
        ended = become_init()
        if ended is not None:
            return Answer(exit_code=ended)
    from watchkeeper.life.exit import LIMIT, leave_within
    from watchkeeper.runtime import run_agent

    code = run_agent(options.config, options.listen, options.log_level, options.state_dir)
    leave_within(LIMIT, code)
    return Answer(exit_code=code)


def status(options: argparse.Namespace) -> Answer:
    """Print a table of the services and checks of a running agent."""
    from watchkeeper.status_client import fetch, table

    answer = fetch(options.url)
    return Answer(answer.decode() if options.json else table(answer))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()
