"""imports: a signature that only changes when what a module pulls in may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferryman_build.collect import imports
from ferryman_build.collect.imports import imported_modules, signature

# What an analysis never looks at.
EQUAL = {
    "comment": ("import os\n", "import os  # why\n"),
    "blank lines": ("import os\n", "\n\nimport os\n\n"),
    "function body": ("import os\ndef f(): return 1\n", "import os\ndef f(): return os.sep * 2\n"),
    "string": ("import os\nX = 'a'\n", "import os\nX = 'import sys'\n"),
    "docstring": ('"""One."""\nimport os\n', '"""Two: import sys."""\nimport os\n'),
    "new function": ("import os\n", "import os\ndef f(): ...\n"),
    "order of imports": ("import os\nimport sys\n", "import sys\nimport os\n"),
    "import twice": ("import os\n", "import os\nimport os\n"),
    "alias": ("import os\n", "import os as operating_system\n"),
    "import moves into a function": ("import os\n", "def f():\n    import os\n"),
    "other call": ("import os\nprint('a')\n", "import os\nprint('b')\n"),
    "one line of several imports": ("import os, sys\n", "import os\nimport sys\n"),
    "line of a telling call": ("from m import version\nversion('x')\n", "from m import version\n\n\nversion('x')\n"),
    "name like a scanned module": ("import ctypes_like\nX = 1\n", "import ctypes_like\nX = 2\n"),
}  # fmt: skip
# What may change the analysis.
DIFFERENT = {
    "new import": ("import os\n", "import os\nimport json\n"),
    "import in a function": ("def f(): ...\n", "def f():\n    import json\n"),
    "import that may fail": ("", "try:\n    import uvloop\nexcept ImportError:\n    pass\n"),
    "submodule": ("import xml\n", "import xml.dom\n"),
    "name from a package": ("from xml import dom\n", "from xml import sax\n"),
    "everything": ("from xml import dom\n", "from xml import *\n"),
    "relative": ("from x import y\n", "from .x import y\n"),
    "two levels": ("from .x import y\n", "from ..x import y\n"),
    "relative without a module": ("from . import y\n", "from .. import y\n"),
    "lost import": ("import os\nimport json\n", "import os\n"),
    "metadata": (
        "import importlib.metadata\nimportlib.metadata.version('a')\n",
        "import importlib.metadata\nimportlib.metadata.version('b')\n",
    ),
    "metadata by name": ("from importlib.metadata import version\nversion('a')\n", "from importlib.metadata import version\n"),
    "import_module": ("import importlib\n", "import importlib\nimportlib.import_module('a')\n"),
    "argument of import_module": ("m.import_module('a', package=x)\n", "m.import_module('a', package=y)\n"),
    "__import__": ("__import__('a')\n", "__import__('b')\n"),
    "entry points": ("from m import entry_points\nentry_points(group='a')\n", "from m import entry_points\nentry_points(group='b')\n"),
    "any line where ctypes is used": ("import ctypes\nX = 'a'\n", "import ctypes\nX = 'b'\n"),
    "from ctypes": ("from ctypes.util import find_library\n# a\n", "from ctypes.util import find_library\n# b\n"),
    "cffi": ("import cffi\n# a\n", "import cffi\n# b\n"),
    "syntax error": ("def (\n# a\n", "def (\n# b\n"),
    "broken now": ("", "def (\n"),
    "null byte": ("a\0", "b\0"),
}  # fmt: skip


def of(folder: Path, text: str | bytes) -> str:
    path = folder / "module.py"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return signature(path)


@pytest.mark.parametrize("case", EQUAL)
def test_equal(tmp_path: Path, case: str) -> None:
    """An edit that pulls in nothing leaves the signature as it is."""
    one, other = EQUAL[case]

    assert one != other
    assert of(tmp_path, one) == of(tmp_path, other)


@pytest.mark.parametrize("case", DIFFERENT)
def test_different(tmp_path: Path, case: str) -> None:
    """An edit that may pull something in is another signature."""
    one, other = DIFFERENT[case]

    assert of(tmp_path, one) != of(tmp_path, other)


def test_not_utf8(tmp_path: Path) -> None:
    """A declared encoding is understood; bytes that are no text in it count with the whole file."""
    declared = b"# -*- coding: latin-1 -*-\nimport os\nX = '\xe9'\n"
    broken = b"import os\nX = '\xe9'\n"

    assert of(tmp_path, declared) == of(tmp_path, "import os\n")
    assert of(tmp_path, broken) != of(tmp_path, "import os\n")
    assert of(tmp_path, broken) != of(tmp_path, broken + b"#")


def test_unreadable_is_not_its_own_text(tmp_path: Path) -> None:
    """A file whose text happens to be another one's list of imports is not that file."""
    assert of(tmp_path, "import:os:") != of(tmp_path, "import os\n")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("import a, b.c as d\n", {"a", "b.c"}),
        ("from a.b import c, d\n", {"a.b", "a.b.c", "a.b.d"}),
        ("from . import a\nfrom .b import c\n", set()),
        ("def f():\n    if x:\n        import tkinter\n", {"tkinter"}),
        ("from tkinter import *\n", {"tkinter", "tkinter.*"}),
        ("def (\n", set()),
        ("a\0", set()),
        ("", set()),
    ],
)
def test_imported_modules(tmp_path: Path, text: str, wanted: set[str]) -> None:
    """Absolute imports at any depth; what cannot be read imports nothing."""
    path = tmp_path / "module.py"
    path.write_text(text)

    assert imported_modules(path) == wanted


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["Traceback", "ModuleNotFoundError: No module named 'app._impl'"], 'hidden-imports = ["app._impl"]'),
        (["ModuleNotFoundError: No module named 'xmlrpc.client'"], 'keep-modules = ["xmlrpc"]'),
        (["ModuleNotFoundError: No module named 'xmlrpcs'"], "hidden-imports"),
        (["ImportError: cannot import name 'x' from 'y'"], ""),
        ([], ""),
    ],
)
def test_a_missing_module_has_a_cure(lines: list[str], said: str) -> None:
    """The module is named, and the key that brings it."""
    found = imports.cure(lines, ["ftplib", "xmlrpc"])
    assert said in found
    assert bool(said) == bool(found)
