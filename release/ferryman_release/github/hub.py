"""The few things that are asked of a repository: its tags, its releases and their files."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

import msgspec

from ferryman_release.errors import GithubError
from ferryman_release.github.answers import Pointer, RemoteAsset, RemoteRelease, read
from ferryman_release.github.client import Client

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}", re.ASCII)
_TAG_DEPTH = 5  # an annotated tag may be about a tag


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What the API takes to make or to change a release."""

    tag_name: str
    target_commitish: str
    name: str
    body: str
    draft: bool
    prerelease: bool
    make_latest: str


class Hub:
    """One repository, named "owner/name"."""

    def __init__(self, client: Client, repository: str) -> None:
        if _REPOSITORY.fullmatch(repository) is None or repository.endswith(("/.", "/..")):
            raise GithubError(
                f"{repository!r} is no repository on GitHub.",
                advice='Write it as "owner/name" in `github` of [tool.ferryman.release].',
            )
        self._client = client
        self._name = repository
        self._root = f"repos/{repository}"

    def see(self) -> None:
        """Raises: GithubError: there is no such repository for this token."""
        self._client.get(self._root, f"see the repository {self._name}")

    def tagged(self, tag: str) -> str | None:
        """The commit of a tag, None when there is no such tag."""
        doing = f"read the tag {tag}"
        answer = self._client.get(f"{self._root}/git/ref/tags/{quote(tag, safe='')}", doing, ok=(200, 404))
        if answer.status == 404:
            return None
        for _ in range(_TAG_DEPTH):
            target = read(answer, Pointer).object
            if target.type == "commit":
                return target.sha
            answer = self._client.get(f"{self._root}/git/{target.type}s/{quote(target.sha, safe='')}", doing)
        raise GithubError(f"The tag {tag} is about no commit.", advice="Tag the commit that is released.")

    def published(self, tag: str) -> RemoteRelease | None:
        """The release of that tag that everyone sees."""
        path = f"{self._root}/releases/tags/{quote(tag, safe='')}"
        answer = self._client.get(path, f"read the release {tag}", ok=(200, 404))
        return None if answer.status == 404 else read(answer, RemoteRelease)

    def drafts(self, tag: str) -> list[RemoteRelease]:
        """The drafts of that tag, of which there may be several, oldest first; only a list has them."""
        found = self._client.pages(f"{self._root}/releases", RemoteRelease, "list the releases")
        return sorted((one for one in found if one.draft and one.tag_name == tag), key=lambda one: one.id)

    def release(self, known: RemoteRelease) -> RemoteRelease:
        """As it is now."""
        return read(self._client.get(known.url, f"read the release {known.tag_name}"), RemoteRelease)

    def create(self, draft: Draft) -> RemoteRelease:
        """Raises: UnansweredError: whether there is one now, nobody knows."""
        answer = self._client.request("POST", f"{self._root}/releases", f"create the draft of {draft.tag_name}",
                                      ok=(201,), send=draft, again=False)  # fmt: skip
        return read(answer, RemoteRelease)

    def publish(self, known: RemoteRelease, wanted: Draft) -> RemoteRelease:
        """Raises: UnansweredError: whether it is published, nobody knows."""
        answer = self._client.request(
            "PATCH", known.url, f"publish {wanted.tag_name}", ok=(200,), send=wanted, again=False
        )
        return read(answer, RemoteRelease)

    def delete_release(self, release: RemoteRelease) -> None:
        """Take a draft away; it may be gone already."""
        self._client.request("DELETE", release.url, "delete a second draft", ok=(204, 404))

    def assets(self, release: RemoteRelease) -> list[RemoteAsset]:
        """All of a release's files."""
        return list(
            self._client.pages(release.assets_url, RemoteAsset, f"list the files of {release.tag_name}")
        )

    def delete_asset(self, asset: RemoteAsset) -> None:
        """Take a file away; it may be gone already."""
        self._client.request("DELETE", asset.url, f"delete {asset.name}", ok=(204, 404))

    def digest(self, asset: RemoteAsset) -> str:
        """The sha256 in hex, as the API says, or by reading all of the file where it does not."""
        if asset.sha256:
            return asset.sha256
        attempts: list[hashlib._Hash] = []

        def start() -> object:
            attempts.append(hashlib.sha256())
            return attempts[-1].update

        self._client.request("GET", asset.url, f"read {asset.name}", ok=(200,), sinks=start)  # type: ignore[arg-type]
        return attempts[-1].hexdigest()
