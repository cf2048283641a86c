"""What differs between two releases: files, sizes, what is inside of them, what they need."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import msgspec

from ferryman_build.artifacts import Artifact
from ferryman_build.ui import human_size
from ferryman_release.errors import VerifyError
from ferryman_release.model import Asset, AssetKind, Release
from ferryman_release.store.base import Store


class Row(msgspec.Struct, frozen=True):
    """One difference: ``what`` it is about, ``before`` and ``after``; '' where there is nothing."""

    what: str
    before: str
    after: str


Components = Mapping[str, str]
"""What is inside of an artifact: name → version."""


def differences(
    old: Release, new: Release, old_inside: Mapping[str, Components], new_inside: Mapping[str, Components]
) -> Iterator[Row]:
    """Every difference; the insides are by `<target> <kind>`."""
    before, after = _by_role(old), _by_role(new)
    for role in sorted({*before, *after}):
        yield from _artifact(role, before.get(role), after.get(role))
        yield from _table(f"{role}: ", old_inside.get(role, {}), new_inside.get(role, {}))
    yield from _table("commit", {"": old.source.commit}, {"": new.source.commit})


def _by_role(release: Release) -> dict[str, Artifact]:
    return {f"{one.target} {one.kind}": one for one in release.artifacts}


def _artifact(role: str, old: Artifact | None, new: Artifact | None) -> Iterator[Row]:
    if old is None or new is None:
        yield Row(role, human_size(old.size) if old else "", human_size(new.size) if new else "")
        return
    if old.sha256 != new.sha256:
        percent = (new.size - old.size) * 100 / max(old.size, 1)
        yield Row(role, human_size(old.size), f"{human_size(new.size)} ({percent:+.1f} %)")
    yield from _table(f"{role} needs ", old.needs.floor, new.needs.floor)
    yield from _table(f"{role} ", {"python": old.python}, {"python": new.python})


def _table(prefix: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Row]:
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            yield Row(f"{prefix}{key}", old.get(key, ""), new.get(key, ""))


def insides(store: Store, release: Release) -> dict[str, Components]:
    """What the attached SBOMs say is inside of each artifact, by `<target> <kind>`.

    Raises:
        VerifyError: one is missing, or is not what release.json has the digest of.
    """
    found: dict[str, Components] = {}
    for artifact in release.artifacts:
        asset = next(
            (one for one in release.assets if one.kind is AssetKind.SBOM and one.about == artifact.path), None
        )
        if asset is not None:
            found[f"{artifact.target} {artifact.kind}"] = components(_read(store, release, asset))
    return found


def _read(store: Store, release: Release, asset: Asset) -> bytes:
    key = f"{release.folder}/{asset.path}"
    found = store.get(key)
    if found is None or hashlib.sha256(found[0]).hexdigest() != asset.sha256:
        what = "is missing" if found is None else "is not the one that was released"
        raise VerifyError(
            f"{key} {what}.", advice="Somebody changed the store; put the object back from a copy."
        )
    return found[0]


class _Component(msgspec.Struct):
    name: str
    version: str = ""
    type: str = ""


class _Bom(msgspec.Struct):
    components: list[_Component] = []


def components(sbom: bytes) -> Components:
    """Name → version of every component that is no single file."""
    try:
        found = msgspec.json.decode(sbom, type=_Bom).components
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}  # of a form that this Ferryman does not know: nothing is said about it
    return {one.name: one.version or "unknown" for one in found if one.type != "file"}
