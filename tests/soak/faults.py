"""What each word of the plan does. A fault begins with its call; what it gives back ends it, if its end is not the end of the storm."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from soak import cast
from soak.machine import limit_files, processes
from soak.plan import Fault
from soak.restored import remember, restored
from soak.world import World, thousands, write

End = Callable[[], object] | None
STARTED_WITHIN = 20.0
"""Seconds from the start of a new agent, after a kill, until it says that it runs."""
AFTERWARDS = 2.0
"""Seconds for which a shortage, or a time without any processor, is still an excuse."""
SHIFTS = {"-400d": -400 * 86_400, "-1h": -3600, "+1h": 3600, "+4000d": 4000 * 86_400}


@dataclass
class Window:
    """A time; without an end it lasts."""

    begin: float = field(default_factory=time.monotonic)
    end: float = float("inf")

    def close(self, after: float = 0.0) -> None:
        """It ends `after` seconds from now."""
        self.end = time.monotonic() + after


@dataclass
class Excuses:
    """When the agent could not be expected to answer, or was short of something, by the plan's own doing."""

    silences: list[Window] = field(default_factory=list)
    shortages: list[Window] = field(default_factory=list)

    def silence(self) -> Window:
        self.silences.append(Window())
        return self.silences[-1]

    def shortage(self) -> Window:
        self.shortages.append(Window())
        return self.shortages[-1]

    def deaf(self, begin: float, end: float) -> bool:
        return any(begin < each.end and end > each.begin for each in self.silences)

    def short(self, at: float) -> bool:
        return any(each.begin <= at <= each.end for each in self.shortages)


