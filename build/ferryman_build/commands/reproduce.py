"""`ferryman reproduce`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from ferryman_build.project import Project, find_project, load_project
from ferryman_build.provenance import effective
from ferryman_build.reproduce.session import Request, refuse_differences, reproduce, table
from ferryman_build.targets import all_targets, parse_targets
from ferryman_build.ui import make_ui


def run(args: argparse.Namespace) -> int:
    """Build again elsewhere and compare every byte; 0 when nothing differs."""
    started = time.monotonic()
    project = effective(load_project(find_project(Path.cwd(), args.project)), os.environ, {}).project
    targets = "all" if args.all else args.target or ""
    request = Request(
        project=project.root, out=args.out.absolute(), dist=args.dist.absolute(), names=tuple(args.artifacts),
        targets=parse_targets(targets) if targets != "all" else (), options=_options(args, project),
        runtimes=_runtimes(project),
    )  # fmt: skip
    ui = make_ui(plain=args.plain, stream=sys.stdout)
    try:
        verdicts = reproduce(request, ui, verbose=args.verbose)
        ui.table(f"{project.name}, built twice", *table(verdicts))
        refuse_differences(verdicts, request.out / "reproduced")
        ui.say(f"\n{len(verdicts)} artifacts, all the same bytes, {time.monotonic() - started:.1f} s")
    finally:
        ui.close()
    return 0


# What says where inputs are; those that are no part of the source are where they were.
_PLACES = ("runtimes", "wheels")
_WORDS = ("python", "collector", "runner", "floor")


def _options(args: argparse.Namespace, project: Project) -> tuple[str, ...]:
    """What the first build was told as well: on its command line, and in settings with a path."""
    words: list[str] = []
    for name in _WORDS:
        if value := getattr(args, name, None):
            words += [f"--{name}", str(value)]
    for name in _PLACES:
        given, set_ = getattr(args, name, None), getattr(project.settings, name, "")
        if value := given or set_:
            words += [f"--{name}", _absolute(value, Path.cwd() if given else project.root)]
    return tuple(words)


def _runtimes(project: Project) -> dict[str, str]:
    """Target → the runtime that its settings name; it is no part of the source, and no option says it."""
    named = {target.id: project.for_target(target).runtime for target in all_targets()}
    return {name: _absolute(value, project.root) for name, value in named.items() if value}


def _absolute(place: str, base: Path) -> str:
    return place if "://" in place else str((base / place).absolute())
