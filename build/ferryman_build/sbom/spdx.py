"""A CycloneDX document of ours as SPDX 2.3 in JSON: packages, licences, identifiers and what needs what.

Files are not listed: SPDX wants a SHA-1 of each, which nobody should believe any more. Source of the form: the SPDX
Specification 2.3, annex "Package information" and its JSON schema.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ferryman_build.errors import InspectError
from ferryman_build.sbom.licences import Licence, joined, licence

_PURPOSES = {"application": "APPLICATION", "library": "LIBRARY", "platform": "FRAMEWORK"}
_UNKNOWN = "NOASSERTION"


def spdx(document: bytes) -> bytes:
    """The SPDX document of the CycloneDX ``document``: the same one each time.

    Raises:
        InspectError: it is none of ours: it lacks what each of ours has.
    """
    try:
        return _made(msgspec.json.decode(document))
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise InspectError(
            f"The document is not one of Ferryman, so it cannot be written as SPDX: {type(error).__name__}: {error}.",
            advice="Name an artifact of `ferryman build`.",
        ) from error


def _made(source: Mapping[str, Any]) -> bytes:
    metadata, application = source["metadata"], source["metadata"]["component"]
    components = [application, *source.get("components", ())]
    ids = _ids(component["bom-ref"] for component in components)
    names = _LicenceRefs()
    packages = [_package(component, ids, names) for component in components]
    made = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{application['name']}-{application.get('version', '')}",
        "documentNamespace": uuid.uuid5(uuid.UUID(source["serialNumber"]), "SPDX-2.3").urn,
        "creationInfo": {
            "created": metadata["timestamp"].replace("+00:00", "Z"),
            "creators": [f"Tool: {tool['name']}-{tool['version']}" for tool in _tools(metadata)],
        },
        "packages": packages,
        "relationships": list(_relationships(source, ids)),
        **({"hasExtractedLicensingInfos": names.infos()} if names.infos() else {}),
    }
    return msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n"


def _tools(metadata: Mapping[str, Any]) -> Iterable[Mapping[str, str]]:
    """Ferryman; what else took part in the build has not written this document."""
    return [tool for tool in metadata["tools"]["components"] if tool["name"] == "ferryman"]


def _ids(refs: Iterable[str]) -> dict[str, str]:
    """Ref → SPDXRef of letters, digits, dots and hyphens; a second one of the same letters gets a number."""
    found: dict[str, str] = {}
    for ref in refs:
        plain = f"SPDXRef-{re.sub(r'[^A-Za-z0-9.-]+', '-', ref).strip('-')}"
        taken = sum(other == plain or other.startswith(f"{plain}--") for other in found.values())
        found[ref] = f"{plain}--{taken + 1}" if taken else plain
    return found


def _package(component: Mapping[str, Any], ids: Mapping[str, str], names: _LicenceRefs) -> dict[str, Any]:
    properties = [(row["name"], row["value"]) for row in component.get("properties", ())]
    wheel = next((value for name, value in properties if name == "ferryman:wheel"), "")
    supplier = component.get("supplier", {}).get("name", "")
    said = [
        f"{name.removeprefix('ferryman:')}: {value}" for name, value in properties if name != "ferryman:wheel"
    ]
    found = {
        "SPDXID": ids[component["bom-ref"]],
        "name": component["name"],
        "versionInfo": component.get("version", ""),
        "packageFileName": wheel,
        "supplier": f"Organization: {supplier}" if supplier else _UNKNOWN,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "checksums": [
            {"algorithm": row["alg"].replace("-", ""), "checksumValue": row["content"]}
            for row in component.get("hashes", ())
        ],
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": _declared(component, names),
        "copyrightText": _UNKNOWN,
        "externalRefs": list(_references(component)),
        "primaryPackagePurpose": _PURPOSES[component["type"]],
        "comment": "\n".join(said),
    }
    return {key: value for key, value in found.items() if value or value is False}


def _references(component: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for key, category, kind in (("purl", "PACKAGE-MANAGER", "purl"), ("cpe", "SECURITY", "cpe23Type")):
        if key in component:
            yield {
                "referenceCategory": category,
                "referenceType": kind,
                "referenceLocator": component[key],
            }


def _declared(component: Mapping[str, Any], names: _LicenceRefs) -> str:
    rows = component.get("licenses", ())
    return joined(names.expression(_licence(row)) for row in rows) or _UNKNOWN


def _licence(row: Mapping[str, Any]) -> Licence:
    if "expression" in row:
        return licence(row["expression"])
    one = row["license"]
    return Licence(expression=one["id"]) if "id" in one else Licence(name=one["name"])


class _LicenceRefs:
    """Licences that SPDX has no identifier for, each under one of the document's own."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def expression(self, one: Licence) -> Licence:
        if one.expression:
            return one
        plain = re.sub(r"[^A-Za-z0-9.-]+", "-", one.name).strip("-")
        return Licence(expression=self._names.setdefault(one.name, f"LicenseRef-{plain}"))

    def infos(self) -> list[dict[str, str]]:
        return [
            {"licenseId": ref, "name": name, "extractedText": name}
            for name, ref in sorted(self._names.items())
        ]


def _relationships(source: Mapping[str, Any], ids: Mapping[str, str]) -> Iterator[dict[str, str]]:
    yield _related("SPDXRef-DOCUMENT", "DESCRIBES", ids[source["metadata"]["component"]["bom-ref"]])
    for row in source.get("dependencies", ()):
        for needed in row.get("dependsOn", ()):
            yield _related(ids[row["ref"]], "DEPENDS_ON", ids[needed])


def _related(one: str, how: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}
