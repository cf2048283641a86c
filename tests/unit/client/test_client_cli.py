"""`ferryman-client`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman_client import cli
from ferryman_client import errors as errors_module
from ferryman_client.errors import ClientError
from support.tuf_simulator import Simulator

Run = Callable[..., int]


@pytest.fixture
def sim() -> Simulator:
    made = Simulator()
    for version in ("1.0.0", "1.1.0"):
        made.release(version, targets=("linux-amd64", "linux-arm64"))
        made.promote("stable", version)
    return made


@pytest.fixture
def run(sim: Simulator, tmp_path: Path) -> Run:
    """The command line against the repository as it is, for a machine of target linux-amd64."""
    (tmp_path / "root.json").write_bytes(sim.root_bytes)

    def call(*words: str, environ: dict[str, str] | None = None) -> int:
        environ = {"FERRYMAN_URL": sim.write(tmp_path / "repository"), "FERRYMAN_ROOT": str(tmp_path / "root.json"),
                   "FERRYMAN_STATE": str(tmp_path / "state"), **(environ or {})}  # fmt: skip
        return cli.main(words, environ)

    return call


def test_refresh_and_status(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says version, age and validity; the status of a machine that knows nothing ends with 40."""
    assert run("status") == 40
    assert "stable: nothing is known yet" in capsys.readouterr().out
    assert run("refresh") == 0
    assert capsys.readouterr().out.startswith("stable 1.1.0: fresh, valid until ")
    assert run("status") == 0
    assert " ago, valid until " in capsys.readouterr().out


