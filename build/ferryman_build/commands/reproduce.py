"""`ferryman reproduce`."""

from __future__ import annotations

import argparse
import sys
import time

from ferryman_build.project import Project, find_project, load_project
from ferryman_build.reproduce.session import Request, refuse_differences, reproduce, table
from ferryman_build.targets import parse_targets
from ferryman_build.ui import make_ui


def run(args: argparse.Namespace) -> int:
    """Build again elsewhere and compare every byte; 0 when nothing differs."""
    from pathlib import Path

    started = time.monotonic()
    project = load_project(find_project(Path.cwd(), args.project))
    targets = "all" if args.all else args.target or ""
    request = Request(
        project=project.root, out=args.out.absolute(), dist=args.dist.absolute(), names=tuple(args.artifacts),
        targets=parse_targets(targets) if targets != "all" else (), options=_options(args, project),
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
    from pathlib import Path

    words: list[str] = []
    for name in _WORDS:
        if value := getattr(args, name, None):
            words += [f"--{name}", str(value)]
    for name in _PLACES:
        given, set_ = getattr(args, name, None), getattr(project.settings, name, "")
        base = Path.cwd() if given else project.root
        value = given or set_
        if value:
            words += [f"--{name}", value if "://" in value else str((base / value).absolute())]
    return tuple(words)
