"""The program of the trial tree: it does what its first word says and tells what it sees as JSON.

It is compiled and run by the tree's interpreter alone and imports nothing of ours.
"""

import contextlib
import faulthandler
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
import traceback

NATIVE = (
    "_bz2",
    "_ctypes",
    "_decimal",
    "_hashlib",
    "_lzma",
    "_multiprocessing",
    "_sqlite3",
    "_ssl",
    "_uuid",
    "zlib",
)


def tell(facts):
    print(json.dumps(facts), flush=True)


def report():
    """Everything about this process that the tests compare."""
    try:
        json.loads("{")
    except ValueError:
        trace = traceback.format_exc()
    return {
        "pid": os.getpid(), "argv": sys.argv, "executable": sys.executable, "cwd": here(),
        "frozen": getattr(sys, "frozen", None), "meipass": getattr(sys, "_MEIPASS", None),
        "machine": platform.machine(), "version": platform.python_version(), "path": sys.path,
        "prefix": sys.prefix, "environment": dict(os.environ), "native": natives(), "trace": trace,
        "json": json.__file__, "encoding": sys.getfilesystemencoding(), "flags": list(sys.flags),
        "main": hasattr(sys.modules["__main__"], "__file__"), "signals": [signal.getsignal(number) is signal.SIG_DFL for number in
                                      (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)],
        "descriptors": descriptors(), "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }  # fmt: skip


def here():
    with contextlib.suppress(OSError):
        return os.getcwd()  # noqa: PTH109
    return None


def natives():
    """Extension modules, each with a shared library of its own beside it."""
    return {name: getattr(__import__(name), "__file__", "built-in") for name in NATIVE}


def descriptors():
    """What is open beyond the three standard streams, and would be inherited by a program that is executed."""
    found = {}
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            if os.get_inheritable(number):
                found[number] = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
    return found


def output_of(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def children():
    """Children see the environment that this process was started with, and may be this program itself."""
    lines = output_of("/usr/bin/env", "-0").split("\0")
    ours = subprocess.run([sys.executable, "exit", "7"], check=False).returncode
    return {
        "here": dict(os.environ), "child": dict(line.split("=", 1) for line in lines if line),
        "again": json.loads(output_of(sys.executable, "report", "again")), "exit": ours, "pid": os.getpid(),
    }  # fmt: skip


def square(number):
    return number * number, os.getpid(), sys.executable


def workers(method):
    """Two workers, each a new start of this program, or forked from one."""
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.map(square, range(6))
    return {
        "squares": [result[0] for result in results], "pid": os.getpid(),
        "pids": sorted({result[1] for result in results}), "executables": sorted({result[2] for result in results}),
    }  # fmt: skip


def wait():
    """Until a signal comes: SIGTERM is handled, the others are left as they are."""
    ended = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    tell({"pid": os.getpid()})
    until = time.monotonic() + 60
    while not ended and time.monotonic() < until:
        time.sleep(0.05)
    return 3 if ended else 4


def crash():
    """The handler of faulthandler writes before the process dies of the signal."""
    faulthandler.enable()
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(10)


def stop(argument):
    """End in every way in which Python ends."""
    match argument:
        case "error":
            raise RuntimeError("as was asked for")
        case "text":
            sys.exit("a last word")
    sys.exit(int(argument))


def main():
    match sys.argv[1:]:
        case ["exit", argument]:
            stop(argument)
        case ["children"]:
            tell(children())
        case ["workers", method]:
            tell(workers(method))
        case ["wait"]:
            return wait()
        case ["crash"]:
            crash()
        case ["echo"]:
            sys.stdout.write(sys.stdin.read())
        case _:
            tell(report())
    return 0
