"""Sigstore: a signature by the identity of a workflow instead of a key. Only where GitHub Actions gives such an identity.

The certificate lives for minutes and says which workflow of which repository asked for it; the log entry proves when. Both
are in the bundle, so that verifying needs neither a login nor a network (ferryman_release.verify).
"""

from __future__ import annotations

from collections.abc import Mapping

from ferryman_build.errors import ToolMissingError
from ferryman_release.errors import KeyProblemError, SigningError

_REQUEST = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")


def available(environ: Mapping[str, str]) -> bool:
    """Whether this is a job of GitHub Actions that may ask for an identity (`permissions: id-token: write`)."""
    return environ.get("GITHUB_ACTIONS") == "true" and all(environ.get(name) for name in _REQUEST)


def sign_keyless(data: bytes, environ: Mapping[str, str]) -> bytes:
    """The bundle (JSON) of a signature over ``data``.

    Raises:
        KeyProblemError: this is no job that has an identity.
        ToolMissingError: sigstore is not installed.
        SigningError: sigstore's services did not answer, or refused.
    """
    if not available(environ):
        raise KeyProblemError(
            "Keyless signatures are made in GitHub Actions alone, and this is no job that has an identity.",
            advice="Give the job `permissions: id-token: write`, or sign with a key.",
        )
    try:
        from sigstore.errors import Error
        from sigstore.models import ClientTrustConfig
        from sigstore.oidc import IdentityToken, detect_credential
        from sigstore.sign import SigningContext
    except ModuleNotFoundError as error:
        raise ToolMissingError(
            f"Keyless signatures need the package {error.name}, which is not installed.",
            advice="pip install 'ferryman[sigstore]'",
        ) from error
    try:
        token = detect_credential()
        if token is None:
            raise KeyProblemError(
                "GitHub gave this job no identity.", advice="Give the job `permissions: id-token: write`."
            )
        context = SigningContext.from_trust_config(ClientTrustConfig.production())
        with context.signer(IdentityToken(token)) as signer:
            return signer.sign_artifact(data).to_json().encode()
    except (Error, OSError) as error:  # a service that cannot be reached is an OSError of requests
        raise SigningError(
            f"Sigstore made no signature: {error}", advice="Run the job again; its services may be down."
        ) from error
