"""Bundles as the platform's action writes them, about any bytes; unsigned."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write(path: Path, *contents: bytes) -> Path:
    """A bundle as the platform's action writes it, about these bytes; unsigned, since nobody looks here."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": f"n{at}", "digest": {"sha256": sha256(data)}} for at, data in enumerate(contents)
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {},
    }
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"mediaType": BUNDLE, "verificationMaterial": {}, "dsseEnvelope":
                {"payload": payload, "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "AA=="}]}}  # fmt: skip
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
