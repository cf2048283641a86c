"""CPython's headers for a target, laid into a folder: the target's own, or this machine's beside a pyconfig.h of ours."""

from __future__ import annotations

import re
import shutil
from importlib import resources
from pathlib import Path

from ferryman_build.interpreter import Headers
from ferryman_build.targets import Os, Target

# Debian's pyconfig.h is a line that names another one, below the folder of the machine's own headers.
_ELSEWHERE = re.compile(r"#\s*include <(\S+/pyconfig\.h)>")


def lay_headers(host: Headers, own: Headers | None, target: Target, into: Path) -> Path:
    """A new folder ``into`` with Python.h and all that it includes.

    Copied, because Python.h takes the pyconfig.h beside it before any that a flag could name.

    Args:
        host: headers of the Python that runs the backend; all of CPython's headers but pyconfig.h are the same everywhere.
        own: headers of the same Python for ``target``; without them the limited API alone can be compiled.
    """
    source = (own or host).folder
    shutil.copytree(source, into, ignore=shutil.ignore_patterns("pyconfig*.h", "internal"))
    (into / "pyconfig.h").write_text(_own_config(source) if own else _our_config(target), encoding="utf-8")
    return into


def _our_config(target: Target) -> str:
    name = "windows.h" if target.os is Os.WINDOWS else "posix.h"
    return (
        resources.files("ferryman_build").joinpath(f"resources/pyconfig/{name}").read_text(encoding="utf-8")
    )


def _own_config(folder: Path) -> str:
    text = (folder / "pyconfig.h").read_text(encoding="utf-8")
    for name in _ELSEWHERE.findall(text):
        real: Path = folder.parent / name
        if real.is_file():
            return real.read_text(encoding="utf-8")
    return text
