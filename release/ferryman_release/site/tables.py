"""The tables of the download page.

On a narrow screen a row becomes a card; the roles are written out because a table that is not laid out as one loses them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import groupby
from urllib.parse import quote

from ferryman_release.model import ARTIFACTS
from ferryman_release.site.html import Markup, joined, tag
from ferryman_release.site.labels import day, kind_label, needs_label, size_label, target_label, target_order
from ferryman_release.site.model import Site, SiteChannel, SiteFile


def files_table(channel: SiteChannel, caption: str) -> Markup:
    """All artifacts of a version, a group for each target."""
    ordered = sorted(
        channel.files, key=lambda one: (target_order(one.target), one.kind != "executable", one.kind)
    )
    groups = [
        tag("tbody", _group(target), *(_file_row(one) for one in rows), role="rowgroup", data_target=target)
        for target, rows in groupby(ordered, key=lambda one: one.target)
    ]
    return _table(caption, ("File", "Size", "Needs", "Also"), groups, "files")


def _group(target: str) -> Markup:
    name = tag("span", target_label(target), class_="platform")
    cell = tag("th", name, " ", tag("code", target), scope="rowgroup", colspan="4", role="rowheader")
    return tag("tr", cell, class_="group", role="row")


def _file_row(file: SiteFile) -> Markup:
    link = tag("a", file.file_name, href=_href(file.path))
    about = tag("span", kind_label(file.kind), class_="kind")
    name = tag("span", link, " ", about, class_="name")
    digest = tag("code", tag("span", "SHA-256 ", class_="unseen"), _breakable(file.sha256), class_="hash")
    return _row(
        tag("th", name, digest, scope="row", role="rowheader", class_="file"),
        _cell("Size", tag("data", size_label(file.size), value=str(file.size)), class_="number"),
        _cell("Needs", needs_label(file) or "nothing special"),
        _cell("Also", _companions(file)),
    )


def _companions(file: SiteFile) -> Markup:
    named = (("signature", file.signature), ("SBOM", file.sbom), ("provenance", file.provenance))
    links = [
        tag("li", tag("a", what, tag("span", f" of {file.file_name}", class_="unseen"), href=_href(path)))
        for what, path in named
        if path
    ]
    return tag("ul", *links, class_="also") if links else Markup("none")


def _breakable(digest: str) -> Markup:
    """A hash that may break after each 16 digits, and is copied in one piece."""
    return joined((digest[at : at + 16] for at in range(0, len(digest), 16)), "<wbr>")


def channels_table(site: Site) -> Markup:
    """What each channel offers, and how to follow it."""
    rows = [_channel_row(site, one) for one in site.channels]
    heads = ("Channel", "Version", "Released", "Follow it with")
    return _table("What each channel offers", heads, [tag("tbody", *rows, role="rowgroup")], "channels")


def _channel_row(site: Site, channel: SiteChannel) -> Markup:
    notes = (
        [f"to {channel.percent:g} % of machines; the rest stays on {channel.previous}"]
        if channel.percent < 100
        else []
    )
    if channel.minimum:
        notes.append(f"nothing older than {channel.minimum} should run")
    noted = tag("span", "; ".join(notes), class_="remark") if notes else Markup("")
    word = " (the default)" if channel.channel == site.default_channel else ""
    return _row(
        tag("th", channel.channel, word, scope="row", role="rowheader"),
        _cell("Version", tag("span", channel.version, noted)),
        _cell("Released", _time(channel.released)),
        _cell("Follow it with", tag("code", f"--channel {channel.channel}")),
    )


def history_table(site: Site) -> Markup:
    """All versions of all channels, newest first; a withdrawn one says why."""
    yanked = {one.version: one.reason for channel in site.channels for one in channel.yanked}
    offered = {channel.version for channel in site.channels}
    seen: dict[str, tuple[str, list[str]]] = {}
    for channel in site.channels:
        for entry in channel.history:
            seen.setdefault(entry.version, (entry.released, []))[1].append(channel.channel)
    rows = [
        _history_row(version, released, channels, _state(version, yanked, offered), version in yanked)
        for version, (released, channels) in sorted(seen.items(), key=lambda item: item[1][0], reverse=True)
    ]
    heads = ("Version", "Released", "Channels", "State")
    return _table("All versions, newest first", heads, [tag("tbody", *rows, role="rowgroup")], "history")


def _state(version: str, yanked: Mapping[str, str], offered: Container[str]) -> Markup:
    if version in yanked:
        return tag("span", tag("strong", "withdrawn"), f": {yanked[version]}", class_="yanked")
    return tag("span", "current" if version in offered else "older", class_="state")


def _history_row(
    version: str, released: str, channels: Sequence[str], state: Markup, withdrawn: bool
) -> Markup:
    name = tag("del", version) if withdrawn else version
    return _row(
        tag("th", name, scope="row", role="rowheader"),
        _cell("Released", _time(released)),
        _cell("Channels", ", ".join(dict.fromkeys(channels))),
        _cell("State", state),
    )


def _table(caption: str, heads: Iterable[str], bodies: Iterable[Markup], name: str) -> Markup:
    cells = [tag("th", head, scope="col", role="columnheader") for head in heads]
    head = tag("thead", tag("tr", *cells, role="row"), role="rowgroup")
    return tag("table", tag("caption", caption), head, *bodies, role="table", class_=name)


def _row(*cells: Markup) -> Markup:
    return tag("tr", *cells, role="row")


def _cell(head: str, content: str, class_: str | None = None) -> Markup:
    """``head`` stands before the content where a row is a card."""
    return tag("td", content, role="cell", data_head=head, class_=class_)


def _time(moment: str) -> Markup:
    return tag("time", day(moment), datetime=moment)


def _href(path: str) -> str:
    return quote(f"{ARTIFACTS}/{path}")
