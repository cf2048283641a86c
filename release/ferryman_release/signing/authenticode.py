"""Authenticode: what Windows asks of an .exe or an .msi before it runs it without a warning.

osslsigncode signs; a time-stamp authority vouches for the moment, so that the signature outlives the certificate. Rules:

1. The signed file is made beside the others under another name, verified, and only then takes the name that was asked for.
2. Without a time stamp there is no signature: an authority that does not answer fails the release.
3. A passphrase goes into a file of mode 600 in a folder of mode 700 that lives as long as the program; never on its
   command line, which every user of the machine can read.
4. Signing changes the file: it comes before checksums, SBOM and provenance.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ferryman_build.cmd import Runner
from ferryman_release.errors import KeyProblemError, SigningError, VerifyError
from ferryman_release.signing.secrets import Secrets, passphrase_bytes, read_private

ROLE = "authenticode"
TOOL_ADVICE = "apt install osslsigncode; docs/keys.md says what else Authenticode needs."
_SECONDS = 120.0


class OwnAuthority(msgspec.Struct, frozen=True, kw_only=True):
    """A time-stamp authority inside of osslsigncode: ``certificates`` and ``key`` in PEM; ``at``, seconds since 1970.

    For tests and for networks of one's own: no Windows trusts it by itself.
    """

    certificates: Path
    key: Path
    at: int | None = None

    def words(self) -> list[str]:
        """For `osslsigncode sign`."""
        moment = [] if self.at is None else ["-TSA-time", str(self.at)]
        return ["-TSA-certs", str(self.certificates), "-TSA-key", str(self.key), *moment]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who signs. Either ``pkcs12``, or ``certificates`` (leaf first, PEM) with ``key``.

    ``timestamp`` is the URL of an RFC 3161 authority, or one of one's own. ``trusted`` and ``trusted_times`` are the roots
    that the result is verified against; by default those of this system.
    """

    timestamp: str | OwnAuthority
    pkcs12: Path | None = None
    certificates: Path | None = None
    key: Path | None = None
    trusted: Path | None = None
    trusted_times: Path | None = None
    description: str = ""
    url: str = ""


def sign_file(source: Path, result: Path, identity: Identity, secrets: Secrets, runner: Runner) -> None:
    """Put a signed copy of ``source`` (.exe, .dll, .msi) into the place of ``result``; the two may be the same.

    Raises:
        ToolMissingError: osslsigncode is not here.
        KeyProblemError: the key is missing, open to others, or its passphrase is.
        SigningError: osslsigncode or the time-stamp authority failed; ``result`` is as it was.
        VerifyError: what was signed does not verify against the roots; ``result`` is as it was.
    """
    with tempfile.TemporaryDirectory(prefix=".authenticode-", dir=result.parent) as name:
        signed = Path(name) / result.name
        with _passphrase(identity, secrets, Path(name)) as words:
            runner.run(
                ["osslsigncode", "sign", *_key_words(identity), *words, *_words(identity, source), "-in", source, "-out", signed],
                name=f"authenticode {result.name}", timeout=_SECONDS, failure=SigningError,
                advice="See the log; nothing was signed. A time-stamp authority that is down is tried again later.",
            )  # fmt: skip
        if not signed.is_file():
            raise SigningError(f"osslsigncode left no signed {result.name}.", advice="Read its log.")
        verify_file(signed, identity, runner)
        signed.chmod(source.stat().st_mode & 0o777)
        signed.replace(result)


def verify_file(path: Path, identity: Identity, runner: Runner) -> None:
    """The signature of ``path`` covers its bytes, and its certificates and time stamp lead to the trusted roots.

    Raises:
        ToolMissingError: osslsigncode is not here.
        VerifyError: it is not signed, was changed, or leads elsewhere.
    """
    roots = ["-CAfile", str(identity.trusted)] if identity.trusted else []
    times = ["-TSA-CAfile", str(identity.trusted_times)] if identity.trusted_times else []
    runner.run(
        ["osslsigncode", "verify", "-in", path, *roots, *times, "-ignore-cdp"], name=f"verify {path.name}",
        timeout=_SECONDS, failure=VerifyError,
        advice=f"{path.name} is not signed as it should be; sign it again from what was built.",
    )  # fmt: skip


def _words(identity: Identity, source: Path) -> list[str]:
    msi = source.suffix.lower() == ".msi"
    stamp = identity.timestamp
    return [
        "-h", "sha256", "-add-msi-dse" if msi else "-ph",
        *(["-n", identity.description] if identity.description else []),
        *(["-i", identity.url] if identity.url else []),
        *(stamp.words() if isinstance(stamp, OwnAuthority) else ["-ts", stamp]),
    ]  # fmt: skip


def _key_words(identity: Identity) -> list[str]:
    if identity.pkcs12 is not None:
        read_private(identity.pkcs12, "key")
        return ["-pkcs12", str(identity.pkcs12)]
    if identity.certificates is None or identity.key is None:
        raise KeyProblemError(
            "Authenticode has no key: neither a PKCS#12 file, nor certificates with a key.",
            advice="docs/keys.md says which files it needs.",
        )
    read_private(identity.key, "key")
    return ["-certs", str(identity.certificates), "-key", str(identity.key)]


@contextlib.contextmanager
def _passphrase(identity: Identity, secrets: Secrets, folder: Path) -> Iterator[list[str]]:
    """The option that names the file with the passphrase (rule 3); none for a key without one."""
    locked = identity.pkcs12 or (
        identity.key if identity.key and b"ENCRYPTED" in identity.key.read_bytes() else None
    )
    if locked is None:
        yield []
        return
    path = folder / "passphrase"
    path.touch(mode=0o600)
    path.write_bytes(passphrase_bytes(secrets.passphrase(ROLE, str(locked))))
    try:
        yield ["-readpass", str(path)]
    finally:
        path.unlink()
