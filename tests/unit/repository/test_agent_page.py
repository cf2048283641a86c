"""The pages about the agent: every system of the list has its line, and every test that a line names is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "agent.md"
PAGES = (PAGE, *sorted((ROOT / "docs" / "agent").glob("*.md")))
SYSTEMS = range(1, 60)
_NAME = re.compile(r"`((?:[A-Za-z_]\w*(?:\.py)?::)?(?:test_\w+|Test\w+))(?:\.py)?`")
_DEFINED = re.compile(r"^\s*(?:async )?(?:def|class) ((?:test_|Test)\w+|Test\w+)|^(Test\w+)\b", re.MULTILINE)


def rows(page: Path) -> Iterator[tuple[str, str]]:
    """First and last cell of each line of the tables that end in what shows it."""
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| row |"):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not set(cells[0]) <= set("-"):
            yield cells[0], cells[-1]


def defined() -> tuple[set[str], dict[str, set[str]]]:
    """Every test of the repository, and those of each module."""
    modules: dict[str, set[str]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        found = {one or other for one, other in _DEFINED.findall(file.read_text(encoding="utf-8"))}
        modules.setdefault(file.stem, set()).update(found)
    return set().union(*modules.values()), modules


def test_every_system_has_its_line() -> None:
    """Of all the systems that the agent and its toolchain realise none is left out of the table."""
    found = {int(number) for first, _ in rows(PAGE) for number in re.findall(r"\d+", first)}
    assert found >= set(SYSTEMS), sorted(set(SYSTEMS) - found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_shows_it_is_there(page: Path) -> None:
    """A test that a table names exists, in the module that is named with it."""
    names, modules = defined()
    missing = []
    for first, cell in rows(page):
        for name in _NAME.findall(cell):
            module, _, test = name.rpartition("::")
            known = modules.get(module.removesuffix(".py"), set()) if module else names | set(modules)
            if test not in known:
                missing.append((first, name))
    assert missing == []


def test_each_line_names_something() -> None:
    """No line of the page ends in words alone."""
    bare = [first for first, cell in rows(PAGE) if "`" not in cell]
    assert bare == []
