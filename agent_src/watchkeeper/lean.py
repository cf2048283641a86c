"""How heavy libraries are imported without the parts that nobody uses.

aiohttp makes two TLS contexts with all certificates of the system as soon as it is imported, for requests that bring none
of their own. That takes 2.4 MB and, with OpenSSL 3, 90 ms: more than a third of the whole import. The agent never uses them,
because outbound/tls.py makes a context for every destination. Inside `without_certificates` those contexts stay empty: the
one that verifies trusts nobody, so that a request that came without a context would fail, and not go out unverified.

frozenlist, which aiohttp uses for lists of a handful of functions, has an extension in C++; its library alone takes 1 MB. Its
own switch chooses the module in Python.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FROZENLIST = "FROZENLIST_NO_EXTENSIONS"
LOADERS = ("load_default_certs", "set_default_verify_paths")


@contextmanager
def without_certificates() -> Iterator[None]:
    """For the first import of aiohttp, which stands inside this. What other threads do meanwhile is as ever."""
    if "aiohttp.connector" in sys.modules:
        yield
        return
    set_already = FROZENLIST in os.environ
    os.environ.setdefault(FROZENLIST, "1")
    try:
        with _no_certificates():
            yield
    finally:
        if not set_already:
            del os.environ[FROZENLIST]  # no child has to know of it


@contextmanager
def _no_certificates() -> Iterator[None]:
    """Contexts that this thread makes know no certificates."""
    import ssl

    here = threading.get_ident()
    originals = {name: getattr(ssl.SSLContext, name) for name in LOADERS}
    own = set(LOADERS) & set(vars(ssl.SSLContext))

    def skipping(name: str) -> Any:
        def load(context: ssl.SSLContext, *arguments: Any) -> None:
            if threading.get_ident() != here:
                originals[name](context, *arguments)

        return load

    for name in LOADERS:
        setattr(ssl.SSLContext, name, skipping(name))
    try:
        yield
    finally:
        for name in LOADERS:
            if name in own:
                setattr(ssl.SSLContext, name, originals[name])
            else:
                delattr(ssl.SSLContext, name)
