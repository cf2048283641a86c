"""Sigstore: signatures without a key, by the identity of a workflow. Verified here, offline; made in GitHub Actions alone.

What is verified against is the trust root that the installed `sigstore` package carries: no network, and no cache that
somebody may have written. Two forms of a bundle are read: a signature of the file itself (`sigstore sign`), and a statement
of in-toto about it (actions/attest-build-provenance). The package costs half a second to import: only a policy that is
asked, or a release in a workflow, pays for it.

Signing needs the OIDC token that GitHub gives to a job with `id-token: write`. It has never been run outside of one.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ferryman_build.errors import ToolMissingError
from ferryman_release.errors import SigningError, VerifyError
from ferryman_release.provenance.model import PAYLOAD_TYPE, PREDICATE_TYPE

if TYPE_CHECKING:
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify.policy import VerificationPolicy

GITHUB = "https://token.actions.githubusercontent.com"
"""Who vouches for the identity of a workflow of GitHub."""

_EMBEDDED = "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev/trusted_root.json"
_ADVICE = (
    "Take the bundle again from where the release was published, and see that the identity is the right one."
)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who must have signed. At least one of ``workflow`` and ``repository`` is given.

    ``workflow`` is the whole identity (https://github.com/OWNER/NAME/.github/workflows/FILE@REF); ``repository`` is
    OWNER/NAME or its URL; ``commit`` and ``ref`` are those that the workflow ran for.
    """

    workflow: str = ""
    repository: str = ""
    commit: str = ""
    ref: str = ""
    issuer: str = GITHUB

    @property
    def repository_url(self) -> str:
        """The repository as certificates have it."""
        return self.repository if "://" in self.repository else f"https://github.com/{self.repository}"


def verify_bundle(
    data: bytes,
    *,
    name: str,
    sha256: str,
    identity: Identity,
    artifact: str = "",
    trusted_root: Path | None = None,
) -> str:
    """Who signed the file of that hash, for people.

    Args:
        name: what messages call the bundle.
        artifact: the file's name, which a statement must have said as well; a plain signature says none.
        trusted_root: of another instance of sigstore.

    Raises:
        VerifyError: the bundle is broken, about another file, or by somebody else.
        ToolMissingError: the package `sigstore` is not installed.
    """
    if not (identity.workflow or identity.repository):
        raise ValueError("an identity without workflow and repository would be anybody's")
    with _library(), _quiet():
        from sigstore.errors import Error
        from sigstore.models import Bundle

        try:
            bundle = Bundle.from_json(data)
            statement = _verify(bundle, name, sha256, identity, _root(trusted_root))
        except (Error, ValueError, KeyError, TypeError) as error:
            raise VerifyError(f"{name} does not hold: {error}", advice=_ADVICE) from error
        if statement is not None:
            require_provenance(statement, name=name, sha256=sha256, artifact=artifact)
        return _signed_by(bundle)


def _verify(bundle: Bundle, name: str, sha256: str, identity: Identity, root: TrustedRoot) -> bytes | None:
    """The statement that was signed; None where it is a signature of the file itself, which holds."""
    from sigstore.hashes import Hashed
    from sigstore.verify import Verifier
    from sigstore_models.common.v1 import HashAlgorithm

    verifier, policy = Verifier(trusted_root=root), _policy(identity)
    if "dsseEnvelope" not in json.loads(bundle.to_json()):
        digest = Hashed(algorithm=HashAlgorithm.SHA2_256, digest=bytes.fromhex(sha256))
        verifier.verify_artifact(digest, bundle, policy)
        return None
    kind, payload = verifier.verify_dsse(bundle, policy)
    if kind != PAYLOAD_TYPE:
        raise VerifyError(f"{name} signs {kind!r} and no statement of in-toto.", advice=_ADVICE)
    return payload


class _About(msgspec.Struct, frozen=True):
    digest: dict[str, str]
    name: str = ""


class _Said(msgspec.Struct, frozen=True, rename="camel"):
    subject: tuple[_About, ...]
    predicate_type: str


