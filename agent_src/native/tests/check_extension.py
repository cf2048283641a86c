"""The extension's own tests: `python check_extension.py` with the wheel installed, and nothing but the standard library.

cibuildwheel runs this on every platform, where pytest and hypothesis need not exist. `--require`: fail when the wheel
brought no extension, instead of testing the twin. The thorough tests, against the twin and against generated input, are
in the repository (tests/unit/agent/test_native_*.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from watchkeeper import native
from watchkeeper.native.log_ring import LogRing

REQUIRED = "--require" in sys.argv


class Module(unittest.TestCase):
    """What the wheel promises of the module itself."""

    def test_extension_is_there(self) -> None:
        """A wheel with a platform's name holds the extension, and it loads in this interpreter."""
        if not REQUIRED:
            self.skipTest("not required")
        assert native.EXTENSION, native.WHY_NOT

    def test_twin_when_asked_for(self) -> None:
        """WATCHKEEPER_NATIVE=0 takes the twin."""
        command = [sys.executable, "-c", "from watchkeeper import native; print(native.EXTENSION)"]
        env = {**os.environ, "WATCHKEEPER_NATIVE": "0"}
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        assert done.stdout.split() == [b"False"]


class Processes(unittest.TestCase):
    """One pass over the processes of the machine that runs this."""

    def test_this_process(self) -> None:
        """The pass has this very process, with what is known of it otherwise."""
        own = next(process for process in native.processes() if process.pid == os.getpid())
        assert own.ppid == os.getppid()
        assert own.command is not None
        assert Path(__file__).name in " ".join(own.command)
        assert own.rss_bytes is not None
        assert own.rss_bytes > 1_000_000
        assert own.started is not None
        assert time.time() - 86400 * 3650 < own.started <= time.time() + 2
        assert own.user_seconds is not None
        assert own.user_seconds >= 0
        assert own.state in "RS"

    def test_child(self) -> None:
        """A child is in the pass while it lives, with its arguments as they were given."""
        words = ["-c", "input()", "a b", 'quo"te', "back\\slash\\", "", "ümlaut"]
        child = subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE)
        try:
            seen = self.wait_for_command(child.pid, len(words))
            assert child.pid in {process.pid for process in native.processes(command=False)}
        finally:
            child.communicate(b"\n", timeout=30)
        assert list(seen[-len(words) :]) == words, seen

    def wait_for_command(self, pid: int, words: int) -> tuple[str, ...]:
        """The child's arguments; between fork and exec they are still its parent's."""
        for _ in range(500):
            found = {process.pid: process.command for process in native.processes()}
            command = found.get(pid) or ()
            if len(command) > words and "input()" in command:
                return command
            time.sleep(0.02)
        raise AssertionError(f"{pid} was not seen")

    def test_order(self) -> None:
        """Processes come in the order of their pids, each once."""
        pids = [process.pid for process in native.processes(command=False)]
        assert pids == sorted(set(pids))


class Ring(unittest.TestCase):
    """Lines go through the ring whole, in order, and all of them are counted."""

    def setUp(self) -> None:
        """A file for the lines."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "log")

    def test_producers(self) -> None:
        """Four threads at once: no line is torn, lost or out of its thread's order."""
        ring = LogRing.at(self.path, capacity=4096, block_seconds=60)

        def produce(name: int) -> None:
            for number in range(2000):
                ring.write(f"{name} {number} {'x' * (number % 90)}")

        threads = [threading.Thread(target=produce, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ring.flush(60)
        assert ring.stats()["written"] == 8000
        assert ring.close(60)
        lines = [line.split(" ") for line in self.path.read_text(encoding="utf-8").splitlines()]
        for name in range(4):
            own = [(int(number), fill) for who, number, fill in lines if who == str(name)]
            assert own == [(number, "x" * (number % 90)) for number in range(2000)]

    def test_policies(self) -> None:
        """A full ring drops what its policy says, and counts it."""
        for policy, kept in (("drop-oldest", b"22\n33\n44\n55\n"), ("drop-newest", b"00\n11\n22\n33\n")):
            with self.path.open("wb") as file:
                ring = native.Ring(file.fileno(), 64, policy, hold=True)
                for number in range(6):
                    ring.write(b"%d%d" % (number, number))
                assert ring.flush(10)
                assert ring.close(10)
                assert not ring.write(b"too late")
            assert self.path.read_bytes() == kept
            assert ring.stats()[policy.replace("drop-", "dropped_")] == 2 + (policy == "drop-newest")

    def test_append(self) -> None:
        """A file that is there is appended to, also by two rings in turn."""
        for word in ("one", "two", "three"):
            ring = LogRing.at(self.path)
            ring.write(word)
            assert ring.close(10)
        assert self.path.read_bytes() == b"one\ntwo\nthree\n"

    def test_broken(self) -> None:
        """A reader that is gone costs lines and nothing else."""
        reader, writer = os.pipe()
        os.close(reader)
        ring = native.Ring(writer)
        assert ring.write("nobody reads this")
        counts = ring.stats()
        os.close(writer)
        assert (counts["appended"], counts["written"], counts["lost"], counts["errors"]) == (1, 0, 1, 1)


if __name__ == "__main__":
    if REQUIRED:
        sys.argv.remove("--require")
    unittest.main(verbosity=2)
