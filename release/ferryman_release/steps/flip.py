"""The channel offers the release: one transaction of the metadata, walked by a real client before and after."""

from __future__ import annotations

from ferryman_build.errors import FerrymanError
from ferryman_release.job import Job
from ferryman_release.metadata.channels import ChannelState, promoted
from ferryman_release.operate import change
from ferryman_release.steps.sign import release_asset


def why_not(job: Job) -> str:
    """The reason why nothing is to be done: the channel offers the release, to so many machines."""
    try:
        state = job.place.repository(job.name).load().channels.get(job.channel)
    except FerrymanError:
        return ""
    return f"{job.channel} offers it" if state and _offers(state, job) else ""


def _offers(state: ChannelState, job: Job) -> bool:
    running = next((one.offer.rollout for one in state.offers if one.offer.rollout), None)
    percent = running.percent if running else 100
    wanted = job.options.percent if state.channel.previous or job.options.percent >= 100 else 100
    entry = next(iter(state.history.releases), None)
    same = entry is not None and entry.sha256 == release_asset(job.release_content).sha256
    return same and state.channel.version == job.version and percent == wanted


def run(job: Job) -> str:
    """Make it so.

    Raises:
        ConflictError: another publisher was faster, or the version was yanked.
        VerifyError: a client would not come to the release with this metadata.
    """
    release, asset = job.release, release_asset(job.release_content)
    assert release is not None
    moment = job.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    change(
        job.place,
        job.name,
        lambda transaction: transaction.set(
            promoted(
                transaction.state(job.channel), release, asset, percent=job.options.percent, moment=moment
            )
        ),
        channels=(job.channel,),
    )
    part = "" if job.options.percent >= 100 else f" to {job.options.percent} % of the machines"
    return f"{job.channel} offers {job.version}{part}"
