"""Small files by their digest: histories and release.json, from the state folder or from the repository."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import quote

from ferryman_client.errors import UnreachableError, VerifyError
from ferryman_client.fetch import Source
from ferryman_client.state import StateDir


def document(
    source: Source, urls: Sequence[str], state: StateDir, path: str, size: int, sha256: str
) -> bytes:
    """The bytes of ``path`` (relative to the prefix), kept in ``state`` for the next time.

    Raises:
        UnreachableError, VerifyError: no place has it; the first one's failure.
    """
    if (kept := state.document(sha256)) is not None:
        return kept
    first: UnreachableError | VerifyError | None = None
    for url in urls:
        try:
            data = _read(source, f"{url}{quote(path)}", size, sha256)
        except (UnreachableError, VerifyError) as error:
            first = first or error
            continue
        with suppress(OSError):
            state.keep_document(sha256, data)
        return data
    assert first is not None, "there is at least one place"
    raise first


def _read(source: Source, url: str, size: int, sha256: str) -> bytes:
    got = bytearray()
    with source.open(url) as answer:
        for chunk in answer.body:
            got += chunk
            if len(got) > size:
                break
    if hashlib.sha256(got).hexdigest() != sha256:
        raise VerifyError(
            f"{url} is not what is signed.", advice="Nothing was taken from it; try another mirror."
        )
    return bytes(got)
