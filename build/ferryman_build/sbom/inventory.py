"""A program's inventory: which components it has, what each is known to be, and which needs which."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from packageurl import PackageURL

from ferryman_build.sbom.distributions import Distribution, requirement_graph
from ferryman_build.sbom.groups import Group, Grouped, Key, group_files
from ferryman_build.sbom.licences import licence
from ferryman_build.sbom.model import Basis, Component, File, Inventory, Sort
from ferryman_build.sbom.natives import libraries
from ferryman_build.sbom.packages import Package
from ferryman_build.sbom.program import Compiled, Owner, Program

UNKNOWN = "unknown: neither its bytes nor a package database say"
_APPLICATION, _INTERPRETER, _STARTER = Key(Owner.APPLICATION), Key(Owner.INTERPRETER), Key(Owner.STARTER)


def take_inventory(program: Program) -> Inventory:
    """The components of ``program`` and their needs; every file of it belongs to one."""
    taken = {program.interpreter.version} if program.interpreter else set()
    grouped = group_files(program.files, taken)
    groups = {_APPLICATION: Group(), _STARTER: Group(), **grouped.groups}
    if program.interpreter:
        groups.setdefault(_INTERPRETER, Group())
    components = {key: _component(key, group, program) for key, group in sorted(groups.items())}
    compiled = [_compiled(one, program) for one in program.starter.compiled]
    refs = {key: component.ref for key, component in components.items()}
    needs = _needs(program, grouped, refs)
    needs[refs[_STARTER]] |= {one.ref for one in compiled}
    application = components.pop(_APPLICATION)
    return Inventory(
        application=application,
        components=tuple(sorted((*components.values(), *compiled), key=lambda one: one.ref)),
        needs={ref: tuple(sorted(found - {ref})) for ref, found in sorted(needs.items())},
        epoch=program.epoch, tools=program.tools, properties=program.properties,
    )  # fmt: skip


def _component(key: Key, group: Group, program: Program) -> Component:
    files = tuple(sorted(File(file.path, file.sha256) for file in group.files))
    if key == _APPLICATION:
        return _distribution(program.application, Sort.APPLICATION, files)
    if key == _INTERPRETER:
        return _interpreter(program, group, files)
    if key == _STARTER:
        return _starter(program, files)
    if key.owner is Owner.WHEEL:
        known = program.wheels.get(key.name)
        return _distribution(known, Sort.LIBRARY, files) if known else _unlisted(key.name, files)
    return _library(key, group, files)


def _unlisted(name: str, files: tuple[File, ...]) -> Component:
    """What lies among the packages and no distribution lists."""
    return Component(
        ref=f"unlisted:{name}", sort=Sort.LIBRARY, name=name, files=files,
        properties=(("ferryman:version", "unknown: no distribution lists its files"),),
    )  # fmt: skip


def _purl(kind: str, name: str, version: str, namespace: str = "", **qualifiers: str) -> str:
    found = PackageURL(kind, namespace or None, name, version or None, qualifiers or None)
    return str(found.to_string())


def _cpe(product: str, version: str) -> str:
    """A name of the NVD (NISTIR 7695, 6.2): of a version's characters all but letters, digits, `.`, `-` and `_` are quoted."""
    quoted = re.sub(r"[^A-Za-z0-9._-]", r"\\\g<0>", version)
    return f"cpe:2.3:a:{product}:{quoted}:*:*:*:*:*:*:*" if product and version else ""


def _distribution(one: Distribution, sort: Sort, files: tuple[File, ...]) -> Component:
    purl = _purl("pypi", one.name, one.version)
    return Component(
        ref=purl, sort=sort, name=one.name, version=one.version, supplier=one.supplier, licences=one.licences, purl=purl,
        sha256=one.sha256, files=files, says=f"{one.name}-{one.version}.dist-info/METADATA",
        properties=(("ferryman:wheel", one.wheel),) if one.wheel else (),
    )  # fmt: skip


def _interpreter(program: Program, group: Group, files: tuple[File, ...]) -> Component:
    one = program.interpreter
    assert one is not None
    package = min(group.packages, default=None)
    return Component(
        ref=f"interpreter:cpython@{one.version}", sort=Sort.PLATFORM, name="cpython", version=one.version,
        supplier="Python Software Foundation", licences=(licence(one.licence or "PSF-2.0"),),
        purl=_package_purl(package) if package else _purl("generic", "cpython", one.version),
        cpe=_cpe("python:python", one.version), sha256=one.sha256, files=files, says=f"Python {one.version}",
        properties=tuple(("ferryman:origin", text) for text in _origins(one.origin, group.packages)),
    )  # fmt: skip


def _origins(origin: str, packages: Iterable[Package]) -> Iterator[str]:
    if origin:
        yield origin
    yield from (f"{one.name} {one.version} of {one.distro}" for one in sorted(packages))


