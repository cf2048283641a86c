"""Where an artifact comes from: a signed statement that a stranger can verify without an account and without a network.

    statement(manifest, artifact)     what is said: an in-toto Statement with SLSA's provenance, deterministic
    envelope(statement, signers)      signed, as <artifact>.intoto.json
    open_envelope(data, keys)         verified and read again
    keyless                           what a workflow of GitHub signs without a key, as <artifact>.sigstore.json

docs/provenance-v1.md says what every field means; its place is the build type that the statement names.
"""

from __future__ import annotations

from ferryman_release.provenance.dsse import envelope, open_envelope
from ferryman_release.provenance.model import BUILD_TYPE, Statement
from ferryman_release.provenance.slsa import repository_of, statement

__all__ = ["BUILD_TYPE", "Statement", "envelope", "open_envelope", "repository_of", "statement"]