def require_provenance(statement: bytes, *, name: str, sha256: str, artifact: str = "") -> None:
    """A statement that was signed says where the file of that hash, called ``artifact``, comes from.

    A workflow may sign anything about a file: what is inside of it, or that its tests have failed.

    Raises:
        VerifyError: it is about another file, or of another kind.
    """
    try:
        found = msgspec.json.decode(statement, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VerifyError(f"{name} holds no statement of in-toto: {error}.", advice=_ADVICE) from error
    if found.predicate_type != PREDICATE_TYPE:
        raise VerifyError(
            f"{name} holds a {found.predicate_type!r} and no provenance of SLSA v1.", advice=_ADVICE
        )
    names = [one.name for one in found.subject if one.digest.get("sha256") == sha256]
    if not names or (artifact and artifact not in names):
        about = ", ".join(names or [one.name for one in found.subject[:3]])
        raise VerifyError(f"{name} is about another file: {about}.", advice=_ADVICE)


def _policy(identity: Identity) -> VerificationPolicy:
    from sigstore.verify import policy

    wanted: list[VerificationPolicy] = [
        policy.AnyOf([policy.OIDCIssuerV2(identity.issuer), policy.OIDCIssuer(identity.issuer)])
    ]
    if identity.workflow:
        wanted.append(policy.Identity(identity=identity.workflow))
    for value, kind in (
        (identity.repository and identity.repository_url, policy.OIDCSourceRepositoryURI),
        (identity.commit, policy.OIDCSourceRepositoryDigest),
        (identity.ref, policy.OIDCSourceRepositoryRef),
    ):
        if value:
            wanted.append(kind(value))
    return policy.AllOf(wanted)


def _root(path: Path | None) -> TrustedRoot:
    from sigstore.models import TrustedRoot

    if path is not None:
        return TrustedRoot.from_file(str(path))
    with resources.as_file(resources.files("sigstore._store").joinpath(_EMBEDDED)) as embedded:
        return TrustedRoot.from_file(str(embedded))


def _signed_by(bundle: Bundle) -> str:
    from cryptography.x509 import SubjectAlternativeName

    names = bundle.signing_certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    return ", ".join(str(one.value) for one in names)


def can_sign(environ: Mapping[str, str]) -> bool:
    """Whether this is a job of GitHub Actions that may ask for an identity."""
    return bool(environ.get("ACTIONS_ID_TOKEN_REQUEST_URL") and environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN"))


def sign_bundle(statement: bytes) -> bytes:  # pragma: no cover - needs the identity of a workflow
    """A bundle with ``statement`` (of in-toto), signed by the workflow that runs this. The entry in the log is public.

    Raises:
        SigningError: there is no identity here, or sigstore does not answer.
        ToolMissingError: the package `sigstore` is not installed.
    """
    with _library():
        from sigstore.dsse import Statement
        from sigstore.errors import Error
        from sigstore.models import ClientTrustConfig
        from sigstore.oidc import IdentityToken, detect_credential
        from sigstore.sign import SigningContext

        token = detect_credential()
        if token is None:
            raise SigningError(
                "There is no identity to sign with: this is no job of GitHub Actions, or it lacks a permission.",
                advice="Give the job `permissions: id-token: write`, or leave keyless signatures out.",
            )
        try:
            context = SigningContext.from_trust_config(ClientTrustConfig.production())
            with context.signer(IdentityToken(token)) as signer:
                return signer.sign_dsse(Statement(statement)).to_json().encode()
        except Error as error:
            raise SigningError(f"sigstore has not signed: {error}", advice="Run the job again.") from error


@contextlib.contextmanager
def _library() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sigstore":
            raise
        raise ToolMissingError(
            "Bundles of sigstore need the package sigstore, which is not installed.",
            advice="Install Ferryman with its extra: pip install 'ferryman[sigstore]'.",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library warns that it works offline, which is what was asked for."""
    logger = logging.getLogger("sigstore")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
