"""Paths in compiled Python: where a module's source was when it was compiled.

The marshalled code is not unpacked, because its layout changes with every Python: a string in it is a type byte, a
length and the text, and that has stayed the same since Python 3.4 (Python/marshal.c).
"""

from __future__ import annotations

import re

_MAGIC_END = b"\r\n"  # bytes 2 and 3 of every .pyc
# A short string has one byte of length, a long one four; the highest bit of the type says that it is referred to later.
_SHORT = re.compile(rb"[zZ\xfa\xda](.)((?:/|[A-Za-z]:[\\/])[^\0\n]{0,250}\.py)", re.DOTALL)
_LONG = re.compile(rb"[aAut\xe1\xc1\xf5\xf4](..)\0\0((?:/|[A-Za-z]:[\\/])[^\0\n]{0,4000}?\.py)", re.DOTALL)


def is_bytecode(head: bytes) -> bool:
    """Whether a file that begins with these 4 bytes is a .pyc."""
    return head[2:4] == _MAGIC_END


def source_path(content: bytes) -> str:
    """The first absolute path of a source file in the .pyc ``content``; "" when it names none."""
    for pattern in (_SHORT, _LONG):
        for found in pattern.finditer(content):
            length = int.from_bytes(found[1], "little")
            text = found[2][:length]
            if len(text) == length and text.endswith(b".py"):
                return text.decode("utf-8", "replace")
    return ""
