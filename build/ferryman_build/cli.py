"""The command line. Only :func:`main` prints errors and exits; each command is a function from options to a code.

Heavy imports happen inside the commands: a build with nothing to do must answer in under a second.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from ferryman_build import __version__
from ferryman_build.errors import ConfigError, FerrymanError, InterruptedBuildError, SpaceError, UsageError

if TYPE_CHECKING:
    from ferryman_build.artifacts import Kind
    from ferryman_build.plan import Plan
    from ferryman_build.project import Project
    from ferryman_build.provenance import Effective
    from ferryman_build.targets import Target

_ISSUES = "Run it again with --verbose and send the output with the issue."


class Parser(argparse.ArgumentParser):
    """Answers a typo with the nearest thing that exists; raises instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}.", advice=self._suggestion(message))

    def _suggestion(self, message: str) -> str:
        wrong = re.search(r"'([^']*)' \(choose from", message) or re.search(r"arguments: (\S+)", message)
        known = [name for name in self._known() if wrong and name != wrong.group(1)]
        near = difflib.get_close_matches(wrong.group(1), known, n=1, cutoff=0.5) if wrong else []
        return f"Did you mean {near[0]}?" if near else f"`{self.prog} --help` shows what there is."

    def _known(self) -> Iterator[str]:
        """Options and choices, those of the commands as well: argparse reports their unknown options from here."""
        yield from self._option_string_actions
        for action in self._actions:
            yield from map(str, action.choices or ())
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    yield from command._option_string_actions


def make_parser(table: Mapping[str, Command] | None = None) -> Parser:
    """Every command of ``table`` (:data:`COMMANDS`) and its options."""
    parser = Parser(
        prog="ferryman", description="One command from a Python agent to one executable per platform."
    )
    parser.add_argument("--version", action="version", version=f"ferryman {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (run, text, options) in (COMMANDS if table is None else table).items():
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        for add in (_common, *options):
            add(command)
    return parser


# --- options ----------------------------------------------------------------------------------------------------------


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="store_true", help="echo every child process; tracebacks")
    parser.add_argument("--plain", action="store_true", help="plain lines even on a terminal")


def _project_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", type=Path, metavar="DIR", help="folder of the agent's pyproject.toml")
    parser.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="logs and cache (default: out)"
    )
    parser.add_argument("--python", metavar="X.Y|PATH", help="the interpreter to freeze")


def _target_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="A,B", help="targets by id or alias, `host` or `all`")
    parser.add_argument("--all", action="store_true", help="the same as --target all")
    parser.add_argument("--kind", metavar="A,B", help="archive, executable, pyz")
    parser.add_argument("--collector", metavar="NAME", help="auto, pyinstaller or standalone")
    parser.add_argument(
        "--runner", metavar="NAME", help="auto, native, rootfs, qemu, wine, container or none"
    )
    parser.add_argument(
        "--runtimes", metavar="DIR|URL", help="where runtimes.toml is: a mirror, or runtimes of one's own"
    )
    parser.add_argument(
        "--wheels", metavar="DIR", help="wheels of the project itself, such as cibuildwheel makes"
    )
    parser.add_argument("--floor", metavar="TEXT", help='what the oldest machine has: "glibc 2.31"')
    parser.add_argument(
        "--refresh", action="store_true", help="ask the package index again, whatever was kept"
    )


def _build_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dist", type=Path, default=Path("dist"), metavar="DIR", help="products (default: dist)"
    )
    parser.add_argument("--strict", action="store_true", help="anything blocked is an error")


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


# --- commands ---------------------------------------------------------------------------------------------------------


def _project(args: argparse.Namespace, *, lock_required: bool = True) -> tuple[Project, Effective]:
    """(Project with environment and command line applied, Effective)."""
    from ferryman_build.project import find_project, load_project
    from ferryman_build.provenance import effective

    project = load_project(find_project(Path.cwd(), args.project), lock_required=lock_required)
    given = {
        "python": args.python,
        "targets": _target_names(args),
        "kinds": _list(getattr(args, "kind", None)),
        **{
            name: getattr(args, name, None) for name in ("collector", "runner", "runtimes", "wheels", "floor")
        },
    }
    found = effective(
        project, os.environ, {name: value for name, value in given.items() if value is not None}
    )
    return found.project, found


