"""Everything that is in the way of a release, found before a byte is sent.

Each check looks at one thing and yields what is wrong with it; all of them are asked, and all that they found is shown at
once. A snapshot publishes nothing: what is wrong with the commit or with real keys is only said there.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from packaging.version import InvalidVersion, Version
from tuf.api.metadata import Metadata

from ferryman_build.artifacts import Smoke
from ferryman_build.errors import FerrymanError
from ferryman_build.targets import parse_target
from ferryman_release.errors import PreflightError
from ferryman_release.job import Job
from ferryman_release.keys.lifetimes import alarms
from ferryman_release.keys.names import MINISIGN, PROVENANCE, SNAPSHOT, TIMESTAMP
from ferryman_release.metadata.channels import refuse_yanked, same_program
from ferryman_release.model import RELEASE

_SKEW = 300.0  # seconds; S3 forgives 15 minutes, but metadata from the future are believed by nobody


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and what to do about it. ``real`` ones do not matter to a snapshot."""

    what: str
    cure: str
    real: bool = False

    def __str__(self) -> str:
        return f"{self.what} — {self.cure}"


Check = Callable[[Job], Iterator[Problem]]


def run(job: Job) -> str:
    """Ask every check.

    Raises:
        PreflightError: something is wrong; ``details`` has a line for each.
    """
    found = [problem for check in CHECKS for problem in check(job)]
    stopping = [one for one in found if not (one.real and job.options.snapshot)]
    for one in found:
        if one not in stopping:
            job.ui.say(f"  would stop a release: {one}")
    if stopping:
        things = "One thing is" if len(stopping) == 1 else f"{len(stopping)} things are"
        raise PreflightError(
            f"{things} in the way of {job.label}; nothing was sent.",
            advice="Mend what is listed and run it again.",
            details=[str(one) for one in stopping],
        )
    return f"{len(CHECKS)} checks"


# -- the program ---------------------------------------------------------------------------------------------------------


def program(job: Job) -> Iterator[Problem]:
    """The project's own."""
    if not same_program(job.name, job.project.name):
        yield Problem(
            f"dist/ holds {job.name}, and pyproject.toml is that of {job.project.name}",
            "name the project with --project, or its dist/ with --dist",
        )


def version(job: Job) -> Iterator[Problem]:
    """One that can be compared, and the project's own."""
    try:
        Version(job.version)
    except InvalidVersion:
        yield Problem(f"{job.version!r} is no version", "give [project] a version such as 1.4.0")
    own = job.project.version
    if own is not None and own != job.version:
        yield Problem(f"dist/ holds {job.version} and pyproject.toml says {own}", "build again", real=True)


def expected_artifacts(job: Job) -> Iterator[Problem]:
    """All kinds of all targets that the project names; `host` and `all` name no certain one."""
    there = {(artifact.target, artifact.kind) for artifact in job.manifest.artifacts}
    for name in job.project.settings.targets:
        if name in ("host", "all"):
            continue
        target = parse_target(name)
        for kind in job.project.for_target(target).kinds:
            if (target.id, kind) not in there:
                yield Problem(
                    f"the {kind} for {target.id} is missing", f"ferryman build --target {target.id}"
                )


def smoke(job: Job) -> Iterator[Problem]:
    """Nothing is released that was seen to fail."""
    for artifact in job.manifest.artifacts:
        if artifact.smoke.status is Smoke.FAILED:
            yield Problem(f"{artifact.path} did not pass its smoke test", "mend it and build again")


# -- the commit ----------------------------------------------------------------------------------------------------------


def clean_tree(job: Job) -> Iterator[Problem]:
    """What is released can be built again from a commit."""
    source = job.manifest.source
    if not source.commit:
        yield Problem("dist/ was built from no commit", "commit, and build again", real=True)
    elif source.dirty:
        yield Problem(
            f"dist/ was built from {source.commit[:12]} with changes that are not committed",
            "commit them, and build again", real=True,
        )  # fmt: skip


def tag(job: Job) -> Iterator[Problem]:
    """The tag of the version is on the commit that was built."""
    if not job.settings.tag:
        return
    name, commit = job.settings.tag.replace("{version}", job.version), job.manifest.source.commit
    tagged = _git(job, "rev-parse", "--verify", "--quiet", f"refs/tags/{name}^{{commit}}")
    if not tagged:
        yield Problem(f"there is no tag {name}", f"git tag {name} {commit[:12]}", real=True)
    elif tagged != commit:
        yield Problem(
            f"the tag {name} is on {tagged[:12]}, and dist/ was built from {commit[:12]}",
            "build what is tagged, or give it another version", real=True,
        )  # fmt: skip


def _git(job: Job, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(job.project.root), *words], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def changelog(job: Job) -> Iterator[Problem]:
    """Whoever updates can read what changed."""
    if not job.settings.changelog:
        return
    path = _changelog_file(job)
    if path is None:
        yield Problem(f"there is no {job.settings.changelog}", 'write it, or set changelog = ""', real=True)
    elif not changelog_entry(_text(path), job.version):
        yield Problem(
            f"{path.name} has no entry for {job.version}", f"add a heading with {job.version}", real=True
        )


def _changelog_file(job: Job) -> Path | None:
    """In the project's folder, or in one above it, up to the top of the repository."""
    top = _git(job, "rev-parse", "--show-toplevel")
    for folder in (job.project.root, *job.project.root.parents):
        if (folder / job.settings.changelog).is_file():
            return folder / job.settings.changelog
        if not top or folder == Path(top):
            return None
    return None


