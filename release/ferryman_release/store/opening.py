"""From the settings to a store, and to the address at which everyone reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from ferryman_build.errors import ConfigError
from ferryman_build.settings import ReleaseSettings
from ferryman_release.store.base import Store
from ferryman_release.store.file import FileStore

EMBEDDED = "out/repository"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def open_store(settings: ReleaseSettings, root: Path, environ: Mapping[str, str]) -> Store:
    """The store that ``settings`` name; ``root`` is the folder of pyproject.toml. Nothing is asked of it yet.

    Raises:
        ConfigError: the URL is none of a store.
    """
    url = store_url(settings, root)
    if url.startswith("file:"):
        return FileStore(folder_of(url))
    from ferryman_release.store.s3 import open_bucket  # boto3 costs half a second

    return open_bucket(settings, root, environ)


def store_url(settings: ReleaseSettings, root: Path) -> str:
    """The URL of the store: what the settings say, else a folder in out/.

    Raises:
        ConfigError: it is neither `file:///folder` nor `s3://bucket/prefix`.
    """
    url = settings.url or (root / EMBEDDED).absolute().as_uri()
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return url
    if parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc) and not (parts.query or parts.fragment):
        return url
    raise ConfigError(
        f"[tool.ferryman.release] url: {url!r} is no store.",
        advice='Write "s3://bucket/prefix", or "file:///folder"; a bucket has small letters, digits, dots and hyphens.',
    )


def folder_of(url: str) -> Path:
    """The folder of a file: URL."""
    path = unquote(urlsplit(url).path)
    if re.match(r"/[A-Za-z]:", path):  # file:///C:/folder
        path = path[1:]
    return Path(path)


def bucket_of(url: str) -> tuple[str, str]:
    """The bucket of an s3: URL, and the prefix that all keys get: empty, or with a slash at its end."""
    parts = urlsplit(url)
    prefix = unquote(parts.path).strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""


def public_url(settings: ReleaseSettings, root: Path) -> str:
    """Where everyone reads what is published, ending in a slash.

    Raises:
        ConfigError: the store's URL, or ``public-url``, is none.
    """
    if settings.public_url:
        parts = urlsplit(settings.public_url)
        if parts.scheme not in ("http", "https", "file") or (parts.scheme != "file" and not parts.netloc):
            raise ConfigError(
                f"[tool.ferryman.release] public-url: {settings.public_url!r} is no address.",
                advice='Write where everyone reads the store, such as "https://releases.example.org/agent/".',
            )
        return settings.public_url.rstrip("/") + "/"
    url = store_url(settings, root)
    if url.startswith("file:"):
        return url.rstrip("/") + "/"
    bucket, prefix = bucket_of(url)
    return f"{_base(settings, bucket)}/{quote(prefix)}"


def _base(settings: ReleaseSettings, bucket: str) -> str:
    if settings.endpoint:
        return f"{settings.endpoint.rstrip('/')}/{bucket}"
    suffix = "amazonaws.com.cn" if settings.region.startswith("cn-") else "amazonaws.com"
    if settings.path_style or "." in bucket:  # a name with dots does not fit the certificate of the host name
        return f"https://s3.{settings.region}.{suffix}/{bucket}"
    return f"https://{bucket}.s3.{settings.region}.{suffix}"
