"""The commands. Each takes the parsed arguments and returns what to print and the exit code; cli.py prints and exits.

The parser alone is made here; what a command does is imported when it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from watchkeeper._version import __version__
from watchkeeper.errors import ErrorClass, ExitCode

if TYPE_CHECKING:
    from watchkeeper.client.transport import Address

LEVELS = ("trace", "debug", "info", "warning", "error", "fatal")
SHELLS = ("bash", "zsh", "fish", "powershell")
UNITS = ("systemd", "launchd", "windows", "daemonset")
WAIT = 60.0


@dataclass(frozen=True)
class Answer:
    """What a command has to say: a text, or lines as they come."""

    text: str = ""
    exit_code: int = ExitCode.OK
    to_stderr: bool = False
    lines: Iterator[str] | None = None


class Parser(argparse.ArgumentParser):
    """argparse, with a suggestion for what is nearly right."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}{self._suggestion(message)}\n")

    def _suggestion(self, message: str) -> str:
        import difflib
        import re

        wrong = re.search(r"invalid choice: '([^']*)'|unrecognized arguments: (\S+)", message)
        if wrong is None:
            return ""
        word = (wrong.group(1) or wrong.group(2)).partition("=")[0]
        near = difflib.get_close_matches(word, self.words(), n=1)
        return f"; did you mean {near[0]}?" if near else ""

    def words(self) -> list[str]:
        """Every option and every choice of this parser, and of its commands' options."""
        words = [
            word for action in self._actions for word in (*action.option_strings, *(action.choices or ()))
        ]
        for parser in commands_of(self).values():
            words += [word for word in parser.words() if word.startswith("-")]
        return words


