"""x86: features are read from instructions where there is code, and nowhere else."""

from __future__ import annotations

import random
import struct

import pytest

from ferryman_build.inspect.code import Code, Piece, Symbol, between, pieces
from ferryman_build.inspect.elf_code import eh_functions
from ferryman_build.inspect.native import Cpu

pytest.importorskip("iced_x86", reason="it has no wheel for this machine")
from ferryman_build.inspect import x86

RET, CPUID, XGETBV = b"\xc3", b"\x0f\xa2", b"\x0f\x01\xd0"
OLD_VECTOR, NEW_VECTOR = b"\x66\x0f\xfe\xc1", b"\xc5\xf9\xfe\xc1"  # paddd, vpaddd: xmm0, xmm1
ZMM = b"\x62\xf1\x7d\x48\xfe\xc1"  # vpaddd zmm0, zmm0, zmm1
POPCNT = b"\xf3\x48\x0f\xb8\xc1"


def measured(*functions: bytes, **facts: object) -> Cpu:
    """Functions one behind the other from 0x1000 on, each with an unwind entry and a name."""
    at, ranges, symbols = 0x1000, [], []
    for number, function in enumerate(functions):
        ranges.append((at, at + len(function)))
        symbols.append(Symbol(at, len(function), f"f{number}"))
        at += len(function)
    text = b"".join(functions)
    values = {"sections": ((0x1000, text),), "functions": tuple(ranges), "symbols": tuple(symbols), **facts}
    return x86.measure(Code(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("instruction", "features"),
    [
        (b"\x90", set()),
        (b"\x0f\x05", set()),  # syscall
        (b"\x0f\x45\xc1", set()),  # cmov
        (OLD_VECTOR, set()),
        (b"\xf3\x0f\x1e\xfa", set()),  # endbr64: a NOP before CET
        (b"\xf3\x48\x0f\x1e\xc8", set()),  # rdsspq: the same
        (b"\xf3\x90", set()),  # pause
        (b"\x0f\x0d\x08", set()),  # prefetchw: a NOP where it is not known
        (b"\xf3\x48\x0f\xbc\xc1", set()),  # tzcnt, that is rep bsf
        (b"\x9e", set()),  # sahf
        (CPUID, set()),
        (b"\x0f\x31", set()),  # rdtsc
        (b"\xf3\x48\x0f\xbd\xc1", {"lzcnt"}),
        (POPCNT, {"popcnt"}),
        (b"\x48\x0f\xc7\x09", {"cx16"}),
        (b"\x66\x0f\x38\x00\xc1", {"ssse3"}),  # pshufb
        (b"\x66\x0f\x3a\x22\xc0\x01", {"sse4.1"}),  # pinsrd
        (b"\x66\x0f\x38\x37\xc1", {"sse4.2"}),  # pcmpgtq
        (NEW_VECTOR, {"avx"}),
        (b"\xc5\xfd\xfe\xc1", {"avx2"}),
        (b"\xc4\xe2\xf8\xf2\xc1", {"bmi1"}),  # andn
        (b"\xc4\xe2\xfb\xf6\xc1", {"bmi2"}),  # mulx
        (b"\xc4\xe2\xf1\xb8\xc2", {"fma"}),
        (ZMM, {"avx512f"}),
        (b"\x62\xf1\x7d\x28\xfe\xc1", {"avx512f", "avx512vl"}),
        (b"\x66\x0f\x38\xdc\xc1", {"aes"}),
        (b"\x0f\x38\xcb\xc1", {"sha"}),
        (b"\x0f\xc7\xf0", {"rdrand"}),
        (b"\x0f\x22\xc0", set()),  # mov cr0, rax: a kernel's
    ],
)
def test_instruction(instruction: bytes, features: set[str]) -> None:
    """Each instruction needs what the processor's manual says, and hints need nothing."""
    assert set(measured(instruction + RET).features) == features


def test_the_reason_names_function_instruction_and_level() -> None:
    """The first place counts; an address stands for a function without a name."""
    cpu = measured(RET, ZMM + RET, ZMM + RET)
    reason = cpu.features["avx512f"]
    assert (reason.version, reason.symbol) == ("x86-64-v4", "f1")
    assert reason.label.startswith("vpaddd zmm0,zmm0,zmm1")
    assert measured(ZMM + RET, symbols=()).features["avx512f"].symbol == "0x1000"


def test_the_first_functions_with_a_feature_are_named() -> None:
    """Five of them, each once, whatever was found before them."""
    cpu = measured(RET, ZMM + ZMM + RET, POPCNT + RET, *[ZMM + RET] * 6, POPCNT + RET)
    assert cpu.holders == {"avx512f": ("f1", "f3", "f4", "f5", "f6"), "popcnt": ("f2", "f9")}


LEA, CALL = b"\x48\x8d\x05", b"\xe8"  # lea rax, [rip + …] and call, each with how far away from its end
NEW, ASK = ZMM + RET, CPUID + RET


@pytest.mark.parametrize(
    ("first", "asking", "facts", "heard"),
    [
        (RET, ASK, {"references": frozenset()}, False),
        (RET, ASK, {"references": None}, True),
        (RET, ASK, {"references": frozenset({0x1008})}, True),
        (RET, ASK, {"references": frozenset({0x1001, 0x100B})}, False),
        (RET, ASK, {"references": frozenset(), "entries": (0x1008,)}, True),
        (RET, ZMM + ASK, {"references": frozenset()}, True),
        (RET, CPUID + LEA + struct.pack("<i", 9) + RET, {"references": frozenset()}, True),
        (CALL + struct.pack("<i", 8) + RET, ASK, {"references": frozenset()}, True),
        (CALL + struct.pack("<i", 1) + RET, ASK, {"references": frozenset()}, False),  # of the other one
        (LEA + struct.pack("<i", 8) + RET, ASK, {"references": frozenset()}, True),
    ],
)
def test_a_question_counts_when_it_is_heard(
    first: bytes, asking: bytes, facts: dict[str, object], heard: bool
) -> None:
    """CPUID in a function that nothing in the file calls, points to or reads chooses nothing here."""
    cpu = measured(first, NEW, asking, **facts)
    assert bool(cpu.chosen) is heard
    assert cpu.unheard == (() if heard else ("f2",))


def test_functions_with_names_come_first() -> None:
    """Other files may call them: of a stripped file only such names are left. One without a name is its first address."""
    size = len(b"\x90" + ZMM + RET)
    names = tuple(Symbol(0x1000 + size * at, size, f"f{at}") for at in (6, 8))
    cpu = measured(*[b"\x90" + ZMM + RET] * 10, symbols=names)
    assert cpu.holders == {
        "avx512f": ("f6", "f8", "0x1000", f"{0x1000 + size:#x}", f"{0x1000 + 2 * size:#x}")
    }


def test_asking() -> None:
    """CPUID and XGETBV are found in any function, and added to what the headers tell."""
    assert measured(ZMM + RET).chosen == ()
    assert measured(ZMM + RET, CPUID + RET, XGETBV + RET).chosen == ("executes CPUID", "executes XGETBV")
    assert measured(RET, asks=("imports x",)).chosen == ("imports x",)


def test_entries() -> None:
    """What the loader calls is early, unless the same function asks first; its neighbours are not."""
    assert measured(RET, ZMM + RET, entries=(0x1001,)).early.keys() == {"avx512f"}
    assert measured(RET, ZMM + RET, entries=(0x1000,)).early == {}
    assert measured(CPUID + ZMM + RET, entries=(0x1000,)).early == {}


@pytest.mark.parametrize(
    ("old", "new", "whole"), [(0, 12, True), (0, 11, False), (1, 40, True), (4, 40, False), (40, 40, False)]
)
def test_whole(old: int, new: int, whole: bool) -> None:
    """Vector code in the new encoding throughout is a compiler's flag and no choice; a few files' worth says nothing."""
    functions = [OLD_VECTOR + RET] * old + [NEW_VECTOR + RET] * new
    assert measured(*functions, CPUID + RET).whole == whole


def test_code_between_functions_counts_when_it_looks_like_code() -> None:
    """An assembler's function without an unwind entry is read; the same bytes in a table of numbers are not."""
    code = b"\x48\x89\xc8" * 60 + ZMM + b"\x48\x89\xc8" * 3 + RET
    bare = Code(sections=((0x1000, code),))
    assert x86.measure(bare).features.keys() == {"avx512f"}
    table = struct.pack("<60I", *range(0x10000, 0x10000 + 60)) + ZMM + struct.pack("<9I", *range(9))
    assert x86.measure(Code(sections=((0x1000, table),))).features == {}


def test_random_bytes_need_nothing() -> None:
    """Two megabytes of noise in place of a table: no feature is seen in it."""
    noise = random.Random(4).randbytes(2_000_000)
    assert x86.measure(Code(sections=((0x1000, noise),))).features == {}


def test_tables_inside_functions() -> None:
    """MSVC's functions end in the tables of their switches: with ``mixed`` these are no code."""
    function = (
        b"\x48\x89\xc8" * 30 + RET + struct.pack("<40I", *range(0xDF10, 0xDF10 + 40)) + b"\x90" * 15 + ZMM
    )
    ranges = ((0x1000, 0x1000 + len(function)),)
    assert x86.measure(Code(sections=((0x1000, function),), functions=ranges)).features
    assert x86.measure(Code(sections=((0x1000, function),), functions=ranges, mixed=True)).features == {}


def startup(answer: int, at: int) -> bytes:
    """As MSVC's: CPUID, three parts of a vendor's name, a global is written, 0 is returned."""
    compares = b"".join(b"\x3d" + part for part in (b"Genu", b"ineI", b"ntel"))  # cmp eax, …
    written = CPUID + compares + b"\xc7\x05"  # mov dword ptr [answer], 2
    behind = at + len(written) + 8
    return written + struct.pack("<ii", answer - behind, 2) + b"\x31\xc0" + RET


def test_start_up_code_that_nobody_listens_to() -> None:
    """MSVC links a function that asks into every file: it counts where another function reads what it found."""
    first = startup(0x5000, 0x1000)
    reads = (
        b"\x83\x3d" + struct.pack("<i", 0x5000 - (0x1000 + len(first) + 7)) + b"\2" + RET
    )  # cmp [answer], 2
    assert measured(first, RET, POPCNT + RET, mixed=True).chosen == ()
    assert measured(first, reads, POPCNT + RET, mixed=True).chosen == ("executes CPUID",)
    assert measured(first, CPUID + RET, POPCNT + RET, mixed=True).chosen == ("executes CPUID",)
    assert measured(first, RET, mixed=True).chosen == ("executes CPUID",)  # nothing that it could have chosen
    assert measured(first, RET, POPCNT + RET).chosen == ("executes CPUID",)


# --- the order of bytes -----------------------------------------------------------------------------------------------


def test_pieces_cover_every_byte_once() -> None:
    """Functions that overlap, touch or leave their section: each byte is in one piece, in order."""
    draw = random.Random(11)
    for _ in range(300):
        data = draw.randbytes(50)
        ranges = [
            (low := draw.randrange(-5, 60), low + draw.randrange(0, 30)) for _ in range(draw.randrange(6))
        ]
        found = list(pieces(Code(sections=((0, data),), functions=tuple(ranges))))
        assert b"".join(piece.data for piece in found) == data
        covered = {byte for low, high in ranges for byte in range(low, high)}
        for piece in found:
            inside = [byte in covered for byte in range(piece.address, piece.address + len(piece.data))]
            assert all(inside) if piece.sure else not any(inside)


def test_sections_far_apart() -> None:
    """A function belongs to the section that it lies in."""
    code = Code(sections=((0, b"ab"), (100, b"cd")), functions=((100, 101),))
    assert list(pieces(code)) == [
        Piece(0, b"ab", sure=False), Piece(100, b"c", sure=True), Piece(101, b"d", sure=False),
    ]  # fmt: skip


def test_ranges_from_first_addresses() -> None:
    """Each function ends where the next begins; a section without one has none."""
    assert between([14, 10, 200], ((10, bytes(10)), (50, bytes(5)))) == ((10, 14), (14, 20))


def test_unwind_entries() -> None:
    """A CIE with relative 4-byte addresses (what compilers write), one with absolute 8-byte ones, and the end mark."""

    def cie(augmentation: bytes, data: bytes) -> bytes:
        body = bytes(4) + b"\1" + augmentation + b"\0" + b"\1\x78\x10" + data
        return struct.pack("<I", len(body)) + body

    first = cie(b"zR", b"\1\x1b")
    first_entry = struct.pack("<IIiI", 12, len(first) + 4, 0x500 - (0x2000 + len(first) + 8), 0x20)
    second = cie(b"", b"")
    at = len(first) + len(first_entry)
    second_entry = struct.pack("<IIQQ", 20, len(second) + 4, 0x700, 0x10)
    section = first + first_entry + second + second_entry + bytes(4)
    assert list(eh_functions(section, 0x2000)) == [(0x500, 0x520), (0x700, 0x710)]
    assert at < len(section)
    assert list(eh_functions(section[:-6], 0x2000)) == [(0x500, 0x520)]
