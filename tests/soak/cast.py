"""Who plays in a soak: services of every manner, and the checks that look at them and at misbehaving servers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

QUICK = {"initial": "200ms", "maximum": "2s", "reset_after": "10s"}
FLAP = {"failures": 8, "window": "60s", "retry": "3s", "stable": "5s"}
BOMB_USER, BOMB_LIMIT = 54_321, 40


@dataclass(frozen=True)
class Manner:
    """A service, and how it has to be when nothing is wrong: its states, and how many processes it may have."""

    spec: dict[str, Any]
    states: tuple[str, ...] = ("running",)
    fewest: int = 1
    most: int = 1
    version: str | None = None
    """What its command line has to say."""
    steady: bool = field(default=False)
    """Whether an operator may stop and restart it."""


def sleeper(version: str, **more: Any) -> Manner:
    """A service that does nothing; the number of seconds that it sleeps is its version."""
    spec = {
        "command": ["sleep", f"86400.{version}"],
        "backoff": QUICK,
        "flap": FLAP,
        "stop_grace": "3s",
        **more,
    }
    return Manner(spec, version=f"86400.{version}", steady=True)


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-u", "-c", code]


def shell(code: str, **more: Any) -> dict[str, Any]:
    return {"command": ["sh", "-c", code], "backoff": QUICK, "flap": FLAP, "stop_grace": "1s", **more}


DEAF = "trap '' TERM; while :; do sleep 1; done"
DOUBLE_FORK = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(86400)
    os._exit(0)
os.wait()
time.sleep(86400)
"""
ZOMBIES = "import os, time\nfor _ in range(30):\n    if os.fork() == 0: os._exit(0)\ntime.sleep(86400)"
FLOOD = "import sys, time\nwhile True:\n    sys.stdout.write('flood of words\\n' * 500); sys.stdout.flush(); time.sleep(0.5)"
NO_LINE = (
    "import sys, time\nwhile True:\n    sys.stdout.write('x' * 20000); sys.stdout.flush(); time.sleep(0.2)"
)
NO_TEXT = "import os, time\nwhile True:\n    os.write(1, os.urandom(400)); time.sleep(0.5)"
BOMB = "$SIG{TERM} = 'IGNORE'; $n = 0; while (1) { if ($n < 60) { $p = fork; $n++ if defined $p } select(undef, undef, undef, 0.1) }"
DAEMON = "import os, sys, time\nif os.fork(): os._exit(0)\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(86400)"
ANY = ("starting", "running", "stopping", "backoff", "degraded")


def bomb(*, root: bool) -> dict[str, Any]:
    """What forks until something stops it: its user's limit, or its own count of generations."""
    spec = {"command": ["perl", "-e", BOMB], "stop_grace": "200ms", "working_directory": "/", "log": {"to": "nothing"},
            "policy": "no"}  # fmt: skip
    if not root:
        return {**spec, "command": ["perl", "-e", "fork for 1..4; sleep 86400"]}
    return {**spec, "user": str(BOMB_USER), "limits": {"nproc": BOMB_LIMIT}}


def services(folder: str, secret_reference: str, ports: list[int]) -> dict[str, Manner]:
    """Those of the file that the agent is started with. `folder`: on the small disk; `ports`: of targets."""
    found = {f"calm-{number}": sleeper(str(number)) for number in range(6)}
    found |= {f"kept-{number}": sleeper(f"1{number}", on_agent_death="adopt") for number in range(4)}
    found |= {f"order-{number}": sleeper(f"2{number}", policy="unless-stopped") for number in range(3)}
    found["db"] = sleeper("30")
    found["web"] = sleeper("31", requires=["db"], checks={"up": _http(ports[0], role="readiness")})
    found["front"] = sleeper("32", after=["web"], on_agent_death="adopt")
    live = {"alive": {**_http(ports[1], role="liveness"), "failure_threshold": 2}}
    found["fragile"] = sleeper("33", checks=live)
    started = {
        "up": {"type": "exec", "command": ["true"], "role": "startup", "period": "1s", "timeout": "5s"}
    }
    found["slow-start"] = sleeper("34", checks=started)
    found["conditional"] = sleeper("35", condition=["true"], condition_period="2s")
    found["crashes"] = Manner(shell("sleep 0.3; exit 3"), ANY, 0, 2)
    found["dies-at-once"] = Manner(shell("kill -9 $$"), ANY, 0, 1)
    found["not-there"] = Manner(
        {"command": ["/no/such/program"], "backoff": QUICK, "flap": FLAP}, ("backoff", "degraded"), 0, 0
    )
    found["done"] = Manner(shell("exit 0", policy="on-failure"), ("finished",), 0, 0)
    found["failed"] = Manner(shell("exit 5", policy="no"), ("failed",), 0, 0)
    found["deaf"] = Manner(shell(DEAF, stop_grace="500ms"), most=2)
    found["double"] = Manner(_python(DOUBLE_FORK, follow_orphans=True), fewest=2, most=2)
    found["zombies"] = Manner(_python(ZOMBIES))
    found["no-pipes"] = Manner(shell("exec >&- 2>&-; exec sleep 86400.36"))
    found["flood"] = Manner(_python(FLOOD, log={"rate": 20}))
    found["no-line"] = Manner(_python(NO_LINE, line_limit=200, log={"rate": 20}))
    found["no-text"] = Manner(_python(NO_TEXT, line_limit=200, log={"rate": 20}))
    own = {"to": "file", "file": f"{folder}/own.log", "max_size": 65_536, "keep": 2}
    found["own-file"] = Manner(shell("while :; do echo a line of its own; sleep 0.1; done", log=own), most=2)
    leak = "while :; do echo the word is $WORD; sleep 1; done"
    found["leaky"] = Manner(shell(leak, secrets={"WORD": secret_reference}, log={"rate": 5}), most=2)
    daemon = {"command": [*python(DAEMON), f"{folder}/daemon.pid"], "pid_file": f"{folder}/daemon.pid"}
    found["daemon"] = Manner(
        {**daemon, "backoff": QUICK, "flap": FLAP, "start_timeout": "5s", "follow_orphans": True}
    )
    found["family"] = Manner(shell("sleep 86400.1 & sleep 86400.2 & wait"), fewest=3, most=3)
    return found


