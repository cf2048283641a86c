"""Which statement of the platform is about which artifact.

GitHub's action signs one statement for all files of a build, and writes it as one Sigstore bundle. A stranger who has one
artifact looks for `<artifact>.sigstore.json` beside it: each gets a copy. In dist/ a bundle lies as `attestations/*.json`,
as the workflow brings it, or under an artifact's own name.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ferryman_release.errors import GithubError

FOLDER = "attestations"
SUFFIX = ".sigstore.json"
_LARGEST = 20_000_000  # bytes; a statement about a thousand files has some 200,000


class _Subject(msgspec.Struct, frozen=True):
    digest: dict[str, str]


class _Statement(msgspec.Struct, frozen=True):
    subject: list[_Subject]


class _Envelope(msgspec.Struct, frozen=True):
    payload: str


class _Hash(msgspec.Struct, frozen=True):
    algorithm: str
    digest: str


class _Message(msgspec.Struct, frozen=True, rename="camel"):
    message_digest: _Hash


class _Bundle(msgspec.Struct, frozen=True, rename="camel"):
    """Either a statement in an envelope, as the platform's action makes it, or a plain signature of one file."""

    media_type: str
    dsse_envelope: _Envelope | None = None
    message_signature: _Message | None = None


def find_bundle(dist: Path, artifact: str, sha256: str) -> Path | None:
    """The bundle that speaks of an artifact's bytes, None when there is none; its signature is not looked at here.

    Raises:
        GithubError: a file that should be a bundle is none, or the artifact's own is about other bytes.
    """
    own = dist / f"{artifact}{SUFFIX}"
    if own.is_file():
        if sha256 not in subjects(own):
            raise GithubError(
                f"{own} is not about {artifact} as it is now.",
                advice="Attest what was built last, or remove the file and release without it.",
            )
        return own
    found = [path for path in sorted((dist / FOLDER).glob("*.json")) if sha256 in subjects(path)]
    return found[0] if found else None


def subjects(path: Path) -> frozenset[str]:
    """The sha256 of all that a bundle is about, in hex.

    Raises:
        GithubError: it cannot be read.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is larger than any bundle")
        return frozenset(_hashes(msgspec.json.decode(path.read_bytes(), type=_Bundle)))
    except (OSError, ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise GithubError(
            f"{path} is no Sigstore bundle about files: {error}.",
            advice="It should be what actions/attest-build-provenance wrote at its output bundle-path.",
        ) from error


def _hashes(bundle: _Bundle) -> Iterator[str]:
    if bundle.dsse_envelope is not None:
        payload = base64.b64decode(bundle.dsse_envelope.payload, validate=True)
        for one in msgspec.json.decode(payload, type=_Statement).subject:
            if "sha256" in one.digest:
                yield one.digest["sha256"]
    elif (
        bundle.message_signature is not None
        and bundle.message_signature.message_digest.algorithm == "SHA2_256"
    ):
        yield base64.b64decode(bundle.message_signature.message_digest.digest, validate=True).hex()
    else:
        raise ValueError("it has neither a statement nor a signature that is known here")
