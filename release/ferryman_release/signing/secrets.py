"""Passphrases: asked for on a terminal or taken from the environment, never from a command line, never written.

For the key of a role, in this order: FERRYMAN_KEY_PASSPHRASE_<ROLE>, FERRYMAN_KEY_PASSPHRASE, the first line of the
file that FERRYMAN_KEY_PASSPHRASE_FILE names, a question on the terminal. A role is written in capitals with `_` for
`-`; `root-1` is also answered by what is set for `root`. A role called `file` has no variable of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ferryman_release.errors import KeyProblemError

VARIABLE = "FERRYMAN_KEY_PASSPHRASE"
FILE_VARIABLE = f"{VARIABLE}_FILE"

Ask = Callable[[str], str]


def terminal() -> Ask | None:
    """What asks the person at the terminal, without echo; None where nobody sits."""
    if not (sys.stdin and sys.stdin.isatty()):
        return None
    import getpass

    return getpass.getpass


class Secrets:
    """What opens keys. A passphrase that was typed is kept for the same key as long as this object lives.

    Args:
        environ: where the variables are.
        ask: asks a person; None: nobody can be asked.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, ask: Ask | None = None) -> None:
        self.environ = os.environ if environ is None else environ
        self._ask = ask
        self._typed: dict[str, str] = {}

    @classmethod
    def usual(cls) -> Secrets:
        """Those of this process and its terminal. A process that asks for them leaves no core file, nor do its children."""
        _forbid_core_files()
        return cls(os.environ, terminal())

    def __repr__(self) -> str:
        return "Secrets(...)"

    def passphrase(self, role: str, what: str) -> str:
        """The passphrase (or PIN) of the key of ``role``; ``what`` names the key to the person who is asked.

        Raises:
            KeyProblemError: nothing is set and nobody can be asked; or the file of it is unreadable or open to others.
        """
        found = self._given(role) or self._typed.get(what)
        if not found and self._ask is not None:
            found = self._typed[what] = self._ask(f"Passphrase of {what}: ")
        if not found:
            raise KeyProblemError(
                f"The key of {role} ({what}) is locked and its passphrase was not given.",
                advice=f"Set {variables(role)[0]} or {VARIABLE}, or {FILE_VARIABLE} to a file of mode 600.",
            )
        return found

    def new_passphrase(self, role: str, what: str) -> str:
        """A passphrase for a key that is being made, typed twice where a person is asked.

        Raises:
            KeyProblemError: as :meth:`passphrase`; or the two differ, or it has fewer than 12 characters.
        """
        found = self._given(role) or self._typed.get(what)
        if not found and self._ask is not None:
            found = self._ask(f"New passphrase of {what}: ")
            if found != self._ask("The same again: "):
                raise KeyProblemError(
                    "The two passphrases differ, so no key was made.", advice="Start again."
                )
        found = found or self.passphrase(role, what)
        if len(found) < 12:
            raise KeyProblemError(
                f"The passphrase of {role} has fewer than 12 characters, so no key was made.",
                advice="Take five words by chance.",
            )
        self._typed[what] = found
        return found

    def _given(self, role: str) -> str:
        for name in (*variables(role), VARIABLE):
            if self.environ.get(name):
                return self.environ[name]
        path = self.environ.get(FILE_VARIABLE)
        return _first_line(Path(path)) if path else ""


def _forbid_core_files() -> None:
    """What crashes with keys in memory is not to write its memory down."""
    if os.name == "nt":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def passphrase_bytes(passphrase: str) -> bytes:
    """As other programs see it: a variable whose bytes are no UTF-8 has these bytes again."""
    return passphrase.encode("utf-8", "surrogateescape")


def variables(role: str) -> tuple[str, ...]:
    """The variables that are for the key of ``role`` alone, most exact first."""
    names = dict.fromkeys((role, re.sub(r"-\d+$", "", role)))
    words = (f"{VARIABLE}_{name.upper().replace('-', '_')}" for name in names)
    return tuple(word for word in words if word != FILE_VARIABLE) or (VARIABLE,)


def _first_line(path: Path) -> str:
    lines = read_private(path, "passphrase").decode("utf-8", "surrogateescape").splitlines()
    return lines[0] if lines else ""


def read_private(path: Path, what: str) -> bytes:
    """The bytes of a file that only its owner may read; ``what`` says to a person what it holds.

    Raises:
        KeyProblemError: it is not there, unreadable, or open to group or others.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name != "nt" and stat.S_ISREG(mode) and mode & 0o077:
                raise KeyProblemError(
                    f"The {what} file {path} may be read by others (mode {stat.S_IMODE(mode):o}).",
                    advice=f"chmod 600 {path}; if others have an account on this machine, take a new one.",
                )
            return file.read()
    except FileNotFoundError as error:
        raise KeyProblemError(
            f"The {what} file {path} is not there.",
            advice="Bring it to this machine, or name its place in [tool.ferryman.release.signers].",
        ) from error
    except OSError as error:
        raise KeyProblemError(
            f"The {what} file {path} cannot be read: {error.strerror}.", advice="See whose it is."
        ) from error
