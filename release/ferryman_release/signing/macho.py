"""Mach-O: a signature by a certificate of Apple's developers, or an ad-hoc one, made on any machine.

The work is done by apple-platform-py, a wheel around `rcodesign` of apple-platform-rs. It is no part of the extras: the wheel
is young (0.1.0), and what is given to it is a certificate that macOS trusts. Who wants it installs it. Without it the
launcher's own ad-hoc signature stays, which is what Apple's processors ask for.

Rules are those of Authenticode: signed beside the others, verified, then renamed; no signature by a certificate without a
time stamp unless that is said; it comes before checksums, SBOM and provenance. Notarization is not made here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from ferryman_build.errors import ToolMissingError
from ferryman_build.inspect.macho import read_macho
from ferryman_build.inspect.native import Trait
from ferryman_release.errors import SigningError, VerifyError
from ferryman_release.signing.secrets import Secrets, read_private

ROLE = "macho"
NO_TIME = "none"
"""In the place of an authority's URL: no time stamp, for tests."""


class Developer(msgspec.Struct, frozen=True, kw_only=True):
    """Who signs: a PKCS#12 file in its older form (`openssl pkcs12 -legacy`), and the URL of a time-stamp authority."""

    pkcs12: Path
    timestamp: str = "http://timestamp.apple.com/ts01"


def sign_file(
    source: Path, result: Path, identifier: str, developer: Developer | None, secrets: Secrets
) -> None:
    """Put a signed copy of a Mach-O ``source`` into the place of ``result``; the two may be the same.

    Args:
        identifier: what macOS calls the program: `org.example.lantern`.
        developer: None for an ad-hoc signature.

    Raises:
        ToolMissingError: apple-platform-py is not installed.
        KeyProblemError: the key is missing, open to others, or its passphrase is.
        SigningError: the tool failed; ``result`` is as it was.
        VerifyError: the signature does not fit the bytes; ``result`` is as it was.
    """
    tool = _tool()
    signer = _signer(tool, developer, secrets) if developer else None
    with tempfile.TemporaryDirectory(prefix=".macho-", dir=result.parent) as name:
        signed = Path(name) / result.name
        try:
            tool.sign(
                source, signed, signer=signer, binary_identifier=identifier,
                timestamp_url=developer.timestamp if developer else NO_TIME,
            )  # fmt: skip
        except tool.errors.ApplePlatformError as error:
            raise SigningError(
                f"{source.name} was not signed: {error}",
                advice="A PKCS#12 file is read in its older form alone (openssl pkcs12 -legacy); an authority that is "
                "down is tried again later.",
            ) from None
        verify_file(signed, Trait.SIGNED if developer else Trait.AD_HOC)
        signed.chmod(source.stat().st_mode & 0o777)
        signed.replace(result)


def verify_file(path: Path, wanted: Trait) -> None:
    """The signature of each architecture covers its bytes, and is of the kind that is ``wanted``.

    Raises:
        VerifyError: it does not, or is of another.
    """
    with path.open("rb") as file:
        traits = read_macho(path.name, file).traits
    if wanted not in traits or Trait.BROKEN_SIGNATURE in traits or Trait.UNSIGNED in traits:
        raise VerifyError(
            f"{path.name} is not {wanted.value}.",
            advice="Sign it again from what was built, and change nothing after.",
        )


def _tool() -> Any:
    try:
        import apple_platform  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise ToolMissingError(
            "Signing for macOS needs apple-platform-py, which is not installed.",
            advice="pip install apple-platform-py, after reading what docs/keys.md says of it.",
        ) from error
    return apple_platform


def _signer(tool: Any, developer: Developer, secrets: Secrets) -> Any:
    read_private(developer.pkcs12, "key")
    passphrase = secrets.passphrase(ROLE, str(developer.pkcs12))
    return tool.Signer(p12=tool.P12Key(path=developer.pkcs12, password=passphrase))
