"""ui: plain lines anywhere, folds and a summary on GitHub, nothing that a stream cannot say."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ferryman_build import ui as ui_module
from ferryman_build.ui import GithubUi, Mark, PlainUi, RichUi, human_size, make_progress, make_ui


class Stream(io.StringIO):
    """A text stream with an encoding, which may be a terminal."""

    def __init__(self, encoding: str | None = "utf-8", *, terminal: bool = False) -> None:
        super().__init__()
        self._encoding = encoding
        self._terminal = terminal

    @property
    def encoding(self) -> str | None:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def neutral(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(
    ("terminal", "plain", "env", "wanted"),
    [
        (True, False, {}, RichUi),
        (True, True, {}, PlainUi),
        (True, False, {"TERM": "dumb"}, PlainUi),
        (False, False, {}, PlainUi),
        (True, False, {"GITHUB_ACTIONS": "true"}, GithubUi),
        (False, True, {"GITHUB_ACTIONS": "true"}, GithubUi),
        (False, False, {"GITHUB_ACTIONS": ""}, PlainUi),
    ],
)
def test_face(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, plain: bool, env: dict[str, str], wanted: type
) -> None:
    """The stream and the environment decide which face a person sees."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    assert type(make_ui(plain=plain, stream=Stream(terminal=terminal))) is wanted


@pytest.mark.parametrize(
    ("mark", "unicode", "ascii_"),
    [
        (Mark.DONE, "✓", "ok"),
        (Mark.CACHED, "=", "same"),
        (Mark.SKIPPED, "-", "skip"),
        (Mark.FAILED, "✗", "FAIL"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "no-such-encoding", None])
def test_plain_lines(mark: Mark, unicode: str, ascii_: str, encoding: str | None) -> None:
    """One line per step: tick, who, what, seconds, note; in ASCII where the stream has no ticks."""
    stream = Stream(encoding)
    ui = PlainUi(stream)
    ui.start("linux-amd64", "tree")
    ui.end("linux-amd64", "tree", mark, 12.345, "a note")
    ui.close()

    tick = unicode if encoding == "utf-8" else ascii_
    assert stream.getvalue() == f"{tick} linux-amd64        tree           12.3 s  a note\n"


def test_plain_line_without_note() -> None:
    """No note, no blanks at the end."""
    stream = Stream()
    PlainUi(stream).end("", "lock", Mark.DONE, 0)

    assert stream.getvalue() == "✓                    lock            0.0 s\n"


def test_plain_table() -> None:
    """Columns as wide as their widest cell, nothing behind the last one."""
    stream = Stream()
    PlainUi(stream).table("Made", ("target", "size"), [("linux-amd64", "1 B"), ("x", "12.0 MB")])

    assert stream.getvalue() == "\nMade\ntarget       size\nlinux-amd64  1 B\nx            12.0 MB\n"


def test_table_without_rows() -> None:
    """A build that made nothing has a table all the same."""
    stream = Stream()
    PlainUi(stream).table("Made", ("a", "b"), iter(()))

    assert stream.getvalue() == "\nMade\na  b\n"


def test_github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps in one fold, the table outside it and on the summary page, behind what is there."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    stream = Stream()
    ui = GithubUi(stream)
    ui.start("linux-amd64", "wheel")
    ui.start("linux-amd64", "env")
    ui.end("linux-amd64", "wheel", Mark.DONE, 1)
    ui.end("linux-amd64", "env", Mark.DONE, 2)
    ui.table("Made", ("target", "size"), iter([("linux-amd64", "1 B")]))
    ui.close()

    lines = stream.getvalue().splitlines()
    assert lines[0] == "::group::Steps"
    assert [number for number, line in enumerate(lines) if line.startswith("::")] == [0, 3]
    assert lines[3:] == ["::endgroup::", "", "Made", "target       size", "linux-amd64  1 B"]
    assert summary.read_text() == (
        "before\n### Made\n\n| target | size |\n|---|---|\n| linux-amd64 | 1 B |\n\n"
    )


def test_github_without_steps_or_summary() -> None:
    """Nothing is folded when nothing ran, and no page is written when there is none."""
    stream = Stream()
    ui = GithubUi(stream)
    ui.table("Made", ("a",), [("b",)])
    ui.close()

    assert stream.getvalue() == "\nMade\na\nb\n"


def test_rich(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Words in square brackets are text and not markup; a finished step is a line; the live line goes away."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "dumb")
    ui = RichUi()
    ui.start("linux-amd64", "tree")
    ui.start("linux-arm64", "tree")
    ui.end("linux-arm64", "tree", Mark.DONE, 1, "[bold]note[/bold]")
    ui.end("linux-amd64", "tree", Mark.FAILED, 2)
    ui.say("say [red]x[/red]")
    ui.table("Made", ("target", "file"), [("linux-amd64", "[b]x[/b]")])
    ui.close()

    said = capsys.readouterr()
    assert said.out == ""
    assert "✓ linux-arm64        tree            1.0 s  [bold]note[/bold]" in said.err
    assert "✗ linux-amd64        tree            2.0 s" in said.err
    assert "say [red]x[/red]" in said.err
    assert "[b]x[/b]" in said.err


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_049, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (26_100_000, "26.1 MB"),
        (999_999_999, "1.0 GB"),
        (12_345_678_901, "12.3 GB"),
        (5_000_000_000_000, "5000.0 GB"),
    ],
)
def test_human_size(size: int, text: str) -> None:
    """Powers of 1000, one decimal, and never 1000.0 of a unit that has a next one."""
    assert human_size(size) == text


@pytest.mark.parametrize("plain", [True, False])
def test_progress_is_silent_elsewhere(
    plain: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal, or when asked to be plain, progress says nothing."""
    monkeypatch.setattr(ui_module.sys, "stderr", Stream(terminal=plain))
    with make_progress("asking", plain=plain) as step:
        step(1, 2, "x")

    assert ui_module.sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    assert capsys.readouterr().out == ""
