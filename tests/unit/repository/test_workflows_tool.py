"""tools/workflows.py: every checker runs, a finding is an exit code, a checker that is missing is a sentence."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
GOOD = """name: trial
on: workflow_dispatch
permissions: {}
concurrency: {group: trial, cancel-in-progress: true}
jobs:
  one:
    name: one
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions: {}
    steps:
      - name: Say
        run: echo hello
"""


@pytest.fixture
def tool() -> ModuleType:
    """The module, loaded anew, since it is no part of a package."""
    spec = importlib.util.spec_from_file_location("workflows_under_test", ROOT / "tools" / "workflows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(root: Path, text: str) -> Path:
    path = root / ".github" / "workflows" / "trial.yml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return root


def test_our_workflows_are_clean(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """What is in .github has no finding of any checker, and each of them says that it looked."""
    assert tool.main([]) == 0

    said = capsys.readouterr().out.splitlines()
    assert [line.rpartition(": ")[2] for line in said] == ["ok"] * len(tool.CHECKERS)


def test_nothing_is_ignored() -> None:
    """No comment and no file tells a checker to look away."""
    files = [path for path in (ROOT / ".github").rglob("*") if path.is_file()]

    assert [path for path in files if "zizmor:" in path.read_text(encoding="utf-8")] == []
    assert [path for path in files if path.name.startswith(("zizmor.", "actionlint."))] == []
    assert not list(ROOT.glob("zizmor.y*ml"))


@pytest.mark.parametrize(
    ("good", "bad", "checker", "finding"),
    [
        ("echo hello", "echo ${{ matrix.word }}", "actionlint", 'property "word" is not defined'),
        ("runs-on: ubuntu-24.04", "runs-on: ubuntu-12.04", "actionlint", 'label "ubuntu-12.04" is unknown'),
        ("run: echo hello", "uses: actions/checkout@v7", "zizmor", "unpinned-uses"),
        ("run: echo hello", "run: echo ${{ github.head_ref }}", "zizmor", "template-injection"),
        ("permissions: {}\nconc", "permissions: write-all\nconc", "zizmor", "excessive-permissions"),
        ("name: one", "nome: one", "check-jsonschema", "nome"),
    ],
)
def test_finding(
    tool: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    good: str,
    bad: str,
    checker: str,
    finding: str,
) -> None:
    """Each checker on its own says what is wrong, and the end is 1."""
    monkeypatch.setattr(tool, "CHECKERS", [one for one in tool.CHECKERS if one.program == checker])

    assert tool.main([str(write(tmp_path, GOOD.replace(good, bad)))]) == 1

    said = capsys.readouterr().out
    assert "found something" in said
    assert finding in said


def test_good_workflow_passes(tool: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The workflow that the cases above spoil has no finding itself; what a repository does not have is passed over."""
    assert tool.main([str(write(tmp_path, GOOD))]) == 0

    assert "form of the updates" not in capsys.readouterr().out


def test_missing_checker_is_a_sentence(
    tool: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a checker the end is 4, with what to do, said once; the others run all the same."""
    absent = tool.Checker("no-such-checker", (), "nothing", tool.WORKFLOWS)
    monkeypatch.setattr(tool, "CHECKERS", (absent, absent, *tool.CHECKERS))

    assert tool.main([str(write(tmp_path, GOOD))]) == 4
    seen = capsys.readouterr()
    assert seen.err.count("no-such-checker is not installed; `nox -s lint` has it") == 1
    assert "actionlint, syntax and expressions: ok" in seen.out


def test_checkers_are_those_of_the_environment(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program beside the interpreter is taken before one on PATH, and without any PATH."""
    monkeypatch.delenv("PATH")

    assert Path(tool.find("actionlint")).parent == Path(sys.executable).parent