def _kinds(args: argparse.Namespace, project: Project) -> tuple[Kind, ...] | None:
    """The kinds asked for on the command line; None lets each target's own settings decide."""
    return project.settings.kinds if args.kind is not None else None


def _target_names(args: argparse.Namespace) -> list[str] | None:
    if getattr(args, "all", False):
        return ["all"]
    return _list(getattr(args, "target", None))


def _list(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text is not None else None


def run_build(args: argparse.Namespace) -> int:
    """`ferryman build`."""
    from ferryman_build.build import build, closing_table
    from ferryman_build.preflight import Options
    from ferryman_build.ui import make_ui

    started = time.monotonic()
    project, _ = _project(args)
    options = Options(
        targets=_targets(project), kinds=_kinds(args, project),
        named="all" not in project.settings.targets,
        out=args.out.absolute(), dist=args.dist.absolute(), strict=args.strict, verbose=args.verbose,
        refresh=args.refresh,
    )  # fmt: skip
    ui = make_ui(plain=args.plain)
    try:
        built = build(project, options, ui)
        info = built.manifest.project
        ui.table(f"{info.name} {info.version} in {args.dist}/", *closing_table(built))
        done = f"{built.steps_run} steps run" if built.steps_run else "nothing had changed, no step run"
        ui.say(f"\n{done}, {time.monotonic() - started:.1f} s")
    finally:
        ui.close()
    return 0


def run_plan(args: argparse.Namespace) -> int:
    """`ferryman plan`."""
    from ferryman_build.cache import Cache
    from ferryman_build.cmd import Runner
    from ferryman_build.plan import plan_json
    from ferryman_build.plan_render import render_plan
    from ferryman_build.plan_sources import plan_with_sources
    from ferryman_build.ui import make_progress, stdout_console

    project, _ = _project(args)
    out = args.out.absolute()
    with make_progress("asking the package index", plain=args.plain or args.json) as progress:
        plan = plan_with_sources(
            project, _targets(project), _kinds(args, project), runner=Runner(out / "logs", verbose=args.verbose),
            cache=Cache(out / "cache"), progress=progress, refresh=args.refresh,
        )  # fmt: skip
    if args.json:
        sys.stdout.write(plan_json(plan))
        _tell_workflow(plan)
    else:
        render_plan(plan, stdout_console(plain=args.plain))
    return 0


def _targets(project: Project) -> tuple[Target, ...]:
    """The targets that were asked for, each with the floor that holds."""
    from ferryman_build.promises import promised_targets

    return promised_targets(project)


def _tell_workflow(plan: Plan) -> None:
    """In a job of GitHub Actions the plan is an output as well: a matrix is read from it (docs/ci.md)."""
    place = os.environ.get("GITHUB_OUTPUT")
    if place:
        import msgspec

        with Path(place).open("ab") as file:
            file.write(b"plan=" + msgspec.json.encode(plan) + b"\n")


def run_targets(args: argparse.Namespace) -> int:
    """`ferryman targets`."""
    from ferryman_build.targets import all_targets, host_target

    if args.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(all_targets())).decode())
        return 0
    host = host_target()
    for target in all_targets():
        mark = "*" if target == host else " "
        print(
            f"{mark} {target.id:<18} tier {target.tier}  {target.floor_text:<12}  {', '.join(target.aliases[:3])}"
        )
    return 0


def run_config(args: argparse.Namespace) -> int:
    """`ferryman config`."""
    from ferryman_build.config_view import render_config

    _, found = _project(args, lock_required=False)
    print(render_config(found, as_json=args.json))
    return 0


def run_schema(args: argparse.Namespace) -> int:
    """`ferryman schema`."""
    import msgspec

    from ferryman_build import plan, schema

    makers = {"project": schema.project_schema, "manifest": schema.manifest_schema, "plan": plan.plan_schema}
    print(msgspec.json.format(msgspec.json.encode(makers[args.of]())).decode())
    return 0


def _schema_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("of", nargs="?", default="project", choices=("project", "manifest", "plan"),
                        help="[tool.ferryman] (default), dist/manifest.json, or `plan --json`")  # fmt: skip


