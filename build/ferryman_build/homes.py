"""The folder that all projects of a user share: runtimes that were fetched, runners that were set up.

``FERRYMAN_HOME``, else the platform's cache folder. What is in it can be had again, and every checkout can do without it;
but a root filesystem or a Wine prefix is half a gigabyte, which nobody wants once per checkout.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def home() -> Path:
    """The folder; it may not exist yet."""
    given = os.environ.get("FERRYMAN_HOME")
    if given:
        return Path(given).absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ferryman"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ferryman"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ferryman"
