"""Who may sign what: the signer of a role, held against the public keys that the key folder has for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import Key, Signer, SSlibKey

from ferryman_build.settings import ReleaseSettings
from ferryman_release.errors import KeyProblemError
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.keys.names import MINISIGN, PROVENANCE
from ferryman_release.signing.minisign import MinisignSecret, minisign_sign
from ferryman_release.signing.schemes import Opened, Opening, open_uri
from ferryman_release.signing.secrets import Secrets


def require_counted(key: Key, role: str) -> None:
    """A key that clients count, where clients verify: all roles but that of the provenance.

    Raises:
        KeyProblemError: it is ECDSA, RSA or another.
    """
    if role == PROVENANCE or (key.keytype, key.scheme) == ("ed25519", "ed25519"):
        return
    raise KeyProblemError(
        f"The key of {role} is {key.keytype} ({key.scheme}), which a client without `cryptography` takes for no "
        "signature at all.",
        advice="Use an Ed25519 key for what clients verify; KMS and tokens may sign the provenance.",
    )


def open_signer(
    uri: str, public: Key, secrets: Secrets, *, role: str = "this role", root: Path | None = None
) -> Signer:
    """What signs with the private key at ``uri`` in the name of ``public``.

    Raises:
        KeyProblemError: the key is missing, locked, or another one than ``public``.
    """
    return _signer(open_uri(uri, Opening(role, secrets, root or Path())), (public,), role)


def role_signers(
    settings: ReleaseSettings, folder: KeyFolder, role: str, secrets: Secrets, *, root: Path | None = None
) -> list[Signer]:
    """What signs for ``role`` as `[tool.ferryman.release.signers]` says.

    A root is also a role of the folder; relative paths begin at ``root``, by default the folder above ``folder``.

    Raises:
        KeyProblemError: no key is configured, it is missing or locked, not one of the role's keys, or of a kind that
            clients do not count.
    """
    uri = settings.signers.get(role)
    if not uri:
        raise KeyProblemError(
            f"No private key is configured for {role}.",
            advice=f'Say where it is in [tool.ferryman.release.signers]: {role} = "file:~/keys/{role}.pem".',
        )
    known = folder.keys(role)
    opened = open_uri(uri, Opening(role, secrets, root or folder.path.parent))
    require_counted(opened.public, role)
    return [_signer(opened, known, role)]


def minisign_secret(
    settings: ReleaseSettings, folder: KeyFolder, secrets: Secrets, *, root: Path | None = None
) -> MinisignSecret:
    """What signs in minisign's form, for the key of keys/minisign.pub.

    Raises:
        KeyProblemError: as :func:`role_signers`.
    """
    (signer,) = role_signers(settings, folder, MINISIGN, secrets, root=root)
    return MinisignSecret(folder.minisign_public(), signer)


def sign_for_people(
    data: bytes, settings: ReleaseSettings, folder: KeyFolder, secrets: Secrets, comment: str
) -> bytes:
    """minisign's signature file of ``data``, by the key of keys/minisign.pub; ``comment`` is signed with it.

    Raises:
        KeyProblemError: as :func:`role_signers`.
    """
    secret = minisign_secret(settings, folder, secrets)
    untrusted = f"verify with minisign -P {secret.key.line}"
    return minisign_sign(data, secret, trusted_comment=comment, untrusted_comment=untrusted)


def _signer(opened: Opened, known: Iterable[Key], role: str) -> Signer:
    for key in known:
        if isinstance(key, SSlibKey) and key.keyval["public"] == opened.public.keyval["public"]:
            try:
                return opened.signer(key)
            except (KeyMismatchError, ValueError) as error:
                raise KeyProblemError(
                    f"The key of {role} has another scheme in the metadata.",
                    advice=f"Make a new one with `ferryman keys rotate {role}`.",
                ) from error
    raise KeyProblemError(
        f"The private key that is configured for {role} is not one of its keys.",
        advice=f"Configure the right one, or make this one its key with `ferryman keys rotate {role}`.",
        details=[f"configured: {opened.public.keyid}", *(f"key of {role}: {key.keyid}" for key in known)],
    )
