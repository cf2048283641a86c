"""Services as real processes: what starts them, what ends them, and what outlives whom."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import ROOT, Agent

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
Start = Callable[..., Agent]


class World:
    """Agents that share a folder for their state, and the processes that they have started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.state = folder / "state"
        self.agents: list[Agent] = []
        self.seen: set[int] = set()

    def agent(self, services: dict[str, Any], *options: str, **more: Any) -> Agent:
        folder = self._folder / f"agent{len(self.agents)}"
        folder.mkdir()
        agent = Agent(folder, {"services": services, **more}, *options)
        self.agents.append(agent)
        return agent

    def kept(self, services: dict[str, Any], **more: Any) -> Agent:
        """An agent with the state directory that all of them share."""
        return self.agent(services, "--state-dir", str(self.state), **more)

    def close(self) -> None:
        for agent in self.agents:
            for _ in range(2):
                if agent.process.poll() is None:
                    agent.send(signal.SIGTERM)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        agent.process.wait(3)
        for pid in self.seen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int, limit: float = 10.0) -> bool:
    deadline = time.monotonic() + limit
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(code)]


def kill_agent(agent: Agent) -> None:
    agent.process.kill()
    agent.process.wait(10)


def test_a_killed_agent_takes_its_services_with_it(world: World) -> None:
    """`end`, without a state directory: nothing can be done by the agent itself, and its warden ends the whole group."""
    agent = world.agent({"app": {"command": python("""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("grandchild", child.pid)
        time.sleep(600)
    """)}})  # fmt: skip
    grandchild = int(agent.message("grandchild")["message"].split()[1])
    pid = agent.running()["pid"]
    world.seen |= {pid, grandchild}
    kill_agent(agent)
    assert gone(pid)
    assert gone(grandchild)


def test_who_is_deaf_is_killed_after_its_grace_when_the_agent_was(world: World) -> None:
    """The warden asks, waits for the grace, and does not ask again."""
    agent = world.agent({"app": {"command": python(DEAF), "stop_grace": "1s"}})
    agent.message("deaf")
    pid = agent.running()["pid"]
    world.seen.add(pid)
    kill_agent(agent)
    time.sleep(0.3)
    assert alive(pid)
    assert gone(pid)


def test_a_warden_that_dies_is_replaced(world: World) -> None:
    """W2: the next one knows all groups."""
    agent = world.agent({"app": {"command": SLEEPER}})
    pid = agent.running()["pid"]
    world.seen.add(pid)
    (warden,) = wardens(agent)
    os.kill(warden, signal.SIGKILL)
    agent.message("the warden has died")
    agent.wait(lambda: wardens(agent), "another warden")
    kill_agent(agent)
    assert gone(pid)


