r"""SHA256SUMS, in the format that `sha256sum -c` reads.

Source of the format: GNU coreutils' manual, "md5sum invocation": two blanks between digest and name; a line whose name
has a backslash or a newline begins with a backslash, and in the name they are written ``\\`` and ``\n``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ferryman_build.errors import ManifestError

_LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)")
_ESCAPED = re.compile(r"\\(.)")


def sums_text(sums: Iterable[tuple[str, str]]) -> str:
    """One line for each (file name, SHA-256 in hex), sorted by name."""
    return "".join(_line(name, digest) for name, digest in sorted(sums))


def _line(name: str, digest: str) -> str:
    escaped = name.replace("\\", r"\\").replace("\n", r"\n")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def parse_sums(text: str) -> dict[str, str]:
    """File name → SHA-256 in hex, from the text of a SHA256SUMS.

    Raises:
        ManifestError: a line is not of that format.
    """
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ManifestError(
                f"Line {number} of the checksums is not of sha256sum's format.",
                advice="Make them again with `sha256sum`, or fetch them again.",
                details=[line[:120]],
            )
        found[_unescape(match[3]) if match[1] else match[3]] = match[2]
    return found


def _unescape(name: str) -> str:
    return _ESCAPED.sub(lambda match: {"n": "\n", "\\": "\\"}.get(match[1], match[0]), name)
