"""Addresses with a user and a password in them: urllib takes none, and whoever is redirected to must not learn them."""

from __future__ import annotations

import base64
import urllib.request
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit, urlunsplit


def request_for(address: str, headers: Mapping[str, str]) -> urllib.request.Request:
    """A request for ``address``, whose user and password go into a header for its own server alone.

    The caller has looked at the scheme.
    """
    parts = urlsplit(address)
    secret = ""
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        secret = f"Basic {base64.b64encode(words.encode()).decode()}"
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    request = urllib.request.Request(urlunsplit(parts), headers=dict(headers))  # noqa: S310 - see above
    if secret:
        request.add_unredirected_header("Authorization", secret)
    return request
