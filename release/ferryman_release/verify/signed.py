"""Policies that vouch for an artifact by themselves: its provenance, a workflow's signature, a channel's metadata."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ferryman_build.errors import ToolMissingError
from ferryman_client.client import Client
from ferryman_client.errors import ClientError, UnknownReleaseError, UnreachableError
from ferryman_client.errors import VerifyError as ClientVerifyError
from ferryman_client.fetch import HttpFetcher
from ferryman_release.provenance import BUILD_TYPE, Statement, open_envelope
from ferryman_release.provenance.keyless import GITHUB, Identity, verify_bundle
from ferryman_release.verify.evidence import Evidence
from ferryman_release.verify.model import Failed, Held, Parameters, Skipped, Subject, Verdict

_AGAIN = "Take it again from where the release was published; if that does not help, do not use it."
_OTHER = "Ask whoever published it; if that does not explain it, do not use the artifact."


class Provenance:
    """The signed statement is by the project's key, about this file, and of the build that was asked for.

    Parameters: `commit` (its beginning is enough, 7 digits at least), `repository`, `builder`, `clean=yes` (no uncommitted
    changes).
    """

    parameters = frozenset({"commit", "repository", "builder", "clean"})
    cryptographic = True

    def verify(self, subject: Subject, evidence: Evidence, given: Parameters) -> Verdict:
        name = f"{subject.name}.intoto.json"
        data = evidence.document(name)
        if data is None:
            return Skipped("there is no provenance beside it")
        if not evidence.trust.provenance:
            return Skipped(
                "no key is known: name the project's key with --key, or its key folder with --keys"
            )
        found = open_envelope(data, evidence.trust.provenance, name=name)
        wrong = [
            *_subject_problems(found, subject, evidence), *_asked_problems(found, given),
            *filter(None, [evidence.wrong(name)]),
        ]  # fmt: skip
        if wrong:
            return Failed(
                "; ".join(f"{name} {one}" if one != evidence.wrong(name) else one for one in wrong), _OTHER
            )
        commit = f"commit {found.commit[:12]}" if found.commit else "no commit"
        return Held(f"{commit}{' with changes' if found.dirty else ''}, built by {found.builder}")


def _subject_problems(found: Statement, subject: Subject, evidence: Evidence) -> Iterator[str]:
    if subject.sha256 not in found.digests(subject.name):
        about = ", ".join(one.name for one in found.subject)
        yield f"is not about this file: its subject is {about}"
    if found.predicate.build_definition.build_type != BUILD_TYPE:
        yield f"is of another kind of build, {found.predicate.build_definition.build_type}"
    name, version = evidence.project()
    for what, wanted in (("project", name), ("version", version)):
        if wanted and found.parameters.get(what) != wanted:
            yield f"is of the {what} {found.parameters.get(what)!r}, and not of {wanted!r}"
    if evidence.manifest is not None and evidence.manifest.source.commit != found.commit:
        yield "is of another commit than manifest.json"


def _asked_problems(found: Statement, given: Parameters) -> Iterator[str]:
    if (commit := given.get("commit", "").lower()) and not (
        len(commit) >= 7 and found.commit.startswith(commit)
    ):
        yield f"is of commit {found.commit or 'none'}, and not of {commit}"
    if (wanted := given.get("repository", "")) and _plain(found.repository) != _plain(wanted):
        yield f"is of the repository {found.repository or 'none'}, and not of {wanted}"
    if (builder := given.get("builder", "")) and found.builder != builder:
        yield f"was built by {found.builder}, and not by {builder}"
    if given.get("clean") and (found.dirty or not found.commit):
        yield "is of a checkout with uncommitted changes" if found.commit else "is of no commit at all"


def _plain(repository: str) -> str:
    """A repository as it is compared: OWNER/NAME is one of GitHub."""
    whole = repository if "://" in repository or not repository else f"https://github.com/{repository}"
    return whole.rstrip("/").removesuffix(".git").lower()


class Sigstore:
    """The bundle is by the workflow that was named, for this file, and in the public log.

    Parameters: `repository` (OWNER/NAME), `identity` (of the workflow), `commit`, `ref`, `issuer`, `trusted-root` (a file).
    """

    parameters = frozenset({"repository", "identity", "commit", "ref", "issuer", "trusted-root"})
    cryptographic = True

    def verify(self, subject: Subject, evidence: Evidence, given: Parameters) -> Verdict:
        name = f"{subject.name}.sigstore.json"
        data = evidence.document(name)
        if data is None:
            return Skipped("there is no bundle of sigstore beside it")
        if wrong := evidence.wrong(name):
            return Failed(wrong, _AGAIN)
        if not (given.get("repository") or given.get("identity")):
            return Skipped("whose it must be was not said: --policy sigstore:repository=OWNER/NAME")
        identity = Identity(
            workflow=given.get("identity", ""), repository=given.get("repository", ""),
            commit=given.get("commit", ""), ref=given.get("ref", ""), issuer=given.get("issuer", GITHUB),
        )  # fmt: skip
        root = Path(given["trusted-root"]) if "trusted-root" in given else None
        try:
            who = verify_bundle(
                data, name=name, sha256=subject.sha256, identity=identity, artifact=subject.name, trusted_root=root
            )  # fmt: skip
        except ToolMissingError as error:
            return Skipped(str(error))
        return Held(f"by {who}")


class Tuf:
    """A channel's signed metadata leads to this very file: it offers it now, or has had its release.

    Parameter: `url` (the repository's prefix, where the files' own place does not tell it).
    """

    parameters = frozenset({"url"})
    cryptographic = True

    def verify(self, subject: Subject, evidence: Evidence, given: Parameters) -> Verdict:
        url = _prefix(given.get("url", "") or evidence.prefix)
        if not url:
            return Skipped("the repository is not known: --policy tuf:url=URL")
        if evidence.trust.root is None:
            return Skipped(
                "no root metadata is known: name the project's with --root, or its key folder with --keys"
            )
        if evidence.offline and urlsplit(url).scheme != "file":
            return Skipped("its metadata would have to be fetched, and --offline was given")
        found = [self._in_channel(subject, evidence, url, channel) for channel in evidence.trust.channels]
        verdicts = [one for one in found if not isinstance(one, str)]
        for kind in (
            Failed,
            Held,
            Skipped,
        ):  # what one channel has withdrawn is not good because another still has it
            if (verdict := next((one for one in verdicts if isinstance(one, kind)), None)) is not None:
                return verdict
        return Failed("; ".join(one for one in found if isinstance(one, str)), _AGAIN)

    def _in_channel(self, subject: Subject, evidence: Evidence, url: str, channel: str) -> Verdict | str:
        """The verdict, or why this channel does not know the file."""
        with tempfile.TemporaryDirectory(prefix="ferryman-verify-") as folder:
            client = Client(
                url, folder, root=evidence.trust.root, channel=channel,
                fetcher=evidence.source or HttpFetcher(),
            )  # fmt: skip
            try:
                client.strict_refresh()
                found = client.verify(subject.path, version=evidence.project()[1] or None)
            except (ClientVerifyError, UnknownReleaseError) as error:
                return str(error)
            except UnreachableError as error:
                return Skipped(f"the repository cannot be reached: {error}")
            except ClientError as error:
                return Failed(f"the metadata of {channel} does not hold: {error}", error.advice)
        if (known := found.path.rpartition("/")[2]) != subject.name:
            return Failed(f"{subject.name} is {known} in the metadata of {channel}", _AGAIN)
        if found.bad:
            return Failed(
                f"{subject.name} is {found.version} of {channel}, and {found.bad}", "Take another version."
            )
        return Held(f"{found.version} of the channel {channel}")


def _prefix(place: str) -> str:
    """A URL that ends with a slash; a folder of this machine becomes one."""
    if not place:
        return ""
    url = place if "://" in place else Path(place).absolute().as_uri()
    return url.rstrip("/") + "/"
