"""A GitHub release as one transaction: draft, all files, compared, published.

    look ─▶ published: the same? done : refused        (nothing is ever added to what everyone sees)
         ─▶ draft of an earlier run, or a new one ─▶ take away what is wrong ─▶ upload what is missing
         ─▶ compare ─▶ publish ─▶ look again, as everyone sees it

A run that dies leaves a draft, which nobody sees without the right to write; the next run goes on with it. That is also
what immutable releases want: they are closed by their publication.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

import msgspec

from ferryman_release.errors import GithubError
from ferryman_release.github import limits
from ferryman_release.github.answers import AGAIN, RemoteRelease
from ferryman_release.github.assets import Difference, Upload, check, check_names, compare
from ferryman_release.github.client import API, Client, Say
from ferryman_release.github.hub import Draft, Hub
from ferryman_release.github.token import Token
from ferryman_release.github.uploads import Progress, upload_all
from ferryman_release.github.wire import Exchange, UnansweredError, exchange

MARK = "<!-- made by `ferryman release`, which may replace this draft and its files -->"
"""In the text of a release; a draft without it is somebody else's work and left alone."""
_LONGEST_NOTES = 125_000 - len(MARK) - 2  # characters
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What is on GitHub now: ``uploaded`` and ``deleted`` are names of files, ``remarks`` sentences for people."""

    url: str
    changed: bool
    immutable: bool = False
    uploaded: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def publish_release(
    repo: str,
    tag: str,
    commit: str,
    title: str,
    notes: str,
    assets: Sequence[Upload],
    *,
    token: Token,
    prerelease: bool = False,
    api: str = API,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
    progress: Progress = lambda *_: None,
    say: Say = lambda _: None,
    exchange: Exchange = exchange,
) -> Published:
    """Publish these files as the release of a tag; where that is done already, do nothing.

    Args:
        repo: "owner/name".
        commit: of the tag, in full. Without such a tag, publishing makes it there.
        progress: bytes sent, bytes in all, the file; called by several threads, one at a time.
        say: takes a line for the person who waits.

    Raises:
        GithubError: with a cure. Whatever it was, everyone sees no release of this tag, or all of it.
    """
    check(assets)
    _check_words(tag, commit, notes)
    client = Client(api, token, clock=clock, sleep=sleep, exchange=exchange, say=say)
    wanted = Draft(
        tag_name=tag, target_commitish=commit, name=title, body=f"{notes.rstrip()}\n\n{MARK}", draft=True,
        prerelease=prerelease, make_latest="false" if prerelease else "legacy",
    )  # fmt: skip
    return Publication(client, Hub(client, repo), wanted, assets, progress).run()


def look(
    repo: str,
    tag: str,
    commit: str,
    names: Sequence[str],
    *,
    token: Token,
    api: str = API,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
    exchange: Exchange = exchange,
) -> None:
    """Find out in a few questions whether a release can begin: repository, tag, names. Nothing is changed.

    Raises:
        GithubError: it cannot.
    """
    check_names(names)
    _check_words(tag, commit, "")
    hub = Hub(Client(api, token, clock=clock, sleep=sleep, exchange=exchange, say=lambda _: None), repo)
    hub.see()
    check_tag(hub, tag, commit)


def dry_run(repo: str, tag: str, assets: Sequence[Upload], *, api: str = API) -> list[str]:
    """The requests that change something, for a repository that has nothing of this release yet; asks nobody."""
    check(assets)
    api = api.rstrip("/")
    uploads = (
        api.replace("://api.", "://uploads.", 1) if "://api." in api else api.removesuffix("/v3") + "/uploads"
    )
    releases = f"repos/{repo}/releases"
    return [
        f"POST {api}/{releases}  (draft of {tag})",
        *(f"POST {uploads}/{releases}/ID/assets?name={one.name}  ({one.size} bytes)" for one in assets),
        f"PATCH {api}/{releases}/ID  (publish)",
    ]


class Publication:
    """One run; its methods are the steps."""

    def __init__(
        self, client: Client, hub: Hub, wanted: Draft, assets: Sequence[Upload], progress: Progress
    ) -> None:
        self._client = client
        self._hub = hub
        self._wanted = wanted
        self._assets = assets
        self._progress = progress
        self._remarks: list[str] = []

    def run(self) -> Published:
        """All steps, or those that an earlier run did not reach."""
        self._hub.see()
        check_tag(self._hub, self._wanted.tag_name, self._wanted.target_commitish)
        published = self._hub.published(self._wanted.tag_name)
        if published is not None:
            return self._whole(published)
        draft = self._draft()
        try:
            change = self._fill(draft)
            self._publish(draft)
        except GithubError:
            # Another run may have been faster; then it is its release that counts.
            published = self._hub.published(self._wanted.tag_name)
            if published is None:
                raise
            return self._whole(published)
        check_tag(self._hub, self._wanted.tag_name, self._wanted.target_commitish)
        return msgspec.structs.replace(
            self._whole(self._visible(draft)), changed=True, remarks=tuple(self._remarks),
            uploaded=tuple(one.name for one in change.missing), deleted=tuple(one.name for one in change.wrong),
        )  # fmt: skip

    def _whole(self, release: RemoteRelease) -> Published:
        """What is published, when it is this release.

        Raises:
            GithubError: it is another one.
        """
        difference = self._compare(release)
        if difference.missing or difference.wrong:
            raise GithubError(
                f"{release.html_url} is published, and does not have the files of this release.",
                details=difference.lines(),
                advice="Release these files as a new version"
                + ("; an immutable release is closed for good." if release.immutable
                   else ", or delete that release on GitHub and run again."),
            )  # fmt: skip
        return Published(url=release.html_url, changed=False, immutable=release.immutable)

    def _compare(self, release: RemoteRelease) -> Difference:
        return compare(self._assets, self._hub.assets(release), self._hub.digest)

    def _draft(self) -> RemoteRelease:
        """The one draft that is ours: the oldest that there is, or a new one."""
        for attempt in range(limits.ATTEMPTS):
            mine = self._mine()
            if not mine:
                try:
                    created = self._hub.create(self._wanted)
                except UnansweredError:  # it may be there now: look again
                    self._client.rest(attempt)
                    continue
                # Whoever did the same at this moment is in the list now, and both of us keep the same one.
                mine = sorted(
                    {one.id: one for one in (*self._mine(), created)}.values(), key=lambda one: one.id
                )
            for extra in mine[1:]:
                self._hub.delete_release(extra)
            return mine[0]
        raise GithubError(f"GitHub could not create the draft in {limits.ATTEMPTS} attempts.", advice=AGAIN)

    def _mine(self) -> list[RemoteRelease]:
        drafts = self._hub.drafts(self._wanted.tag_name)
        mine = [one for one in drafts if MARK in (one.body or "")]
        if len(mine) < len(drafts):
            self._remarks = [
                f"There is a draft of {self._wanted.tag_name} that somebody else made; it was left alone."
            ]
        return mine

    def _fill(self, draft: RemoteRelease) -> Difference:
        """Make a draft's files those of this release; what that took.

        Raises:
            GithubError: they are still others when all is done: somebody else is at work on this draft.
        """
        first = self._compare(draft)
        for asset in first.wrong:
            self._hub.delete_asset(asset)
        upload_all(self._client, self._hub, draft, first.missing, self._progress)
        left = self._compare(draft)
        if left.missing or left.wrong:
            raise GithubError(
                "The draft on GitHub does not have the files that were sent to it.",
                details=left.lines(),
                advice=f"Somebody else may be at work on it. {AGAIN}",
            )
        return first

    def _publish(self, draft: RemoteRelease) -> None:
        """Make it visible; whether a request without an answer did that, the release itself says."""
        wanted = msgspec.structs.replace(self._wanted, draft=False)
        for attempt in range(limits.ATTEMPTS):
            try:
                self._hub.publish(draft, wanted)
            except UnansweredError:
                self._client.rest(attempt)
                if self._hub.release(draft).draft:
                    continue
            return
        raise GithubError(f"GitHub could not publish the draft in {limits.ATTEMPTS} attempts.", advice=AGAIN)

    def _visible(self, draft: RemoteRelease) -> RemoteRelease:
        """The release as it is found by its tag, which may take a moment."""
        found = self._hub.published(self._wanted.tag_name)
        for attempt in range(limits.ATTEMPTS):
            if found is not None:
                break
            self._client.rest(attempt)
            found = self._hub.published(self._wanted.tag_name)
        if found is None or found.id != draft.id:
            raise GithubError(
                f"{self._wanted.tag_name} was published, but under this tag GitHub shows "
                f"{'no release' if found is None else found.html_url}.",
                advice="Look at the repository's releases: somebody else may have published this tag.",
            )
        return found


def check_tag(hub: Hub, tag: str, commit: str) -> None:
    """Raises: GithubError: the tag is about another commit; that there is none is no failure."""
    found = hub.tagged(tag)
    if found is not None and found != commit:
        raise GithubError(
            f"On GitHub the tag {tag} is about commit {found[:12]}, and this release about {commit[:12]}.",
            advice="Release the commit that is tagged, or release it under a new version; a tag that others have "
            "seen should not move.",
        )


def _check_words(tag: str, commit: str, notes: str) -> None:
    """Raises: GithubError: GitHub would refuse these, or misunderstand them."""
    if _COMMIT.fullmatch(commit) is None:
        raise GithubError(f"{commit!r} is no full commit id.", advice="Give all of its hexadecimal digits.")
    if not tag or tag != tag.strip() or any(character.isspace() for character in tag):
        raise GithubError(f"{tag!r} cannot be a tag.", advice="Change `tag` in [tool.ferryman.release].")
    if len(notes) > _LONGEST_NOTES:
        raise GithubError(
            f"The notes have {len(notes)} characters, and GitHub takes {_LONGEST_NOTES}.",
            advice="Shorten the version's entry in the changelog.",
        )
