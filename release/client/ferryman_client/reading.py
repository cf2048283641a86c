"""From the JSON of a repository to values: what is unknown is left out, and what is wrong refused."""

from __future__ import annotations

import json
import re
from typing import Any

from ferryman_client.errors import MetadataError, UsageError
from ferryman_client.model import (
    Asset,
    ChannelInfo,
    History,
    HistoryEntry,
    Offer,
    Release,
    Rollout,
    Sunset,
    Yanked,
)

FORMAT = 1
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_~-]*")
_MOST = 2**63 - 1  # of any number; a float holds it, and a file has no more bytes
_BROKEN = "Tell whoever publishes it: the document is broken."


class Reader:
    """One JSON object, read field by field; what is missing or of a wrong type is a MetadataError that says where."""

    def __init__(self, where: str, data: object) -> None:
        if not isinstance(data, dict):
            raise MetadataError(f"{where} is no JSON object.", advice=_BROKEN)
        self.where, self.data = where, data

    def text(self, name: str, default: str | None = None) -> str:
        value = self.data.get(name, default)
        if isinstance(value, str):
            return value
        raise self._wrong(name, "a text")

    def number(self, name: str) -> float:
        value = self.data.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MOST:
            return float(value)
        raise self._wrong(name, "a number")

    def size(self, name: str) -> int:
        value = self.data.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST:
            return value
        raise self._wrong(name, "a whole number")

    def digest(self, name: str) -> str:
        value = self.text(name).lower()
        if re.fullmatch(r"[0-9a-f]{64}", value):
            return value
        raise self._wrong(name, "a SHA-256")

    def texts(self, name: str) -> dict[str, str]:
        return {key: str(value) for key, value in self.inner(name).data.items()}

    def inner(self, name: str) -> Reader:
        return Reader(f"{name} of {self.where}", self.data.get(name, {}))

    def items(self, name: str) -> list[Any]:
        value = self.data.get(name, [])
        if isinstance(value, list):
            return value
        raise self._wrong(name, "a list")

    def readers(self, name: str) -> list[Reader]:
        return [Reader(f"{name} of {self.where}", item) for item in self.items(name)]

    def known_format(self, name: str = "format") -> Reader:
        """Itself, unless the document is of a format that this client cannot know."""
        if self.data.get(name, FORMAT) != FORMAT:
            raise MetadataError(
                f"{self.where} is of format {self.data[name]}, and this client reads {FORMAT}.",
                advice="Install a newer release of this program by hand; its client reads the newer format.",
            )
        return self

    def _wrong(self, name: str, what: str) -> MetadataError:
        return MetadataError(f"{name} of {self.where} is not {what}.", advice=_BROKEN)


def safe_path(path: str, where: str) -> str:
    """``path`` itself, when it is relative and every segment is a plain name; nothing else reaches a URL or a disk."""
    if not all(_SEGMENT.fullmatch(segment) for segment in path.split("/")):
        raise MetadataError(f"{where} has a path that leaves its folder: {path!r}.", advice=_BROKEN)
    return path


def plain_name(name: str) -> str:
    """``name``, if a file may have it in any folder on any system."""
    if name in ("", ".", "..") or any(sign in name for sign in '/\\:*?"<>|\0') or name != name.strip():
        raise UsageError(
            f"{name!r} cannot be used as a name.", advice="Give a plain name without separators."
        )
    return name


def read_offer(custom: object, size: int, sha256: str, where: str, *, previous: bool = False) -> Offer:
    """The custom data of a target `<channel>/<target>/<kind>` with the target's own length and hash."""
    data = Reader(where, custom).known_format()
    rollout = None
    if data.data.get("rollout") is not None:
        part = data.inner("rollout")
        rollout = Rollout(percent=part.number("percent"), seed=part.text("seed"))
    return Offer(
        name=data.text("name"), version=data.text("version"), target=data.text("target"), kind=data.text("kind"),
        path=safe_path(data.text("path"), where), size=size, sha256=sha256, released=data.text("released", ""),
        needs=data.texts("needs"), rollout=rollout, previous=previous,
    )  # fmt: skip


def read_channel(custom: object, where: str) -> ChannelInfo:
    """The custom data of the target `<channel>/channel`."""
    data = Reader(where, custom).known_format()
    history = data.text("history", "")
    return ChannelInfo(
        channel=data.text("channel"), version=data.text("version"), previous=data.text("previous", ""),
        minimum=data.text("minimum", ""), withdrawn=tuple(str(item) for item in data.items("withdrawn")),
        yanked=tuple(
            Yanked(version=one.text("version"), reason=one.text("reason", ""), date=one.text("date", ""))
            for one in data.readers("yanked")
        ),
        sunset=tuple(
            Sunset(target=one.text("target"), last=one.text("last"), reason=one.text("reason", ""), below=one.texts("below"))
            for one in data.readers("sunset")
        ),
        history=safe_path(history, where) if history else "",
    )  # fmt: skip


def read_history(raw: bytes, where: str) -> History:
    """The bytes of a history document, whose digest has been checked."""
    data = Reader(where, _json(raw, where)).known_format()
    return History(
        name=data.text("name"),
        channel=data.text("channel"),
        releases=tuple(
            HistoryEntry(
                version=one.text("version"), path=safe_path(one.text("path"), where), size=one.size("size"),
                sha256=one.digest("sha256"), released=one.text("released", ""), promoted=one.text("promoted", ""),
            )
            for one in data.readers("releases")
        ),
    )  # fmt: skip


def read_release(raw: bytes, where: str) -> Release:
    """The bytes of a release.json, whose digest has been checked."""
    data = Reader(where, _json(raw, where)).known_format("schema-version")
    project = data.inner("project")
    name, version, released = project.text("name"), project.text("version"), data.text("released", "")
    return Release(
        name=name, version=version, released=released, commit=data.inner("source").text("commit", ""),
        assets=tuple(
            Asset(
                path=safe_path(one.text("path"), where), kind=one.text("kind"), size=one.size("size"), sha256=one.digest("sha256"),
                about=one.text("about", ""), media_type=one.text("media-type", ""),
            )
            for one in data.readers("assets")
        ),
        offers=tuple(
            Offer(
                name=name, version=version, target=one.text("target"), kind=one.text("kind"), size=one.size("size"),
                path=safe_path(f"{name}/{version}/{one.text('path')}", where), sha256=one.digest("sha256"),
                released=released, needs=one.inner("needs").texts("floor"),
            )
            for one in data.readers("artifacts")
        ),
    )  # fmt: skip


def _json(raw: bytes, where: str) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"{where} is no JSON: {error}.", advice=_BROKEN) from error
