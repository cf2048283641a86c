"""What a module may pull into the program, as a value that stays the same while only its other lines change.

PyInstaller's analysis takes ten times as long as everything else. Its result depends on a project's own module only
through what the module imports and a few calls with literal arguments that hooks and the bytecode scan look at
(``importlib.metadata.version("x")``, ``ctypes.CDLL("y")`` …). So the key of an analysis has, for each own module, this
signature instead of its content; a module that does something out of the ordinary counts with its whole content.
"""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

# Names whose arguments (or mere use) the analysis or a hook may look at.
_TELLING = frozenset({
    "__import__", "import_module", "find_spec", "spec_from_file_location", "run_module", "run_path", "resolve_name",
    "version", "metadata", "distribution", "entry_points", "requires", "files", "require", "get_distribution",
    "iter_entry_points", "load_entry_point", "add_module", "exec", "eval", "compile", "find_library",
})  # fmt: skip
# Modules whose users are scanned in their whole: PyInstaller's ctypes scan follows names through a function.
_SCANNED = frozenset({"ctypes", "cffi", "pkg_resources", "imp", "_ctypes"})

_MISSING = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


def signature(path: Path) -> str:
    """SHA-256 (hex) of what the Python file at ``path`` may pull in; of the whole file where that can't be told."""
    content = path.read_bytes()
    try:
        parts = sorted(set(_parts(_parse(content))))
    except (SyntaxError, ValueError):
        parts = []
        content = b"unreadable\0" + content
    else:
        if not any(part.startswith("whole:") for part in parts):
            content = "\n".join(parts).encode()
    return hashlib.sha256(content).hexdigest()


def imported_modules(path: Path) -> set[str]:
    """Dotted names that the file imports absolutely; {} where it cannot be parsed."""
    try:
        tree = _parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def cure(lines: Iterable[str], excluded: Iterable[str]) -> str:
    """What to do about a program whose last ``lines`` miss a module; '' when they do not."""
    found = next((match[1] for line in lines if (match := _MISSING.search(line))), "")
    if not found:
        return ""
    for name in excluded:
        if f"{found}.".startswith(f"{name}."):
            return f'{name} was left out: take it from exclude-modules, or write keep-modules = ["{name}"] in [tool.ferryman].'
    return (
        f'No import names {found} where an analysis sees it: write hidden-imports = ["{found}"] in [tool.ferryman], '
        "and see that [project] dependencies has what brings it."
    )


def _parse(content: bytes) -> ast.Module:
    """The module's tree; what the compiler would warn of is the project's own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(content)


def _parts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield from _import(alias.name)
            case ast.ImportFrom():
                for alias in node.names:
                    yield from _import("." * node.level + (node.module or ""), alias.name)
            case ast.Call() if (name := _called(node)) in _TELLING:
                yield f"call:{name}:{ast.dump(node)}"


def _import(module: str, name: str = "") -> Iterator[str]:
    if module.split(".", maxsplit=1)[0] in _SCANNED:
        yield f"whole:{module}"
    yield f"import:{module}:{name}"


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
