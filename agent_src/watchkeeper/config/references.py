"""References to secrets: `${env:NAME}` and `${file:PATH}` in a field of type Secret.

A reference may be the whole text or a part of it ("Bearer ${env:TOKEN}"), and there may be several. `$${` stands for `${`.
A file is read at most up to SIZE_LIMIT bytes, as UTF-8; one line break at its end does not belong to the secret. Its path is
absolute, so that what it names does not depend on where the agent was started. What is resolved is added to redact.py
before anybody else sees it, and so is a secret that stands in the configuration itself.
"""

from __future__ import annotations

import os
import pathlib
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from watchkeeper import redact

SIZE_LIMIT = 64 * 1024
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<kind>[^:{}]*):?(?P<name>[^{}]*)\}?")


@dataclass
class References:
    """Resolves the references of one configuration."""

    resolve: bool = True
    """False: references are looked at for their form only, and stay what they are (check-config --no-secrets)."""
    files: set[str] = field(default_factory=set)
    """The files that were named; a change of one of them is a change of the configuration."""

    def text(self, written: str, *, allowed: bool = True) -> str:
        """What a secret is; it is hidden from now on.

        Args:
            written: as it stands in the document.
            allowed: whether that document may name secrets of this machine.

        Raises:
            ValueError: a reference has not the right form, or what it names is not there; the text says so without saying
                any secret.
        """
        if not allowed and any(found["kind"] is not None for found in _REFERENCE.finditer(written)):
            raise ValueError("this source may not name secrets of this machine (allow_references)")
        value = _REFERENCE.sub(self._one, written)
        if self.resolve:
            redact.add(value)
        elif "${" not in written:
            redact.add(written)
        return value

    def _one(self, found: re.Match[str]) -> str:
        if found["kind"] is None:
            return "${" if self.resolve else found.group()
        if found["kind"] not in READERS or not found["name"] or not found.group().endswith("}"):
            raise ValueError("a reference is ${env:NAME} or ${file:PATH}; write $${ for a plain ${")
        if found["kind"] == "file":
            self.files.add(found["name"])
        if not self.resolve:
            return found.group()
        value = READERS[found["kind"]](found["name"])
        redact.add(value)
        return value


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ValueError(f"the environment has no variable {name}")
    if not value:
        raise ValueError(f"the environment variable {name} is empty")
    return value


def _file(name: str) -> str:
    path = pathlib.Path(name)
    if not path.is_absolute():
        raise ValueError(f"{name} is not an absolute path")
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would hold up the agent
            raise ValueError(f"{name} is not a file")
        with path.open("rb") as stream:
            content = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ValueError(f"the file {name} cannot be read: {error.strerror}") from None
    return _content(content, name)


def _content(content: bytes, name: str) -> str:
    if len(content) > SIZE_LIMIT:
        raise ValueError(f"the file {name} is larger than {SIZE_LIMIT >> 10} KiB; that is no secret")
    try:
        value = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"the file {name} is not UTF-8") from None
    if not value:
        raise ValueError(f"the file {name} is empty")
    return value


READERS: dict[str, Callable[[str], str]] = {"env": _environment, "file": _file}