class Faults:
    """Does what the plan says. `said` takes a sentence about what was done, `broken` one about a promise that was not kept."""

    def __init__(
        self, world: World, seed: int, said: Callable[[str], None], broken: Callable[[str], None]
    ) -> None:
        self._world, self._chance = world, random.Random(seed + 1)
        self._said, self._broken = said, broken
        self.excuses = Excuses()
        self.stopped: set[str] = set()
        """Services that an operator has stopped."""
        self.counts: dict[str, int] = {}
        self._kinds: dict[str, Callable[[Fault], End]] = {
            "targets": self._targets, "certificate": self._certificate, "sink": self._sink, "http-source": self._http,
            "consul": self._consul, "kubernetes": self._kubernetes, "etcd": self._etcd, "folder": self._folder,
            "order": self._order, "reload": self._reload, "log-level": self._log_level, "rotate": self._rotate,
            "clock": self._clock, "kill-agent": self._kill_agent, "freeze-agent": self._freeze, "full-disk": self._full_disk,
            "descriptors": self._descriptors,
        }  # fmt: skip

    def begin(self, fault: Fault) -> End:
        self.counts[fault.what] = self.counts.get(fault.what, 0) + 1
        return self._kinds[fault.what](fault)

    # -- what is looked at, asked and sent to -----------------------------------------------------------------------------------

    def _targets(self, fault: Fault) -> End:
        chosen = self._chance.sample(self._world.targets + self._world.secure, k=self._chance.randint(1, 6))
        for target in chosen:
            target.mode = fault.how
        return lambda: [setattr(target, "mode", "good") for target in chosen]

    def _certificate(self, fault: Fault) -> End:
        world = self._world
        world.loop.call(lambda: world.certificates.swap(fault.how))
        return lambda: world.loop.call(lambda: world.certificates.swap("renewed"))

    def _sink(self, fault: Fault) -> End:
        self._world.sinks.mode = fault.how
        return lambda: setattr(self._world.sinks, "mode", "good")

    def _http(self, fault: Fault) -> End:
        self._world.put_http()
        self._world.centre.mode = fault.how
        return lambda: setattr(self._world.centre, "mode", "good")

    def _consul(self, fault: Fault) -> End:
        consul = self._world.consul
        once: dict[str, Callable[[], None]] = {"back": consul.go_back, "forget": consul.forget}
        ways: dict[str, dict[str, Any]] = {
            "status": {"status": 500}, "torn": {"torn_after": 20}, "body": {"body": b"[{]"}, "delay": {"delay": 2.0},
            "index": {"index": "0"},
        }  # fmt: skip
        self._world.put_consul()
        if fault.how in once:
            once[fault.how]()
            return None
        consul.break_down(**ways[fault.how])
        return consul.break_down

    def _kubernetes(self, fault: Fault) -> End:
        cluster = self._world.kubernetes
        ways: dict[str, dict[str, Any]] = {
            "status": {"status": 500}, "torn": {"torn_after": 30}, "line": {"line": b'{"type": "ADDED", "object": 7}'},
            "silent": {"silent": True}, "throttle": {"status": 429, "retry_after": 1}, "hang-up": {}, "compact": {},
        }  # fmt: skip
        cluster.break_down(**ways[fault.how])
        if fault.how == "compact":
            cluster.compact()
        self._world.put_cluster()
        if fault.how in ("hang-up", "compact"):
            cluster.hang_up()
        return cluster.break_down

    def _etcd(self, _fault: Fault) -> End:
        etcd = self._world.etcd
        if etcd is None or etcd.process is None:
            return None
        self._world.put_etcd()
        etcd.stop()
        return lambda: etcd.start() if etcd.process is None else None

    def _folder(self, fault: Fault) -> End:
        world, place = self._world, self._world.fragments
        if fault.how == "thousands":
            thread = threading.Thread(target=self._rewrite, args=(min(4.0, fault.seconds),), daemon=True)
            thread.start()
            return thread.join
        if fault.how == "wrong":
            write(place / "wrong.json", b'{"services": {"folder-9": {"comand": 1}')
            return lambda: (place / "wrong.json").unlink(missing_ok=True)
        if fault.how == "bomb":
            write(place / "bomb.json", {"services": {"bomb": cast.bomb(root=world.root)}})
            return lambda: (place / "bomb.json").unlink(missing_ok=True)
        if fault.how == "gone":
            (place / "more.json").unlink(missing_ok=True)
            return world.put_folder
        for _ in range(5):
            world.put_folder()
            time.sleep(0.1)
        return None

    def _rewrite(self, seconds: float) -> None:
        count = thousands(self._world, seconds)
        self._said(f"a file was written {count / seconds:.0f} times a second")

    # -- operators --------------------------------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> bool:
        """Whether the agent took it. One that is frozen, killed or without descriptors cannot."""
        try:
            self._world.agent.order(method, path, body)
        except OSError:
            return False
        return True

    def _order(self, fault: Fault) -> End:
        names = sorted(name for name, manner in self._world.base.items() if manner.steady)
        name = self._chance.choice(names)
        if fault.how == "kill-child":
            for process in processes(self._world.mark):
                if process.service == name:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            return None
        if fault.how == "stop":
            name = self._chance.choice([each for each in names if each.startswith("order-")])
        taken = self._ask("POST", f"/control/{fault.how}/{name}")
        if fault.how == "stop":  # one that was not answered may have been heard all the same
            self.stopped.add(name)
        elif taken:
            self.stopped.discard(name)
        return None

    def start_all(self) -> None:
        """End the orders that still hold; every service that was stopped is started."""
        for name in sorted(self.stopped):
            if self._ask("POST", f"/control/start/{name}"):
                self.stopped.discard(name)

    def _reload(self, fault: Fault) -> End:
        world = self._world
        if fault.how == "hup":
            world.agent.signal(signal.SIGHUP)
        elif fault.how == "control":
            self._ask("POST", "/control/reload")
        elif fault.how == "file":
            name = f"calm-{self._chance.randint(2, 5)}"
            world.base[name] = cast.sleeper(str(self._chance.randint(2000, 9000)))
            world.agent.write(world.configuration())
        else:
            world.agent.write(json.dumps(world.configuration(servces={})).encode())
            return lambda: world.agent.write(world.configuration())
        return None

    def _log_level(self, fault: Fault) -> End:
        self._ask("PUT", "/control/log-level", {"level": fault.how})
        return lambda: self._ask("PUT", "/control/log-level", {"level": "info"})

    def _rotate(self, _fault: Fault) -> End:
        file = self._world.disk.folder / "logs" / "agent.json"
        with contextlib.suppress(OSError):
            file.rename(file.with_name(f"moved-{time.monotonic_ns()}.json"))
        return None

    # -- the machine ------------------------------------------------------------------------------------------------------------

    def _clock(self, fault: Fault) -> End:
        clock = self._world.clock
        if fault.how == "jitter":
            for _ in range(20):
                clock.jump(self._chance.randint(-100_000, 100_000))
                time.sleep(0.05)
        clock.jump(SHIFTS.get(fault.how, 0))
        return lambda: clock.jump(0)

    def _freeze(self, _fault: Fault) -> End:
        agent = self._world.agent
        silence = self.excuses.silence()
        agent.signal(signal.SIGSTOP)

        def end() -> None:
            agent.signal(signal.SIGCONT)
            silence.close(AFTERWARDS)

        return end

    def _full_disk(self, fault: Fault) -> End:
        disk = self._world.disk
        if not disk.real:
            return None
        shortage = self.excuses.shortage()
        disk.fill(0 if fault.how == "all" else 20_000)

        def end() -> None:
            disk.free()
            shortage.close(AFTERWARDS)

        return end

    def _descriptors(self, fault: Fault) -> End:
        agent = self._world.agent
        silence, shortage = self.excuses.silence(), self.excuses.shortage()
        with contextlib.suppress(OSError, ValueError):
            limit_files(agent.pid, 0 if fault.how == "none" else 4)

        def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                limit_files(agent.pid, None)
            silence.close(AFTERWARDS)
            shortage.close(AFTERWARDS)

        return end

    def _kill_agent(self, fault: Fault) -> End:
        """kill -9, and a new one with the same state directory; what has to be restored is looked at."""
        agent = self._world.agent
        before = remember(agent)
        silence = self.excuses.silence()
        agent.kill()
        time.sleep(0.0 if fault.how == "at once" else fault.seconds)
        agent.start()
        if not agent.wait_until_started(STARTED_WITHIN):
            self._broken(f"the agent did not start within {STARTED_WITHIN:g} s of being killed")
        silence.close()
        for sentence in restored(agent, before, self._world.wanted()):
            self._broken(sentence)
        return None
