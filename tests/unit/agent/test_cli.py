"""The command line: what it imports, prints and exits with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from watchkeeper._version import __version__
from watchkeeper.cli import main
from watchkeeper.errors import ExitCode

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "agent_src" / "examples" / "demo.yaml"
HEAVY = {
    "argparse",
    "asyncio",
    "re",
    "typing",
    "dataclasses",
    "importlib.metadata",
    "enum",
    "msgspec",
    "json",
    "logging",
}


def modules_after(*arguments: str) -> set[str]:
    """What a fresh interpreter has imported when the command line has run, and had not imported before."""
    program = (
        "import sys\n"
        f"sys.path[:0] = {[str(ROOT / 'agent_src'), *sys.path]!r}\n"
        "before = set(sys.modules)\n"
        "from watchkeeper.cli import main\n"
        "try:\n"
        f"    main({list(arguments)!r})\n"
        "except SystemExit as ended:\n"
        "    assert ended.code == 0, ended.code\n"
        "print(' '.join(sorted(set(sys.modules) - before)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("word", ["--version", "version"])
def test_the_version_imports_nothing(word: str) -> None:
    """An updater asks for the version and must not wait for an event loop: three small modules of its own, nothing else."""
    assert modules_after(word) == {"__future__", "watchkeeper", "watchkeeper._version", "watchkeeper.cli"}


def test_python_m_version_imports_nothing_heavy() -> None:
    """`python -m watchkeeper --version`, asked of the interpreter itself."""
    done = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", "-m", "watchkeeper", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent_src")},
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "watchkeeper.cli" in imported
    assert not imported & HEAVY
    assert done.stdout == f"watchkeeper {__version__}\n"


@pytest.mark.parametrize("example", ["demo.yaml", "minimal.toml"])
def test_check_config_imports_neither_asyncio_nor_aiohttp(example: str) -> None:
    """A configuration is checked in a deployment, often, and without running anything."""
    imported = modules_after("check-config", str(DEMO.with_name(example)))
    assert "watchkeeper.config.load" in imported
    assert not imported & {"asyncio", "aiohttp", "ssl", "prometheus_client", "psutil", "logging"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_version_with_options(capsys: pytest.CaptureFixture[str]) -> None:
    """The parser knows the version as well."""
    assert run(capsys, "version")[:2] == (0, f"watchkeeper {__version__}\n")
    assert run(capsys, "--version")[:2] == (0, f"watchkeeper {__version__}\n")


def test_check_config_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for people, one object for programs."""
    assert run(capsys, "check-config", str(DEMO)) == (0, "ok: 1 service, 3 checks\n", "")
    code, out, _ = run(capsys, "check-config", str(DEMO), "--json")
    assert (code, json.loads(out)) == (0, {"ok": True, "services": 1, "checks": 3})


def test_check_config_lists_problems(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Exit code 3; standard output stays empty, or has the JSON."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("agent: {listn: x}\nservices: {a: {}}\n")
    code, out, err = run(capsys, "check-config", str(wrong))
    assert (code, out) == (ExitCode.CONFIG_INVALID, "")
    assert err.splitlines() == [
        f"watchkeeper: {wrong} has 2 problems:",
        f'{wrong}:1:9: agent.listn: unknown key; did you mean "listen"?',
        f'{wrong}:2:12: services.a: the key "command" is missing',
        "  Correct the lines above; `watchkeeper check-config FILE` checks a file without running it.",
    ]
    code, out, err = run(capsys, "check-config", str(wrong), "--json")
    assert (code, err) == (ExitCode.CONFIG_INVALID, "")
    assert json.loads(out)["problems"][1] == f'{wrong}:2:12: services.a: the key "command" is missing'


@pytest.mark.parametrize("command", [["check-config"], ["run", "--config"]])
def test_a_missing_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]) -> None:
    """Exit code 4, one sentence, one cure."""
    missing = tmp_path / "missing.yaml"
    program = [sys.executable, "-m", "watchkeeper", *command, str(missing)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "agent_src")}
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == ExitCode.CONFIG_UNREADABLE
    assert done.stderr == f"watchkeeper: there is no file {missing}\n  Name an existing file or folder.\n"


@pytest.mark.parametrize("arguments", [[], ["rum"], ["run"], ["check-config"], ["status", "--nope"]])
def test_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """What is not understood is exit code 2."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("usage: watchkeeper")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1", "no agent answers at http://127.0.0.1:1: Connection refused"),
        ("127.0.0.1:1", "'127.0.0.1:1' is not an http address"),
        ("file:///etc/passwd", "'file:///etc/passwd' is not an http address"),
        ("http://[", "no agent answers at"),
    ],
)
def test_status_without_an_agent(capsys: pytest.CaptureFixture[str], url: str, message: str) -> None:
    """Exit code 6, and what to do."""
    code, out, err = run(capsys, "status", "--url", url)
    assert (code, out) == (ExitCode.AGENT_UNREACHABLE, "")
    assert message in err
    assert len(err.splitlines()) == 2


def test_every_exit_code_is_documented() -> None:
    """The table of errors.py and --help are where people look."""
    import watchkeeper.errors
    from watchkeeper.commands import parser

    documented = watchkeeper.errors.__doc__ or ""
    for code in ExitCode:
        assert f"\n {code.value:3} " in documented, code
        assert str(code.value) in (parser().epilog or "")


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line for /bin/sh in which $W is the command."""
    paths = {"PYTHONPATH": str(ROOT / "agent_src"), "W": f"{sys.executable} -m watchkeeper"}
    return subprocess.run(
        ["/bin/sh", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **paths, **variables},
        timeout=60,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no /bin/sh")
def test_closed_streams() -> None:
    """Whoever starts a daemon may close all three: that is no defect, and no error of the command gets into a result."""
    assert shell(f"$W check-config {DEMO} <&- >&- 2>&-").returncode == 0
    missing = shell("$W check-config /no/such/file 2>&-")
    assert (missing.returncode, missing.stdout) == (4, "")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no /bin/sh")
def test_an_output_that_cannot_say_everything(tmp_path: Path) -> None:
    """Letters that the output's encoding does not have become escapes; they are no reason to end with a traceback."""
    said = shell(f"$W check-config --json '{tmp_path}/ü🚢.yaml'", PYTHONIOENCODING="ascii")
    assert (said.returncode, said.stderr) == (4, "")
    assert "\\u00fc" in said.stdout
    assert "ü🚢.yaml" in str(json.loads(said.stdout))
