"""The agent on Windows, under Wine: the command line, the console, the service manager.

What Wine 8 cannot show, and nothing here does: Ctrl-Break in another group, the closing of a console's window, logoff and
shutdown (no such event is ever sent), PRESHUTDOWN, recovery actions, error 1053. For these the code is tested against a
service manager and a console of the tests' own (tests/unit/agent/test_windows_life.py).
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from support.wine.agent import WindowsAgent, install
from support.wine.prefix import Terminal, windows
from watchkeeper._version import __version__

pytestmark = pytest.mark.e2e

QUIET = 'agent: {listen: "127.0.0.1:0"}\ncollectors: {}\n'


@pytest.fixture(scope="module")
def agent() -> Iterator[WindowsAgent]:
    try:
        running = windows()
        machine = running.__enter__()
    except UnavailableError as reason:
        pytest.skip(f"LOUD: no Wine, so nothing of Windows was shown: {reason}")
    try:
        installed = install(machine)
        installed.write("agent.yaml", QUIET)
        yield installed
    except UnavailableError as reason:
        pytest.skip(f"LOUD: nothing of Windows was shown: {reason}")
    finally:
        running.__exit__(None, None, None)


@pytest.fixture
def service(agent: WindowsAgent) -> Iterator[WindowsAgent]:
    """The service, installed; it is removed afterwards whatever happens."""
    agent.write("agent.yaml", QUIET)
    agent.run("service", "uninstall")  # what an interrupted run has left in the prefix
    ran = agent.run("service", "install", "--config", agent.at("agent.yaml"))
    assert ran.code == 0, ran
    yield agent
    agent.run("service", "uninstall")


def eventually(condition: Callable[[], bool], what: str, limit: float = 30.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)


def started(agent: WindowsAgent) -> tuple[subprocess.Popen[bytes], Terminal]:
    """The agent on a console, once it has started."""
    process, terminal = agent.on_terminal(
        "run", "--config", agent.at("agent.yaml"), "--state-dir", agent.at("state")
    )
    eventually(lambda: b'"started"' in plain(terminal), "the start")
    return process, terminal


def plain(terminal: Terminal) -> bytes:
    """What was written, without the line breaks and escapes that a console of 80 columns adds."""
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", b"", terminal.read())


def test_the_command_line(agent: WindowsAgent) -> None:
    """Version, a right and a wrong configuration, a unit: as on every other system."""
    assert agent.run("--version").out.decode().strip() == f"watchkeeper {__version__}"
    assert agent.run("check-config", agent.at("agent.yaml")).code == 0
    wrong = agent.run("check-config", agent.write("wrong.yaml", "agent: {listn: x}\n"))
    assert wrong.code == 3
    assert b"unknown key; did you mean" in wrong.err
    assert b"sc.exe create watchkeeper" in agent.run("unit", "windows").out


def test_ctrl_c_drains(agent: WindowsAgent) -> None:
    """Ctrl-C on the console: SIGINT, an orderly stop, exit code 0."""
    process, terminal = started(agent)
    terminal.type(b"\x03")
    assert process.wait(30) == 0
    said = plain(terminal)
    assert b'"draining","signal":"SIGINT"' in said
    assert b'"message":"stopped"' in said


def test_two_agents_do_not_share_a_state_directory(agent: WindowsAgent) -> None:
    """The second one says so and ends with 7; the first one's end is the end of its claim, however it comes."""
    words = ("run", "--config", agent.at("agent.yaml"), "--state-dir", agent.at("state"))
    process, _terminal = started(agent)
    second = agent.run(*words)
    assert second.code == 7
    assert b"another agent uses the state directory" in second.err
    process.kill()
    process.wait(30)
    agent.machine.run("taskkill", "/F", "/IM", "watchkeeper.exe")
    process, terminal = started(agent)
    terminal.type(b"\x03")
    assert process.wait(30) == 0


def test_the_service_from_its_installation_to_its_end(service: WindowsAgent) -> None:
    """Installed, started, running, asked, reloaded, stopped with a drain, removed."""
    assert service.run("service", "start").out.decode().strip() == "the service watchkeeper runs"
    asked = service.machine.run("sc", "query", "watchkeeper").out.decode()
    assert re.search(r"STATE +: 4 +RUNNING", asked)
    assert '"started"' in service.service_log()
    again = service.run("service", "start")
    assert (again.code, again.err.decode().strip()) == (12, "watchkeeper: it runs already")
    before = service.service_log()
    paramchange(service)
    eventually(lambda: "configuration unchanged" in service.service_log()[len(before) :], "the reload")
    assert service.run("service", "stop").out.decode().strip() == "the service watchkeeper has stopped"
    assert '"draining","signal":"SERVICE_CONTROL_STOP"' in service.service_log()
    assert '"message":"stopped"' in service.service_log()
    assert re.search(r"STATE +: 1 +STOPPED", service.machine.run("sc", "query", "watchkeeper").out.decode())
    assert service.run("service", "uninstall").code == 0
    gone = service.run("service", "start")
    assert (gone.code, gone.err.decode().splitlines()[0].strip()) == (
        12,
        "watchkeeper: there is no such service",
    )


def paramchange(service: WindowsAgent) -> None:
    """Windows' word for "your configuration has changed"; Wine's sc.exe cannot say it."""
    script = (
        "from watchkeeper.life import windows_api as api\n"
        "from watchkeeper.life.windows_manager import Manager\n"
        "manager = Manager(api.Libraries())\n"
        "with manager._service('watchkeeper') as service:\n"
        "    manager._control(service, api.CONTROL_PARAMCHANGE)\n"
    )
    ran = service.machine.run(service.python, service.write("paramchange.py", script))
    assert ran.code == 0, ran


def test_net_start_and_net_stop(service: WindowsAgent) -> None:
    """Windows' own tools do the same."""
    assert service.machine.run("net", "start", "watchkeeper").code == 0
    eventually(lambda: b"RUNNING" in service.machine.run("sc", "query", "watchkeeper").out, "the start")
    assert service.machine.run("net", "stop", "watchkeeper").code == 0


def test_a_service_that_cannot_start_says_why(agent: WindowsAgent) -> None:
    """A wrong configuration and no last good copy: the manager hears exit code 3, and service.log has the lines."""
    agent.write("agent.yaml", "agent: {listn: x}\n")
    words = ("--name", "broken", "--config", agent.at("agent.yaml"), "--state-dir", agent.at("fresh"))
    assert agent.run("service", "install", *words).code == 0
    try:
        ran = agent.run("service", "start", "--name", "broken")
        assert (ran.code, ran.err.decode().splitlines()[0].strip()) == (
            12,
            "watchkeeper: it has ended with 3",
        )
        log = (agent.home / "fresh" / "service.log").read_text()
        assert "agent.listn: unknown key" in log
    finally:
        agent.run("service", "uninstall", "--name", "broken")
        agent.write("agent.yaml", QUIET)


def test_only_the_manager_serves(agent: WindowsAgent) -> None:
    """Called by a person, it says so."""
    ran = agent.run("service-run", "--name", "watchkeeper", "--config", "x")
    assert ran.code == 12
    assert b"only the service manager calls this" in ran.err
