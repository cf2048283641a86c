"""The channel offers the release: one transaction of the metadata, walked by a real client before and after."""

from __future__ import annotations

from ferryman_build.errors import FerrymanError
from ferryman_release.job import Job
from ferryman_release.metadata.channels import ChannelState
from ferryman_release.metadata.repository import Transaction
from ferryman_release.operate import change, offer
from ferryman_release.steps.sign import release_asset


def why_not(job: Job) -> str:
    """The reason why nothing is to be done.

    The channel offers the release, to so many machines; or it did once and has gone on since, or was taken back: a run of
    yesterday that is run again must not undo that.
    """
    try:
        state = job.place.repository(job.name).load().channels.get(job.channel)
    except FerrymanError:
        return ""
    if state is None or not _had(state, job):
        return ""
    if state.channel.version != job.version:
        again = f"`ferryman promote {job.version} --to {job.channel}` offers it again"
        return f"{job.channel} has had it and offers {state.channel.version} now; {again}"
    return f"{job.channel} offers it" if _percent(state) == _wanted(state, job) else ""


def _had(state: ChannelState, job: Job) -> bool:
    sha256 = release_asset(job.release_content).sha256
    return any((one.version, one.sha256) == (job.version, sha256) for one in state.history.releases)


def _percent(state: ChannelState) -> int:
    running = next((one.offer.rollout for one in state.offers if one.offer.rollout), None)
    return running.percent if running else 100


def _wanted(state: ChannelState, job: Job) -> int:
    """What is offered to all is offered to all; a rollout that runs may grow."""
    return job.options.percent if state.channel.previous else 100


def run(job: Job) -> str:
    """Make it so.

    Raises:
        ConflictError: another publisher was faster, or the version was yanked.
        VerifyError: a client would not come to the release with this metadata.
    """
    release, asset = job.release, release_asset(job.release_content)
    assert release is not None
    said: list[str] = []

    def edit(transaction: Transaction) -> None:
        said.append(offer(transaction, job.channel, release, asset, percent=job.options.percent))

    change(job.place, job.name, edit, channels=(job.channel,))
    return said[-1]
