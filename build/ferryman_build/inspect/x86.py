"""Which processor features the x86-64 instructions of a file need, from the instructions themselves.

Every function is decoded; what lies between functions may be data and counts only where it looks like code. Not
counted: TZCNT, which older processors run as BSF with the same result for what compilers use it for; LAHF and SAHF,
one byte each and in every 64-bit processor that is left; hints that older processors take for NOP (ENDBR64, PAUSE,
PREFETCHW, RDSSP, BND); and what only a kernel may execute. docs/gate.md has the method and its limits.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator

import msgspec
from iced_x86 import Code as Op
from iced_x86 import CpuidFeature, Decoder, EncodingKind, Instruction, OpCodeInfo, Register

from ferryman_build.inspect.code import Code, Holders, Piece, pieces
from ferryman_build.inspect.cpu import level_of
from ferryman_build.inspect.native import Cpu, Reason

_RENAMED = {"CMPXCHG16B": "cx16", "SSE4_1": "sse4.1", "SSE4_2": "sse4.2", "HLE_OR_RTM": "rtm"}
_COUNTED = re.compile(
    r"SSE3|SSSE3|SSE4.*|POPCNT|CMPXCHG16B|AVX.*|BMI[12]|F16C|FMA4?|LZCNT|MOVBE|AMX_.*|AES|VAES|V?PCLMULQDQ|SHA|SHA512"
    r"|SM[34]|GFNI|ADX|RDRAND|RDSEED|RTM|XOP|TBM|LWP|D3NOW.*|FSGSBASE|MOVDIR.*|WAITPKG|RDPID|CLWB|CLFLUSHOPT|.*KL"
)
_UNCOUNTED_OPS = re.compile(r"TZCNT_.*|XTEST|XABORT_.*")
# What data decodes to sooner or later and compilers do not write.
_ODD_OPS = re.compile(
    r"INVALID|ADD_RM8_R8|LOOP.*|XLAT.*|ENTER.*|IRET.*|INT_IMM8|INT1|INTO|RETF.*|JMP_.*PTR.*|JMP_M16.*|CALL_M16.*"
    r"|MOV_SREG_.*|POP[FGQW]?_?[FG]S.*|PUSH[QW]?_[FG]S|STI|CLI|HLT|STC|CMC|WAIT|SYSEXIT.*|SYSRET.*|L[FGS]S_.*|ARPL.*"
)
_END_OPS = re.compile(r"RETNQ.*|JMP_REL(8|32)_64|JMP_RM64|UD2|INT3")
_VENDOR = (b"Genu", b"ineI", b"ntel")
_NEIGHBOURS = 48  # instructions in front that must look like code
_WHOLE_FROM = 12  # functions with vector code; fewer say nothing about how the file was compiled
_WHOLE_SHARE = 0.04  # of them may be in the old encoding: start-up code that comes with the compiler


class _Tables(msgspec.Struct, frozen=True):
    """By iced's instruction codes: what they need, how they ask, both together; and sets of them.

    ``old`` and ``new`` are the two encodings of vector instructions, ``odd`` is what data looks like, ``end`` ends
    functions.
    """

    needs: dict[int, tuple[str, ...]]
    asks: dict[int, str]
    says: dict[int, tuple[str, ...]]
    old: frozenset[int]
    new: frozenset[int]
    odd: frozenset[int]
    end: frozenset[int]


@functools.cache
def _tables() -> _Tables:
    features = {getattr(CpuidFeature, name): name for name in dir(CpuidFeature) if name.isupper()}
    ops = {
        name: getattr(Op, name) for name in dir(Op) if name[0] != "_" and isinstance(getattr(Op, name), int)
    }
    needs: dict[int, tuple[str, ...]] = {}
    old: set[int] = set()
    new: set[int] = set()
    odd: set[int] = set()
    for name, op in ops.items():
        info = OpCodeInfo(op)
        instruction = Instruction()
        instruction.code = op
        counted = tuple(
            _RENAMED.get(features[number], features[number].lower())
            for number in instruction.cpuid_features()
            if _COUNTED.fullmatch(features[number])
        )
        privileged = info.must_be_cpl0 or info.is_input_output
        if counted and not privileged and not _UNCOUNTED_OPS.fullmatch(name):
            needs[op] = counted
        if "XMM" in name or "YMM" in name or "ZMM" in name:
            (old if info.encoding == EncodingKind.LEGACY else new).add(op)
        if privileged or _ODD_OPS.fullmatch(name):
            odd.add(op)
    asks = {ops["CPUID"]: "executes CPUID", ops["XGETBV"]: "executes XGETBV"}
    end = frozenset(op for name, op in ops.items() if _END_OPS.fullmatch(name))
    says = {**needs, **{op: (text,) for op, text in asks.items()}}
    return _Tables(needs, asks, says, frozenset(old), frozenset(new), frozenset(odd), end)


def measure(code: Code) -> Cpu:
    """What the instructions in ``code`` (64-bit) need."""
    return _Measure(code).run()


class _Measure:
    """One pass over the functions of a file."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._tables = _tables()
        self._wanted = frozenset(self._tables.says)
        self._found: dict[str, Reason] = {}
        self._early: dict[str, Reason] = {}
        self._holders = Holders(code)
        self._asks: set[str] = set(code.asks)
        self._doubtful: list[tuple[Piece, str]] = []
        self._old = self._new = 0
        self._startup: list[Piece] = []

    def run(self) -> Cpu:
        for piece in pieces(self._code):
            ops: set[int] = {instruction.code for instruction in Decoder(64, piece.data, ip=piece.address)}
            if piece.sure:
                self._count_vectors(ops)
            if not ops.isdisjoint(self._wanted):
                self._take(piece, ops)
        unheard = self._hear_who_is_called()
        if not self._found or self._startup_is_read():
            self._asks.update(text for op, text in self._tables.asks.items() if self._startup_has(op))
        vector = self._old + self._new
        return Cpu(
            features=dict(sorted(self._found.items())),
            early=dict(sorted(self._early.items())),
            chosen=tuple(sorted(self._asks)),
            holders=self._holders.listed(),
            unheard=unheard,
            whole=vector >= _WHOLE_FROM and self._old <= _WHOLE_SHARE * vector,
        )

    def _count_vectors(self, ops: set[int]) -> None:
        if not ops.isdisjoint(self._tables.new):
            self._new += 1
        elif not ops.isdisjoint(self._tables.old):
            self._old += 1

    def _startup_has(self, op: int) -> bool:
        return any(
            one.code == op for piece in self._startup for one in Decoder(64, piece.data, ip=piece.address)
        )

    def _startup_is_read(self) -> bool:
        """Whether any other function looks at what the compiler's start-up code has found out."""
        own = {piece.address for piece in self._startup}
        answers = {
            one.ip_rel_memory_address
            for piece in self._startup
            for one in Decoder(64, piece.data, ip=piece.address)
            if one.is_ip_rel_memory_operand
        }
        return bool(answers) and any(
            one.is_ip_rel_memory_operand and one.ip_rel_memory_address in answers
            for piece in pieces(self._code)
            if piece.address not in own
            for one in Decoder(64, piece.data, ip=piece.address)
        )

    def _take(self, piece: Piece, ops: set[int]) -> None:
        if self._code.mixed and piece.sure and _is_startup(piece):
            self._startup.append(piece)
        entered = piece.sure and self._is_entry(piece) and ops.isdisjoint(self._tables.asks)
        known = self._asks | self._holders.full()
        if not entered and all(known.issuperset(self._tables.says[op]) for op in ops & self._wanted):
            return
        instructions: Iterable[Instruction] = Decoder(64, piece.data, ip=piece.address)
        if self._code.mixed or not piece.sure:
            instructions = _like_code(list(instructions), self._tables)
        for one in instructions:
            if one.code in self._tables.asks and piece not in self._startup:
                self._take_question(piece, ops, self._tables.asks[one.code])
            for name in self._tables.needs.get(one.code, ()):
                self._holders.add(name, piece, one.ip)
                if name not in self._found or (entered and name not in self._early):
                    reason = Reason(level_of("amd64", name), "", str(one), self._code.name(one.ip))
                    self._found.setdefault(name, reason)
                    if entered:
                        self._early[name] = reason

    def _take_question(self, piece: Piece, ops: set[int], text: str) -> None:
        """A function that asks counts when something in the file can hear the answer; for some that is seen at once."""
        references = self._code.references
        heard = (
            references is None
            or not piece.sure
            or not ops.isdisjoint(self._tables.needs)
            or self._is_entry(piece)
            or any(piece.address <= address < piece.address + len(piece.data) for address in references)
            or any(one.is_ip_rel_memory_operand for one in Decoder(64, piece.data, ip=piece.address))
        )
        if heard:
            self._asks.add(text)
        else:
            self._doubtful.append((piece, text))

    def _hear_who_is_called(self) -> tuple[str, ...]:
        """Of the others those count that another function calls or points to; the names of the rest."""
        doubtful = [(piece, text) for piece, text in self._doubtful if text not in self._asks]
        if not doubtful or not self._found:
            self._asks.update(text for _, text in doubtful)
            return ()
        called = self._called({piece for piece, _ in doubtful})
        self._asks.update(text for piece, text in doubtful if piece in called)
        return tuple(sorted({self._code.name(piece.address) for piece, _ in doubtful if piece not in called}))

    def _called(self, wanted: set[Piece]) -> set[Piece]:
        found: set[Piece] = set()
        for piece in pieces(self._code):
            for one in Decoder(64, piece.data, ip=piece.address):
                target = one.ip_rel_memory_address if one.is_ip_rel_memory_operand else one.near_branch_target
                found |= {
                    other
                    for other in wanted
                    if target and other != piece and other.address <= target < other.address + len(other.data)
                }
        return found

    def _is_entry(self, piece: Piece) -> bool:
        return any(piece.address <= entry < piece.address + len(piece.data) for entry in self._code.entries)


def _is_startup(piece: Piece) -> bool:
    """Whether it is what MSVC links into every file: asks for the vendor, writes answers down, and returns 0."""
    if not all(part in piece.data for part in _VENDOR):
        return False
    instructions = list(Decoder(64, piece.data, ip=piece.address))
    returns = [at for at, one in enumerate(instructions) if one.code == Op.RETNQ]
    return len(returns) == 1 and any(
        one.code in (Op.XOR_R32_RM32, Op.XOR_RM32_R32)
        and one.op0_register == one.op1_register == Register.EAX
        for one in instructions[max(returns[0] - 10, 0) : returns[0]]
    )


def _like_code(instructions: list[Instruction], tables: _Tables) -> Iterator[Instruction]:
    """Those that matter, have nothing odd in front of them, and from which a plain way leads to the end of a function.

    A table of numbers is full of oddities and has no end.
    """
    last_odd = -_NEIGHBOURS - 1
    waiting: list[Instruction] = []
    for at, one in enumerate(instructions):
        if one.code in tables.odd:
            last_odd, waiting = at, []
        elif one.code in tables.end:
            yield from waiting
            waiting = []
        elif at - last_odd > _NEIGHBOURS and (one.code in tables.needs or one.code in tables.asks):
            waiting.append(one)
