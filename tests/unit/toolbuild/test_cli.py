"""The command line: suggestions, what an error looks like, and what is not imported."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from ferryman_build import cli
from ferryman_build.errors import BuildStepError, FerrymanError
from support.ferryman import environment


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["bild"], "Did you mean build?"),
        (["build", "--tagret", "x"], "Did you mean --target?"),
        (["schema", "manifets"], "Did you mean manifest?"),
        (["build", "--zzzzzz"], "--help"),
    ],
)
def test_a_typo_is_answered_with_a_suggestion(
    capsys: pytest.CaptureFixture[str], words: list[str], advice: str
) -> None:
    """Exit code 2, one sentence, the nearest thing that exists."""
    assert cli.main(words) == 2
    err = capsys.readouterr().err

    assert err.startswith("error: ")
    assert advice in err


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`ferryman` alone lists the commands and ends with 2."""
    assert cli.main([]) == 2
    out = capsys.readouterr().out

    assert all(name in out for name in cli.COMMANDS)


def test_an_error_has_its_details_log_and_cure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, indented details, what to do; no traceback."""

    def fail(_args: object) -> int:
        raise BuildStepError("It broke.", advice="Mend it.", details=["line 1", "line 2"])

    monkeypatch.setitem(cli.COMMANDS, "targets", (fail, "", ()))

    assert cli.main(["targets"]) == BuildStepError.exit_code
    assert capsys.readouterr().err == "error: It broke.\n    line 1\n    line 2\n  what to do: Mend it.\n"


def test_github_gets_an_annotation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a workflow the sentence becomes an annotation of the run."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    cli.print_error(FerrymanError("It broke."), verbose=False)

    assert capsys.readouterr().err == "::error::It broke.\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "Interrupted. Child processes were ended"),
        (RuntimeError("odd"), 1, "Unexpected RuntimeError: odd"),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "out/logs"),
            3,
            "error: out/logs: Not a directory.",
        ),
        (OSError(errno.EROFS, "Read-only file system", "dist"), 3, "error: dist: Read-only file system."),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 10, "error: No space left: out/x"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            10,
            "error: No space left: No space left on device.",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 1, "Unexpected FileNotFoundError"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "Traceback"),
    ],
)
def test_whatever_happens_there_is_a_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    """Ctrl-C and defects end with a code of their own and a sentence."""

    def fail(_args: object) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "targets", (fail, "", ()))

    assert cli.main(["targets"]) == code
    assert said in capsys.readouterr().err


def test_the_help_imports_nothing_heavy() -> None:
    """`ferryman --version` answers without rich, msgspec or packaging."""
    code = (
        "import sys; from ferryman_build import cli\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('rich', 'msgspec', 'packaging', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )

    assert done.stdout.splitlines()[-1] == "[]"
