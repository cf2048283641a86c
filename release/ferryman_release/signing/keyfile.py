"""Private keys in files: PKCS#8 in PEM, under a passphrase through scrypt.

`cryptography` writes encrypted PKCS#8 with 2,048 rounds of PBKDF2, which a graphics card tries by the million a second.
So the envelope (RFC 5958, PBES2 of RFC 8018 with scrypt of RFC 7914 and AES-256-CBC) is made here, of a cost that
OpenSSL still reads with its limits: 16 MiB, eight passes, about 0.2 s.
"""

from __future__ import annotations

import base64
import hashlib
import os
import textwrap
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ferryman_release.errors import KeyProblemError
from ferryman_release.signing.secrets import Secrets, passphrase_bytes, read_private

COST, BLOCK, PASSES = 1 << 14, 8, 8

# Object identifiers, as DER has them: PBES2, scrypt, AES-256-CBC.
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES = bytes.fromhex("060960864801650304012a")


def encrypted_pem(key: PrivateKeyTypes, passphrase: str) -> bytes:
    """The key as `ENCRYPTED PRIVATE KEY`; salt and vector are new at every call."""
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, vector = os.urandom(16), os.urandom(16)
    derived = hashlib.scrypt(
        passphrase_bytes(passphrase), salt=salt, n=COST, r=BLOCK, p=PASSES, maxmem=1 << 26, dklen=32
    )
    padder, cipher = PKCS7(128).padder(), Cipher(algorithms.AES256(derived), modes.CBC(vector)).encryptor()
    sealed = cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()
    scrypt = _sequence(_SCRYPT, _sequence(_octets(salt), *map(_integer, (COST, BLOCK, PASSES))))
    algorithm = _sequence(_PBES2, _sequence(scrypt, _sequence(_AES, _octets(vector))))
    return _pem("ENCRYPTED PRIVATE KEY", _sequence(algorithm, _octets(sealed)))


def plain_pem(key: PrivateKeyTypes) -> bytes:
    """The key without a passphrase, for a store of secrets that protects it by itself."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(pem: bytes, role: str, what: str, secrets: Secrets) -> PrivateKeyTypes:
    """The key in ``pem``; the passphrase is asked for only where it is locked.

    Raises:
        KeyProblemError: it is no key, or the passphrase is wrong or missing.
    """
    locked = b"ENCRYPTED" in pem
    passphrase = passphrase_bytes(secrets.passphrase(role, what)) if locked else None
    try:
        return load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError) as error:
        if locked and b"-----BEGIN" in pem:
            raise KeyProblemError(
                f"The passphrase of {what} is wrong, or the file is damaged.",
                advice="Try again; a damaged file is replaced from its copy (docs/keys.md).",
            ) from None
        raise KeyProblemError(
            f"{what} is no private key in PEM.",
            advice="`ferryman keys init` makes one; so does `openssl genpkey -algorithm ed25519`.",
        ) from error


def read_key(path: Path, role: str, secrets: Secrets) -> PrivateKeyTypes:
    """The key in a file that only its owner may read.

    Raises:
        KeyProblemError: as :func:`load_key`; or the file is missing or open to others.
    """
    return load_key(read_private(path, "key"), role, str(path), secrets)


def write_key(path: Path, pem: bytes) -> None:
    """Make the file, of mode 600 from its first moment; a file that is there is never written over.

    Raises:
        KeyProblemError: there is one already.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyProblemError(
            f"There is a key in {path} already, and no key is ever overwritten.",
            advice="Name another folder, or move the old key away.",
        ) from error
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


# --- the few lines of DER that this needs ------------------------------------------------------------------------------


def _tagged(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _octets(content: bytes) -> bytes:
    return _tagged(0x04, content)


def _integer(value: int) -> bytes:
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _pem(label: str, der: bytes) -> bytes:
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()
