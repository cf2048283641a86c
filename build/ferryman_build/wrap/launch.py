"""What the launcher reads in a tree: how it is started (`launch`), and the main script (docs/launcher.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import msgspec

from ferryman_build.collect.pyinstaller import entry_script, inside

FORMAT = 1
FOLDER = "_ferryman"  # below the tree's contents
MAIN = f"{FOLDER}/main.pyc"
HOOKS = f"{FOLDER}/hooks"
SBOM = f"{FOLDER}/sbom.cdx.json"
"""What the program consists of (docs/sbom.md), below the tree's contents; in a .pyz at its top."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of `launch`. ``python`` is X.Y; ``path`` are entries of sys.path, relative to the contents."""

    name: str
    version: str
    python: str
    library: str
    path: tuple[str, ...]
    optimize: int
    interpreter: bool


def launch_text(launch: Launch) -> str:
    """The file `_ferryman/launch`.

    Raises:
        ValueError: a value has a line break in it.
    """
    rows = [
        ("format", str(FORMAT)), ("name", launch.name), ("version", launch.version), ("python", launch.python),
        ("library", launch.library), *(("path", entry) for entry in launch.path), ("main", MAIN),
        ("optimize", str(launch.optimize)), ("interpreter", str(int(launch.interpreter))),
    ]  # fmt: skip
    for key, value in rows:
        if len(value.splitlines()) != 1:
            raise ValueError(f"{key} is not one line: {value!r}")
    return "".join(f"{key} {value}\n" for key, value in rows)


def search_path(dests: Iterable[str], python: str) -> tuple[str, ...]:
    """The entries of sys.path that a tree with these files needs.

    Its top, the standard library's extension modules where PyInstaller puts them on POSIX, old distributions' .egg folders.
    """
    found = set(_folders(dests, python))
    return (".", *sorted(found))


def _folders(dests: Iterable[str], python: str) -> Iterator[str]:
    dynload = f"python{python}/lib-dynload"
    for dest in dests:
        if dest.startswith(f"{dynload}/"):
            yield dynload
        top, *rest = PurePosixPath(dest).parts
        if rest and top.endswith(".egg"):
            yield top


def main_script(entry_point: str, hooks: Iterable[str], sbom_option: str = "") -> str:
    """The source of ``MAIN``: what makes a program of the interpreter, the ``hooks`` by name, and the entry point.

    ``sbom_option`` prints the SBOM when it is the only argument; "": no argument does.
    """
    paths = "".join(f'f"{{sys._MEIPASS}}/{HOOKS}/{name}.pyc", ' for name in hooks)
    start = [
        "sys.frozen = True",
        f"sys._MEIPASS = __file__[: -len('/{MAIN}')]",  # whatever the separator is
        *_start_lines(f"({paths})", sbom_option),
    ]
    return entry_script(entry_point, _text(start))


def bootloader_script(entry_point: str, sbom_option: str = "") -> str:
    """The same for PyInstaller's bootloader, which sets the attributes of sys and runs the hooks itself."""
    return entry_script(entry_point, _text(_start_lines("()", sbom_option)))


def _start_lines(hooks: str, sbom_option: str) -> list[str]:
    # A worker that found __file__ in its parent's main script would run that again.
    names = "_ferryman_start, _ferryman_helper, _ferryman_hook"
    asked = [f"if sys.argv[1:] == [{sbom_option!r}]:", f'    _ferryman_sbom(f"{{sys._MEIPASS}}/{SBOM}")']
    return [
        "del __file__",
        *(asked if sbom_option else ()),
        f"_ferryman_start({hooks})",
        f"del {names}, _ferryman_sbom",
    ]


def _text(lines: Iterable[str]) -> str:
    return inside("start.py").read_text(encoding="utf-8") + "".join(f"{line}\n" for line in lines)
