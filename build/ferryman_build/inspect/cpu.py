"""What a native file asks of the processor, and the levels that a target may promise.

Names of levels and what is in them: the x86-64 psABI ("Micro-Architecture Levels") and the Arm Architecture Reference
Manual (the features that each version makes mandatory). A promise is a level and, behind plus signs, single features:
``x86-64-v1+cx16``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Each level has what those before it have. The first one is what every processor of the architecture has.
_AMD64: Mapping[str, frozenset[str]] = {
    "x86-64-v1": frozenset(),
    "x86-64-v2": frozenset({"cx16", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"}),
    "x86-64-v3": frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe"}),
    "x86-64-v4": frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
}
_ARM64: Mapping[str, frozenset[str]] = {
    "armv8.0": frozenset(),
    "armv8.1": frozenset({"crc32", "lse", "rdm"}),
    "armv8.2": frozenset({"dcpop"}),
    "armv8.3": frozenset({"fcma", "jscvt", "pauth", "rcpc"}),
    "armv8.4": frozenset({"dotprod", "flagm", "rcpc2"}),
    "armv8.5": frozenset({"frint", "sb"}),
    "armv8.6": frozenset({"bf16", "i8mm"}),
    "armv9.0": frozenset({"fp16", "sve", "sve2"}),
}
_ARM32: Mapping[str, frozenset[str]] = {
    "armv7": frozenset(),
    "armv8": frozenset({"armv8"}),
}
LEVELS: Mapping[str, Mapping[str, frozenset[str]]] = {"amd64": _AMD64, "arm64": _ARM64, "armv7": _ARM32}

# Names that stand for several features, all of them present since the first processor of the kind.
_BUNDLES: Mapping[str, frozenset[str]] = {
    "crypto": frozenset({"aes", "sha1", "sha2"}),
    "apple-m1": frozenset({
        "aes", "sha1", "sha2", "sha3", "sha512", "crc32", "lse", "rdm", "dcpop", "fcma", "jscvt", "pauth", "rcpc",
        "dotprod", "flagm", "rcpc2", "frint", "sb", "fp16", "fhm",
    }),
    "neon": frozenset({"neon", "vfpv3", "vfpv3-d32"}),
    "armv8": frozenset({"neon", "vfpv3", "vfpv3-d32", "vfpv4"}),
}  # fmt: skip


def level_of(arch: str, feature: str) -> str:
    """The first level that has ``feature``; "" when it is in none."""
    return next((name for name, has in LEVELS.get(arch, {}).items() if feature in has), "")


def level_text(arch: str, features: Iterable[str]) -> str:
    """The lowest promise that would do for ``features``: ``x86-64-v3+aes``; "" for an architecture without levels."""
    levels = LEVELS.get(arch)
    if levels is None:
        return ""
    names, wanted = list(levels), set(features)
    reached = max((names.index(level_of(arch, name)) for name in wanted if level_of(arch, name)), default=0)
    extras = sorted(name for name in wanted if not level_of(arch, name))
    return "+".join([names[reached], *extras])


def allowed(arch: str, promise: str) -> frozenset[str] | None:
    """The features that ``promise`` includes; None when nothing is promised or known for the architecture."""
    levels = LEVELS.get(arch)
    if levels is None or not promise:
        return None
    level, *extras = promise.split("+")
    names = list(levels)
    below = names[: names.index(level) + 1] if level in levels else ()
    found = {feature for name in below for feature in levels[name]} | _BUNDLES.get(level, frozenset())
    for name in extras:
        found |= _BUNDLES.get(name, {name})
    return frozenset(found)
