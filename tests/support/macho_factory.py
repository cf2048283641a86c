"""Small Mach-O files of one architecture, signed or not, for tests of what reads them."""

from __future__ import annotations

import hashlib
import struct

AMD64, ARM64 = 0x01000007, 0x0100000C
_PAGE = 4096


def command(number: int, body: bytes) -> bytes:
    """One load command, padded as the format asks."""
    body += bytes(-len(body) % 8)
    return struct.pack("<II", number, 8 + len(body)) + body


def make_macho(
    *, cpu: int = ARM64, version: tuple[int, int] = (11, 0), platform: int = 1, text: bytes = b"", name: str = "_f",
    asks: str = "", signed: bool = False, flags: int = 2, cms: bytes = b"",
) -> bytes:  # fmt: skip
    """An image with a section of instructions at 0x1000, one function in it, a library and a minimum version.

    Args:
        cpu: AMD64 or ARM64.
        version: of macOS.
        platform: 1 is macOS.
        text: the instructions.
        name: of the function at their beginning.
        asks: an undefined symbol.
        signed: with a code directory that fits; ``flags`` 2 is ad hoc, ``cms`` is the other form's signature.
        flags: of the code directory.
        cms: bytes of the CMS slot.
    """
    strings = b"\0" + name.encode() + b"\0" + asks.encode() + b"\0"
    symbols = struct.pack("<IBBHQ", 1, 0x0F, 1, 0, 0x1000)
    symbols += struct.pack("<IBBHQ", 2 + len(name), 0x01, 0, 0, 0) if asks else b""

    def build(at: int, signature: tuple[int, int]) -> bytes:
        section = struct.pack(
            "<16s16sQQIIIIIIII", b"__text", b"__TEXT", 0x1000, len(text), at, 2, 0, 0, 0x80000400, 0, 0, 0
        )
        segment = struct.pack("<16sQQQQIIII", b"__TEXT", 0x1000, 0x1000, 0, 0x1000, 5, 5, 1, 0)
        starts = at + len(text)
        table = starts + 8
        commands = [
            command(0x32, struct.pack("<IIII", platform, version[0] << 16 | version[1] << 8, 0, 0)),
            command(0xC, struct.pack("<IIII", 24, 0, 0, 0) + b"/usr/lib/libSystem.B.dylib\0"),
            command(0x19, segment + section),
            command(0x26, struct.pack("<II", starts, 8)),
            command(0x2, struct.pack("<IIII", table, len(symbols) // 16, table + len(symbols), len(strings))),
        ]  # fmt: skip
        commands += [command(0x1D, struct.pack("<II", *signature))] if signed else []
        body = b"".join(commands)
        head = b"\xcf\xfa\xed\xfe" + struct.pack("<IIIIIII", cpu, 0, 6, len(commands), len(body), 0, 0) + body
        return head.ljust(at, b"\0") + text + b"\0" * 8 + symbols + strings

    at = 1024
    size = len(build(at, (0, 0)))
    if not signed:
        return build(at, (0, 0))
    length = len(_signature(bytes(size), flags, cms))
    content = build(at, (size, length))
    return content + _signature(content, flags, cms)


def _signature(content: bytes, flags: int, cms: bytes) -> bytes:
    pages = [content[at : at + _PAGE] for at in range(0, len(content), _PAGE)]
    hashes = b"".join(hashlib.sha256(page).digest() for page in pages)
    head = struct.pack(
        ">9I", 0xFADE0C02, 44 + 2 + len(hashes), 0x20001, flags, 46, 44, 0, len(pages), len(content)
    )
    directory = head + bytes([32, 2, 0, 12]) + bytes(4) + b"f\0" + hashes
    blobs = [(0, directory)]
    blobs += [(0x10000, struct.pack(">II", 0xFADE0B01, 8 + len(cms)) + cms)] if cms else []
    index, body, at = b"", b"", 12 + 8 * len(blobs)
    for slot, blob in blobs:
        index += struct.pack(">II", slot, at + len(body))
        body += blob
    return struct.pack(">III", 0xFADE0CC0, at + len(body), len(blobs)) + index + body


def make_fat(*parts: bytes) -> bytes:
    """A universal file of these images."""
    head, at = struct.pack(">II", 0xCAFEBABE, len(parts)), 4096
    body = b""
    for part in parts:
        cpu = struct.unpack_from("<I", part, 4)[0]
        head += struct.pack(">5I", cpu, 0, at + len(body), len(part), 12)
        body += part + bytes(-len(part) % 4096)
    return head.ljust(at, b"\0") + body
