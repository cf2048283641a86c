"""Which files a data row means, and where they go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ferryman_build.data_files import data_files
from ferryman_build.settings import Data

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("source", "into", "places"),
    [
        ("assets/c.txt", ".", ["c.txt"]),
        ("assets/c.txt", "data", ["data/c.txt"]),
        ("assets/*.txt", "data", ["data/c.txt"]),
        ("assets/**/*.txt", "data", ["data/a/b.txt", "data/c.txt"]),
        ("assets", ".", ["assets/a/b.txt", "assets/c.txt"]),
        ("assets/*", "x", ["x/a/b.txt", "x/c.txt"]),
        ("ass*/c.txt", ".", ["assets/c.txt"]),
        ("*.png", ".", []),
    ],
)
def test_places(tmp_path: Path, source: str, into: str, places: list[str]) -> None:
    """A file keeps its path below the part without wildcards; a folder is taken whole, under its name."""
    for name in ("assets/a/b.txt", "assets/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = data_files(tmp_path, Data(source=source, into=into))
    assert [str(place) for _, place in found] == places
    assert all(file.is_file() and file.name == place.name for file, place in found)
