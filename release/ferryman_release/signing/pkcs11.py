"""Keys that live in a token behind PKCS#11: P-256, so for provenance alone.

`pkcs11:LABEL/ID` is the token's label and the number of the key in it, 2 where none is said: the slot of PIV's signatures.
PYKCS11LIB names the token's library; the PIN is the passphrase of the role.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import HSMSigner, Signature

from ferryman_build.errors import ToolMissingError
from ferryman_release.errors import KeyProblemError
from ferryman_release.signing.schemes import Opened, Opening

LIBRARY = "PYKCS11LIB"


def open_token(place: str, opening: Opening) -> Opened:
    """The key in the token that ``place`` names.

    Raises:
        ToolMissingError: python-pkcs11 or the token's library is not there.
        KeyProblemError: there is no such token or key, or the PIN is wrong.
    """
    label, _, number = place.rpartition("/") if "/" in place else (place, "", "2")
    _require_library()
    if not number.isdecimal():
        raise KeyProblemError(f"pkcs11:{place} has no number after the slash.", advice="pkcs11:LABEL/2")

    def pin(_what: str) -> str:
        return opening.secrets.passphrase(opening.role, f"the token {unquote(label)}")

    try:
        _, public = HSMSigner.import_(int(number), unquote(label), pin)
    except UnsupportedLibraryError as error:
        raise ToolMissingError(
            "A token needs python-pkcs11, which is not installed.", advice="pip install 'ferryman[pkcs11]'"
        ) from error
    except KeyProblemError:
        raise
    except Exception as error:
        raise _explained(error, label) from error
    return Opened(public, lambda key: TokenSigner(int(number), key, pin, unquote(label)))


class TokenSigner(HSMSigner):
    """securesystemslib's signer, whose failures are sentences."""

    def sign(self, payload: bytes) -> Signature:
        """A signature by the token.

        Raises:
            KeyProblemError: the PIN is wrong, or the key is gone.
        """
        try:
            return super().sign(payload)
        except KeyProblemError:
            raise
        except Exception as error:
            raise _explained(error, self.token_label or "") from error


def _require_library() -> None:
    library = os.environ.get(LIBRARY, "")
    if not Path(library).is_file():
        raise ToolMissingError(
            f"{LIBRARY} names no library of a token." if library else f"{LIBRARY} is not set.",
            advice=f"Set {LIBRARY} to the token's PKCS#11 library.",
        )


def _explained(error: Exception, label: str) -> Exception:
    """What the token said, as a sentence; anything else as it is."""
    from pkcs11.exceptions import PinIncorrect, PinLocked, PKCS11Error

    if isinstance(error, PinIncorrect | PinLocked):
        return KeyProblemError(f"The PIN of the token {label} is wrong, or locked.", advice="Try again.")
    if isinstance(error, PKCS11Error | ValueError):
        return KeyProblemError(
            f"The token {label} does not give its key: {str(error) or type(error).__name__}.",
            advice="`pkcs11-tool --list-objects` shows what it has; its keys must be P-256 or P-384.",
        )
    return error
