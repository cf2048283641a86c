"""Calls a project's build backend as if this Python had been compiled for the target.

FERRYMAN_REQUEST names a JSON file: source, backend, its path, into, variables (of sysconfig), platform. Runs in the
environment that holds the backend.

A backend asks sysconfig for everything: compiler, flags, the suffix of an extension, the platform. So that is the one
place where the target is told. `sys.platform` stays what it is, because the standard library goes by it.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import os
import sys
import sysconfig
from pathlib import Path
from typing import Any


def pretend(request: dict[str, Any]) -> None:
    """Every answer about the machine is the target's."""
    os.environ["_PYTHON_HOST_PLATFORM"] = request["platform"]
    variables = sysconfig.get_config_vars()
    variables.update(request["variables"])
    # Older setuptools reads the stable ABI's suffix from this list. Imports do not: theirs was copied at the start.
    importlib.machinery.EXTENSION_SUFFIXES[:] = request["suffixes"]


def find_backend(request: dict[str, Any]) -> Any:
    """The object with the hooks of PEP 517."""
    sys.path[:0] = [os.path.join(request["source"], folder) for folder in request["path"]]  # noqa: PTH118
    module, _, attribute = request["backend"].partition(":")
    found = importlib.import_module(module)
    for name in filter(None, attribute.split(".")):
        found = getattr(found, name)
    return found


def main() -> None:
    """Make the wheel."""
    request = json.loads(Path(os.environ["FERRYMAN_REQUEST"]).read_text(encoding="utf-8"))
    os.chdir(request["source"])
    os.umask(0o022)
    pretend(request)
    find_backend(request).build_wheel(request["into"])


if __name__ == "__main__":
    main()
