"""An inventory as a CycloneDX 1.6 document in JSON.

The model and its JSON are cyclonedx-python-lib's; what the library leaves to chance, the order of lists, is settled here, so
that one inventory is always the same bytes. The serial number is made of the content.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component as CdxComponent
from cyclonedx.model.component import ComponentType
from cyclonedx.model.component_evidence import (
    AnalysisTechnique,
    ComponentEvidence,
    Identity,
    IdentityField,
    Method,
    Occurrence,
)
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseAcknowledgement, LicenseExpression
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import is_supported_id
from packageurl import PackageURL

from ferryman_build.cache import digest
from ferryman_build.sbom.licences import Licence, joined
from ferryman_build.sbom.model import Basis, Component, File, Inventory

SHA256 = "sha256:"
"""What a file's digest begins with, in the context of its occurrence."""
_CONFIDENCE = {Basis.BYTES: "0.9", Basis.PACKAGE: "1", Basis.METADATA: "1", Basis.SOURCES: "1"}
_TOP = ("bomFormat", "specVersion", "serialNumber", "version", "metadata", "components", "dependencies")


def cyclonedx(inventory: Inventory) -> bytes:
    """The document: UTF-8, one blank of indent, a line break at the end."""
    everything = (inventory.application, *inventory.components)
    bom = Bom(
        components=[_component(one) for one in inventory.components], metadata=_metadata(inventory),
        serial_number=uuid.UUID(int=0),
        dependencies=[_dependency(one.ref, inventory.needs.get(one.ref, ())) for one in everything],
    )  # fmt: skip
    document = _ordered(json.loads(JsonV1Dot6(bom).output_as_string()))
    del document["$schema"], document["serialNumber"]
    document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, digest(document)).urn
    listed = {key: document[key] for key in _TOP if key in document}
    return msgspec.json.format(msgspec.json.encode(listed), indent=1) + b"\n"


def _metadata(inventory: Inventory) -> BomMetaData:
    tools = [
        CdxComponent(type=ComponentType.APPLICATION, name=name, version=version)
        for name, version in inventory.tools
    ]
    return BomMetaData(
        timestamp=datetime.fromtimestamp(inventory.epoch, UTC), component=_component(inventory.application),
        tools=ToolRepository(components=tools), lifecycles=[PredefinedLifecycle(LifecyclePhase.BUILD)],
        properties=_properties(inventory.properties),
    )  # fmt: skip


def _component(one: Component) -> CdxComponent:
    linked = (("ferryman:linked-into", path) for path in one.linked_into)
    return CdxComponent(
        type=ComponentType(one.sort.value), name=one.name, version=one.version or None, bom_ref=one.ref,
        supplier=OrganizationalEntity(name=one.supplier) if one.supplier else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.sha256)] if one.sha256 else (),
        licenses=_licences(one.licences), purl=PackageURL.from_string(one.purl) if one.purl else None,
        cpe=one.cpe or None, properties=_properties((*one.properties, *linked)), evidence=_evidence(one),
    )  # fmt: skip


def _properties(pairs: Iterable[tuple[str, str]]) -> list[Property]:
    return [Property(name=name, value=value) for name, value in pairs]


def _licences(licences: tuple[Licence, ...]) -> list[License]:
    """One expression, or a list of single licences: the format has no list with expressions in it."""
    declared = LicenseAcknowledgement.DECLARED
    if any(one.compound for one in licences) and (expression := joined(licences)):
        return [LicenseExpression(expression, acknowledgement=declared)]
    return [
        DisjunctiveLicense(id=one.expression, acknowledgement=declared)
        if is_supported_id(one.expression)
        else DisjunctiveLicense(name=one.name or one.expression, acknowledgement=declared)
        for one in licences
    ]


def _evidence(one: Component) -> ComponentEvidence | None:
    if not one.files and not one.says:
        return None
    return ComponentEvidence(
        occurrences=[_occurrence(file) for file in one.files],
        identity=[_identity(one)] if one.says and one.version else (),
    )


def _identity(one: Component) -> Identity:
    """Where the version is known from."""
    confidence = Decimal(_CONFIDENCE[one.basis])
    method = Method(technique=AnalysisTechnique(one.basis.value), confidence=confidence, value=one.says)
    return Identity(
        field=IdentityField.VERSION, confidence=confidence, concluded_value=one.version, methods=[method]
    )


def _occurrence(file: File) -> Occurrence:
    return Occurrence(
        location=file.path, additional_context=f"{SHA256}{file.sha256}" if file.sha256 else None
    )


def _dependency(ref: str, needs: Iterable[str]) -> Dependency:
    return Dependency(BomRef(ref), [Dependency(BomRef(needed)) for needed in needs])


# --- order ------------------------------------------------------------------------------------------------------------

# How the entries of a list are sorted, by the list's name; what is not here is sorted as text.
_SORTED_BY = {"components": "bom-ref", "occurrences": "location", "dependencies": "ref"}
# The beginning of a component for readers; the rest by name.
_FIRST = ("type", "bom-ref", "supplier", "name", "version", "timestamp", "location", "ref")


def _ordered(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        keys = sorted(value, key=lambda key: (_FIRST.index(key) if key in _FIRST else len(_FIRST), key))
        return {key: _ordered(value[key], key) for key in keys}
    if isinstance(value, list):
        entries = [_ordered(entry) for entry in value]
        return sorted(entries, key=lambda entry: _rank(entry, name))
    return value


def _rank(entry: Any, name: str) -> tuple[str, str]:
    key = entry.get(_SORTED_BY.get(name, ""), "") if isinstance(entry, Mapping) else ""
    return str(key), json.dumps(entry, sort_keys=True)
