"""`ferryman runtimes`: list, verify, mirror and update interpreter distributions (docs/runtimes.md)."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import msgspec

from ferryman_build.errors import ConfigError, FerrymanError, SpaceError, UsageError
from ferryman_build.homes import home
from ferryman_build.runtimes import mirror, update
from ferryman_build.runtimes.fetch import archives, fetch, fetched, shown
from ferryman_build.runtimes.index import FILE, Runtime, index_text, is_remote, local_path, open_index
from ferryman_build.targets import parse_targets
from ferryman_build.ui import Mark, Ui, make_ui


def run(args: argparse.Namespace) -> int:
    """Do what ``args.action`` names; 0, or the exit code of the first runtime that failed.

    Raises:
        FerrymanError: the list cannot be read, or the words make no sense.
    """
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list, "verify": _verify, "mirror": _mirror, "update": _update,
    }  # fmt: skip
    return actions[args.action](args)


def index_place(place: str, root: Path) -> str:
    """The setting `runtimes` with a relative path resolved against ``root``."""
    return place if not place or is_remote(place) else str(root / local_path(place))


def _place(args: argparse.Namespace) -> str:
    """Where the list is: the option, the environment, the project's setting; without a project, Ferryman's own."""
    given = getattr(args, "runtimes", None) or os.environ.get("FERRYMAN_RUNTIMES", "")
    if given:
        return index_place(given, Path.cwd())
    from ferryman_build.project import find_project, load_project

    try:
        project = load_project(find_project(Path.cwd(), args.project), lock_required=False)
    except ConfigError:
        if args.project is not None:
            raise
        return ""
    return index_place(project.settings.runtimes, project.root)


def _rows(args: argparse.Namespace, place: str) -> tuple[Runtime, ...]:
    """The rows that --target and --python ask for; all of them without.

    Raises:
        UsageError: there is none.
    """
    names = "all" if getattr(args, "all", False) or args.target is None else args.target
    wanted = {target.id for target in parse_targets(names)}
    python = getattr(args, "python", None)
    rows = open_index(place)
    found = tuple(row for row in rows if row.target in wanted and python in (None, row.short, row.python))
    if rows and not found:
        raise UsageError(
            f"{shown(place) or 'Ferryman'} has no runtime for {args.target or 'any target'}{f' and CPython {python}' if python else ''}.",
            advice="`ferryman runtimes` without --target lists what there is.",
        )
    return found


# --- list -------------------------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    place = _place(args)
    rows = _rows(args, place)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode([_told(row) for row in rows])).decode())
        return 0
    ui = make_ui(plain=args.plain, stream=sys.stdout)
    table = [(row.python, row.target, row.origin, row.sha256[:12] or "a folder", _state(row)) for row in rows]
    ui.table(
        f"Runtimes of {shown(place) or 'Ferryman'}", ("python", "target", "origin", "sha256", "state"), table
    )
    ui.close()
    return 0


def _told(row: Runtime) -> dict[str, str]:
    return {
        "python": row.python, "target": row.target, "address": shown(row.address), "sha256": row.sha256,
        "licence": row.licence, "origin": row.origin, "state": _state(row),
    }  # fmt: skip


def _state(row: Runtime) -> str:
    if not row.remote:
        return "here" if Path(row.address).exists() else "missing"
    return "fetched" if fetched(row, archives(home())) else "not fetched"


# --- verify and mirror ------------------------------------------------------------------------------------------------


def _verify(args: argparse.Namespace) -> int:
    rows = _rows(args, _place(args))
    return _each(args, rows, "verify", lambda row, _: verify(row, home()))


def verify(row: Runtime, place: Path) -> str:
    """Compare a runtime with its row, fetched if need be; a kept archive that has gone bad is fetched again.

    Raises:
        FerrymanError: it is not the one, or cannot be had.
    """
    folder = archives(place)
    kept = fetched(row, folder)
    if row.remote and kept is not None:
        try:
            fetch(
                msgspec.structs.replace(row, url=str(kept), base=""), folder
            )  # a local file is compared each time
            return "unchanged"
        except FerrymanError:
            kept.unlink(missing_ok=True)
    fetch(row, folder)
    return "as the list says" if row.sha256 else "a folder, which has no hash"


def _mirror(args: argparse.Namespace) -> int:
    if len(args.words) != 1:
        raise UsageError(
            "`ferryman runtimes mirror` wants one folder.", advice="ferryman runtimes mirror DIR --target A,B"
        )
    folder = Path(args.words[0]).absolute()
    rows = _rows(args, _place(args))
    code = _each(args, rows, "mirror", lambda row, say: _added(mirror.add(row, folder, home(), say=say)))
    sys.stdout.write(f"{folder / FILE}\n")
    return code


def _added(new: bool) -> str:
    return "added" if new else "was there"


def _each(
    args: argparse.Namespace,
    rows: Sequence[Runtime],
    what: str,
    do: Callable[[Runtime, Callable[[str], None]], str],
) -> int:
    """Do something with every row, whichever of them fails; the exit code of the first failure, or 0."""
    ui = make_ui(plain=args.plain)
    failures: list[FerrymanError] = []
    try:
        for row in rows:
            _one(ui, row, what, do, failures)
    finally:
        ui.close()
    for error in failures:
        ui.say(f"{error} {error.advice}")
        for detail in error.details:
            ui.say(f"  {detail}")
    return failures[0].exit_code if failures else 0


def _one(
    ui: Ui,
    row: Runtime,
    what: str,
    do: Callable[[Runtime, Callable[[str], None]], str],
    failures: list[FerrymanError],
) -> None:
    who, started = f"{row.target} {row.python}", time.monotonic()
    ui.start(who, what)
    try:
        note, mark = do(row, ui.say), Mark.DONE
    except SpaceError:
        raise  # the next one would fail alike
    except FerrymanError as error:
        failures.append(error)
        note, mark = type(error).__name__, Mark.FAILED
    ui.end(who, what, mark, time.monotonic() - started, note)


# --- update -----------------------------------------------------------------------------------------------------------


def _update(args: argparse.Namespace) -> int:
    if not 1 <= len(args.words) <= 2:
        raise UsageError(
            "`ferryman runtimes update` wants a release of python-build-standalone.",
            advice="ferryman runtimes update 20250702 [FILE], or the address or file of its SHA256SUMS in place of the release.",
        )
    address = update.sums_address(args.words[0])
    newer = update.rows_of_release(update.read_sums(address), address)
    place = _place(args)
    rows = update.updated(open_index(place), newer)
    text = index_text(rows, update.head_of(_list_text(place)))
    if len(args.words) == 1:
        sys.stdout.write(text)
        return 0
    _write(Path(args.words[1]).absolute(), text)
    sys.stderr.write(f"{len(newer)} rows of {shown(address)} in {args.words[1]}\n")
    return 0


def _list_text(place: str) -> str:
    """The text of a list on this machine, for its head."""
    if not place:
        return resources.files("ferryman_build").joinpath(f"resources/{FILE}").read_text(encoding="utf-8")
    path = local_path(place)
    file = path / FILE if path.is_dir() else path
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _write(path: Path, text: str) -> None:
    """Beside it, and renamed: whoever reads the list meanwhile has a whole one."""
    draft = path.with_name(f".draft-{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UsageError(
            f"{path} cannot be written: {error.strerror}.", advice="Name a file in a folder that exists."
        ) from error
