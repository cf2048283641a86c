"""The files of the site, by name."""

from __future__ import annotations

from ferryman_release.site.index import index_json
from ferryman_release.site.installers import install_ps1, install_sh
from ferryman_release.site.model import Site
from ferryman_release.site.page import index_html

MEDIA_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "index.json": "application/json",
    "install.sh": "text/x-shellscript; charset=utf-8",
    "install.ps1": "text/plain; charset=utf-8",
}


def site_files(site: Site) -> dict[str, bytes]:
    """Name → content of all that lies at the root of the public URL; the same site gives the same bytes.

    Raises:
        MetadataError: a value could not stand in a script.
    """
    return {
        "index.html": index_html(site),
        "index.json": index_json(site),
        "install.sh": install_sh(site),
        "install.ps1": install_ps1(site),
    }