def changelog_text(job: Job) -> str:
    """What the changelog says of the version; '' when there is none or it says nothing."""
    path = _changelog_file(job) if job.settings.changelog else None
    return changelog_entry(_text(path), job.version) if path else ""


def _text(path: Path) -> str:
    """UTF-8; what is not is shown as such and stops nothing."""
    return path.read_text(encoding="utf-8", errors="replace")


def changelog_entry(text: str, version: str) -> str:
    """What stands below the heading of ``version``, in Markdown; '' when there is no such heading."""
    heading = re.compile(rf"^(#+)[^\n]*(?<![\w.]){re.escape(version)}(?![\w.])[^\n]*$", re.MULTILINE)
    if (found := heading.search(text)) is None:
        return ""
    rest = text[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}}\s", rest, re.MULTILINE)
    return (rest[: following.start()] if following else rest).strip() or found[0]


# -- keys and metadata ---------------------------------------------------------------------------------------------------


def channel(job: Job) -> Iterator[Problem]:
    """The keys know it."""
    try:
        known = job.place.keys.channels()
    except FerrymanError:
        return  # expiry() says what is wrong with the keys
    if job.channel not in known:
        names = ", ".join(known) or "none"
        yield Problem(
            f"the keys know no channel {job.channel!r} (they know: {names})",
            "ferryman keys init, or --to another",
        )


def signing_keys(job: Job) -> Iterator[Problem]:
    """Each key that the release needs can be opened, and is the one of its role."""
    roles = (job.channel, SNAPSHOT, TIMESTAMP, PROVENANCE)
    for role in roles:
        try:
            job.place.signing.signers(role)
        except FerrymanError as error:
            yield Problem(str(error).rstrip("."), error.advice)
    try:
        from ferryman_release.signing.roles import minisign_secret

        minisign_secret(job.settings, job.place.keys, job.place.secrets, root=job.project.root)
    except FerrymanError as error:
        yield Problem(f"{MINISIGN}: {str(error).rstrip('.')}", error.advice)


def expiry(job: Job) -> Iterator[Problem]:
    """Root and targets hold for longer than the release is new; what is merely near is said and does not stop."""
    keys = job.place.keys
    try:
        documents: dict[str, Metadata[Any]] = {"root": keys.root(), "targets": keys.targets()}
    except FerrymanError as error:
        yield Problem(str(error).rstrip("."), error.advice)
        return
    for alarm in alarms(documents, job.now(), job.settings.expires):
        if alarm.expired:
            yield Problem(str(alarm), "sign it again: ferryman keys sign (docs/keys.md)")
        else:
            job.ui.say(f"  {alarm}")


# -- the store -----------------------------------------------------------------------------------------------------------


def store(job: Job) -> Iterator[Problem]:
    """It answers, lets this user write, keeps its word, and its clock is near this one."""
    place = job.place
    try:
        there = place.store.head(f"{job.prefix}/{RELEASE}") is not None
        seen = place.probe(write=not there)  # a version that is there needs no more objects
    except FerrymanError as error:
        yield Problem(str(error).rstrip("."), error.advice)
        return
    job.ui.say(f"  {place.store.url}: " + "; ".join(f"{what}: {answer}" for what, answer in seen.rows))
    if seen.unread:
        yield Problem(
            f"not everyone can read what is published: {seen.unread}",
            "let everyone read the objects (a bucket policy with s3:GetObject), and check public-url",
        )
    if seen.skew is not None and abs(seen.skew) > _SKEW:
        side = "behind" if seen.skew > 0 else "ahead of"
        yield Problem(
            f"this machine's clock is {abs(seen.skew) / 60:.0f} minutes {side} the store's",
            "set it (timedatectl, chronyc makestep): metadata signed with it would not be believed",
        )


def published(job: Job) -> Iterator[Problem]:
    """What is there can be read with these keys, is this program's, and says nothing against publisher or version."""
    repository = job.place.repository(job.name)
    try:
        current = repository.load()
        states = current.channels.values()
        repository.check_publisher(current)
        refuse_yanked(states, job.version)
    except FerrymanError as error:
        yield Problem(str(error).rstrip("."), error.advice)
        return
    others = {state.history.name for state in states if not same_program(state.history.name, job.name)}
    for name in sorted(others):
        yield Problem(
            f"what is published in {job.place.public_url} is that of {name}",
            "give each program a place of its own: [tool.ferryman.release] url",
        )


def github(job: Job) -> Iterator[Problem]:
    """Whoever wants a GitHub release has a token for it, and GitHub has nothing against it."""
    from ferryman_release.github import api_from, find_token, look
    from ferryman_release.steps.github import tag_of

    if not job.settings.github or "github" in job.options.skip:
        return
    try:
        token = find_token(job.environ)
        if not (job.options.snapshot or job.options.dry_run):  # these do without a network
            names = [artifact.path for artifact in job.manifest.artifacts]
            look(
                job.settings.github,
                tag_of(job),
                job.manifest.source.commit,
                names,
                token=token,
                api=api_from(job.environ),
            )
    except FerrymanError as error:
        told = "; ".join((str(error).rstrip("."), *error.details))
        yield Problem(
            f"GitHub ({job.settings.github}): {told}",
            f"{error.advice} Or leave it out: --skip github.",
            real=True,
        )


CHECKS: tuple[Check, ...] = (
    program,
    version,
    expected_artifacts,
    smoke,
    clean_tree,
    tag,
    changelog,
    channel,
    signing_keys,
    expiry,
    store,
    published,
    github,
)
