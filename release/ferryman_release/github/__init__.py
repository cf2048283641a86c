"""A release on GitHub, through its REST API: a draft, all files, then visible in one step, or not at all.

answers   what GitHub says: releases, assets, and refusals in sentences
assets    what a release shall have, what it has, and the difference
bundles   which statement of the platform is about which artifact
client    one request with everything that may happen to it: limits, failures, pages, redirects
hub       what is asked of a repository
limits    how long to wait, as the API's documents ask for
publish   the order of the steps
token     where the secret comes from, and that nobody sees it
uploads   many files at once, each until it is there and right
wire      one request over one connection, files streamed from the disk
"""

from ferryman_release.github.assets import Upload
from ferryman_release.github.bundles import find_bundle
from ferryman_release.github.client import api_from
from ferryman_release.github.publish import Published, dry_run, look, publish_release
from ferryman_release.github.token import Token, find_token

__all__ = [
    "Published",
    "Token",
    "Upload",
    "api_from",
    "dry_run",
    "find_bundle",
    "find_token",
    "look",
    "publish_release",
]
