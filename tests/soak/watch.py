"""What has to hold at every moment of a soak, looked at by threads of their own."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from soak.faults import Excuses
from soak.world import World

LIVEZ_LIMIT, SLOW = 2.0, 0.5
DEFECTS = frozenset({"TASK_CRASHED", "RECONCILE_FAILED", "INTERNAL", "CHECK_INTERNAL"})
READS = ("/status", "/events", "/", "/health?verbose=1", "/readyz")


class Watch:
    """The threads. `broken` takes a sentence about a promise that was not kept."""

    def __init__(
        self, world: World, excuses: Excuses, said: Callable[[str], None], broken: Callable[[str], None]
    ) -> None:
        self._world, self._excuses, self._said, self._broken = world, excuses, said, broken
        self._end = threading.Event()
        self._read: dict[Path, int] = {}
        self.livez: list[float] = []
        self.classes: Counter[str] = Counter()
        self.lines = self.scrapes = self.looks = 0
        works = {"livez": (self._livez, 0.5), "log": (self._log, 0.5), "scrape": (self._scrape, 3.0)}
        self._threads = [
            threading.Thread(target=self._again, args=(work, period), name=name, daemon=True)
            for name, (work, period) in works.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait for all of them, and read the rest of the log."""
        self._end.set()
        for thread in self._threads:
            thread.join(20)
        self._log(last=True)

    def _again(self, work: Callable[[], None], period: float) -> None:
        while not self._end.wait(period):
            try:
                work()
            except Exception as error:  # noqa: BLE001 - a watcher that is gone would see nothing
                self._broken(f"the watcher {threading.current_thread().name} failed: {error!r}")

    # -- answers ----------------------------------------------------------------------------------------------------------------

    def _livez(self) -> None:
        begin = time.monotonic()
        try:
            answer = self._world.agent.get("/livez", LIVEZ_LIMIT + 0.5)
            why = "" if answer == b"ok\n" else f"it says {answer!r}"
        except OSError as error:
            why = f"there is no answer: {error}"
        took = time.monotonic() - begin
        if self._excuses.deaf(begin, begin + took) or self._end.is_set():
            return
        if not self._world.agent.alive:
            why = "the agent has ended, and nothing in the plan has ended it"
        self.livez.append(took)
        if took > SLOW:
            self._said(f"/livez took {took:.2f} s")
        if why or took > LIVEZ_LIMIT:
            self._broken(f"/livez did not answer within {LIVEZ_LIMIT:g} s ({took:.2f} s): {why}")

    def _ask(self, path: str) -> bytes:
        begin = time.monotonic()
        try:
            return self._world.agent.get(path, 15.0)
        except OSError as error:
            if not self._excuses.deaf(begin, time.monotonic()) and not self._end.is_set():
                self._broken(f"{path} was not answered within 15 s: {error}")
            return b""

    def _scrape(self) -> None:
        for path in READS:
            self.no_secret(self._ask(path), path)
        text = self._ask("/metrics")
        self.no_secret(text, "/metrics")
        if not text:
            return
        try:
            families = {family.name: family for family in text_string_to_metric_families(text.decode())}
        except ValueError as error:
            self._broken(f"/metrics is no exposition: {error}")
            return
        self.scrapes += 1
        self._balances(families)

    def _balances(self, families: dict[str, Any]) -> None:
        """accepted == written + dropped + lost + waiting, for every output and at every moment."""
        lines, waiting = (
            families.get("watchkeeper_output_lines"),
            families.get("watchkeeper_output_waiting_lines"),
        )
        if lines is None or waiting is None:
            return
        left: Counter[str] = Counter()
        for sample in lines.samples:
            sign = 1 if sample.labels["outcome"] == "accepted" else -1
            left[sample.labels["output"]] += sign * int(sample.value)
        for sample in waiting.samples:
            left[sample.labels["output"]] -= int(sample.value)
        for name, count in left.items():
            if count:
                self._broken(
                    f"output {name} does not balance: {count} lines more were accepted than are accounted for"
                )

    # -- what is written --------------------------------------------------------------------------------------------------------

    def _log(self, *, last: bool = False) -> None:
        for body in self._bodies():
            self.no_secret(body, "what was sent to a server")
        for number, log in enumerate(list(self._world.agent.logs)):
            killed = number + 1 < len(self._world.agent.logs)
            self._follow(log, rest=last and not killed)

    def _bodies(self) -> list[bytes]:
        bodies, self._world.sinks.bodies = self._world.sinks.bodies, []
        return bodies

    def _follow(self, log: Path, *, rest: bool) -> None:
        with contextlib.suppress(FileNotFoundError), log.open("rb") as stream:
            stream.seek(self._read.get(log, 0))
            data = stream.read()
            whole = data if rest else data[: data.rfind(b"\n") + 1]
            self._read[log] = self._read.get(log, 0) + len(whole)
            self.no_secret(whole, "the log")
            for line in whole.splitlines():
                self._line(line)

    def _line(self, line: bytes) -> None:
        self.lines += 1
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            self._broken(f"a line of the log is no JSON object: {line[:300]!r}")
            return
        kind = said.get("error_class", "")
        self.classes[kind] += 1
        if (kind in DEFECTS or "traceback" in said) and not self._excuses.short(time.monotonic()):
            words = f"{said['message']} {str(said.get('traceback', ''))[-900:]}"
            self._broken(f"the agent says that it has a defect ({kind}): {words}")

    def no_secret(self, data: bytes, where: str) -> None:
        at = data.find(self._world.secret.encode())
        if at >= 0:
            self._broken(f"a secret stands in {where}: {data[max(0, at - 150) : at]!r}")