def commands_of(parser: argparse.ArgumentParser) -> dict[str, Parser]:
    """The commands below a parser, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def execute(arguments: list[str]) -> Answer:
    """Carry out one command line.

    Raises:
        AgentError: what went wrong, with the exit code.
        SystemExit: argparse's answer to --help and to a line that it does not understand (2).
    """
    top = parser()
    options, unknown = top.parse_known_args(arguments)
    if unknown:
        commands_of(top).get(arguments[0], top).error(f"unrecognized arguments: {' '.join(unknown)}")
    command: Callable[[argparse.Namespace], Answer] = options.command
    return command(options)


def parser() -> Parser:
    """The command line."""
    top = Parser(
        prog="watchkeeper",
        description="Keeps services alive, checks them, and takes its configuration while it runs.",
        epilog="Exit codes: 0 done, 2 usage, 3 configuration wrong, 4 configuration unreadable, 5 address cannot be "
        "used, 6 no agent answers, 7 state directory cannot be used, 8 drain limit passed, 9 nothing of that name, "
        "10 refused by the agent, 11 too little left for a start, 12 refused by the service manager, 13 a service with exit-agent failed, 130 aborted by "
        "a second signal, 1 a defect in the agent.",
    )
    top.add_argument("--version", action="version", version=f"watchkeeper {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    _running(commands)
    _asking(commands)
    _ordering(commands)
    _printing(commands)
    return top


def _running(commands: Any) -> None:
    """What needs no running agent."""
    run_parser = commands.add_parser("run", help="run the agent until SIGTERM or SIGINT; SIGHUP reloads")
    run_parser.add_argument(
        "--config", required=True, metavar="PATH", help="a file in YAML, TOML or JSON, or a folder of them"
    )
    run_parser.add_argument(
        "--listen", metavar="HOST:PORT", help="where the endpoints are; port 0 takes a free one"
    )
    run_parser.add_argument("--log-level", choices=LEVELS)
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
    check_parser.add_argument(
        "file", metavar="FILE", nargs="+", help="a file or a folder; each is a configuration of its own"
    )
    check_parser.add_argument("--json", action="store_true", help="print one JSON object")
    check_parser.add_argument(
        "--no-secrets",
        action="store_true",
        help="do not resolve ${env:NAME} and ${file:PATH}: only their form is looked at",
    )
    check_parser.set_defaults(command=check_config)

    load_parser = commands.add_parser(
        "load", help="ask a URL at a constant rate, and say how long its answers take"
    )
    load_parser.add_argument("url", metavar="URL", help="http, https or http+unix; of this machine")
    load_parser.add_argument(
        "--qps", type=float, default=10.0, metavar="RATE", help="requests a second; default: 10"
    )
    load_parser.add_argument("--duration", type=_seconds, default=10.0, metavar="TIME", help="default: 10s")
    load_parser.add_argument(
        "--concurrency",
        type=int,
        metavar="COUNT",
        help="requests at once; default: the rate, from 10 to 1000",
    )
    load_parser.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="TIME", help="of a request; default: 5s"
    )
    load_parser.add_argument("--method", default="GET", help="default: GET")
    load_parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="may be repeated"
    )
    load_parser.add_argument("--body", metavar="TEXT", help="or @FILE")
    load_parser.add_argument(
        "--ca-file", metavar="FILE", help="whom to believe, for https; default: the system's"
    )
    load_parser.add_argument("--insecure", action="store_true", help="believe any certificate")
    load_parser.add_argument(
        "--allow-remote", action="store_true", help="the URL may be another machine's, which has agreed to it"
    )
    load_parser.add_argument("--json", action="store_true", help="print one JSON object")
    load_parser.set_defaults(command=load)

    rules_parser = commands.add_parser("rules", help="print the alert rules as a rule file of Prometheus")
    rules_parser.add_argument("file", metavar="PATH", help="the configuration: a file or a folder")
    rules_parser.set_defaults(command=rules)

    schema_parser = commands.add_parser("schema", help="print the JSON Schema of the configuration")
    schema_parser.add_argument("--markdown", action="store_true", help="print a page for people instead")
    schema_parser.set_defaults(command=schema)

    crd_parser = commands.add_parser(
        "crd", help="print the definition of ServiceCheck for kubectl apply -f -"
    )
    crd_parser.set_defaults(command=crd)


def _asking(commands: Any) -> None:
    """What reads from a running agent."""
    status_parser = _agents(commands.add_parser("status", help="what a running agent sees, as a table"))
    status_parser.add_argument("--json", action="store_true", help="print the agent's answer as it comes")
    status_parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=2.0,
        metavar="SECONDS",
        help="again and again; default: every 2 s",
    )
    status_parser.set_defaults(command=status)

    explain_parser = _agents(
        commands.add_parser("explain", help="why something is in the state that it is in")
    )
    explain_parser.add_argument(
        "key",
        metavar="KEY",
        help="KIND/NAME, such as service/web, or a name alone; or an error_class of a log line",
    )
    explain_parser.add_argument("--json", action="store_true", help="print one JSON object")
    explain_parser.set_defaults(command=explain)

    events_parser = _agents(commands.add_parser("events", help="what has happened, and why"))
    events_parser.add_argument("key", metavar="KEY", nargs="?", help="only what concerns this one")
    _following(events_parser, 100)
    events_parser.set_defaults(command=events)

    logs_parser = _agents(
        commands.add_parser("logs", help="the newest log lines, the agent's and those of its services")
    )
    logs_parser.add_argument(
        "service", metavar="SERVICE", nargs="?", help="only what this one says, or is said of it"
    )
    _following(logs_parser, 100)
    logs_parser.set_defaults(command=logs)

    names_parser = _agents(
        commands.add_parser("names", help="the names of what it looks after, one a line, for scripts")
    )
    names_parser.add_argument(
        "kind", nargs="?", metavar="KIND", help="such as service; without: KIND/NAME of all"
    )
    names_parser.set_defaults(command=names)


def _ordering(commands: Any) -> None:
    """What asks a running agent to do something."""
    for word, text in (
        ("start", "start a service that is stopped, or waits for its backoff"),
        ("stop", "stop a service; it stays so until `start` or `restart`"),
        ("restart", "stop a service and start it again"),
    ):
        order_parser = _agents(commands.add_parser(word, help=text))
        order_parser.add_argument("service", metavar="SERVICE")
        _waiting(order_parser, "until it is done")
        order_parser.set_defaults(command=order, order=word)

    reload_parser = _agents(
        commands.add_parser("reload", help="look at the configuration now, and say what became of it")
    )
    reload_parser.add_argument("--no-wait", dest="wait", action="store_const", const=None, help="only ask")
    reload_parser.add_argument(
        "--wait", type=_seconds, default=WAIT, metavar="SECONDS", help=f"default: {WAIT:g}"
    )
    reload_parser.set_defaults(command=reload, wait=WAIT)

    level_parser = _agents(commands.add_parser("log-level", help="change what a running agent logs"))
    level_parser.add_argument("level", choices=LEVELS)
    level_parser.set_defaults(command=log_level)


def _printing(commands: Any) -> None:
    """What prints something to keep, and what installs it."""
    shell_parser = commands.add_parser("completions", help="print the completions for a shell")
    shell_parser.add_argument("shell", choices=SHELLS)
    shell_parser.set_defaults(command=completions)

    unit_parser = commands.add_parser("unit", help="print what a service manager needs to run the agent")
    unit_parser.add_argument("manager", choices=UNITS)
    unit_parser.add_argument("--program", metavar="PATH", help="default: this program")
    unit_parser.add_argument("--config", metavar="PATH", help="default: where the system has configurations")
    unit_parser.add_argument(
        "--user", metavar="NAME", help="default: the system's own; services may need root"
    )
    unit_parser.add_argument("--image", metavar="IMAGE", help="daemonset: the container image")
    unit_parser.add_argument(
        "--systemd", type=int, metavar="VERSION", help="systemd: default: the one that runs here"
    )
    unit_parser.set_defaults(command=unit)

    service_parser = commands.add_parser(
        "service", help="Windows: install, remove, start or stop the agent's service"
    )
    service_parser.add_argument("what", choices=("install", "uninstall", "start", "stop"))
    service_parser.add_argument("--name", default="watchkeeper", help="default: watchkeeper")
    service_parser.add_argument("--config", metavar="PATH", help="install: the configuration")
    service_parser.add_argument(
        "--state-dir", metavar="DIR", help="install: default: beside the configuration"
    )
    service_parser.set_defaults(command=service)

    version_parser = commands.add_parser("version", help="print the version")
    version_parser.set_defaults(command=version)


def _agents(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Where the agent is."""
    place = parser.add_argument_group(
        "where the agent is; by default its Unix socket, else http://127.0.0.1:9470"
    )
    place.add_argument("--url", help="http://HOST:PORT, or $WATCHKEEPER_URL")
    place.add_argument("--socket", metavar="PATH", help="its Unix socket, or $WATCHKEEPER_SOCKET")
    place.add_argument(
        "--state-dir", metavar="DIR", help="the state directory it was started with; the socket is in it"
    )
    place.add_argument(
        "--token-file", metavar="FILE", help="what gives control where there are no Unix sockets"
    )
    parser.add_argument(
        "--colour", "--color", choices=("auto", "always", "never"), default="auto", help="default: auto"
    )
    return parser