def wardens(agent: Agent) -> list[int]:
    """The shells that look after an agent."""
    found = subprocess.run(
        ["pgrep", "-P", str(agent.process.pid), "-f", "watchkeeper-warden"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [int(word) for word in found.stdout.split()]


def test_an_agent_that_ends_in_order_leaves_no_warden(world: World) -> None:
    """W3."""
    agent = world.agent({"app": {"command": SLEEPER}})
    agent.running()
    (warden,) = wardens(agent)
    assert agent.end() == 0
    assert gone(warden)


TALKER = """
    import itertools, os, time
    for number in itertools.count():
        print("line", number, flush=True)
        time.sleep(0.02)
"""


def test_adoption(world: World) -> None:
    """`adopt`: kill -9 of the agent does not touch the service; the next agent takes it over with its numbers.

    It reads what was written meanwhile, sees its end at once and starts it again.
    """
    services = {
        "app": {
            "command": python(TALKER),
            "on_agent_death": "adopt",
            "backoff": {"initial": "100ms", "jitter": 0},
        }
    }
    first = world.kept(services)
    begun = first.running()
    os.kill(begun["pid"], signal.SIGKILL)
    again = first.running(after=begun["pid"])
    pid = again["pid"]
    world.seen.add(pid)
    first.message("line 5")
    kill_agent(first)
    last = [line["message"] for line in first.lines() if line["message"].startswith("line ")][-1]
    time.sleep(0.3)
    assert alive(pid)
    second = world.kept(services)
    service = second.running()
    assert (service["pid"], service["instance"], service["restarts"]) == (pid, 2, 1)
    number = int(last.split()[1])
    for missing in range(number + 2, number + 8):
        second.message(f"line {missing}")
    os.kill(pid, signal.SIGKILL)
    third = second.running(after=pid)
    assert (third["instance"], third["restarts"]) == (3, 2)
    assert "no child of this agent" in second.message("service app ended")["message"]
    assert second.end() == 0
    assert gone(third["pid"])


def test_what_a_killed_agent_has_left_is_ended_before_the_next_start(world: World) -> None:
    """S18 with `end`: one that is deaf to the warden's TERM, and its group, are not there beside the new process."""
    services = {"app": {"command": python(DEAF), "stop_grace": "2s"}}
    first = world.kept(services)
    first.message("deaf")
    pid = first.running()["pid"]
    world.seen.add(pid)
    kill_agent(first)
    services["app"]["stop_grace"] = "300ms"
    second = world.kept(services)
    new = second.running(after=pid)["pid"]
    assert not alive(pid)
    assert alive(new)
    assert "left it behind" in second.message("is stopped")["message"]


def test_what_is_left_of_a_group_is_ended_as_well(world: World) -> None:
    """M2: agent, warden and the first process of the service are killed; who remains of the group is known by its mark."""
    services = {"app": {"command": python("""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("grandchild", child.pid)
        time.sleep(600)
    """)}}  # fmt: skip
    first = world.kept(services)
    grandchild = int(first.message("grandchild")["message"].split()[1])
    pid = first.running()["pid"]
    world.seen |= {pid, grandchild}
    (warden,) = wardens(first)
    first.send(signal.SIGSTOP)
    os.kill(warden, signal.SIGKILL)
    kill_agent(first)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert alive(grandchild)
    second = world.kept(services)
    second.running(after=pid)
    assert not alive(grandchild)
    assert second.end() == 0


FAMILY = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session={apart})
    print("grandchild", child.pid)
    time.sleep(600)
"""


@pytest.mark.parametrize("apart", [False, True], ids=["group", "stray"])
def test_numbers_that_are_somebody_elses_beside_what_is_left(world: World, apart: bool) -> None:
    """M2: of a service whose first process is gone others are left, and its number is a stranger's now.

    With a stray that has left the group, the group's number is as well. What is left is ended; the stranger is neither
    signalled nor waited for.
    """
    services = {"app": {"command": python(FAMILY.format(apart=apart)), "follow_orphans": apart}}
    first = world.kept(services)
    grandchild = int(first.message("grandchild")["message"].split()[1])
    pid = first.running()["pid"]
    world.seen |= {pid, grandchild}
    (warden,) = wardens(first)
    first.send(signal.SIGSTOP)
    os.kill(warden, signal.SIGKILL)
    kill_agent(first)
    os.kill(pid, signal.SIGKILL)
    stranger = subprocess.Popen(SLEEPER, start_new_session=True)
    try:
        file = world.state / "services" / "app.json"
        numbers = {"pid": stranger.pid} | ({"group": stranger.pid} if apart else {})
        file.write_text(json.dumps({**json.loads(file.read_text()), **numbers}))
        second = world.kept(services)
        second.message("service app started")
        assert "is killed" not in " ".join(second.messages())
        assert not alive(grandchild)
        assert second.end() == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_that_is_now_a_unit_is_ended(world: World, tmp_path: Path) -> None:
    """Its definition has another driver when the next agent comes; nobody but this one knows of the process."""
    first = world.kept({"app": {"command": SLEEPER, "on_agent_death": "adopt"}})
    pid = first.running()["pid"]
    world.seen.add(pid)
    kill_agent(first)
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\nprintf 'LoadState=loaded\\nActiveState=active\\nMainPID=1\\n'\n")
    systemctl.chmod(0o755)
    second = world.kept({"app": {"driver": "systemd", "unit": "x.service", "systemctl": [str(systemctl)]}})
    assert gone(pid)
    assert second.running(after=pid)["pid"] == 1
    assert second.end() == 0


def test_what_does_not_concern_the_process_does_not_keep_it_from_being_taken_over(world: World) -> None:
    """S4 holds over the death of an agent as well."""
    service = {"command": SLEEPER, "on_agent_death": "adopt"}
    first = world.kept({"app": service})
    pid = first.running()["pid"]
    world.seen.add(pid)
    kill_agent(first)
    second = world.kept(
        {"app": service | {"critical": True, "start_timeout": "30s", "flap": {"failures": 3}}}
    )
    assert second.running()["pid"] == pid
    assert second.end() == 0


def test_pipes_of_a_service_that_outlives_its_agent(world: World) -> None:
    """O4: what is in their place and is none makes room, and they go with the service."""
    folder = world.state / "services"
    folder.mkdir(parents=True)
    (folder / "app.stdout").write_text("a copy that was put back")
    (folder / "app.stderr").symlink_to(folder / "elsewhere")
    agent = world.kept(
        {
            "app": {
                "command": python("print('hello')\nimport time; time.sleep(600)"),
                "on_agent_death": "adopt",
            }
        }
    )
    agent.message("hello")
    agent.write({"services": {}})
    agent.wait(lambda: not list(folder.iterdir()), "the end of its files")
    assert agent.end() == 0


def test_a_second_agent_on_the_same_state_directory_touches_nothing(world: World) -> None:
    """M2 says that a process is the one of the file; that its agent is dead is what the claim on the directory says."""
    first = world.kept({"app": {"command": SLEEPER}})
    pid = first.running()["pid"]
    second = world.kept({"app": {"command": SLEEPER}})
    assert second.process.wait(20) == 7
    assert "another agent uses the state directory" in second.log.read_text()
    assert first.service()["pid"] == pid
    assert first.end() == 0


def test_a_changed_definition_is_not_adopted(world: World) -> None:
    """What runs by another definition is stopped, and started by the present one."""
    first = world.kept({"app": {"command": SLEEPER, "on_agent_death": "adopt"}})
    pid = first.running()["pid"]
    world.seen.add(pid)
    kill_agent(first)
    second = world.kept({"app": {"command": SLEEPER, "on_agent_death": "adopt", "environment": {"NEW": "1"}}})
    second.running(after=pid)
    assert not alive(pid)


def test_a_service_that_was_removed_meanwhile_is_stopped(world: World) -> None:
    """Nobody else would know of it."""
    first = world.kept({"app": {"command": SLEEPER, "on_agent_death": "adopt"}})
    pid = first.running()["pid"]
    world.seen.add(pid)
    kill_agent(first)
    second = world.kept({})
    second.message("no longer wanted")
    assert gone(pid)
    second.wait(lambda: not list((world.state / "services").glob("*.json")), "the end of its file")


def test_a_number_that_is_somebody_elses_is_left_alone(world: World) -> None:
    """M2: the file names a process that started at another time; it is not the service, and is not touched."""
    services = {"app": {"command": SLEEPER, "on_agent_death": "adopt"}}
    first = world.kept(services)
    pid = first.running()["pid"]
    world.seen.add(pid)
    kill_agent(first)
    stranger = subprocess.Popen(SLEEPER, start_new_session=True)
    try:
        file = world.state / "services" / "app.json"
        found = json.loads(file.read_text())
        file.write_text(json.dumps({**found, "pid": stranger.pid, "group": stranger.pid}))
        second = world.kept(services)
        assert second.running()["pid"] not in (pid, stranger.pid)
        assert second.end() == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("content", [b"", b"{", b'{"boot": 5}', b"\xff\xfe", b'{"boot": "x", "pid": "y"}'])
def test_a_broken_file_costs_nothing_but_its_content(world: World, content: bytes) -> None:
    """M4."""
    (world.state / "services").mkdir(parents=True)
    (world.state / "services" / "app.json").write_bytes(content)
    agent = world.kept({"app": {"command": SLEEPER}})
    assert agent.running()["instance"] == 1
    assert agent.end() == 0


def test_left_by_an_agent_that_stops(world: World) -> None:
    """`on_agent_stop: leave`: an orderly stop, as for a newer agent, interrupts nothing."""
    services = {"app": {"command": SLEEPER, "on_agent_death": "adopt", "on_agent_stop": "leave"}}
    first = world.kept(services)
    pid = first.running()["pid"]
    world.seen.add(pid)
    assert first.end() == 0
    assert alive(pid)
    second = world.kept(services)
    assert second.running()["pid"] == pid


def test_exit_agent(world: World) -> None:
    """`exit-agent`: the agent stops what else there is, in order, and exits with the service's status."""
    agent = world.agent(
        {
            "job": {
                "command": python("import sys, time; time.sleep(0.5); sys.exit(7)"),
                "policy": "exit-agent",
            },
            "other": {"command": SLEEPER},
        }
    )
    pid = agent.running("other")["pid"]
    assert agent.process.wait(20) == 7
    assert not alive(pid)
    assert agent.messages()[-1] == "stopped"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (python("import os; os.kill(os.getpid(), 11)"), 139),
        (["/there/is/no/such/program"], 13),
        (["true"], 0),
    ],
)
def test_exit_agent_statuses(world: World, command: list[str], status: int) -> None:
    """128 + the signal, 13 for a program that cannot be started, 0 for one that has done its work."""
    agent = world.agent({"job": {"command": command, "policy": "exit-agent"}})
    assert agent.process.wait(20) == status