def run_lock(args: argparse.Namespace) -> int:
    """`ferryman lock`."""
    from ferryman_build.checkout import draft_copy, drafts_removed_on_error
    from ferryman_build.cmd import Runner
    from ferryman_build.interpreter import find_interpreter
    from ferryman_build.locking import lock_text, resolve

    project, _ = _project(args, lock_required=False)
    runner = Runner(args.out.absolute() / "logs", verbose=args.verbose)
    index = args.out.absolute() / "cache" / "index"
    interpreter = find_interpreter(
        project.settings.python, runner, args.out.absolute() / "cache", lambda _: None
    )
    lock = resolve(
        project.dependencies, interpreter.short, runner=runner, cache=index, requires_python=project.requires_python,
        refresh=True,
    )  # fmt: skip
    path = project.root / (project.settings.lock or "ferryman.lock.txt")
    with drafts_removed_on_error() as drafts:
        drafts.append((draft_copy(lock_text(lock).encode(), path, False), path))
        drafts[0][0].replace(path)
    print(f"{path}: {len(lock.packages)} packages")
    if not project.settings.lock:
        print(f'Add  lock = "{path.name}"  to [tool.ferryman] so that builds use it.')
    return 0


def run_inspect(args: argparse.Namespace) -> int:
    """`ferryman inspect`."""
    from ferryman_build.inspect import describe, render, to_json

    for path in args.files:
        sys.stdout.write((to_json if args.json else render)(describe(path)))
    return 0


def _inspect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="an executable, library, archive or folder"
    )


def run_merge(args: argparse.Namespace) -> int:
    """`ferryman merge`."""
    from ferryman_build.manifest import merge_dirs

    whole = merge_dirs(args.dirs, args.into)
    print(f"{args.into}: {len(whole.artifacts)} artifacts of {whole.project.name} {whole.project.version}")
    return 0


def _merge_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dirs", nargs="+", type=Path, metavar="DIR", help="dist/ folders, each with its manifest.json"
    )
    parser.add_argument("--into", type=Path, default=Path("dist"), metavar="DIR")


def run_doctor(args: argparse.Namespace) -> int:
    """`ferryman doctor`."""
    from ferryman_build.cmd import Runner
    from ferryman_build.doctor import examine, problems
    from ferryman_build.ui import make_ui

    project, _ = _project(args, lock_required=False)
    findings = examine(project, args.out.absolute(), Runner(args.out.absolute() / "logs"))
    rows = [(finding.name, finding.state, finding.found, finding.needed_for) for finding in findings]
    ui = make_ui(plain=args.plain, stream=sys.stdout)
    ui.table(f"What building {project.name} needs", ("tool", "state", "found", "for"), rows)
    for finding in findings:
        if finding.advice:
            ui.say(f"{finding.name}: {finding.advice}")
    ui.close()
    return 4 if problems(findings) else 0


def _elsewhere(module: str) -> Callable[[argparse.Namespace], int]:
    """`run` of a module in ferryman_build/commands, imported when it is called."""

    def run(args: argparse.Namespace) -> int:
        import importlib

        return int(importlib.import_module(f"ferryman_build.commands.{module}").run(args))

    return run


def _runtimes_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "update", "verify", "mirror"), nargs="?", default="list")
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="mirror: a folder; update: a release, or its SHA256SUMS"
    )


def _runners_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "setup", "remove"), nargs="?", default="list")
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="rootfs, qemu, wine or container")


def _reproduce_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "artifacts", nargs="*", metavar="ARTIFACT", help="files of dist/; all of them when none is named"
    )
    parser.add_argument("--dist", type=Path, default=Path("dist"), metavar="DIR")


def _sbom_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, metavar="FILE", help="an artifact, a tree's folder, or a .cdx.json"
    )
    parser.add_argument(
        "--format", choices=("cyclonedx", "spdx"), default="cyclonedx", help="default: cyclonedx"
    )


def run_clean(args: argparse.Namespace) -> int:
    """`ferryman clean`."""
    import shutil

    from ferryman_build.checkout import locked

    out = args.out.absolute()
    if not out.exists():
        print(f"{out} is not there; nothing to remove.")
        return 0
    with locked(out):
        for name in ("cache", "logs", "work"):
            shutil.rmtree(out / name, ignore_errors=True)
    print(f"removed cache and logs in {out}; dist/ is as it was")
    return 0