def test_refresh_without_a_network(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The old state is shown, the problem told, and the code is the problem's."""
    run("refresh")
    capsys.readouterr()

    assert run("refresh", "--url", "http://127.0.0.1:9/", "--timeout", "3") == 21
    said = capsys.readouterr()
    assert said.out.startswith("stable 1.1.0: checked ")
    assert said.err.startswith("warning: 127.0.0.1 did not answer")


def test_refresh_as_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that is known, with hyphens and times in ISO 8601."""
    run("refresh", "--json")
    said = json.loads(capsys.readouterr().out)

    assert (said["version"], said["fresh"], said["known"], said["problem"]) == ("1.1.0", True, True, None)
    assert said["expires"].endswith("Z")
    assert said["roles"]["stable"] == 3


@pytest.mark.parametrize(
    ("words", "code", "first"),
    [
        (("--installed", "1.0.0"), 0, "update 1.1.0"), (("--installed", "1.0.0", "--exit-code"), 100, "update 1.1.0"),
        (("--installed", "1.1.0", "--exit-code"), 0, "stay 1.1.0"), (("--exit-code",), 100, "install 1.1.0"),
    ],
)  # fmt: skip
def test_choose(
    run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, first: str
) -> None:
    """The action and the version, then the reason; 100 for scripts that want to know whether there is something."""
    assert run("choose", "--target", "linux-amd64", *words) == code
    assert capsys.readouterr().out.splitlines()[0] == first


def test_choose_as_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The choice with its offer."""
    run("choose", "--json", "--target", "linux-amd64", "--installed", "1.0.0")
    said = json.loads(capsys.readouterr().out)

    assert (said["action"], said["changes"], said["offer"]["version"]) == ("update", True, "1.1.0")


def test_download_and_verify(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was downloaded is what verify recognises, by whatever name; another file is refused with 23."""
    assert (
        run(
            "download",
            str(tmp_path / "new"),
            "--target",
            "linux-arm64",
            "--kind",
            "archive",
            "--name",
            "agent.tgz",
        )
        == 0
    )
    path = tmp_path / "new" / "agent.tgz"
    assert capsys.readouterr().out.strip() == str(path)
    assert run("verify", str(path)) == 0
    assert f"{path}: lantern 1.1.0 lantern-1.1.0-linux-arm64.tar.gz, SHA-256 " in capsys.readouterr().out

    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert run("verify", str(path)) == 23
    said = capsys.readouterr().err
    assert f"error: {path} is no file of stable." in said
    assert "download it again" in said


def test_older_release(run: Run, sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A release of the channel's past can be had and recognised; that it was yanked is said."""
    assert run("download", str(tmp_path), "--target", "linux-amd64", "--version", "1.0.0") == 0
    sim.promote(
        "stable", "1.1.0", yanked=[{"version": "1.0.0", "reason": "it eats logs", "date": "2026-11-02"}]
    )
    path = tmp_path / "lantern-1.0.0-linux-amd64"
    capsys.readouterr()

    assert run("verify", str(path), "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["bad"] == "1.0.0 was yanked: it eats logs"
    assert "warning: 1.0.0 was yanked: it eats logs" in said.err
    assert run("verify", str(path), "--version", "1.1.0") == 23
    assert "is no file of stable 1.1.0" in capsys.readouterr().err


def test_history(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """All releases, newest first."""
    assert run("history") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1.1.0", "1.0.0"]
    assert run("history", "--offline", "--json") == 0
    assert json.loads(capsys.readouterr().out)["releases"][0]["version"] == "1.1.0"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("download", "--target", "linux-s390x"), 27, "stable has no executable for linux-s390x"),
        (("download", "--version", "9.9"), 27, "has never had 9.9"), (("refresh", "--channel", "nightly"), 27, "no channel nightly"),
        (("verify", "/nowhere/x"), 2, "cannot be read"), (("refresh", "--root", "/nowhere/x"), 2, "cannot be read"),
        (("choose", "--offline"), 40, "Nothing is known of stable yet"), (("refresh", "--url", "ftp://x/"), 2, "neither http"),
        (("refresh", "--channel", "a/b"), 2, "cannot be used as a name"),
    ],
)  # fmt: skip
def test_failures(
    run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, says: str
) -> None:
    """Each failure has its code and its sentence, and a cure."""
    assert run(*words) == code
    lines = capsys.readouterr().err.splitlines()
    assert says in lines[0]
    assert lines[1].startswith("  ")


def test_failure_as_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json an error is JSON too."""
    assert run("download", "--json", "--target", "linux-s390x") == 27
    said = json.loads(capsys.readouterr().out)
    assert (said["error"], said["exit-code"]) == ("unknown", 27)


def test_which_repository(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a URL the answer says how to give one."""
    assert cli.main(["refresh"], {}) == 2
    assert "FERRYMAN_URL" in capsys.readouterr().err


def test_machine(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """What this machine is taken for, without its identifier."""
    assert cli.main(["machine", "--json"], {}) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["id"] == "set"
    assert run("machine") == 0
    assert said["arch"] in capsys.readouterr().out


def test_secret_comes_from_the_environment(run: Run) -> None:
    """No option takes a secret, which other users could read on the command line."""
    assert cli._headers({"FERRYMAN_AUTHORIZATION": "Bearer x"}) == {"Authorization": "Bearer x"}
    assert cli._headers({}) == {}
    assert "authorization" not in cli.make_parser().format_help().lower()


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_state_folder(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """Where a person's tools keep what they remember."""
    monkeypatch.setattr(sys, "platform", platform)
    given = {"XDG_STATE_HOME": "/x", "LOCALAPPDATA": "/x"}

    assert cli.default_state(given) == Path("/x/ferryman-client")
    assert cli.default_state({}).name == "ferryman-client"


def test_module_is_the_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m ferryman_client` is the command line."""
    monkeypatch.setattr(sys, "argv", ["ferryman-client", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("ferryman_client", run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("ferryman-client ")


def test_every_error_has_a_code_and_a_kind() -> None:
    """Kinds are words of their own, and codes are not those of Python, of a shell or of a defect."""
    classes = [
        one for one in vars(errors_module).values() if isinstance(one, type) and issubclass(one, ClientError)
    ]
    kinds = [one.kind for one in classes]

    assert len(set(kinds)) == len(kinds) > 10
    assert all(1 < one.exit_code < 100 for one in classes if one is not ClientError)
