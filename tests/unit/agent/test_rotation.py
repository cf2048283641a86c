"""What becomes of a file and of the earlier ones when it makes room."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchkeeper.rotation import shift


@pytest.mark.parametrize(
    ("there", "keep", "after"),
    [
        ({"log": "c"}, 0, {}),
        ({}, 2, {}),
        ({"log": "c"}, 2, {"log.1": "c"}),
        ({"log": "c", "log.1": "b", "log.2": "a"}, 2, {"log.1": "c", "log.2": "b"}),
        ({"log": "c", "log.2": "a"}, 3, {"log.1": "c", "log.2": "a"}),
        ({"log": "c", "log.7": "?"}, 2, {"log.1": "c", "log.7": "?"}),
    ],
)
def test_shift(tmp_path: Path, there: dict[str, str], keep: int, after: dict[str, str]) -> None:
    """Each gets the next number, the last one goes, what is behind a gap stays, and what has a number beyond is nobody's."""
    for name, text in there.items():
        (tmp_path / name).write_text(text)
    shift(tmp_path / "log", keep)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == after


def test_a_folder_is_in_the_way(tmp_path: Path) -> None:
    """The file is where it was."""
    (tmp_path / "log").write_text("c")
    (tmp_path / "log.1").mkdir()
    with pytest.raises(OSError, match="log"):
        shift(tmp_path / "log", 1)
    assert (tmp_path / "log").read_text() == "c"
