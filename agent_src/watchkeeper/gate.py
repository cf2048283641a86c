"""Where a program waits for all that has to be done before its first instruction.

It is a shell that reads a line, does what that says, and then becomes the program.

Nothing of the agent runs between fork and exec, which would not be safe beside its threads. When the agent dies meanwhile, the shell
reads the end of its pipe and goes: a program that nobody knows of yet never begins.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Self

from watchkeeper import system

SHELL = "/bin/sh"
SCRIPT = 'read -r {0} || exit 125; eval "${0}" || exit 125; exec "$@" </dev/null'.format("WATCHKEEPER_GATE")
"""The variable has a name of its own: one that the program is given as well would reach it with another value."""
SHELLS_OWN = ("PWD", "OLDPWD", "SHLVL")
"""Variables that shells set by themselves."""
SHELLS_MEANING = frozenset(("IFS", "OPTIND", "LINENO", "PPID", "PS1", "PS2", "PS4", "RANDOM", "SECONDS", "_"))
"""Variables that shells change, or begin with a value of their own."""
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def there() -> bool:
    """Whether this system has what a gate is made of."""
    return system.gate_there(SHELL)


class Gate:
    """A pipe on whose other end a shell waits for a line."""

    def __enter__(self) -> Self:
        self.reader, self._writer = os.pipe()
        return self

    def open(self, first: str) -> None:
        """Let the program run, after a line for the shell. Should that be gone, its end says so."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writer, first.encode() + b"\n")

    def __exit__(self, *_raised: object) -> None:
        os.close(self.reader)
        os.close(self._writer)


def behind(
    command: Sequence[str], environment: Mapping[str, str], working_directory: str | None
) -> list[str]:
    """The shell that becomes the program.

    Raises:
        OSError: there is no such program: the shell would only have an exit status to say so with.
    """
    program = command[0]
    base = pathlib.Path(working_directory or ".")
    beside = str(base / program) if "/" in program and not program.startswith("/") else program
    if shutil.which(beside, path=environment.get("PATH", os.defpath)) is None:
        exists = "/" in program and pathlib.Path(beside).exists()
        number = errno.EACCES if exists else errno.ENOENT
        raise OSError(number, os.strerror(number))
    unset = [name for name in SHELLS_OWN if name not in environment]
    script = f"unset {' '.join(unset)}; {SCRIPT}" if unset else SCRIPT
    # A shell drops variables whose names it could not write itself, and has some of its own; env(1) puts them back.
    odd = [
        f"{name}={value}"
        for name, value in environment.items()
        if name in SHELLS_MEANING or not IDENTIFIER.match(name)
    ]
    # The agent's PATH: the program's may not lead there.
    env = [shutil.which("env") or "/usr/bin/env", *odd] if odd else []
    return [SHELL, "-c", script, "sh", *env, *command]