def _starter(program: Program, files: tuple[File, ...]) -> Component:
    one = program.starter
    return Component(
        ref=f"starter:{one.name}@{one.version}", sort=Sort.APPLICATION, name=one.name, version=one.version,
        licences=(licence(one.licence),), purl=f"{one.purl}@{one.version}", files=files, basis=Basis.SOURCES,
        says=f"{one.name} {one.version}",
    )  # fmt: skip


def _compiled(one: Compiled, program: Program) -> Component:
    executable = [file.path for file in program.files if file.owner is Owner.STARTER and file.native]
    return Component(
        ref=f"library:{one.name}@{one.version}+{program.starter.name}", sort=Sort.LIBRARY, name=one.name,
        version=one.version, licences=(licence(one.licence),), purl=_purl("generic", one.name, one.version),
        cpe=_cpe(one.cpe, one.version), linked_into=tuple(executable), basis=Basis.SOURCES, says=one.says,
    )  # fmt: skip


def _library(key: Key, group: Group, files: tuple[File, ...]) -> Component:
    row = libraries().get(key.name)
    package = min(group.packages, default=None)
    name = key.name
    return Component(
        ref="+".join(filter(None, (f"library:{name}@{key.version or 'unknown'}", key.source.replace(" ", "@")))),
        sort=Sort.LIBRARY, name=name, version=key.version,
        supplier=package.distro.partition("-")[0] if package else "",
        licences=(licence(text),) if row and (text := row.licence_of(key.version)) else (),
        purl=_package_purl(package) if package else _purl("generic", name, key.version),
        cpe=_cpe(row.cpe, key.version) if row else "", files=files, linked_into=tuple(sorted(group.linked_into)),
        basis=Basis.BYTES if group.says else Basis.PACKAGE,
        says=min(group.says, default="") or (f"{package.name} {package.version}" if package else ""),
        properties=(
            *(() if key.version else (("ferryman:version", UNKNOWN),)),
            *(("ferryman:package", f"{one.name} {one.version} of {one.distro}") for one in sorted(group.packages)),
        ),
    )  # fmt: skip


def _package_purl(package: Package) -> str:
    upstream = {"upstream": package.source} if package.source != package.name else {}
    return _purl(
        "deb", package.name, package.version, package.distro.partition("-")[0], arch=package.architecture,
        distro=package.distro, **upstream,
    )  # fmt: skip


# --- what needs what --------------------------------------------------------------------------------------------------


def _needs(program: Program, grouped: Grouped, refs: Mapping[Key, str]) -> dict[str, set[str]]:
    """Ref → refs. Wheels by their requirements, native files by what the loader gives them and what is linked in."""
    found: dict[str, set[str]] = defaultdict(set, {ref: set() for ref in refs.values()})
    wheels = {key.name: ref for key, ref in refs.items() if key.owner is Owner.WHEEL}
    wheels[program.application.name] = application = refs[_APPLICATION]
    there = {name: one for name, one in program.wheels.items() if name in wheels}
    for name, needed in requirement_graph(program.application, there, program.environment).items():
        found[wheels[name]] |= {wheels[other] for other in needed}
    for user, needed_key in _native_needs(program, grouped):
        found[refs[user]].add(refs[needed_key])
    starter, interpreter = refs[_STARTER], refs.get(_INTERPRETER)
    found[application] |= {starter, *([interpreter] if interpreter else [])}
    if interpreter:
        found[starter].add(interpreter)
    _adopt(found, refs, grouped, interpreter or application, application)
    return found


def _native_needs(program: Program, grouped: Grouped) -> Iterator[tuple[Key, Key]]:
    places: dict[str, list[str]] = defaultdict(list)
    for file in program.files:
        places[posixpath.basename(file.path).lower()].append(file.path)
    for file in program.files:
        user = grouped.owner[file.path]
        for name in file.native.needed if file.native else ():
            candidates = places.get(posixpath.basename(name).lower(), [])
            near = min(candidates, key=lambda path: _distance(path, file.path), default=None)
            if near is not None:
                yield user, grouped.owner[near]
        for key in grouped.inside[file.path]:
            yield user, key


def _distance(path: str, user: str) -> tuple[bool, int, str]:
    """The library beside its user goes first, then those nearest to the top of the tree."""
    return posixpath.dirname(path) != posixpath.dirname(user), path.count("/"), path


def _adopt(
    found: dict[str, set[str]], refs: Mapping[Key, str], grouped: Grouped, libraries_to: str, wheels_to: str
) -> None:
    """What nobody needs by name is loaded by name at run time: it hangs on whoever brought it."""
    needed = {other for others in found.values() for other in others}
    for key, ref in refs.items():
        if ref in needed or key == _APPLICATION:
            continue
        group = grouped.groups.get(key, Group())
        brought = {refs[own] for file in group.files if (own := Key(file.owner, file.wheel)) in refs} - {ref}
        found[min(brought, default=wheels_to if key.owner is Owner.WHEEL else libraries_to)].add(ref)