def test_order_of_starts_and_stops(world: World) -> None:
    """S14 and S15: `db` is ready before `web` starts, and stops after it."""
    ready = world.state.parent / "ready"
    db = python(
        "import signal, sys, time; signal.signal(15, lambda *_: (print('db ends'), sys.exit())); time.sleep(600)"
    )
    web = python(
        "import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(0.3), print('web ends'), sys.exit())); print('web begins'); time.sleep(600)"
    )
    check = {"type": "exec", "command": ["test", "-e", str(ready)], "period": "50ms"}
    agent = world.agent(
        {"web": {"command": web, "requires": ["db"]}, "db": {"command": db, "checks": {"ready": check}}}
    )
    agent.running("db")
    agent.wait(lambda: agent.service("web")["state"] == "waiting", "web to wait")
    assert agent.service("web")["why"] == "it requires db, which is not ready"
    assert "web begins" not in agent.messages()
    ready.touch()
    agent.message("web begins")
    assert agent.end() == 0
    messages = agent.messages()
    assert messages.index("web ends") < messages.index("service db is stopped: the agent is stopping")


def test_circles_are_refused(world: World) -> None:
    """check-config names the way around, and the unknown name that was meant."""
    file = world.state.parent / "c.yaml"
    file.write_text(
        "services:\n  a: {command: [x], requires: [b]}\n  b: {command: [x], after: [c]}\n"
        "  c: {command: [x], requires: [a]}\n  d: {command: [x], after: [bb]}\n  dd: {command: [x], requires: [dd]}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "watchkeeper", "check-config", str(file)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "agent_src")},
    )  # fmt: skip
    assert done.returncode == 3
    assert "services.c.requires[0]: circle: a -> b -> c -> a" in done.stderr
    assert "services.dd.requires[0]: circle: dd -> dd" in done.stderr
    assert "services.d.after[0]: there is no service 'bb'" in done.stderr


