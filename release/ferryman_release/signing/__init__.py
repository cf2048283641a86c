"""Signatures: where private keys are, who may sign what, and the forms that people and programs verify.

Everything that a client verifies is Ed25519: a client has no `cryptography`, and would silently count an ECDSA or RSA
signature as none. A private key is named by a URI and read when it is used; docs/keys.md lists the schemes.
"""

from ferryman_release.keys.minisign import MinisignKey as MinisignKey
from ferryman_release.signing.minisign import MinisignSecret as MinisignSecret
from ferryman_release.signing.minisign import minisign_sign as minisign_sign
from ferryman_release.signing.minisign import minisign_verify as minisign_verify
from ferryman_release.signing.roles import minisign_secret as minisign_secret
from ferryman_release.signing.roles import open_signer as open_signer
from ferryman_release.signing.roles import role_signers as role_signers
from ferryman_release.signing.roles import sign_for_people as sign_for_people
from ferryman_release.signing.secrets import Secrets as Secrets
