"""install.sh and install.ps1: templates in which a handful of words, written as @WORD@, are replaced.

What goes into a script is checked first: a value that the shell could read as anything but a word is refused, so that no
quoting has to be clever. Templates are data files of the package; a script is their parts, one behind the other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import NamedTuple

from ferryman_release.errors import MetadataError
from ferryman_release.keys.minisign import MinisignKey
from ferryman_release.site.model import Site
from ferryman_release.site.pointer import pointer_of, pointer_payload

SHELL_PARTS = ("head", "options", "machine", "verify", "download", "choose", "place")
POWERSHELL_PARTS = ("head", "trust", "place")

# Signed by a key that signs nothing else (its seed is the SHA-256 of these words), so that a script can ask a program
# whether it checks signatures: the message is "a known answer\n", the trusted comment "a known answer".
KNOWN_KEY = "RWRx2JFlP4V5baPqOZaW8vdBYKL93FatrDxDPoGosZdSNLT9Fba1QfDT"
KNOWN_SIGNATURE = (
    "RURx2JFlP4V5bTf8YpZJoecWVFZiSXeu9pKmUIp+7jbD0Msyl+EaqQeT/76p+St8Dcl8X+eE3wsUYUOVPPed5i1PROghxTRXXg8="
)
KNOWN_GLOBAL = "wQrLoKu4Ce0O8LZiv3Hoyu/VFOL+VP48y69K/CJVwb/3yMlFPDI0Y0SQbj1PaHlfiFGPSvGbnf3R6wGzLCQcAQ=="

_WORD = re.compile(r"@([A-Z0-9_]+)@")


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    says: str


# What each value must be, whole; none of these characters means anything inside of single quotes.
_RULES: Mapping[str, _Rule] = {
    "NAME": _Rule(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"), "letters, digits and ._-"),
    "EXECUTABLE": _Rule(re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"), "letters, digits and ._+-"),
    "URL": _Rule(
        re.compile(r"(https?://[A-Za-z0-9.\[\]:_-]+|file://)(/[A-Za-z0-9._~!+,=@%-]*)*"),
        "https://, http:// or file:///, and no characters that need escaping",
    ),
    "KEY": _Rule(re.compile(r"RW[A-Za-z0-9+/]{54}"), "the 56 characters of a minisign public key"),
    "CHANNEL": _Rule(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"), "letters, digits and ._-"),
}


def install_sh(site: Site) -> bytes:
    """The script for POSIX shells.

    Raises:
        MetadataError: a value could not stand in a script.
    """
    return _script([f"sh/{part}.sh.in" for part in SHELL_PARTS], _words(site))


def install_ps1(site: Site) -> bytes:
    """The script for PowerShell, with the lines' ends of Windows; raises as :func:`install_sh`."""
    words = _words(site)
    # Its own name: a type that PowerShell has compiled stays until the window is closed.
    class_name = "Minisign" + hashlib.sha256(_template("ps1/verifier.cs.in").encode()).hexdigest()[:8]
    verifier = replaced(_template("ps1/verifier.cs.in"), {"CLASS": class_name})
    made = _script(
        [f"ps1/{part}.ps1.in" for part in POWERSHELL_PARTS],
        {**words, "CLASS": class_name, "VERIFIER": verifier},
    )
    return made.replace(b"\n", b"\r\n")


def _script(parts: Iterable[str], words: Mapping[str, str]) -> bytes:
    template = "\n".join(_template(part).rstrip("\n") + "\n" for part in parts)
    return replaced(template, words).encode("ascii")


def replaced(template: str, words: Mapping[str, str]) -> str:
    """``template`` with each @WORD@ replaced, once: what a value brings is left as it is."""
    return _WORD.sub(lambda found: words[found[1]], template)


def _template(name: str) -> str:
    return (files("ferryman_release.site") / "templates" / name).read_text(encoding="utf-8")


def _words(site: Site) -> dict[str, str]:
    values = {
        "NAME": site.name,
        "EXECUTABLE": site.executable,
        "URL": site.url.rstrip("/"),
        "KEY": site.key,
        "CHANNEL": site.default_channel,
    }
    problems = list(_problems(values))
    if problems:
        raise MetadataError(
            "The installers cannot be written.", advice="Correct these settings.", details=problems
        )
    return {
        **values,
        "ENV": re.sub(r"[^A-Z0-9]|^(?=\d)", "_", site.executable.upper()),
        "KEY_ID": key_id(site.key),
        "PINNED": "".join(pointer_payload(pointer_of(site, one)).decode("ascii") for one in site.channels),
        "ED25519": _template("ed25519.py.in"),
        "KNOWN_KEY": KNOWN_KEY,
        "KNOWN_SIGNATURE": KNOWN_SIGNATURE,
        "KNOWN_GLOBAL": KNOWN_GLOBAL,
    }


def _problems(values: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        if not _RULES[name].pattern.fullmatch(value):
            yield f"{name.lower()} is {value!r}; it must be {_RULES[name].says}"


def key_id(line: str) -> str:
    """The id of a public key as minisign prints it."""
    return MinisignKey.parse(line).name