def _python(code: str, **more: Any) -> dict[str, Any]:
    return {"command": python(code), "backoff": QUICK, "flap": FLAP, "stop_grace": "1s", **more}


def _http(port: int, **more: Any) -> dict[str, Any]:
    return {"type": "http", "url": f"http://127.0.0.1:{port}/", "period": "2s", "timeout": "900ms", "success_threshold": 1,
            "failure_threshold": 2, **more}  # fmt: skip


def checks(plain: list[int], secure: list[int], ca: str, folder: str) -> dict[str, dict[str, Any]]:
    """About 150: every kind, most of them at servers that misbehave. All of them pass when nothing is wrong."""
    usual = {"period": "2s", "timeout": "900ms", "failure_threshold": 2}
    found: dict[str, dict[str, Any]] = {}
    for port in plain:
        number = len(found)
        found[f"http-{number}"] = _http(port)
        found[f"body-{number}"] = _http(port, expect_body="up", reject_body="down", jitter=0.5)
        found[f"json-{number}"] = _http(port, expect_json=[{"path": "state", "equals": "up"}])
        found[f"head-{number}"] = _http(port, expect_headers={"Content-Type": "json"}, redirects="all")
        found[f"post-{number}"] = _http(port, method="POST", headers={"X-Soak": "1"}, status=["200-299"])
        found[f"window-{number}"] = _http(port, failure_window=5, action="log")
        found[f"slow-{number}"] = _http(port, max_seconds=0.5, period="5s")
        found[f"tcp-{number}"] = {"type": "tcp", "address": f"127.0.0.1:{port}", **usual}
        found[f"talk-{number}"] = {"type": "tcp", "address": f"127.0.0.1:{port}", "send": "GET / HTTP/1.0\r\n\r\n",
                                   "expect": "200 OK", **usual}  # fmt: skip
    for port in secure:
        number = len(found)
        tls = {"ca_file": ca}
        for kind in ("a", "b", "c"):
            found[f"tls-{number}{kind}"] = {
                **_http(port, tls=tls, certificate_days=1),
                "url": f"https://127.0.0.1:{port}/",
            }
        found[f"days-{number}"] = {"type": "certificate", "address": f"127.0.0.1:{port}", "tls": tls, **usual}
    local: dict[str, dict[str, Any]] = {
        "exec": {"type": "exec", "command": ["true"]},
        "exec-says": {"type": "exec", "command": ["sh", "-c", "echo said; exit 0"]},
        "process": {"type": "process", "name": "sleep", "minimum": 3},
        "file": {"type": "file", "path": folder},
        "file-hash": {"type": "file", "path": ca, "min_size": 100},
        "certificate": {"type": "certificate", "file": ca},
        "disk": {"type": "disk", "path": "/", "min_free": 1},
        "memory": {"type": "memory", "min_available": 1},
        "name": {"type": "dns", "name": "localhost"},
        "ping": {"type": "icmp", "host": "127.0.0.1"},
    }
    for name, spec in local.items():
        for copy in range(3):
            found[f"{name}-{copy}"] = {**spec, "period": "5s", "timeout": "5s", "failure_threshold": 2}
    never = {
        "type": "exec",
        "command": ["sh", "-c", "trap '' TERM; sleep 86400"],
        "period": "3s",
        "timeout": "1s",
    }
    found["never-0"] = found["never-1"] = never  # a check that never returns: it fails, and nothing else does
    return found
