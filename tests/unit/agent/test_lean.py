"""Heavy libraries without what nobody uses: in a process of its own each, because an import happens once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

AGENT = Path(__file__).resolve().parents[3] / "agent_src"
LOOK = """
import json, os, ssl, sys, threading
before = dict(vars(ssl.SSLContext))
from watchkeeper.lean import without_certificates
elsewhere = []
with without_certificates():
    inside = ssl.create_default_context().cert_store_stats()["x509_ca"]
    thread = threading.Thread(target=lambda: elsewhere.append(ssl.create_default_context().cert_store_stats()["x509_ca"]))
    thread.start()
    thread.join()
    import aiohttp.connector
verified = aiohttp.connector._SSL_CONTEXT_VERIFIED
print(json.dumps({
    "inside": inside,
    "elsewhere": elsewhere[0],
    "known": verified.cert_store_stats()["x509_ca"],
    "required": verified.verify_mode == ssl.CERT_REQUIRED and verified.check_hostname,
    "afterwards": ssl.create_default_context().cert_store_stats()["x509_ca"],
    "restored": dict(vars(ssl.SSLContext)) == before,
    "environment": os.environ.get("FROZENLIST_NO_EXTENSIONS"),
    "frozenlist": "frozenlist._frozenlist" in sys.modules,
}))
"""


def look(code: str, **environment: str) -> Any:
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(AGENT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_aiohttp_has_no_certificates_of_its_own() -> None:
    """Its contexts know none and still require them; other threads, and everybody afterwards, have the system's."""
    seen = look(LOOK)
    assert seen["inside"] == seen["known"] == 0
    assert seen["required"]
    assert seen["restored"]
    assert seen["elsewhere"] == seen["afterwards"]
    assert seen["environment"] is None
    assert not seen["frozenlist"]


def test_what_was_set_stays() -> None:
    """A person's own word about frozenlist is not taken away."""
    assert look(LOOK, FROZENLIST_NO_EXTENSIONS="1")["environment"] == "1"


def test_a_request_without_a_context_fails() -> None:
    """Nothing that forgets to bring a context is verified against nothing: it is refused."""
    code = """
import asyncio, json
import watchkeeper.endpoints.web
import aiohttp.connector, ssl
context = aiohttp.connector._SSL_CONTEXT_VERIFIED
print(json.dumps([context.verify_mode == ssl.CERT_REQUIRED, len(context.get_ca_certs())]))
"""
    assert look(code) == [True, 0]


def test_what_an_agent_does_not_import_at_its_start() -> None:
    """Neither psutil nor a client of aiohttp's web sites; on Linux /proc says it all."""
    code = """
import json, sys
import watchkeeper.runtime, watchkeeper.reconcilers.collectors, watchkeeper.reconcilers.checks
from watchkeeper.collectors import REGISTRY
from watchkeeper.config.schema.collectors import Collectors, effective
for name, spec in effective(Collectors()).items():
    list(REGISTRY[name].make(spec).collect())
print(json.dumps(sorted({"psutil", "frozenlist._frozenlist", "aiohttp.web", "tracemalloc", "multiprocessing"} & set(sys.modules))))
"""
    if sys.platform == "linux":
        assert look(code) == []
