"""The extension's own tests: `python check_extension.py` against the installed wheel, with the standard library alone.

cibuildwheel runs this on every platform, where pytest and hypothesis need not exist. `--require`: fail when the wheel
brought no extension, instead of testing the twin.
"""

from __future__ import annotations

import importlib
import sys
import unittest


class Extension(unittest.TestCase):
    """The module is there, and says which interface it has."""

    def test_imports(self) -> None:
        """The extension loads in this interpreter."""
        assert importlib.import_module("watchkeeper._native").ABI == 1


if __name__ == "__main__":
    if "--require" in sys.argv:
        sys.argv.remove("--require")
    unittest.main(verbosity=2)
