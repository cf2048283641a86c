"""What GitHub says: releases and assets as far as they matter here, and each refusal as a sentence with a cure."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ferryman_release.errors import GithubError
from ferryman_release.github.wire import Answer

T = TypeVar("T")

AGAIN = "Run it again: it goes on where it stopped."


class RemoteAsset(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a release. ``state`` is "uploaded" once it is whole; servers before 2025 give no ``digest``."""

    id: int
    name: str
    state: str
    size: int
    url: str
    digest: str | None = None

    @property
    def sha256(self) -> str:
        """In hex; empty where the server does not say."""
        algorithm, _, value = (self.digest or "").partition(":")
        return value.lower() if algorithm == "sha256" else ""


class RemoteRelease(msgspec.Struct, frozen=True, kw_only=True):
    """A release or a draft; ``upload_url`` is a template."""

    id: int
    url: str
    html_url: str
    upload_url: str
    assets_url: str
    tag_name: str
    draft: bool
    body: str | None = None
    immutable: bool = False


class GitObject(msgspec.Struct, frozen=True, kw_only=True):
    """What a reference or a tag points to: ``type`` is "commit" or "tag"."""

    type: str
    sha: str
    url: str


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """A git reference, or an annotated tag."""

    object: GitObject


class _Refusal(msgspec.Struct, frozen=True):
    message: str = ""
    errors: list[dict[str, object] | str] = []


def read(answer: Answer, kind: type[T]) -> T:
    """The document in an answer.

    Raises:
        GithubError: it is none; something between here and GitHub answers in its place.
    """
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as error:
        raise GithubError(
            f"What answered is not GitHub's API: {error}.", advice="Check the API's address and the proxy."
        ) from error


def refusal(answer: Answer) -> _Refusal:
    """The reason in a refused request's body, empty where it has none."""
    try:
        return msgspec.json.decode(answer.body, type=_Refusal)
    except msgspec.DecodeError:
        return _Refusal()


def already_exists(answer: Answer) -> bool:
    """Whether a file, or a release, of that name is there already."""
    return answer.status == 422 and any(
        isinstance(one, dict) and one.get("code") == "already_exists" for one in refusal(answer).errors
    )


def explain(answer: Answer, doing: str) -> GithubError:
    """A refused request as an error; ``doing`` says in the infinitive what was asked for."""
    said = refusal(answer)
    details = tuple(filter(None, (said.message, *map(_detail, said.errors))))
    sentence, advice = _cause(answer.status, " ".join(details).lower(), doing)
    return GithubError(sentence, advice=advice, details=details)


def _detail(error: dict[str, object] | str) -> str:
    if isinstance(error, str):
        return error
    message = error.get("message")
    words = (error.get("resource"), error.get("field"), error.get("code"))
    return str(message or " ".join(str(word) for word in words if word))


def _cause(status: int, said: str, doing: str) -> tuple[str, str]:
    if status == 401:
        return (
            f"GitHub does not know the token that was to {doing}.",
            "Set GITHUB_TOKEN (or GH_TOKEN) to one that has not expired and was not taken back.",
        )
    if status == 403:
        return (
            f"This token may not {doing}.",
            "It needs `contents: write` for the repository; in a workflow that is a line under `permissions:` of the job.",
        )
    if status == 404:
        return (
            f"GitHub cannot {doing}: it is not there, or this token does not see it.",
            "Check `github` in [tool.ferryman.release], and that the token is one for this repository.",
        )
    return (
        _invalid(said, doing)
        if status == 422
        else (f"GitHub answered {status} when it was to {doing}.", AGAIN)
    )


def _invalid(said: str, doing: str) -> tuple[str, str]:
    if "immutable" in said:
        return (
            f"GitHub cannot {doing}: an immutable release has, or had, this tag.",
            "Release the next version: such a release is closed, and its tag is spent even when it is deleted.",
        )
    if "rule violations" in said or "creations being restricted" in said:
        return (
            f"A rule of the repository forbids to {doing}.",
            "Push the tag first, as somebody who may, or let the token's owner pass by the rule.",
        )
    return f"GitHub refused to {doing}.", "Its reasons stand below."
