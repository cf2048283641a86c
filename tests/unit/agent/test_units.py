"""What `watchkeeper unit` and `watchkeeper completions` print."""

from __future__ import annotations

import plistlib
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from watchkeeper.client import units
from watchkeeper.client.completions import script
from watchkeeper.client.units import Wanted, text
from watchkeeper.commands import SHELLS, UNITS, commands_of, parser
from watchkeeper.config.load import parse


def directives(unit: str) -> dict[str, str]:
    """The last value of each."""
    return dict(line.split("=", 1) for line in unit.splitlines() if re.match(r"[A-Z]\w+=", line))


def test_systemd_new_and_old() -> None:
    """notify-reload where it is known (253); before that, notify and a SIGHUP."""
    new = directives(
        text("systemd", Wanted(program="/opt/wk", config="/etc/wk.yaml", systemd=253, user="wk"))
    )
    assert (new["Type"], new["User"], "ExecReload" in new) == ("notify-reload", "wk", False)
    assert new["ExecStart"] == "/opt/wk run --config /etc/wk.yaml"
    assert new["ExecStartPre"] == "-/opt/wk check-config /etc/wk.yaml"
    old = directives(text("systemd", Wanted(systemd=252)))
    assert (old["Type"], old["ExecReload"]) == ("notify", "/bin/kill -HUP $MAINPID")


def test_systemd_leaves_time_to_drain() -> None:
    """The manager's limit is longer than the agent's default."""
    found = directives(text("systemd", Wanted(systemd=257)))
    settings = parse(b"{}", file="f.yaml").config.agent
    assert float(found["TimeoutStopSec"]) > settings.drain_timeout
    assert (found["KillMode"], found["StartLimitIntervalSec"]) == ("mixed", "0")


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/etc/wk.yaml", "/etc/wk.yaml"),
        ("/etc/my files/wk.yaml", '"/etc/my files/wk.yaml"'),
        ("/etc/100%/$HOME.yaml", "/etc/100%%/$$HOME.yaml"),
    ],
)
def test_systemd_takes_every_path(path: str, written: str) -> None:
    """% is a specifier there, $ a variable, and a blank ends a word."""
    assert directives(text("systemd", Wanted(config=path, systemd=257)))["ExecStart"].endswith(
        f"--config {written}"
    )


@pytest.mark.parametrize(("said", "version"), [("systemd 252 (252.39)\n", 252), ("nonsense", 253), ("", 253)])
def test_the_systemd_that_runs_here_is_asked(
    monkeypatch: pytest.MonkeyPatch, said: str, version: int
) -> None:
    monkeypatch.setattr(units.shutil, "which", lambda _name: "/bin/systemctl")  # type: ignore[attr-defined]
    done = subprocess.CompletedProcess(["systemctl"], 0, said, "")
    monkeypatch.setattr(units.subprocess, "run", lambda *_arguments, **_options: done)  # type: ignore[attr-defined]
    assert f"for systemd {version}" in text("systemd", Wanted())
    monkeypatch.setattr(units.shutil, "which", lambda _name: None)  # type: ignore[attr-defined]
    assert "for systemd 253" in text("systemd", Wanted())


def test_launchd() -> None:
    """A property list, with everything quoted."""
    found = plistlib.loads(
        text("launchd", Wanted(program="/opt/a&b", config="/etc/<x>.yaml", user="wk")).encode()
    )
    assert found["ProgramArguments"][:4] == ["/opt/a&b", "run", "--config", "/etc/<x>.yaml"]
    assert (found["KeepAlive"], found["RunAtLoad"], found["UserName"]) == (True, True, "wk")
    assert found["ExitTimeOut"] > 30


def test_windows() -> None:
    """One command, and what it does."""
    found = text("windows", Wanted(program=r"C:\wk\watchkeeper.exe", config=r"C:\wk\a.yaml"))
    assert r'"C:\wk\watchkeeper.exe" service install --config "C:\wk\a.yaml"' in found
    assert "sc.exe failure watchkeeper reset= 600" in found


def test_daemonset() -> None:
    """Four documents; the probes ask what the agent answers, its configuration is right, and it has time to drain."""
    documents = {
        each["kind"]: each for each in yaml.safe_load_all(text("daemonset", Wanted(image="registry/wk:1")))
    }
    assert set(documents) == {"Namespace", "ServiceAccount", "ConfigMap", "DaemonSet"}
    pod = documents["DaemonSet"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == "registry/wk:1"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["terminationGracePeriodSeconds"] > 30
    [(name, content)] = documents["ConfigMap"]["data"].items()
    settings = parse(content.encode(), file=name).config.agent
    assert settings.listen == "0.0.0.0:9470"
    folder, file = container["args"][2].rsplit("/", 1)
    assert (file, folder) == (name, container["volumeMounts"][0]["mountPath"])
    assert documents["DaemonSet"]["spec"]["selector"]["matchLabels"].items() <= (
        documents["DaemonSet"]["spec"]["template"]["metadata"]["labels"].items()
    )


def test_the_program_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen: the executable; installed: what is in the path."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/frozen")
    assert "ExecStart=/opt/frozen run" in text("systemd", Wanted(systemd=257))
    monkeypatch.setattr(sys, "frozen", False)
    monkeypatch.setattr(units.shutil, "which", lambda _name: None)  # type: ignore[attr-defined]
    assert "ExecStart=/usr/bin/watchkeeper run" in text("systemd", Wanted(systemd=257))


@pytest.mark.parametrize("manager", UNITS)
def test_every_unit_names_a_command_that_there_is(manager: str) -> None:
    """What a manager starts, this parser understands."""
    found = text(manager, Wanted(program="/wk", config="/c.yaml", systemd=257))
    words = {"systemd": "run --config /c.yaml", "windows": 'service install --config "/c.yaml"'}.get(manager)
    if words:
        assert words in found
        parser().parse_args(shlex.split(words))


# --- completions


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_completed(shell: str) -> None:
    """What the parser knows, each shell is told."""
    found = script(shell, parser())
    for name, command in commands_of(parser()).items():
        assert name in found
        for word in command._option_string_actions:
            written = word.lstrip("-") if shell == "fish" else word
            assert written in found, (name, word)
