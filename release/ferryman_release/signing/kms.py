"""Keys that live in AWS KMS: P-256 or RSA, so for provenance alone.

securesystemslib signs; it hashes here and sends the digest. It loads boto3 for this, which this half otherwise has in one
place: a signature is made by a service and not by an object store.
"""

from __future__ import annotations

from securesystemslib.exceptions import UnsupportedAlgorithmError, UnsupportedLibraryError
from securesystemslib.signer import AWSSigner, Signature, SSlibKey

from ferryman_build.errors import ToolMissingError
from ferryman_release.errors import KeyProblemError, SigningError
from ferryman_release.signing.schemes import Opened, Opening


def open_kms(place: str, opening: Opening) -> Opened:
    """The key that KMS calls ``place``; credentials and region are those of boto3's own chain.

    Raises:
        ToolMissingError: boto3 is not installed.
        KeyProblemError: KMS has no such key, refuses it, or it signs with nothing that is known here.
        SigningError: KMS did not answer.
    """
    try:
        _, public = AWSSigner.import_(place)
    except UnsupportedLibraryError as error:
        raise ToolMissingError(
            "A key in AWS KMS needs boto3, which is not installed.", advice="pip install 'ferryman[release]'"
        ) from error
    except (UnsupportedAlgorithmError, KeyError) as error:  # KeyError: the answer names no signatures at all
        raise KeyProblemError(
            f"The key {place} in KMS makes no signatures that are known here.",
            advice="Make an asymmetric key for signing: ECC_NIST_P256.",
        ) from error
    except Exception as error:
        raise _explained(error, place, opening) from error
    return Opened(public, lambda key: KmsSigner(place, key, opening))


class KmsSigner(AWSSigner):
    """securesystemslib's signer, whose failures are sentences."""

    def __init__(self, place: str, public: SSlibKey, opening: Opening) -> None:
        super().__init__(place, public)
        self._opening = opening

    def sign(self, payload: bytes) -> Signature:
        """A signature by KMS.

        Raises:
            KeyProblemError: KMS refused.
            SigningError: it did not answer.
        """
        try:
            return super().sign(payload)
        except Exception as error:
            raise _explained(error, self.aws_key_id, self._opening) from error


def _explained(error: Exception, place: str, opening: Opening) -> Exception:
    """What botocore raised, as a sentence; anything else as it is. Known by its module: one module imports botocore."""
    if not type(error).__module__.startswith("botocore"):
        return error
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    if code:
        return KeyProblemError(
            f"KMS refused the key {place} of {opening.role}: {code}.",
            advice="It needs kms:GetPublicKey and kms:Sign on this key, in this region.",
        )
    return SigningError(
        f"KMS did not answer: {error}", advice="See AWS_REGION, the credentials and the network."
    )
