"""docs/client.md: its examples run, and its tables are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ferryman_client import cli
from ferryman_client import errors as errors_module
from ferryman_client.errors import ClientError
from ferryman_client.status import Status
from support.tuf_simulator import Simulator

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")


def test_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every Python block of the guide, in its order, against a repository with two releases for this machine."""
    from ferryman_client import Machine

    sim = Simulator()
    monkeypatch.setattr(Machine, "detect", classmethod(lambda cls, state_dir=None: sim.machine))
    for version in ("1.0.0", "1.1.0"):
        sim.release(version)
        sim.promote("stable", version)
    (tmp_path / "root.json").write_bytes(sim.root_bytes)
    names: dict[str, Any] = {
        "URL": sim.write(tmp_path / "repository"), "STATE": str(tmp_path / "state"), "ROOT": str(tmp_path / "root.json"),
        "VERSIONS": str(tmp_path / "versions"),
    }  # fmt: skip
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, "docs/client.md", "exec"), names)

    assert len(blocks) == 5
    said = capsys.readouterr().out
    assert "because 1.1.0 is newer than 1.0.0." in said
    assert "['1.1.0', '1.0.0']" in said


def test_exit_codes_are_those_of_the_code() -> None:
    """Each error's code has a row, and no row is without an error."""
    table = GUIDE.partition("| code | meaning |")[2].partition("\n## ")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    classes = [
        one for one in vars(errors_module).values() if isinstance(one, type) and issubclass(one, ClientError)
    ]
    codes = {one.exit_code for one in classes if one is not ClientError}

    assert documented == codes | {0, cli.SOMETHING_TO_DO, cli.INTERRUPTED}


def test_kinds_and_fields_are_those_of_the_code() -> None:
    """The kinds of problems and the fields of a status that the guide names exist."""
    kinds = {
        one.kind
        for one in vars(errors_module).values()
        if isinstance(one, type) and issubclass(one, ClientError)
    }
    world = GUIDE.partition("| the world |")[2].partition("\n### ")[0]
    fields = GUIDE.partition("### What a status says")[2].partition("\n\nThe last")[0]

    named = set(re.findall(r"`([a-z-]+)`(?=[^|]*\|$)", world, re.MULTILINE))
    assert {"clock", "state", "refused"} <= named <= kinds
    assert set(re.findall(r"`(\w+)`", fields.replace("`kind`, `message`, `advice`, `exit_code`", ""))) <= set(
        Status.__dataclass_fields__
    )


def test_commands_are_those_of_the_command_line() -> None:
    """The guide shows every command and no other."""
    assert set(re.findall(r"^    ferryman-client (\w+)", GUIDE, re.MULTILINE)) == set(cli.COMMANDS)