def _following(parser: argparse.ArgumentParser, count: int) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    parser.add_argument(
        "-n", "--lines", type=_count, default=count, metavar="COUNT", help=f"default: {count}"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def _waiting(parser: argparse.ArgumentParser, until: str) -> None:
    parser.add_argument(
        "--wait",
        nargs="?",
        type=_seconds,
        const=WAIT,
        metavar="SECONDS",
        help=f"{until}; default: at most {WAIT:g} s",
    )


def _seconds(text: str) -> float:
    from watchkeeper.durations import parse_duration

    try:
        seconds = parse_duration(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text} is no time to wait")
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 1000000")
    return int(text)


def version(_options: argparse.Namespace) -> Answer:
    """Reached with options beside the word; cli.py answers the bare word itself."""
    return Answer(f"watchkeeper {__version__}")


def check_config(options: argparse.Namespace) -> Answer:
    """Print "ok: ..." or every problem with its position."""
    from watchkeeper.config.check import check

    report = check(options.file, secrets=not options.no_secrets)
    if options.json:
        return Answer(_json(report.plain()), report.exit_code)
    if report.errors:
        raise report.error()
    return Answer(report.text())


def load(options: argparse.Namespace) -> Answer:
    """Put a load on a URL; Ctrl-C prints what there is."""
    from watchkeeper.load import command, report

    plan = command.make_plan(options.qps, options.duration, options.concurrency, options.timeout)
    request = command.make_request(
        options.method,
        options.url,
        options.header,
        options.body,
        insecure=options.insecure,
        ca_file=options.ca_file,
        allow_remote=options.allow_remote,
    )
    result = command.run(plan, request)
    found = _json(report.plain(result, options.url)) if options.json else report.text(result, options.url)
    return Answer(found, ExitCode.ABORTED if result.interrupted else ExitCode.OK)


def schema(options: argparse.Namespace) -> Answer:
    """Print what a configuration may say, for editors or for people."""
    if options.markdown:
        from watchkeeper.config.markdown import markdown

        return Answer(markdown().rstrip("\n"))
    import msgspec

    from watchkeeper.config.json_schema import json_schema

    return Answer(msgspec.json.format(_json(json_schema()), indent=2))


def crd(_options: argparse.Namespace) -> Answer:
    """Print the CustomResourceDefinition, as JSON."""
    import msgspec

    from watchkeeper.kubernetes.crd import manifest

    return Answer(msgspec.json.format(_json(manifest()), indent=2))


def rules(options: argparse.Namespace) -> Answer:
    """Print the alert rules, for Prometheus. Secrets are not looked up: no rule has any."""
    from watchkeeper.alerts.promrules import text_of_file

    return Answer(text_of_file(options.file))


def run(options: argparse.Namespace) -> Answer:
    """Run the agent; its exit code says how it ended."""
    from watchkeeper.life.init import become_init, needed

    if needed(options.init):  # before anything else is imported: the parent stays small
        ended = become_init()
        if ended is not None:
            return Answer(exit_code=ended)
    from watchkeeper.native import give_memory_back

    give_memory_back()  # before there are threads, and before much is imported
    from watchkeeper.life.exit import LIMIT, leave_within
    from watchkeeper.runtime import run_agent

    code = run_agent(options.config, options.listen, options.log_level, options.state_dir)
    leave_within(LIMIT, code)
    return Answer(exit_code=code)


def status(options: argparse.Namespace) -> Answer:
    """Print a table of all that a running agent looks after."""
    from watchkeeper.client.asking import status as fetch
    from watchkeeper.client.watching import again
    from watchkeeper.status_client import table

    address = _address(options)

    def once() -> str:
        answer = fetch(address)
        return answer.decode().rstrip("\n") if options.json else table(answer, _palette(options))

    if options.watch is None:
        return Answer(once())
    return Answer(lines=again(once, options.watch, clear=sys.stdout.isatty() and not options.json))


def explain(options: argparse.Namespace) -> Answer:
    """Print all that is known of one key; or of an error class, for which no agent is asked."""
    from watchkeeper.client import asking

    if options.key in ErrorClass.__members__:
        from watchkeeper.runbook import entry

        advice = entry(options.key)
        plain = {"error_class": options.key, "domain": advice.domain.value, "action": advice.action}
        return Answer(_json(plain) if options.json else f"{options.key} ({advice.domain}): {advice.action}")
    found = asking.details(_address(options), options.key)
    return Answer(_json(found) if options.json else asking.explain(found, _palette(options)))


def events(options: argparse.Namespace) -> Answer:
    """Print events, one a line."""
    from watchkeeper.client import asking

    palette = _palette(options)
    found = asking.events(_address(options), options.key, follow=options.follow, count=options.lines)
    return Answer(lines=(_json(each) if options.json else asking.event_line(each, palette) for each in found))


def logs(options: argparse.Namespace) -> Answer:
    """Print log lines."""
    from watchkeeper.client import asking

    palette = _palette(options)
    found = asking.logs(_address(options), options.service, follow=options.follow, count=options.lines)
    return Answer(
        lines=(
            each.decode().rstrip("\n") if options.json else asking.log_line(each, palette) for each in found
        )
    )


def names(options: argparse.Namespace) -> Answer:
    """Print names; completions are made of them."""
    from watchkeeper.client import asking

    keys = asking.keys(_address(options))
    if options.kind:
        keys = [name for kind, _, name in (key.partition("/") for key in keys) if kind == options.kind]
    return Answer("\n".join(keys))


def order(options: argparse.Namespace) -> Answer:
    """Order a service about."""
    from watchkeeper.client import ordering

    return Answer(ordering.order(_address(options), options.order, options.service, wait=options.wait))


def reload(options: argparse.Namespace) -> Answer:
    """Have the configuration looked at."""
    from watchkeeper.client import ordering

    return Answer(ordering.reload(_address(options), wait=options.wait))


def log_level(options: argparse.Namespace) -> Answer:
    """Change what is logged."""
    from watchkeeper.client import ordering

    return Answer(ordering.log_level(_address(options), options.level))


def completions(options: argparse.Namespace) -> Answer:
    """Print a script for a shell."""
    from watchkeeper.client.completions import script

    return Answer(script(options.shell, parser()))


def unit(options: argparse.Namespace) -> Answer:
    """Print what a service manager needs."""
    from watchkeeper.client.units import Wanted, text

    wanted = Wanted(
        program=options.program,
        config=options.config,
        user=options.user,
        image=options.image,
        systemd=options.systemd,
    )
    return Answer(text(options.manager, wanted))


def service(options: argparse.Namespace) -> Answer:
    """Install, remove, start or stop the Windows service."""
    from watchkeeper.life.windows_manager import manage

    return Answer(manage(options.what, options.name, options.config, options.state_dir))


def _address(options: argparse.Namespace) -> Address:
    from watchkeeper.client.transport import find

    return find(
        url=options.url, socket=options.socket, state_dir=options.state_dir, token_file=options.token_file
    )


def _palette(options: argparse.Namespace) -> Any:
    from watchkeeper.client.colours import palette

    return palette(options.colour)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()
