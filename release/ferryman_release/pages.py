"""What is made from the metadata after each flip: download page, index, installers, and the channels' pointers.

None of it is trusted by a client; all of it can be made again at any time, and is, by the next change. What is in the
store already is not written again.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from ferryman_build.project import Project
from ferryman_release.metadata.channels import ChannelState, find_entry
from ferryman_release.metadata.repository import Current
from ferryman_release.model import Release
from ferryman_release.operate import read_release
from ferryman_release.place import Place
from ferryman_release.signing.minisign import minisign_sign
from ferryman_release.signing.roles import minisign_secret
from ferryman_release.site import (
    Site,
    SiteChannel,
    SiteVersion,
    files_of,
    pointer,
    pointer_key,
    pointer_of,
    site_files,
)
from ferryman_release.store.base import headers_for
from ferryman_release.store.opening import folder_of

SUMS = "SHA256SUMS"
_ROUNDS = 5  # of publishers that overtake each other


def write_pages(place: Place, project: Project, name: str) -> int:
    """Make them from what is published now; the number of objects that were written.

    Raises:
        KeyProblemError, MetadataError, StoreError, VerifyError: as reading, signing and storing do.
    """
    written = 0
    for _ in range(_ROUNDS):
        current = place.repository(name).load()
        written += _write(place, project, name, current)
        if not place.readable or place.repository(name).load().etag == current.etag:
            break  # else another publisher has flipped meanwhile, and these pages may have gone over newer ones
    return written


def _write(place: Place, project: Project, name: str, current: Current) -> int:
    site = make_site(place, project, name, current)
    files = {**site_files(site), **dict(_pointers(place, site, current))}
    changed = {key: data for key, data in files.items() if (place.store.get(key) or (b"", ""))[0] != data}
    for key, data in changed.items():
        place.store.put(key, data, headers_for(key))
    return len(changed)


def make_site(place: Place, project: Project, name: str, current: Current) -> Site:
    """Everything that the pages say; the same for the same metadata, whoever makes it."""
    states = {role: state for role, state in current.channels.items() if state.channel.version}
    channels = tuple(
        _channel(place, state, current)
        for role in dict.fromkeys((*place.settings.channels, *states))
        if (state := states.get(role))
    )
    promoted = [entry.promoted for state in states.values() for entry in state.history.releases]
    described = (project.document.table("project") if project.document else {}).get("description", "")
    offered = [one.channel for one in channels]
    return Site(
        name=name,
        executable=project.executable,
        url=place.public_url,
        key=place.keys.minisign_public().line,
        default_channel="stable"
        if "stable" in offered
        else offered[-1]
        if offered
        else place.settings.channels[0],
        channels=channels,
        title=project.name,
        description=described,
        updated=max(promoted, default=""),
    )


def _channel(place: Place, state: ChannelState, current: Current, version: str = "") -> SiteChannel:
    """What the channel offers, or what it would if it offered ``version``."""
    role = state.channel.channel
    release = _release_of(place, state, version or state.channel.version)
    rollout = next((one.offer.rollout for one in state.offers if one.offer.rollout), None)
    sums = release.asset(SUMS)
    return SiteChannel(
        channel=role,
        version=version or state.channel.version,
        released=release.released,
        expires=current.documents[role].signed.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        sums=sums.sha256 if sums else "",
        serial=current.documents[role].signed.version,
        previous=state.channel.previous,
        minimum=state.channel.minimum,
        percent=rollout.percent if rollout else 100.0,
        yanked=state.channel.yanked,
        files=files_of(release),
        history=tuple(
            SiteVersion(version=one.version, released=one.released, promoted=one.promoted)
            for one in state.history.releases
        ),
    )


def _release_of(place: Place, state: ChannelState, version: str) -> Release:
    return read_release(place.store, find_entry(state.history, version))


def _pointers(place: Place, site: Site, current: Current) -> Iterator[tuple[str, bytes]]:
    """Of each channel; while a rollout runs, installers get what every machine may have."""
    secret = minisign_secret(place.settings, place.keys, place.secrets, root=place.root)
    for offered in site.channels:
        state = current.channels[offered.channel]
        before = state.channel.previous
        channel = _channel(place, state, current, before) if before else offered
        comment = (
            f"name:{site.name}\tchannel:{channel.channel}\tversion:{channel.version}\tserial:{channel.serial}"
        )
        yield (
            pointer_key(channel.channel),
            pointer(
                pointer_of(site, channel),
                lambda payload, comment=comment: minisign_sign(  # type: ignore[misc]
                    payload, secret, trusted_comment=comment, untrusted_comment=f"channel of {site.name}"
                ),
            ),
        )


def local_page(url: str) -> str:
    """Where a person opens the page: a path for a folder, the address for everything else."""
    return str(folder_of(url) / "index.html") if urlsplit(url).scheme == "file" else f"{url}index.html"
