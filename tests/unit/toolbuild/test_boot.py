"""boot.py: what runs first where PyInstaller's bootloader starts a program, and what children see of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.collect.pyinstaller import inside

PROGRAM = """
import sys
sys._MEIPASS = {root!r}
sys.argv = ["agent", *{arguments!r}]
before = set(sys.modules)
exec(compile(open({boot!r}, encoding="utf-8").read(), "boot.py", "exec"))
imported = sorted(set(sys.modules) - before)
import json, os
print(json.dumps({{
    "frozen": sys.frozen, "imported": imported,
    "child": {{name: value for name, value in os.environ.items() if name.startswith(("L", "K"))}},
    "left": sorted(name for name in globals() if name.startswith("_") and not name.startswith("__")),
}}))
"""


def boot(root: Path, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run boot.py as the first script of a program; what the program then sees."""
    text = PROGRAM.format(root=str(root), arguments=arguments, boot=str(inside("boot.py")))
    done = subprocess.run(
        [sys.executable, "-I", "-c", text],
        env={"PATH": os.environ["PATH"], **(env or {})}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["said"] = done.stdout.splitlines()[:-1]
    return found


@pytest.mark.skipif(os.name == "nt", reason="Windows searches libraries elsewhere")
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {}),
        ({"LD_LIBRARY_PATH": "/tree"}, {}),
        ({"LD_LIBRARY_PATH": "/tree:/mine", "LD_LIBRARY_PATH_ORIG": "/mine"}, {"LD_LIBRARY_PATH": "/mine"}),
        ({"LD_LIBRARY_PATH_ORIG": "/mine"}, {"LD_LIBRARY_PATH": "/mine"}),
        ({"LD_LIBRARY_PATH": "/tree", "LD_LIBRARY_PATH_ORIG": ""}, {"LD_LIBRARY_PATH": ""}),
        ({"LIBPATH": "/tree:/aix", "LIBPATH_ORIG": "/aix"}, {"LIBPATH": "/aix"}),
        ({"LIBPATH": "/tree", "LD_LIBRARY_PATH": "/tree"}, {}),
        ({"LANG": "C", "KEEP": "me", "LD_LIBRARY_PATH": "/tree"}, {"LANG": "C", "KEEP": "me"}),
    ],
)
def test_environment(tmp_path: Path, given: dict[str, str], wanted: dict[str, str]) -> None:
    """Children get the environment that the program was started with, no more and no less."""
    found = boot(tmp_path, env={"LC_ALL": "C.UTF-8", **given})

    assert found["child"] == {"LC_ALL": "C.UTF-8", **wanted}


def test_start_is_light(tmp_path: Path) -> None:
    """The program is frozen, nothing was imported for it, and no name of boot.py is left in __main__."""
    found = boot(tmp_path, "run", "--config", "x")

    assert (found["frozen"], found["imported"], found["left"]) == (True, [], [])
