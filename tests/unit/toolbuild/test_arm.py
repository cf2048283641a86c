"""arm: masks find the instructions that they are meant for, and no others; attributes are read as linkers write them."""

from __future__ import annotations

import random

import pytest

from ferryman_build.inspect import arm
from ferryman_build.inspect.code import Code
from ferryman_build.inspect.elf_strip import strip_elf
from ferryman_build.inspect.measure import measure
from support.elf_factory import ALLOC, ATTRIBUTES, PROGBITS, STRTAB, make_elf

NOP, RET = 0xD503201F, 0xD65F03C0


@pytest.mark.parametrize(
    ("word", "feature"),
    [
        (NOP, None), (RET, None),
        (0xD503233F, None),  # paciasp: a hint
        (0xD50323BF, None),  # autiasp
        (0xD503245F, None),  # bti c
        (0x885FFC20, None), (0x88017C20, None),  # ldaxr, stxr: atomics of ARMv8.0
        (0x08DFFC20, None), (0x889FFC20, None),  # ldarb, stlr
        (0x4EA18400, None),  # add v0.4s
        (0x0E20E020, None),  # pmull of 8 bits
        (0x1EE24020, None), (0x1E23C020, None),  # fcvt from and to half precision
        (0xF8616820, None),  # ldr with an index
        (0x38617820, None),
        (0x1E212820, None),  # fadd s0
        (0xB8E10041, "lse"),  # ldaddal
        (0xF8218020, "lse"),  # swp
        (0xC8A17C41, "lse"),  # cas
        (0x48207C82, "lse"),  # casp
        (0x1AC14400, "crc32"), (0x9AC34C41, "crc32"),
        (0x4E284820, "aes"), (0x4EE0E020, "pmull"), (0x5E000020, "sha1"), (0x5E004020, "sha2"), (0xCE608020, "sha512"),
        (0xCE020C20, "sha3"), (0xCEC08420, "sm4"), (0xCE63C041, "sm3"),
        (0x38BFC020, "rcpc"), (0x99400020, "rcpc2"),
        (0xD65F0BFF, "pauth"), (0xDAC10020, "pauth"), (0xF8200420, "pauth"),
        (0x4E829420, "dotprod"), (0x1EE22820, "fp16"), (0x1E7E0020, "jscvt"), (0x6E82A420, "i8mm"), (0x6E42EC20, "bf16"),
        (0x04210041, "sve"), (0xD500401F, "flagm"),
        (0x04E0E3E0, None), (0x04E0E3E7, None),  # cntd: what GCC's unwinder asks for frames of SVE
        (0xD5380600, ""),  # mrs x0, id_aa64isar0_el1
    ],
)  # fmt: skip
def test_word(word: int, feature: str | None) -> None:
    """What an instruction needs; "" asks what the processor has."""
    assert arm.feature(word) == feature


# What capstone calls the instructions of each feature. A name in no other feature's list proves the mask.
NAMES = {
    "lse": ("ld", "st", "swp", "cas"), "crc32": ("crc32",), "aes": ("aes",), "pmull": ("pmull",), "sha1": ("sha1",),
    "sha2": ("sha256",), "sha512": ("sha512",), "sha3": ("eor3", "bcax", "rax1", "xar"), "sm3": ("sm3",),
    "sm4": ("sm4",), "rcpc": ("ldapr",), "dotprod": ("sdot", "udot"), "jscvt": ("fjcvtzs",), "rdm": ("sqrdml",),
    "fcma": ("fcmla", "fcadd"), "i8mm": ("smmla", "ummla", "usmmla", "usdot"), "bf16": ("bf",),
    "frint": ("frint",), "fhm": ("fmlal", "fmlsl"), "rcpc2": ("ldapur", "stlur"), "dcpop": ("dc",),
    "pauth": ("bra", "blra", "reta", "pac", "aut", "ldra", "xpac", "ereta"),
}  # fmt: skip