def test_limits(world: World) -> None:
    """Everything that is set from outside is so before the first instruction of the program."""
    code = """
        import json, os, resource
        limits = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("NOFILE", "CORE", "AS", "NPROC")}
        print(json.dumps({"limits": limits, "nice": os.nice(0), "umask": os.umask(0), "cwd": os.getcwd(),
            "oom": open("/proc/self/oom_score_adj").read().strip(), "stdin": os.readlink("/proc/self/fd/0"),
            "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")), "sid": os.getsid(0) == os.getpid(),
            "blocked": [line for line in open("/proc/self/status") if line.startswith(("SigBlk", "SigIgn"))]}))
    """
    agent = world.agent({"app": {
        "command": python(code), "policy": "no", "working_directory": "/", "umask": "027", "nice": 5, "oom_score_adj": 500,
        "limits": {"nofile": 128, "core": 0, "address_space": "4GiB", "nproc": 4000},
    }})  # fmt: skip
    found = json.loads(agent.message('"limits"')["message"])
    assert found["limits"] == {"NOFILE": [128] * 2, "CORE": [0] * 2, "AS": [4 << 30] * 2, "NPROC": [4000] * 2}
    assert (found["nice"], found["umask"], found["cwd"], found["oom"]) == (5, 0o027, "/", "500")
    assert (found["stdin"], found["sid"]) == ("/dev/null", True)
    assert found["fds"] in ([0, 1, 2], [0, 1, 2, 3])  # the last is the listing's own
    # Python ignores PIPE and XFSZ by itself; what whoever started these tests ignores, is inherited; and glibc's posix_spawn,
    # which Python takes from 3.13 on, leaves glibc's own two ignored (32 and 33; glibc sets them again when it needs them).
    blocked, ignored = (int(line.split()[1], 16) & ~(3 << 31) for line in found["blocked"])
    status = Path("/proc/self/status").read_text()
    inherited = int(status.partition("SigIgn:")[2].split()[0], 16)
    assert (blocked, ignored) == (0, 0x1001000 | inherited)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_user_and_groups(world: World) -> None:
    """The user's own groups, or those that are named; HOME and USER are the user's."""
    nobody = pwd.getpwnam("nobody")
    code = 'echo "I am $(id -ru) $(id -u) $(id -rg) $(id -g) $(id -G) $HOME $USER"'
    own = {"command": ["sh", "-c", code], "policy": "no", "user": "nobody", "working_directory": "/"}
    agent = world.agent(
        {"own": own, "named": {**own, "group": "daemon", "supplementary_groups": ["bin", "12345"]}}
    )
    for name in ("own", "named"):
        agent.wait(lambda name=name: agent.service(name)["state"] == "finished", "the end")
    lines = {line["service"]: line["message"] for line in agent.lines() if line["message"].startswith("I am")}
    uid, gid = nobody.pw_uid, nobody.pw_gid
    assert lines["own"] == f"I am {uid} {uid} {gid} {gid} {gid} {nobody.pw_dir} nobody"
    assert lines["named"] == f"I am {uid} {uid} 1 1 1 2 12345 {nobody.pw_dir} nobody"


