"""The token: from the environment alone, and in no text that anybody writes."""

from __future__ import annotations

from collections.abc import Mapping

from ferryman_release.errors import GithubError

VARIABLES = ("GITHUB_TOKEN", "GH_TOKEN")


class Token:
    """A secret that shows itself only to who asks for :attr:`value`; a traceback or a log has three stars."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Token(***)"

    def redact(self, text: str) -> str:
        """The text without the token."""
        return text.replace(self.value, "***")


def find_token(environ: Mapping[str, str]) -> Token:
    """The token of the first of :data:`VARIABLES` that is set.

    Raises:
        GithubError: none is, or what is there cannot be a token.
    """
    found = next((environ[name].strip() for name in VARIABLES if environ.get(name, "").strip()), "")
    if not found:
        raise GithubError(
            "There is no token for GitHub.",
            advice="Set GITHUB_TOKEN (or GH_TOKEN) to one that may write contents; in a workflow: "
            "GITHUB_TOKEN: ${{ github.token }} and `permissions: contents: write`.",
        )
    if not found.isascii() or not found.isprintable() or " " in found:
        raise GithubError(
            "What GITHUB_TOKEN or GH_TOKEN holds is no token: it has blanks or characters that no header can carry.",
            advice="Set the variable again, to the token alone.",
        )
    return Token(found)
