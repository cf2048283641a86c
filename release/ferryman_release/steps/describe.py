"""What is said about the artifacts: that they are what the build made, what is inside of them, where they come from."""

from __future__ import annotations

from ferryman_build.cache import file_digest
from ferryman_release.errors import VerifyError
from ferryman_release.job import Job
from ferryman_release.model import AssetKind
from ferryman_release.steps.collect import take_over

PROVENANCE = ".intoto.json"
BUNDLE = ".sigstore.json"


def checksums(job: Job) -> str:
    """Hash every artifact again.

    Raises:
        VerifyError: one is not what the manifest says; all of them are named.
    """
    wrong = [
        f"{artifact.path}: {job.assets[artifact.path].sha256} instead of {artifact.sha256}"
        for artifact in job.manifest.artifacts
        if (job.assets[artifact.path].sha256, job.assets[artifact.path].size)
        != (artifact.sha256, artifact.size)
    ]
    if wrong:
        raise VerifyError(
            f"{len(wrong)} files in {job.options.dist} are not what the build has made.",
            advice="Something changed them after the build; build again.",
            details=wrong,
        )
    return f"{len(job.manifest.artifacts)} files are what the manifest says"


def no_sboms(job: Job) -> str:
    """The reason why there are none."""
    return "" if any(artifact.sbom for artifact in job.manifest.artifacts) else "the build has made none"


def sboms(job: Job) -> str:
    """Take over the document that the build has made of each artifact.

    Raises:
        VerifyError: one is missing, or is not what the manifest says.
    """
    wrong, described = [], [one for one in job.manifest.artifacts if one.sbom]
    for artifact in described:
        source = job.options.dist / artifact.sbom
        if not source.is_file() or file_digest(source) != artifact.sbom_sha256:
            wrong.append(artifact.sbom)
            continue
        take_over(source, job.files / artifact.sbom)
        job.add(artifact.sbom, AssetKind.SBOM, about=artifact.path)
    if wrong:
        raise VerifyError(
            f"{len(wrong)} SBOMs in {job.options.dist} are not what the build has made.",
            advice="Something changed or removed them after the build; build again.", details=wrong,
        )  # fmt: skip
    missing = len(job.manifest.artifacts) - len(described)
    return f"{len(described)} documents" + (f"; {missing} artifacts have none" if missing else "")


def provenance(job: Job) -> str:
    """A signed statement for each artifact, and the bundles that a workflow has made.

    Raises:
        KeyProblemError: the key is not to be had.
        GithubError: what should be a bundle is none, or is about other bytes.
    """
    from ferryman_release.github.bundles import find_bundle
    from ferryman_release.provenance import envelope, statement

    signers = job.place.signing.signers("provenance")
    bundles = 0
    for artifact in job.manifest.artifacts:
        signed = envelope(statement(job.manifest, artifact, project=job.project), signers)
        job.write(f"{artifact.path}{PROVENANCE}", signed, AssetKind.PROVENANCE, about=artifact.path)
        bundle = find_bundle(job.options.dist, artifact.path, artifact.sha256)
        if bundle is not None:
            name = f"{artifact.path}{BUNDLE}"
            take_over(bundle, job.files / name)
            job.add(name, AssetKind.PROVENANCE, about=artifact.path,
                    media_type="application/vnd.dev.sigstore.bundle.v0.3+json")  # fmt: skip
            bundles += 1
    return f"{len(job.manifest.artifacts)} statements" + (
        f", {bundles} bundles of the workflow" if bundles else ""
    )
