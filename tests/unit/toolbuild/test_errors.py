"""Exit codes are unique and documented, and each error carries its cure."""

from __future__ import annotations

import re
from pathlib import Path

from ferryman_build import errors
from ferryman_release import errors as release_errors

ROOT = Path(__file__).resolve().parents[3]


def classes() -> dict[str, int]:
    """Name → exit code of every error class."""
    both = {**vars(errors), **vars(release_errors)}
    found = (value for value in both.values() if isinstance(value, type))
    return {one.__name__: one.exit_code for one in found if issubclass(one, errors.FerrymanError)}


def test_no_two_errors_share_an_exit_code() -> None:
    """A script can tell every kind of failure from every other."""
    codes = classes()

    assert len(set(codes.values())) == len(codes)


def test_the_documented_table_is_the_code() -> None:
    """docs/exit-codes.md has one row for each class, with its code, and no row for anything else."""
    text = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    documented = {name: int(code) for code, name in re.findall(r"(?m)^\| (\d+) \| `(\w+)` \|", text)}

    assert documented == classes()
