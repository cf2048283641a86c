"""index.json: what the download page says, for programs.

Not signed and not for decisions: a program that installs reads signed metadata (docs/install.md). URLs are absolute.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from ferryman_release.model import ARTIFACTS
from ferryman_release.site.model import Site, SiteChannel, SiteFile

SCHEMA_VERSION = 1


def index_json(site: Site) -> bytes:
    """The document; fields in this order, two blanks of indent."""
    document = {
        "schema-version": SCHEMA_VERSION,
        "name": site.name,
        "title": site.title or site.name,
        "description": site.description,
        "homepage": site.homepage,
        "url": site.url,
        "minisign-key": site.key,
        "updated": site.updated,
        "default-channel": site.default_channel,
        "channels": {one.channel: _channel(site, one) for one in site.channels},
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _channel(site: Site, channel: SiteChannel) -> dict[str, object]:
    yanked = {one.version: one for one in channel.yanked}
    return {
        "version": channel.version,
        "released": channel.released,
        "previous": channel.previous,
        "minimum": channel.minimum,
        "percent": channel.percent,
        "files": [_file(site, one) for one in channel.files],
        "yanked": [{"version": v.version, "reason": v.reason, "date": v.date} for v in channel.yanked],
        "history": [
            {
                "version": v.version,
                "released": v.released,
                "promoted": v.promoted,
                "yanked": v.version in yanked,
            }
            for v in channel.history
        ],
    }


def _file(site: Site, one: SiteFile) -> dict[str, object]:
    return {
        "target": one.target,
        "kind": one.kind,
        "name": one.file_name,
        "url": artifact_url(site, one.path),
        "size": one.size,
        "sha256": one.sha256,
        "floor": one.floor,
        "libraries": one.libraries,
        "python": one.python,
        "runtime": one.runtime,
        **{
            what: artifact_url(site, path) if path else ""
            for what, path in (
                ("sbom", one.sbom),
                ("signature", one.signature),
                ("provenance", one.provenance),
            )
        },
    }


def artifact_url(site: Site, path: str) -> str:
    """The absolute URL of a path that is relative to `<prefix>/artifacts`."""
    return f"{site.url.rstrip('/')}/{ARTIFACTS}/{quote(path)}"
