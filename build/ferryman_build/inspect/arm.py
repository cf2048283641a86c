"""Which features beyond the first version of the architecture a file for Arm needs.

AArch64 has words of 32 bits, so masks find an instruction without a disassembler: the table below is from the Arm
Architecture Reference Manual, chapter C4. Hints that an older processor takes for NOP (BTI, PACIASP, AUTIASP) are not in
it. For 32 bits the linker leaves a section that says which processor the compiler was told to expect
(".ARM.attributes", Addenda to the ABI for the Arm Architecture).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping

from ferryman_build.inspect.code import Code, Holders, Piece, pieces
from ferryman_build.inspect.cpu import level_of
from ferryman_build.inspect.native import Cpu, Reason

# feature → (mask, value) of the words that need it
_WORDS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "lse": (
        (0x3F208C00, 0x38200000),  # LDADD, LDCLR, LDEOR, LDSET, LDSMAX …
        (0x3F20FC00, 0x38208000),  # SWP
        (0x3FA07C00, 0x08A07C00),  # CAS
        (0xBFA07C00, 0x08207C00),  # CASP
    ),
    "crc32": ((0x7FE0E000, 0x1AC04000),),
    "rdm": (
        (0xBF20F400, 0x2E008400),
        (0xFF20F400, 0x7E008400),
        (0xBF00D400, 0x2F00D000),
        (0xFF00D400, 0x7F00D000),
    ),
    "aes": ((0xFFFFCC00, 0x4E284800),),
    "pmull": ((0xBFE0FC00, 0x0EE0E000),),  # of 64 bits; the one of 8 bits is everywhere
    "sha1": ((0xFFE0CC00, 0x5E000000), (0xFFFFEC00, 0x5E280800)),
    "sha2": ((0xFFE0CC00, 0x5E004000), (0xFFFFFC00, 0x5E282800)),
    "sha512": ((0xFFE0F800, 0xCE608000), (0xFFE0FC00, 0xCE608800), (0xFFFFFC00, 0xCEC08000)),
    "sha3": ((0xFFC08000, 0xCE000000), (0xFFE00000, 0xCE800000), (0xFFE0FC00, 0xCE608C00)),
    "sm3": ((0xFFE08000, 0xCE400000), (0xFFE0C000, 0xCE408000), (0xFFE0F800, 0xCE60C000)),
    "sm4": ((0xFFE0FC00, 0xCE60C800), (0xFFFFFC00, 0xCEC08400)),
    "fp16": (
        (0x9F60C400, 0x0E400400),
        (0xDF60C400, 0x5E400400),
        (0x9F7E0C00, 0x0E780800),
        (0xFFE00C00, 0x1EE00800),
        (0xFFC00000, 0x1FC00000),
        (0xFFE0FC00, 0x1EE02000),
        (0xFFE0FC00, 0x1EE00000),
    ),
    "dotprod": ((0x9FE0FC00, 0x0E809400), (0x9FC0F400, 0x0F80E000)),
    "fhm": ((0xBFA0FC00, 0x0E20EC00), (0xBFA0FC00, 0x2E20CC00)),
    "fcma": ((0xBF20E400, 0x2E00C400), (0xBF20EC00, 0x2E00E400)),
    "jscvt": ((0xFFFFFC00, 0x1E7E0000),),
    "rcpc": ((0x3FFFFC00, 0x38BFC000),),
    "rcpc2": ((0x3F200C00, 0x19000000),),
    "pauth": (
        (0xFE9FF800, 0xD61F0800),
        (0xFFFF0000, 0xDAC10000),
        (0xFFE0FC00, 0x9AC03000),
        (0xFF200400, 0xF8200400),
    ),
    "i8mm": ((0x9FE0FC00, 0x0E80A400), (0xBFE0FC00, 0x0E80AC00), (0xBFE0FC00, 0x0E809C00)),
    "bf16": (
        (0xFFE0FC00, 0x6E40EC00),
        (0xBFE0FC00, 0x2E40FC00),
        (0xFFFFFC00, 0x1E634000),
        (0xBFFFFC00, 0x0EA16800),
    ),
    "flagm": ((0xFFFFFFFF, 0xD500401F), (0xFFE07C10, 0xBA000400), (0xFFFFBC1F, 0x3A00080D)),
    "frint": ((0xFFBE7C00, 0x1E284000),),
    "dcpop": ((0xFFFFFFE0, 0xD50B7C20),),
    "sb": ((0xFFFFFFFF, 0xD50330FF),),
    "mops": ((0x3B200C00, 0x19000400),),
    "sve": ((0x1E000000, 0x04000000),),
}
# CNTD Xd: how long a vector of SVE is. The unwinder of GCC (libgcc_s, config/aarch64) reads it for frames that keep SVE
# registers, of which a processor without them has none; what computes with vectors has other words of SVE as well.
_VECTOR_LENGTH_MASK, _VECTOR_LENGTH = 0xFFFFFFE0, 0x04E0E3E0
_ASKS_MASK, _ASKS = 0xFFFFFC00, 0xD5380400  # MRS Xt, ID_AA64…_EL1, which Linux answers for programs
_NEIGHBOURS = 16


@functools.cache
def _by_first_byte() -> tuple[tuple[tuple[int, int, str], ...], ...]:
    rules = [(mask, value, name) for name, words in _WORDS.items() for mask, value in words]
    rules.append((_ASKS_MASK, _ASKS, ""))
    return tuple(
        tuple(rule for rule in rules if (top << 24) & rule[0] & 0xFF000000 == rule[1] & 0xFF000000)
        for top in range(256)
    )


def feature(word: int) -> str | None:
    """What the instruction ``word`` needs; "" for one that asks what the processor has, None for all others."""
    if word & _VECTOR_LENGTH_MASK == _VECTOR_LENGTH:
        return None
    for mask, value, name in _by_first_byte()[word >> 24]:
        if word & mask == value:
            return name
    return None


def measure(code: Code) -> Cpu:
    """What the AArch64 instructions in ``code`` need."""
    found: dict[str, Reason] = {}
    early: dict[str, Reason] = {}
    holders = Holders(code)
    asks = set(code.asks)
    for piece in pieces(code):
        hits = list(_hits(piece, sure=piece.sure and not code.mixed))
        if any(not name for _, _, name in hits):
            asks.add("reads the processor's identification registers")
        for at, _, name in hits:
            if name:
                holders.add(name, piece, at)
        reasons = {name: _reason(code, *hit) for *hit, name in reversed(hits) if name}
        for name, reason in reasons.items():
            found.setdefault(name, Reason(level_of("arm64", name), "", reason.label, reason.symbol))
            if _called_at_load(piece, code.entries):
                early.setdefault(name, found[name])
    return Cpu(
        features=dict(sorted(found.items())), early=dict(sorted(early.items())), chosen=tuple(sorted(asks)),
        holders=holders.listed(),
    )  # fmt: skip


def _reason(code: Code, address: int, word: int) -> Reason:
    return Reason("", "", f"instruction {word:08x}", code.name(address))


def _called_at_load(piece: Piece, entries: Iterable[int]) -> bool:
    return piece.sure and any(piece.address <= entry < piece.address + len(piece.data) for entry in entries)


def _hits(piece: Piece, *, sure: bool) -> Iterator[tuple[int, int, str]]:
    """(address, word, feature) of each distinct word that matters, at its first place."""
    skipped = -piece.address % 4
    data = piece.data[skipped:]
    words = memoryview(data[: len(data) // 4 * 4]).cast("I").tolist()
    wanted = {word: name for word in set(words) if (name := feature(word)) is not None}
    for word, name in wanted.items():
        for at in _places(words, word):
            if sure or _like_code(words[max(at - _NEIGHBOURS, 0) : at + _NEIGHBOURS + 1]):
                yield piece.address + skipped + 4 * at, word, name
                break


def _places(words: list[int], word: int) -> Iterator[int]:
    at = -1
    try:
        while True:
            at = words.index(word, at + 1)
            yield at
    except ValueError:
        return


def _like_code(words: Iterable[int]) -> bool:
    """None of them lies in a group of encodings that is empty, or that of SVE: zeros and text do."""
    return all(word >> 25 & 0xF > 3 for word in words)


# --- 32 bits ----------------------------------------------------------------------------------------------------------

_CPU_ARCH, _FP_ARCH, _SIMD_ARCH, _ABI_VFP_ARGS = 6, 10, 12, 28
_STRINGS = {
    4,
    5,
    67,
}  # tags whose value is a string; 32 is a number and a string, every other odd one above 32 a string
_FP = {
    3: ("vfpv3", "vfpv3-d32"), 4: ("vfpv3",), 5: ("vfpv3", "vfpv3-d32", "vfpv4"), 6: ("vfpv3", "vfpv4"),
    7: ("armv8", "vfpv3", "vfpv3-d32", "vfpv4"), 8: ("armv8", "vfpv3", "vfpv4"),
}  # fmt: skip
_V8 = 14  # of Tag_CPU_arch: v8-A and everything after it


def attributes(section: bytes) -> Mapping[int, int]:
    """Tag → number of the file's own attributes in .ARM.attributes; strings are left out.

    Raises:
        ValueError, IndexError: the section is damaged.
    """
    found: dict[int, int] = {}
    if section[:1] != b"A":
        return found
    at = section.index(b"\0", 5) + 1  # behind the length and the vendor's name
    if section[at : at + 1] != b"\x01":  # Tag_File
        return found
    end = min(at + int.from_bytes(section[at + 1 : at + 5], "little"), len(section))
    at += 5
    while at < end:
        tag, at = _leb(section, at)
        if tag == 32:
            _, at = _leb(section, at)
        if tag in _STRINGS or (tag >= 32 and tag % 2) or tag == 32:
            at = section.index(b"\0", at) + 1
            continue
        found[tag], at = _leb(section, at)
    return found


def _leb(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def measure_attributes(section: bytes, asks: tuple[str, ...] = ()) -> Cpu:
    """What the linker wrote down about a 32-bit file: the most that any of its parts needs.

    Args:
        section: the content of .ARM.attributes.
        asks: how the file learns what the processor has.
    """
    tags = attributes(section)
    names = [(_FP_ARCH, name) for name in _FP.get(tags.get(_FP_ARCH, 0), ())]
    if tags.get(_SIMD_ARCH, 0):
        names.append((_SIMD_ARCH, "neon"))
    if tags.get(_CPU_ARCH, 0) >= _V8 and tags.get(_CPU_ARCH) not in (
        16,
        17,
    ):  # v8-M is another line of processors
        names.append((_CPU_ARCH, "armv8"))
    labels = {_CPU_ARCH: "Tag_CPU_arch", _FP_ARCH: "Tag_FP_arch", _SIMD_ARCH: "Tag_Advanced_SIMD_arch"}
    found = {
        name: Reason(level_of("armv7", name), "", f"{labels[tag]} {tags[tag]}", ".ARM.attributes")
        for tag, name in names
    }
    return Cpu(features=dict(sorted(found.items())), chosen=asks)