def test_masks_agree_with_capstone() -> None:
    """Random words through every mask: where another disassembler knows the word, it gives it a name of that feature."""
    capstone = pytest.importorskip("capstone", reason="NOT COMPARED: capstone is missing")
    reader = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    draw = random.Random(8)
    for feature, names in NAMES.items():
        known = 0
        for mask, value in arm._WORDS[feature]:
            for _ in range(300):
                word = draw.getrandbits(32) & ~mask & 0xFFFFFFFF | value
                for one in reader.disasm(word.to_bytes(4, "little"), 0):
                    known += 1
                    assert one.mnemonic.startswith(names), (feature, hex(word), one.mnemonic)
        assert known > 20, feature


def code(words: list[int], **facts: object) -> Code:
    data = b"".join(word.to_bytes(4, "little") for word in words)
    values = {"sections": ((0x1000, data),), "functions": ((0x1000, 0x1000 + len(data)),), **facts}
    return Code(**values)  # type: ignore[arg-type]


def test_measured() -> None:
    """Feature, level and first place; reading an identification register is asking."""
    cpu = arm.measure(code([NOP, 0xB8E10041, 0xB8E10041, 0x4E284820, RET]))
    assert {name: (one.version, one.symbol) for name, one in cpu.features.items()} == {
        "aes": ("", "0x100c"), "lse": ("armv8.1", "0x1004"),
    }  # fmt: skip
    assert cpu.chosen == ()
    assert arm.measure(code([0xD5380600, RET])).chosen == ("reads the processor's identification registers",)
    assert arm.measure(code([0xB8E10041, RET], entries=(0x1000,))).early.keys() == {"lse"}


def test_tables_between_functions_are_no_code() -> None:
    """A word among zeros or text is a constant; the same word among instructions counts."""
    lse = 0xB8E10041
    assert arm.measure(code([0] * 20 + [lse] + [0] * 20, functions=())).features == {}
    text = [int.from_bytes(b"word", "little")] * 20
    assert arm.measure(code([*text, lse, *text], functions=())).features == {}
    assert arm.measure(code([NOP] * 20 + [lse] + [NOP] * 20, functions=())).features.keys() == {"lse"}


def attributes(*pairs: tuple[int, int], architecture: str = "8-A") -> bytes:
    """.ARM.attributes with a string in front, as GNU as and LLVM write it; numbers below 128."""
    body = (
        b"\x43" + b"2.09\0" + b"\5" + architecture.encode() + b"\0" + b"".join(bytes(pair) for pair in pairs)
    )
    file = b"\1" + (5 + len(body)).to_bytes(4, "little") + body
    vendor = b"aeabi\0" + file
    return b"A" + (4 + len(vendor)).to_bytes(4, "little") + vendor


@pytest.mark.parametrize(
    ("pairs", "features"),
    [
        (((6, 10),), set()),
        (((6, 10), (10, 4)), {"vfpv3"}),
        (((6, 10), (10, 3), (12, 1)), {"vfpv3", "vfpv3-d32", "neon"}),
        (((6, 10), (10, 6)), {"vfpv3", "vfpv4"}),
        (((6, 14), (10, 7), (12, 3)), {"armv8", "vfpv3", "vfpv3-d32", "vfpv4", "neon"}),
        (((6, 17),), set()),  # v8-M is another line
    ],
)
def test_attributes(pairs: tuple[tuple[int, int], ...], features: set[str]) -> None:
    """The numbers of the ABI addenda; the file is measured after stripping as before it."""
    rows = (
        (".dynstr", STRTAB, ALLOC, b"\0", "", 0), (".text", PROGBITS, ALLOC | 4, bytes(8), "", 0),
        (".ARM.attributes", ATTRIBUTES, 0, attributes(*pairs), "", 0),
    )  # fmt: skip
    elf = make_elf(rows, bits=32, machine=40)
    for content in (elf, strip_elf(elf)):
        native = measure("lib.so", content)
        assert native is not None
        assert native.notes == ()
        assert set(native.cpu["armv7"].features) == features


def test_damaged_attributes_are_said() -> None:
    """A section that is cut off is a note, and the rest of the file is described."""
    rows = (
        (".text", PROGBITS, ALLOC | 4, bytes(8), "", 0),
        (".ARM.attributes", ATTRIBUTES, 0, attributes((6, 10))[:-1] + b"\xff", "", 0),
    )
    native = measure("lib.so", make_elf(rows, bits=32, machine=40))
    assert native is not None
    assert native.architectures == ("armv7",)
    assert native.notes[0].startswith("instructions not measured: ")
