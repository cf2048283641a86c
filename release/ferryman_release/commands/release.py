"""`ferryman release`: from dist/ to a channel, whole or not at all."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from ferryman_build.checkout import locked
from ferryman_build.errors import UsageError
from ferryman_build.project import Project, find_project, load_project
from ferryman_build.ui import Ui, human_size, make_ui
from ferryman_build.words import suggest
from ferryman_release.job import Job, Options
from ferryman_release.pages import local_page
from ferryman_release.pipeline import STEPS, run_steps
from ferryman_release.place import Place, open_place
from ferryman_release.snapshot import snapshot_place
from ferryman_release.steps import github

_MAY_SKIP = ("sbom", "provenance", "pages", "github")


def run(args: argparse.Namespace) -> int:
    """Run the steps, and say what is published where."""
    started = time.monotonic()
    project = load_project(find_project(Path.cwd(), args.project), lock_required=False)
    options = Options(
        dist=args.dist.absolute(), out=args.out.absolute(), channel=args.to, percent=args.percent,
        snapshot=args.snapshot, dry_run=args.dry_run, skip=_skipped(args.skip), plain=args.plain,
    )  # fmt: skip
    ui = make_ui(plain=args.plain)
    place = snapshot_place(project, options.out) if args.snapshot else open_place(project)
    with locked(options.out / "release"), place.store:
        try:
            if args.dry_run:
                return _dry_run(project, options, place, ui)
            job = Job(project, options, place, ui)
            run_steps(job)
            _table(job, place, ui, started)
        finally:
            ui.close()
    return 0


def _skipped(text: str) -> frozenset[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in _MAY_SKIP:
            hint = suggest(word, _MAY_SKIP, otherwise=f" — there are {', '.join(_MAY_SKIP)}")
            raise UsageError(f"--skip {word}: that step cannot be left out{hint}.", advice="Leave it in.")
    return frozenset(words)


def _dry_run(project: Project, options: Options, place: Place, ui: Ui) -> int:
    """Everything but what needs the objects to be there: reading them back, and GitHub."""
    from ferryman_release.store.dry import DryRunStore

    dry = DryRunStore(place.store)
    job = Job(project, options, place.rehearsal(dry), ui)
    run_steps(job, tuple(step for step in STEPS if step.name not in ("verify", "github")))
    sys.stdout.write(
        "".join(
            f"{line}\n"
            for line in (*dry.requests, *(() if "github" in options.skip else github.requests(job)))
        )
    )
    return 0


def _table(job: Job, place: Place, ui: Ui, started: float) -> None:
    rows = [
        (asset.kind.value, human_size(asset.size), asset.sha256[:12], asset.path)
        for asset in sorted(job.assets.values(), key=lambda one: (one.kind.value, one.path))
    ]
    title = f"{job.label} in {place.public_url}{job.prefix}/"
    ui.table(title, ("kind", "size", "sha256", "file"), rows)
    ui.say(f"\n{job.channel}: {local_page(place.public_url)}, {time.monotonic() - started:.1f} s")