def test_environment(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but what is said, whatever shells make of it; a secret is in the process and in no line of the log."""
    monkeypatch.setenv("TOKEN_FOR_TEST", "hunter2-hunter2")
    (tmp_path / "vars").write_text("# comment\nFROM_FILE='a b'\nexport A=file\n\nodd.name=1\n")
    agent = world.agent({"app": {
        "command": [sys.executable, "-I", "-c", "import json, os; print(json.dumps({'env': dict(os.environ)}))"],
        "policy": "no", "inherit": "none", "environment": {"A": "b"},
        "environment_files": [str(tmp_path / "vars"), "-/there/is/none"],
        "secrets": {"TOKEN": "${env:TOKEN_FOR_TEST}"},
    }})  # fmt: skip
    found = json.loads(agent.message('"env"')["message"])["env"]
    assert found.pop("TOKEN") == "[redacted]"
    assert found.pop("PATH")
    found.pop("LC_CTYPE", None)  # Python's own
    assert len(found.pop("WATCHKEEPER_AGENT")) > 8
    assert found == {"A": "b", "FROM_FILE": "a b", "odd.name": "1", "WATCHKEEPER_SERVICE": "app"}
    assert "hunter2" not in agent.log.read_text()


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "program": ({"command": ["/there/is/none"]}, "the program /there/is/none is not there"),
    "path": (
        {"command": ["there-is-none-of-that-name"]},
        "the program there-is-none-of-that-name is not there",
    ),
    "mode": ({"command": ["/etc/passwd"]}, "the program /etc/passwd may not be run: Permission denied"),
    "directory": (
        {"command": ["true"], "working_directory": "/no/dir"},
        "the working directory /no/dir is not there",
    ),
    "user": ({"command": ["true"], "user": "no-such-user"}, "there is no user no-such-user"),
    "group": ({"command": ["true"], "user": "root", "group": "no-such"}, "there is no group no-such"),
    "file": (
        {"command": ["true"], "environment_files": ["/no/file"]},
        "the file of variables /no/file cannot be read: No such file or directory",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_cannot_be_started_says_why(world: World, case: str) -> None:
    """One sentence, and a class."""
    fields, sentence = FAILURES[case]
    agent = world.agent({"app": fields})
    line = agent.message("cannot be started")
    assert line["message"] == f"service app cannot be started: {sentence}"
    assert line["error_class"] == "SERVICE_SPAWN_FAILED"
    assert agent.service()["state"] == "backoff"


def test_daemons_with_a_pid_file(world: World, tmp_path: Path) -> None:
    """P1: the service is the process that the file names; its end is noticed, and a stop ends it."""
    file = tmp_path / "daemon.pid"
    daemon = python(f"""
        import os, time
        if os.fork(): os._exit(0)
        os.setsid()
        if os.fork(): os._exit(0)
        time.sleep(0.2)
        open({str(file)!r} + ".new", "w").write(str(os.getpid()) + "\\n")
        os.rename({str(file)!r} + ".new", {str(file)!r})
        time.sleep(600)
    """)
    agent = world.agent({"app": {"command": daemon, "pid_file": str(file), "backoff": {"initial": "50ms"}}})
    first = agent.running()["pid"]
    world.seen.add(first)
    assert int(file.read_text()) == first
    os.kill(first, signal.SIGKILL)
    second = agent.running(after=first)["pid"]
    world.seen.add(second)
    assert int(file.read_text()) == second
    assert agent.end() == 0
    assert gone(second)


def test_a_daemon_ends_with_its_agent(world: World, tmp_path: Path) -> None:
    """The warden knows the group that it has made for itself."""
    file = tmp_path / "daemon.pid"
    daemon = f"setsid sh -c 'echo $$ > {file}; sleep 600' < /dev/null > /dev/null 2>&1 & sleep 0.1"
    agent = world.agent({"app": {"command": ["sh", "-c", daemon], "pid_file": str(file)}})
    pid = agent.running()["pid"]
    world.seen.add(pid)
    kill_agent(agent)
    assert gone(pid)


def test_a_pid_file_that_names_a_stranger(world: World, tmp_path: Path) -> None:
    """P3: a process that was there before the command is not the service's, and is not ended with it."""
    stranger = subprocess.Popen(SLEEPER, start_new_session=True)
    try:
        file = tmp_path / "app.pid"
        command = ["/bin/sh", "-c", f"echo {stranger.pid} > {file}"]
        agent = world.agent({"app": {"command": command, "pid_file": str(file), "start_timeout": "1s"}})
        agent.message("service app ended")
        assert agent.end() == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_pid_file_that_never_comes(world: World, tmp_path: Path) -> None:
    """P2."""
    agent = world.agent(
        {"app": {"command": ["true"], "pid_file": str(tmp_path / "none"), "start_timeout": "300ms"}}
    )
    agent.wait(lambda: agent.service()["state"] == "backoff", "the failure")
    assert agent.service()["restarts"] == 0


DOUBLE_FORK = """
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print("stray", os.getpid())
            time.sleep(600)
        os._exit(0)
    os.wait()
    time.sleep(600)
"""


def test_orphans_are_found_by_their_mark(world: World) -> None:
    """Who has left the group by forking twice is ended with the service all the same."""
    agent = world.agent({"app": {"command": python(DOUBLE_FORK), "follow_orphans": True}})
    stray = int(agent.message("stray")["message"].split()[1])
    world.seen.add(stray)
    pid = agent.running()["pid"]
    os.kill(pid, signal.SIGKILL)
    new = agent.running(after=pid)["pid"]
    assert not alive(stray)
    another = agent.wait(
        lambda: [line for line in agent.lines() if line["message"].startswith("stray ")][1:], "another"
    )
    assert agent.end() == 0
    assert not alive(new)
    assert not alive(int(another[0]["message"].split()[1]))


@pytest.mark.skipif(
    os.geteuid() != 0, reason="the limit of processes does not hold root, and only root can be another"
)
def test_a_fork_bomb_is_bounded_and_ended(world: World) -> None:
    """What never stops to fork is held by its limit, and not one of it is left after the stop."""
    perl = "$SIG{TERM} = 'IGNORE'; while (1) { defined(fork) or select(undef, undef, undef, 0.01) }"
    bomb = ["perl", "-e", perl]
    agent = world.agent({
        "bomb": {"command": bomb, "user": "54321", "limits": {"nproc": 40}, "stop_grace": "200ms", "working_directory": "/",
                 "log": {"to": "nothing"}, "policy": "no"},
        "app": {"command": SLEEPER},
    })  # fmt: skip
    agent.running("app")
    agent.wait(lambda: len(of_user(54321)) >= 30, "the bomb")
    assert len(of_user(54321)) <= 40
    agent.write({"services": {"app": {"command": SLEEPER}}})
    agent.send(signal.SIGHUP)
    agent.wait(lambda: not of_user(54321), "the end of the bomb")
    assert agent.end() == 0


def of_user(uid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if folder.stat().st_uid == uid and alive(int(folder.name)):
                    found.append(int(folder.name))
    return found


def test_a_flood_keeps_the_agent_from_nothing(world: World) -> None:
    """O2: what a service writes too much is counted, and the agent answers meanwhile."""
    agent = world.agent({"app": {"command": ["yes"], "log": {"rate": 50}}})
    agent.message("lines of service app were left out")
    begun = time.monotonic()
    for _ in range(10):
        assert agent.get("/livez")[0] == 200
    assert time.monotonic() - begun < 5
    kept = sum(line["message"] == "y" for line in agent.lines())
    note = agent.message("were left out")
    assert note["dropped"] > 1000
    assert kept < 50 * 30
    assert 'watchkeeper_service_output_dropped_lines_total{service="app"}' in agent.get("/metrics")[1]
    assert agent.end() == 0


def test_a_line_without_an_end(world: World) -> None:
    """No more than line_limit of it is ever held."""
    endless = python("import sys\nwhile True: sys.stdout.write('x' * 65536)")
    agent = world.agent({"app": {"command": endless, "line_limit": 100}})
    line = agent.message("x" * 100)
    assert (len(line["message"]), line["truncated"]) == (100, True)
    assert agent.end() == 0


def test_its_own_files(world: World, tmp_path: Path) -> None:
    """F2: every line is in one of the files, whole, and no file is larger than it may be."""
    file = tmp_path / "logs" / "app.log"
    writer = python("for number in range(3000): print('number', number)")
    agent = world.agent({"app": {
        "command": writer, "policy": "no", "log": {"to": "file", "file": str(file), "max_size": "8KiB", "keep": 50},
    }})  # fmt: skip
    agent.wait(lambda: agent.service()["state"] == "finished", "the end")
    assert agent.end() == 0
    files = [file.with_name(f"app.log.{n}") for n in range(60, 0, -1)]
    found = [path.read_text() for path in [*files, file] if path.exists()]
    assert "".join(found).splitlines() == [f"number {number}" for number in range(3000)]
    assert all(len(text) <= 8192 for text in found)
    assert not any(line["message"].startswith("number") for line in agent.lines())


def test_a_stop_while_services_are_being_started(world: World) -> None:
    """What is on its way when the drain begins is stopped as well, with its grace, before the agent says that it is done."""
    for _ in range(3):
        agent = world.agent({f"s{number}": {"command": SLEEPER} for number in range(12)})
        agent.message("listening", exactly=True)
        assert agent.end() == 0
        said = agent.messages()
        started = {
            line.split()[1] for line in said if line.endswith(" started") and line.startswith("service ")
        }
        ended = {line.split()[1] for line in said if line.endswith(" ended")}
        assert started == ended
        assert said[-1] == "stopped"


def test_stop_at_once(world: World) -> None:
    """`stop: kill`, the seed's own way: nobody is asked."""
    agent = world.agent({"app": {"command": python(DEAF), "stop": "kill", "stop_grace": "60s"}})
    agent.message("deaf")
    pid = agent.running()["pid"]
    begun = time.monotonic()
    assert agent.end() == 0
    assert time.monotonic() - begun < 10
    assert not alive(pid)
    assert agent.message("service app ended")["exit"] == "signal SIGKILL"


def test_stop_signal(world: World) -> None:
    """Another signal than TERM asks it."""
    code = "import signal, sys, time; signal.signal(signal.SIGUSR1, lambda *_: (print('USR1'), sys.exit(0))); print('up'); time.sleep(600)"
    agent = world.agent({"app": {"command": python(code), "stop": "usr1"}})
    agent.message("up")
    assert agent.end() == 0
    assert "USR1" in agent.messages()


def test_stop_command(world: World) -> None:
    """It is run in place of the signal, and knows the number of the process."""
    code = "import signal, sys, time; signal.signal(signal.SIGHUP, lambda *_: (print('asked'), sys.exit(0))); print('up'); time.sleep(600)"
    agent = world.agent(
        {
            "app": {
                "command": python(code),
                "stop_command": ["sh", "-c", 'kill -HUP "$MAINPID"'],
                "stop_grace": "20s",
            }
        }
    )
    agent.message("up")
    begun = time.monotonic()
    assert agent.end() == 0
    assert time.monotonic() - begun < 10
    assert "asked" in agent.messages()


def test_condition(world: World, tmp_path: Path) -> None:
    """S17: not started, no failure, and why; started as soon as it is asked again and holds."""
    flag = tmp_path / "flag"
    condition = ["sh", "-c", f"test -e {flag} || {{ echo not yet; exit 3; }}"]
    agent = world.agent({"app": {"command": SLEEPER, "condition": condition, "condition_period": "200ms"}})
    agent.wait(lambda: "not yet" in agent.service()["why"], "the answer")
    service = agent.service()
    assert (service["state"], service["failures_in_a_row"], service["instance"]) == ("waiting", 0, 0)
    assert service["why"] == "its condition does not hold: exit status 3: not yet"
    flag.touch()
    assert agent.running()["instance"] == 1


def test_no_descriptors_left(world: World) -> None:
    """EMFILE when a service is to be started: a failure like any other, and it comes back by itself."""
    import resource

    agent = world.agent(
        {"app": {"command": SLEEPER, "backoff": {"initial": "100ms", "factor": 1, "jitter": 0}}}
    )
    pid = agent.running()["pid"]
    soft, hard = resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE)
    open_now = len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))
    resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (open_now - 3, hard))
    os.kill(pid, signal.SIGKILL)
    line = agent.message("cannot be started")
    assert "the agent has no file descriptor left" in line["message"]
    resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    agent.running(after=pid)
    assert agent.end() == 0


