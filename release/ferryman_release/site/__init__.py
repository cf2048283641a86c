"""The site of a release: download page, index.json, installers, and the pointer that installers read.

files_of(release)              the rows of a version
Site(...)                      everything that the site says
site_files(site)               index.html, index.json, install.sh, install.ps1
pointer(pointer_of(...), sign) channels/<channel>.signed
"""

from __future__ import annotations

from ferryman_release.site.model import Site, SiteChannel, SiteFile, SiteVersion, files_of
from ferryman_release.site.pointer import (
    Pointer,
    PointerFile,
    SignedPointer,
    parse_pointer,
    pointer,
    pointer_key,
    pointer_of,
)
from ferryman_release.site.render import MEDIA_TYPES, site_files

__all__ = [
    "MEDIA_TYPES",
    "Pointer",
    "PointerFile",
    "SignedPointer",
    "Site",
    "SiteChannel",
    "SiteFile",
    "SiteVersion",
    "files_of",
    "parse_pointer",
    "pointer",
    "pointer_key",
    "pointer_of",
    "site_files",
]
