"""The compiler that a build backend sees: `zig cc` for one target, whatever flags the backend means for its own machine.

    python cc.py cc|c++|ar ARGUMENTS

FERRYMAN_CC names a JSON file: the words that start the compiler, flags for every compilation and for every link, and
for Windows what makes an import library. Runs in the backend's environment, so it uses the standard library alone.

On Windows every symbol of CPython must come from an import library. There is none here and no Windows to take it
from: it is made from the names that the objects themselves leave open, at every link anew.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# Of the machine that builds: where its libraries and headers are, what its processor can do, how its linker is told
# where to look when the program runs.
_FOREIGN = re.compile(r"-L/|-Wl,-rpath|-Wl,-R|-R/|-march=native$|-mtune=native$|-mcpu=native$|-specs=|-flto")
_HOST_HEADERS = ("/usr/include", "/usr/local/include")
_PYTHON_NAME = re.compile(r"_?Py[A-Z_a-z0-9]*|_Py_[A-Za-z0-9_]+")
_IMPORT = "__imp_"
_EXTERNAL = 2  # IMAGE_SYM_CLASS_EXTERNAL


def belongs(word: str) -> bool:
    """Whether an argument is about the target: headers of another Python and of this machine's system are not."""
    if word.startswith("-I"):
        folder = Path(word[2:])
        return not str(folder).startswith(_HOST_HEADERS) and not (folder / "Python.h").exists()
    return not _FOREIGN.match(word)


def wanted(words: Iterable[str]) -> list[str]:
    """The arguments that are about the target."""
    kept = []
    rest = iter(words)
    for word in rest:
        if word in ("-arch", "-isysroot"):  # macOS's own compiler
            next(rest, None)
        elif belongs(word):
            kept.append(word)
    return kept


def open_names(data: bytes) -> dict[str, bool]:
    """Names of CPython that a COFF object leaves open, and whether code asks for the thing itself or for its address.

    Microsoft's "PE Format": file header, symbol table and string table; a symbol is 18 bytes.
    """
    _, _, _, table, count, _, _ = struct.unpack_from("<HHIIIHH", data)
    strings = table + 18 * count
    found: dict[str, bool] = {}
    index = 0
    while index < count:
        raw, _, section, _, storage, extra = struct.unpack_from("<8sIhHBB", data, table + 18 * index)
        index += 1 + extra
        if section or storage != _EXTERNAL:
            continue
        name = symbol_name(data, raw, strings)
        bare = name.removeprefix(_IMPORT)
        if _PYTHON_NAME.fullmatch(bare):
            found[bare] = found.get(bare, False) or bare == name
    return found


def symbol_name(data: bytes, raw: bytes, strings: int) -> str:
    """Of a symbol; a long one lies in the string table."""
    if raw[:4] == b"\0\0\0\0":
        start = strings + struct.unpack("<I", raw[4:])[0]
        return data[start : data.index(b"\0", start)].decode("latin-1")
    return raw.rstrip(b"\0").decode("latin-1")


def import_library(request: dict[str, Any], words: Iterable[str], folder: Path, output: Path) -> Path:
    """A library that says of every open name that it comes from the DLL of CPython.

    A file with the stable ABI has no version in its name, and gets everything from the DLL without one.
    """
    dll = request["dlls"][output.name.count(".") != 1]
    names: dict[str, bool] = {}
    for word in words:
        path = Path(word)
        if path.suffix in (".o", ".obj") and path.is_file():
            for name, direct in open_names(path.read_bytes()).items():
                names[name] = names.get(name, False) or direct
    lines = [f"LIBRARY {dll}", "EXPORTS"]
    # DATA: no jump is made for it, which would be an address of code where somebody wants a variable.
    lines += [name if direct else f"{name} DATA" for name, direct in sorted(names.items())]
    (folder / "python.def").write_text("\n".join(lines) + "\n", encoding="ascii")
    made = folder / "libpython.a"
    subprocess.run([*request["dlltool"], "-d", folder / "python.def", "-l", made, "-D", dll], check=True)
    return made


def link(request: dict[str, Any], words: Sequence[str]) -> int:
    """Into a folder of its own: what a linker writes beside its product is nobody's."""
    output = Path(words[words.index("-o") + 1])
    words = list(words)
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / output.name
        words[words.index("-o") + 1] = str(made)
        libraries = [import_library(request, words, Path(name), output)] if request["dlls"] else []
        flags = [flag.replace("{name}", output.name) for flag in request["link"]]
        code = subprocess.run([*request["command"], *words, *libraries, *flags], check=False).returncode
        if made.exists():
            output.write_bytes(made.read_bytes())
            output.chmod(0o755)
    return code


def main() -> int:
    """Compile, or link when asked for a shared library, or put objects together."""
    request = json.loads(Path(os.environ["FERRYMAN_CC"]).read_text(encoding="utf-8"))
    if sys.argv[1] == "ar":
        return subprocess.run([*request["zig"], *sys.argv[1:]], check=False).returncode
    request["command"] = [*request["zig"], sys.argv[1], *request["target"]]
    words = wanted(sys.argv[2:])
    if "-c" not in words and "-shared" in words and "-o" in words:
        return link(request, words)
    return subprocess.run([*request["command"], *words, *request["compile"]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
