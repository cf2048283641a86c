"""The same files as a GitHub release, when the settings name a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from ferryman_release.job import Job
from ferryman_release.steps.preflight import changelog_text
from ferryman_release.steps.sign import release_asset

if TYPE_CHECKING:
    from ferryman_release.github import Upload


def why_not(job: Job) -> str:
    """The reason why there is nothing to do."""
    if not job.settings.github:
        return "no repository is configured"
    return "a snapshot is published nowhere" if job.options.snapshot else ""


def run(job: Job) -> str:
    """Make the release whole, then visible.

    Raises:
        GithubError: GitHub refuses, or has another release under the tag.
    """
    from ferryman_release.github import api_from, find_token, publish_release

    uploads = _uploads(job)
    published = publish_release(
        job.settings.github,
        tag_of(job),
        job.manifest.source.commit,
        f"{job.name} {job.version}",
        changelog_text(job),
        uploads,
        token=find_token(job.environ),
        prerelease=is_prerelease(job.version),
        api=api_from(job.environ),
        say=job.ui.say,
    )
    for remark in published.remarks:
        job.ui.say(f"  {remark}")
    return f"{published.url} {'with' if published.changed else 'had all of'} {len(uploads)} files"


def requests(job: Job) -> list[str]:
    """What a run would ask GitHub to change, a line each; nobody is asked."""
    from ferryman_release.github import api_from, dry_run

    if why_not(job):
        return []
    return dry_run(job.settings.github, tag_of(job), _uploads(job), api=api_from(job.environ))


def _uploads(job: Job) -> list[Upload]:
    from ferryman_release.github import Upload

    listed = [(job.files / asset.path, asset) for asset in job.assets.values()]
    last = job.write_release()
    return [
        Upload(name=asset.path, path=path, media_type=asset.media_type, size=asset.size, sha256=asset.sha256)
        for path, asset in (*listed, (last, release_asset(job.release_content)))
    ]


def tag_of(job: Job) -> str:
    """The tag that the release is found by."""
    return (job.settings.tag or "v{version}").replace("{version}", job.version)


def is_prerelease(version: str) -> bool:
    """Whether the packaging standards call it one."""
    try:
        return Version(version).is_prerelease
    except InvalidVersion:
        return False
