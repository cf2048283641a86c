"""`ferryman reproduce` from dist/ to the verdict."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Artifact, Manifest
from ferryman_build.cache import file_digest
from ferryman_build.cmd import Runner
from ferryman_build.errors import BuildStepError, InspectError, ManifestError, UsageError
from ferryman_build.manifest import MANIFEST, read_manifest
from ferryman_build.reproduce.differ import Differ, Difference
from ferryman_build.reproduce.elsewhere import (
    Elsewhere,
    copy_caches,
    copy_source,
    copy_tool,
    make_elsewhere,
)
from ferryman_build.reproduce.rounds import rounds
from ferryman_build.settings import Collector, RunnerName
from ferryman_build.source import read_source
from ferryman_build.targets import Target, host_target
from ferryman_build.ui import Ui

_NEEDED_BYTES = 2_000_000_000


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to reproduce.

    Attributes:
        project: folder of the agent's pyproject.toml.
        out: of the first build; its cache gives what was fetched, and differing files are put into out/reproduced/.
        dist: of the first build.
        names: files of ``dist``, by name or path; () is all.
        targets: only those; () is all.
        options: further words for `ferryman build`, as the first one had them.
        runtimes: id of a target → the runtime that its settings name: an absolute path or a URL.
    """

    project: Path
    out: Path
    dist: Path
    names: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    options: tuple[str, ...] = ()
    runtimes: Mapping[str, str] = {}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact: SHA-256 of both builds ('' when the second one did not make it), and where they differ."""

    path: str
    first: str
    second: str
    differences: tuple[Difference, ...] = ()

    @property
    def same(self) -> bool:
        return self.first == self.second


def reproduce(request: Request, ui: Ui, *, verbose: bool = False) -> tuple[Verdict, ...]:
    """Build again elsewhere and compare.

    Raises:
        ManifestError: dist/ has no manifest, or it is not the source's or the files' any more.
        UsageError: an artifact that is not in dist/.
        FerrymanError: the second build failed; its message is in the details.
    """
    manifest = _manifest(request)
    wanted = choose(manifest, request.names, request.targets)
    _check_first(manifest, wanted, request)
    root = Path(tempfile.mkdtemp(prefix="ferryman-again-", dir=_roomy(request.out)))
    try:
        place = make_elsewhere(root)
        ui.say(
            f"building {len(wanted)} artifacts again, with another: {'; '.join(map(str, place.circumstances))}"
        )
        runner = Runner(request.out / "logs" / "reproduce", verbose=verbose)
        _build_again(request, manifest, wanted, place, runner)
        return tuple(_compare(artifact, request, place) for artifact in wanted)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _manifest(request: Request) -> Manifest:
    try:
        return read_manifest(request.dist / MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ManifestError(
            f"There is no {MANIFEST} in {request.dist}.", advice="Build first: `ferryman build`."
        ) from error


def choose(manifest: Manifest, names: Sequence[str], targets: Sequence[Target]) -> list[Artifact]:
    """The artifacts that are asked for, in the manifest's order.

    Raises:
        UsageError: one is not in the manifest, or nothing is left.
    """
    known = {artifact.path for artifact in manifest.artifacts}
    short = {name: Path(name).name for name in names}
    unknown = [name for name, file in short.items() if file not in known and name not in known]
    ids = {target.id for target in targets}
    found = [
        artifact
        for artifact in manifest.artifacts
        if (not names or artifact.path in {*short, *short.values()}) and (not ids or artifact.target in ids)
    ]
    if unknown or not found:
        raise UsageError(
            f"{unknown[0]} is not in the manifest."
            if unknown
            else "The manifest lists nothing of that kind.",
            advice=f"There are {', '.join(sorted(known)) or 'no artifacts'}.",
        )
    return found


def _check_first(manifest: Manifest, wanted: Iterable[Artifact], request: Request) -> None:
    wrong = [
        artifact.path for artifact in wanted
        if not (request.dist / artifact.path).is_file() or file_digest(request.dist / artifact.path) != artifact.sha256
    ]  # fmt: skip
    if wrong:
        raise ManifestError(
            f"{wrong[0]} is not the file that {MANIFEST} describes.",
            advice="Build again, then reproduce.",
            details=wrong,
        )
    if read_source(request.project).digest != manifest.source.digest:
        commit = manifest.source.commit[:12]
        raise ManifestError(
            f"The source in {request.project} is not the one that {request.dist} was built from.",
            advice=f"Build again, or check out {commit}." if commit else "Build again, then reproduce.",
        )


def _roomy(out: Path) -> Path | None:
    """The temporary folder, or ``out`` when that has not enough space."""
    if shutil.disk_usage(tempfile.gettempdir()).free >= _NEEDED_BYTES:
        return None
    out.mkdir(parents=True, exist_ok=True)
    return out


def _build_again(
    request: Request, manifest: Manifest, wanted: Sequence[Artifact], place: Elsewhere, runner: Runner
) -> None:
    """The same artifacts in ``place``, with the promises and collectors that the manifest has of them."""
    project = copy_source(request.project, place.source, runner)
    copy_tool(place.tool)
    copy_caches(request.out / "cache", place.out / "cache")
    env = place.environment(os.environ, manifest.source.epoch)
    for number, one in enumerate(rounds(wanted, request.runtimes)):
        words = [
            "build", "--project", str(project), "--out", str(place.out), "--dist", str(place.dist), "--plain",
            *request.options, *one.words(request.options), *_without_runs(request, wanted),
        ]  # fmt: skip
        runner.run(place.command(words), name=f"build-again{number or ''}", env={**env, **one.environment}, cwd=place.root, failure=BuildStepError,
                   advice="The log has its lines; what one build needs and the other does not find is often outside of the source.")  # fmt: skip
    again = read_manifest(place.dist / MANIFEST)
    if again.source.digest != manifest.source.digest:
        raise ManifestError(
            "The copy of the source is not the same source.",
            advice="Something changes or ignores files while they are copied; look at .gitattributes and .gitignore.",
        )


def _without_runs(request: Request, wanted: Iterable[Artifact]) -> tuple[str, ...]:
    """What was tried once need not be tried again, unless a runner takes part in the making (PyInstaller for another machine)."""
    host = host_target().id
    collected = any(one.collector == Collector.PYINSTALLER and one.target != host for one in wanted)
    return () if collected or "--runner" in request.options else ("--runner", RunnerName.NONE.value)


def _compare(artifact: Artifact, request: Request, place: Elsewhere) -> Verdict:
    one, two = request.dist / artifact.path, place.dist / artifact.path
    if not two.is_file():
        return Verdict(path=artifact.path, first=artifact.sha256, second="",
                       differences=(Difference((), "the second build did not make it"),))  # fmt: skip
    second = file_digest(two)
    if second == artifact.sha256:
        return Verdict(path=artifact.path, first=second, second=second)
    differ = Differ(places=(str(place.root), str(request.project), str(request.out)))
    found = [*_inputs(artifact, place), *differ.differences(one.read_bytes(), two.read_bytes())]
    _keep(two, request.out / "reproduced")
    return Verdict(path=artifact.path, first=artifact.sha256, second=second, differences=tuple(found))


def _inputs(artifact: Artifact, place: Elsewhere) -> list[Difference]:
    """What the second build was made of that the first one was not: the cause of all that follows."""
    listed = read_manifest(place.dist / MANIFEST).artifacts if (place.dist / MANIFEST).is_file() else ()
    other = next((one for one in listed if one.path == artifact.path), artifact)
    names = ("collector", "python", "runtime", "promise")
    return [
        Difference((), f"made with another {name}: {getattr(artifact, name)!r} and {getattr(other, name)!r}")
        for name in names
        if getattr(artifact, name) != getattr(other, name)
    ]


def _keep(path: Path, folder: Path) -> None:
    """For whoever wants to look closer."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, folder / path.name)


def table(verdicts: Iterable[Verdict]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows."""
    rows: list[tuple[str, ...]] = [
        (verdict.path, verdict.first[:16], "same" if verdict.same else f"different: {verdict.second[:16] or 'missing'}")
        for verdict in verdicts
    ]  # fmt: skip
    return ("artifact", "sha256", "again"), rows


def refuse_differences(verdicts: Sequence[Verdict], kept: Path) -> None:
    """Nothing, when all are the same.

    Raises:
        InspectError: some differ; ``details`` has each difference.
    """
    differing = [verdict for verdict in verdicts if not verdict.same]
    if not differing:
        return
    lines = [f"{verdict.path}: {difference}" for verdict in differing for difference in verdict.differences]
    raise InspectError(
        f"{len(differing)} of {len(verdicts)} artifacts came out differently.",
        advice=f"The second build's files are in {kept}; mend the first cause named above, the others often follow from it.",
        details=lines,
    )
