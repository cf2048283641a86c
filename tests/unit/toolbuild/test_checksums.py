"""SHA256SUMS is what sha256sum reads and writes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman_build.checksums import parse_sums, sums_text
from ferryman_build.errors import ManifestError

NAMES = [
    "agent-1.0-linux-amd64.tar.gz",
    "with blank",
    "grün",
    r"back\slash",
    "new\nline",
    r"both\n" + "\n",
    "*star",
]


def test_the_real_sha256sum_accepts_it(tmp_path: Path) -> None:
    """Every kind of name: `sha256sum -c` finds and accepts the files, and refuses them after a change."""
    if not shutil.which("sha256sum"):
        pytest.skip("NOT TESTED: sha256sum is missing")
    if os.name == "nt":
        pytest.skip("Windows does not allow these names")
    sums = [(name, hashlib.sha256(name.encode()).hexdigest()) for name in NAMES]
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "SHA256SUMS").write_text(sums_text(sums), encoding="utf-8")
    command = ["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    (tmp_path / NAMES[3]).write_bytes(b"changed")
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 1


def test_the_same_bytes_as_sha256sum(tmp_path: Path) -> None:
    """Byte for byte what sha256sum prints for the same files in the same order."""
    if not shutil.which("sha256sum") or os.name == "nt":
        pytest.skip("NOT TESTED: sha256sum is missing")
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode())
    ordered = sorted(NAMES)
    done = subprocess.run(["sha256sum", "--", *ordered], cwd=tmp_path, check=True, capture_output=True)
    sums = [(name, hashlib.sha256(name.encode()).hexdigest()) for name in NAMES]
    assert sums_text(sums).encode() == done.stdout


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1), st.binary()
    )
)
def test_round_trip(content: dict[str, bytes]) -> None:
    """Whatever a file is called, what was written is what is read."""
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    assert parse_sums(sums_text(sums.items())) == sums


@pytest.mark.parametrize(
    "line", ["hello", "a" * 63 + "  x", "a" * 64 + " x", "A" * 64 + "  x", "a" * 64 + "  "]
)
def test_other_lines_are_refused(line: str) -> None:
    """A wrong line is named by its number."""
    with pytest.raises(ManifestError, match="Line 2"):
        parse_sums(f"{'0' * 64}  fine\n{line}\n")
