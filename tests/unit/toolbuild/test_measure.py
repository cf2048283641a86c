"""measure: what is kept of a file is kept under everything that has read it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ferryman_build.cache import Blobs
from ferryman_build.inspect import measure
from support.elf_factory import make_library

PACKAGE = Path(measure.__file__).parent


def test_facts_of_other_readers_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that was mended reads again; with the same ones a file is read once."""
    blobs, content, reads = Blobs(tmp_path), make_library(), []
    for recipe in ("one", "one", "another"):
        monkeypatch.setattr(measure, "recipe", lambda recipe=recipe: recipe)
        measure.facts_once("lib.so", lambda: reads.append(1) or content, blobs, "0" * 64)

    assert len(reads) == 2


def test_the_recipe_is_the_code_that_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte in any module of the package makes another one."""
    ours = measure.recipe.__wrapped__()
    for path in PACKAGE.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(measure, "__file__", str(tmp_path / "measure.py"))
    assert measure.recipe.__wrapped__() == ours
    (tmp_path / "pe_code.py").write_bytes((PACKAGE / "pe_code.py").read_bytes() + b"#")

    assert measure.recipe.__wrapped__() != ours


def test_everything_that_reads_is_in_the_package() -> None:
    """Whatever measure imports of Ferryman, however far away, is in the recipe, but for the cache's own form."""
    seen, waiting = set(), ["ferryman_build.inspect.measure"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        tree = ast.parse((PACKAGE / f"{name.rpartition('.')[2]}.py").read_text(encoding="utf-8"))
        found = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "ferryman_build.inspect"
            for alias in node.names
        }
        for module in {*found, *names} - {"ferryman_build.cache", "ferryman_build.inspect"}:
            if module.startswith("ferryman_build."):
                assert module.startswith("ferryman_build.inspect."), (name, module)
                waiting.append(module)
    assert len(seen) > 10