Command = tuple[
    Callable[[argparse.Namespace], int], str, tuple[Callable[[argparse.ArgumentParser], None], ...]
]
COMMANDS: dict[str, Command] = {
    "build": (run_build, "build artifacts into dist/", (_project_option, _target_options, _build_options)),
    "plan": (run_plan, "say what can be built, and what is in the way", (_project_option, _target_options, _json_option)),
    "targets": (run_targets, "list the targets", (_json_option,)),
    "config": (run_config, "print the effective configuration and where each value came from",
               (_project_option, _target_options, _json_option)),
    "schema": (run_schema, "print a JSON Schema", (_schema_options,)),
    "lock": (run_lock, "resolve the dependencies and write a lock file with hashes", (_project_option,)),
    "inspect": (run_inspect, "say what a file needs of its machine", (_json_option, _inspect_options)),
    "sbom": (_elsewhere("sbom"), "print what an artifact consists of", (_sbom_options,)),
    "merge": (run_merge, "join the dist/ folders of several machines", (_merge_options,)),
    "doctor": (run_doctor, "list every tool that building needs", (_project_option,)),
    "runtimes": (_elsewhere("runtimes"), "list, update, verify or mirror interpreter distributions",
                 (_project_option, _target_options, _json_option, _runtimes_options)),
    "runners": (_elsewhere("runners"), "list, set up or remove what runs other targets' programs",
                (_project_option, _target_options, _json_option, _runners_options)),
    "reproduce": (_elsewhere("reproduce"), "build again elsewhere and compare every byte",
                  (_project_option, _target_options, _reproduce_options)),
    "clean": (run_clean, "remove cache and logs", (_project_option,)),
}  # fmt: skip


# --- the only place that prints errors and exits ------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, table: Mapping[str, Command] | None = None) -> int:
    """Run a command of ``table`` (:data:`COMMANDS`); its exit code (docs/exit-codes.md)."""
    words = list(sys.argv[1:] if argv is None else argv)
    verbose = "-v" in words or "--verbose" in words
    try:
        _terminate_like_interrupt()
        args = make_parser(table).parse_args(words)
        if args.command is None:
            make_parser(table).print_help()
            return 2
        return int(args.run(args))
    except KeyboardInterrupt:
        error: FerrymanError = InterruptedBuildError(
            "Interrupted. Child processes were ended and dist/ is as it was.",
            advice="Finished steps are kept in out/cache; the next build goes on from there.",
        )
    except FerrymanError as found:
        error = found
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as found:
        error = _system_error(found)
    except Exception as unexpected:  # noqa: BLE001  # the last resort: a traceback, and a sentence below it
        traceback.print_exc()
        error = FerrymanError(f"Unexpected {type(unexpected).__name__}: {unexpected}", advice=_ISSUES)
    print_error(error, verbose=verbose)
    return error.exit_code


# What a person can mend about a file or a folder; any other failure of the system is a defect here.
_MENDABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
             errno.ELOOP)  # fmt: skip


def _system_error(found: OSError) -> FerrymanError:
    from ferryman_build.checkout import NO_SPACE

    place = f"{found.filename}: {found.strerror}" if found.filename is not None else found.strerror
    if found.errno in NO_SPACE:
        return SpaceError(f"No space left: {place}.", advice="Free some space, or use --out and --dist.")
    if found.errno in _MENDABLE and found.filename is not None:
        return ConfigError(f"{place}.", advice="Make that path usable, or name another one.")
    traceback.print_exception(found)
    return FerrymanError(f"Unexpected {type(found).__name__}: {found}", advice=_ISSUES)


def print_error(error: FerrymanError, *, verbose: bool) -> None:
    """One sentence that says what happened, the details, one sentence that says what to do."""
    prefix = "::error::" if os.environ.get("GITHUB_ACTIONS") == "true" else "error: "
    lines = [f"{prefix}{error}", *(f"    {line}" for line in error.details)]
    if error.log is not None:
        lines.append(f"  log: {error.log}")
    if error.advice:
        lines.append(f"  what to do: {error.advice}")
    sys.stderr.write("\n".join(lines) + "\n")
    if verbose and error.__traceback__ is not None:
        traceback.print_exception(error)


def _terminate_like_interrupt() -> None:
    """SIGTERM ends a build as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
