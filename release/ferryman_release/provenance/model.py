"""The statement as types: in-toto's Statement v1 around SLSA's provenance v1, as far as Ferryman fills them.

Source of the names: in-toto attestation framework v1 (Statement, ResourceDescriptor) and SLSA v1.0 (Provenance). Both are
camelCase. A statement of ours with a field that is not here is of a newer Ferryman or of nobody, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

# Package URLs: they name this project's own documents without a host that somebody else may have one day.
BUILD_TYPE = "pkg:pypi/ferryman#docs/provenance-v1.md"
BUILDER = "pkg:pypi/ferryman"


class _Struct(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """Base: immutable, camelCase, what is empty is not written."""


class Resource(_Struct, frozen=True, kw_only=True):
    """in-toto's ResourceDescriptor: a thing, and the digests (algorithm → hex) of its bytes."""

    name: str = ""
    uri: str = ""
    digest: dict[str, str] = {}
    annotations: dict[str, object] = {}


class BuildDefinition(_Struct, frozen=True, kw_only=True):
    """What was asked for (external), what followed from it (internal), and everything that went in."""

    build_type: str
    external_parameters: dict[str, str]
    internal_parameters: dict[str, object] = {}
    resolved_dependencies: tuple[Resource, ...] = ()


class Builder(_Struct, frozen=True, kw_only=True):
    """Who built: an id that policies compare, and versions of what it consists of."""

    id: str
    version: dict[str, str] = {}


class RunDetails(_Struct, frozen=True, kw_only=True):
    """The run. There is no time in it: whoever builds the same again makes the same statement."""

    builder: Builder


class Predicate(_Struct, frozen=True, kw_only=True):
    """SLSA's provenance."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(_Struct, frozen=True, kw_only=True):
    """What is signed."""

    type: str = msgspec.field(name="_type")
    subject: tuple[Resource, ...]
    predicate_type: str
    predicate: Predicate

    @property
    def builder(self) -> str:
        """The builder's id."""
        return self.predicate.run_details.builder.id

    @property
    def parameters(self) -> dict[str, str]:
        """What was asked for: project, version, target, kind."""
        return self.predicate.build_definition.external_parameters

    def dependency(self, name: str) -> Resource | None:
        """The dependency of that name; `source` is the checkout."""
        return next((one for one in self.dependencies if one.name == name), None)

    @property
    def dependencies(self) -> tuple[Resource, ...]:
        """Everything that went in."""
        return self.predicate.build_definition.resolved_dependencies

    @property
    def commit(self) -> str:
        """Git's commit, '' when there was none."""
        source = self.dependency("source")
        return source.digest.get("gitCommit", "") if source else ""

    @property
    def repository(self) -> str:
        """The URL of the repository, '' when the project does not say one."""
        source = self.dependency("source")
        return source.uri.removeprefix("git+").partition("@")[0] if source else ""

    @property
    def dirty(self) -> bool:
        """Whether the checkout differed from the commit."""
        source = self.dependency("source")
        return bool(source and source.annotations.get("dirty"))

    def digests(self, name: str) -> Iterator[str]:
        """The SHA-256 (hex) of the subjects that are called ``name``."""
        yield from (one.digest.get("sha256", "") for one in self.subject if one.name == name)
