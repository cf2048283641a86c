"""Rules of the addresses of Consul and etcd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding
from watchkeeper.config.schema.registries import ConsulServer, EtcdServer


def url_rule(path: Path, text: str, *, with_path: bool = False) -> Iterator[Finding]:
    """http://HOST:PORT or https://HOST:PORT, with a path or without."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        yield path, f"{text!r} is no URL: {error}"
        return
    if url.scheme not in ("http", "https") or not url.hostname:
        yield path, f"{text!r} is not http://HOST... or https://HOST..."
    elif port == 0:
        yield path, "port 0 cannot be connected to"
    elif url.username is not None:
        yield path, "a URL is shown in logs; it has no room for a user and a password"
    elif not with_path and (url.path.strip("/") or url.query or url.fragment):
        yield path, "only the address is wanted here; what follows the port is known"


def _consul(path: Path, server: ConsulServer) -> Iterator[Finding]:
    yield from url_rule((*path, "url"), server.url)


def _etcd(path: Path, server: EtcdServer) -> Iterator[Finding]:
    for number, url in enumerate(server.urls):
        yield from url_rule((*path, "urls", number), url)
    if (server.user is None) != (server.password is None):
        yield (*path, "user"), "user and password belong together; one of them is missing"


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {ConsulServer: _consul, EtcdServer: _etcd}