def test_a_full_disk_costs_the_memory_and_nothing_else(world: World) -> None:
    """The state directory becomes unusable while the agent runs: said once, counted, and services go on."""
    agent = world.kept({"app": {"command": SLEEPER, "backoff": {"initial": "50ms", "jitter": 0}}})
    pid = agent.running()["pid"]
    folder = world.state / "services"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    os.kill(pid, signal.SIGKILL)
    agent.running(after=pid)
    assert agent.message("cannot be kept")["error_class"] == "STATE_UNUSABLE"
    assert agent.end() == 0


def test_a_child_that_closes_its_pipes_is_not_forgotten(world: World) -> None:
    """Its end is known by its process and not by its output."""
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(4)"
    agent = world.agent({"app": {"command": python(code), "backoff": {"initial": "60s"}}})
    assert agent.message("service app ended")["exit"] == "exit status 4"


def order(world: World, *words: str) -> None:
    """What an operator says, by the agent's control socket."""
    done = subprocess.run(
        [sys.executable, "-m", "watchkeeper", *words, "--state-dir", str(world.state)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "agent_src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_an_operators_stop_outlives_the_agent(world: World) -> None:
    """`unless-stopped` stays stopped over a killed agent and an orderly one; `always` is started again."""
    services = {
        "held": {"command": SLEEPER, "policy": "unless-stopped"},
        "free": {"command": SLEEPER, "policy": "always"},
    }
    first = world.kept(services)
    pids = [first.running(name)["pid"] for name in services]
    for name in services:
        order(world, "stop", name)
        first.wait(lambda name=name: first.service(name)["state"] == "stopped", "the stop")
    assert not any(alive(pid) for pid in pids)
    kill_agent(first)
    second = world.kept(services)
    second.running("free")
    assert (second.service("held")["state"], second.service("held")["why"]) == (
        "stopped",
        "an operator has stopped it",
    )
    assert second.end() == 0
    third = world.kept(services)
    third.running("free")
    assert third.service("held")["state"] == "stopped"
    order(world, "start", "held")
    third.running("held")
    assert third.end() == 0


def test_restart_by_an_operator(world: World) -> None:
    """A new process at once, and no failure."""
    agent = world.kept({"app": {"command": SLEEPER, "backoff": {"initial": "60s"}}})
    pid = agent.running()["pid"]
    order(world, "restart", "app")
    found = agent.running(after=pid)
    assert (found["instance"], found["failures_in_a_row"]) == (2, 0)
    assert not alive(pid)
